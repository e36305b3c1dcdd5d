"""Who is let in over HTTP: host, origin, token, method and kind of content, looked at before a body is read.

A page in a browser can be made to send requests to the loopback interface (DNS rebinding). Its Host header then names
the page's server, its Origin header the page: both must be names that are expected, port included. The SDK compares
prefixes and looks at neither when it listens on all interfaces, so its own check is off and this one stands for it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from mcp_types import INTERNAL_ERROR, INVALID_REQUEST

from neuronagent.mcp_server.http_options import HttpOptions

_ALLOWED_HEADERS = (
    b"authorization, content-type, accept, last-event-id, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name"
)
_ONCE = (b"host", b"origin", b"authorization", b"content-type")


@dataclass(frozen=True)
class Refusal:
    """An answer instead of a result: one line, as a JSON-RPC error."""

    status: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    code: int = INVALID_REQUEST


def busy(status: int, message: str, seconds: int) -> Refusal:
    """A refusal of what may be asked again after `seconds`."""
    return Refusal(status, message, ((b"retry-after", b"%d" % seconds),), INTERNAL_ERROR)


class Headers(dict[bytes, bytes]):
    """The headers of a request; `repeated` says whether one came twice that must not."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        given = list(pairs)
        super().__init__(given)
        self.repeated = len(self) != len(given) and any(sum(name == once for name, _ in given) > 1 for once in _ONCE)


class Access:
    """Looks at the head of a request."""

    def __init__(self, http: HttpOptions) -> None:
        self._hosts = frozenset(host.encode() for host in http.hosts)
        self._origins = frozenset(origin.encode() for origin in http.origins)
        self._token = http.token.encode() if http.token is not None else None
        self._methods = (b"POST",) if http.stateless else (b"POST", b"GET", b"DELETE")
        self._allow = (b"allow", b", ".join(self._methods))

    def misdirected(self, headers: Headers) -> Refusal | None:
        """Why a request is refused for where it is sent to; None if it is not."""
        if headers.repeated:
            return Refusal(400, "Host, Origin, Authorization and Content-Type may each be sent once")
        if headers.get(b"host", b"").lower() not in self._hosts:
            return Refusal(421, "this server is not reached under that Host; start it with --allowed-host to add one")
        return None

    def stranger(self, headers: Headers) -> Refusal | None:
        """Why a request is refused for where it is sent to or comes from; None if it is not."""
        if misdirected := self.misdirected(headers):
            return misdirected
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() not in self._origins:
            return Refusal(403, "this Origin is not let in; start the server with --allowed-origin to add one")
        return None

    def unknown(self, headers: Headers) -> Refusal | None:
        """Why a request is refused for who sends it; None if it is not."""
        if self._token is None:
            return None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token):
            return None
        sent = b', error="invalid_token"' if scheme else b""
        challenge = (b"www-authenticate", b'Bearer realm="neuronagent"' + sent)
        return Refusal(401, "a bearer token is needed, and this is none that is known", (challenge,))

    def unfit(self, method: str, headers: Headers) -> Refusal | None:
        """Why a request is refused for what it is; None if it is not."""
        if method.encode() not in self._methods:
            return Refusal(405, f"{method[:20]} is not allowed; send POST", (self._allow,))
        if method == "POST":
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                return Refusal(415, "Content-Type must be application/json")
            if headers.get(b"content-encoding", b"identity").lower() != b"identity":
                return Refusal(415, "Content-Encoding is not understood; send the body as it is")
        return None

    def shared(self, headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
        """Headers that let a page of an origin that is let in read the answer."""
        origin = headers.get(b"origin")
        return () if origin is None else ((b"access-control-allow-origin", origin), (b"vary", b"origin"))

    def preflight(self, headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
        """What a browser asks for before it lets a page of an origin that is let in send a request."""
        return (
            *self.shared(headers),
            (b"access-control-allow-methods", self._allow[1]),
            (b"access-control-allow-headers", _ALLOWED_HEADERS),
            (b"access-control-max-age", b"600"),
        )
