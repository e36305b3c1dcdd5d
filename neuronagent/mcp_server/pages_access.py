"""Who is shown pages: the same host and token as for the protocol, the token by HTTP Basic too, as browsers ask for it.

A browser sends what it knows of a server with any request that any page makes it send. What asks the model comes by
POST, and is answered only if the browser says that a page of this very server sent it.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from neuronagent.mcp_server.http_access import Access, Headers, Refusal
from neuronagent.mcp_server.http_options import HttpOptions

FORM = b"application/x-www-form-urlencoded"
_CHALLENGE = ((b"www-authenticate", b'Basic realm="neuronagent", charset="UTF-8"'),)


class PagesAccess:
    """Looks at the head of a request for a page, as `Access` does for the protocol."""

    def __init__(self, http: HttpOptions) -> None:
        self._access = Access(http)
        self._token = http.token.encode() if http.token is not None else None

    def stranger(self, method: str, headers: Headers) -> Refusal | None:
        """Why a request is refused for where it is sent to or comes from; None if it is not."""
        if misdirected := self._access.misdirected(headers):
            return misdirected
        origin = headers.get(b"origin")
        own = origin is not None and origin.lower().partition(b"://")[2] == headers[b"host"].lower()
        site = headers.get(b"sec-fetch-site")
        if origin is not None and not own:
            return Refusal(403, "pages are answered to this server's own pages alone, and that is another Origin")
        if method == "POST" and (not own or site not in (None, b"same-origin")):
            return Refusal(403, "a form is taken from this server's own pages alone; open the page and send it there")
        return None

    def unknown(self, headers: Headers) -> Refusal | None:
        """Why a request is refused for who sends it; None if it is not."""
        if self._token is None:
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            given = _password(given)
        elif scheme.lower() != b"bearer":
            given = b""
        if hmac.compare_digest(given.strip(), self._token):
            return None
        return Refusal(401, "the server's token is needed: give it as the password, with any user name", _CHALLENGE)

    @staticmethod
    def unfit(method: str, allowed: tuple[str, ...], headers: Headers) -> Refusal | None:
        """Why a request is refused for what it is; None if it is not. `allowed`: the methods of its page."""
        if method not in allowed:
            allow = ((b"allow", ", ".join(allowed).encode()),)
            return Refusal(405, f"{method[:20]} is not allowed here; allowed: {', '.join(allowed)}", allow)
        if method == "POST":
            if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != FORM:
                return Refusal(415, f"Content-Type must be {FORM.decode()}")
            if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                return Refusal(415, "Content-Encoding is not understood; send the body as it is")
        return None


def _password(encoded: bytes) -> bytes:
    try:
        return base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
