"""What a server over HTTP is asked to be, and which of it is refused before a port is opened.

Without options it listens on the loopback interface alone and needs no token: who can connect is on this machine. Any
other address needs a token *and* the names under which it is reached, so that nobody exposes an index by a slip.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from neuronagent.domain import clip
from neuronagent.errors import UsageError

TOKEN_VARIABLE = "NEURONAGENT_TOKEN"
LEAST_TOKEN = 16
MOST_SAVED = 2000
HEALTH = "/health"

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?)(:[0-9]{1,5})?")
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """`host`, `port` (0: any free one) and `path`: where it listens. `token`: what a client must send as its bearer
    token, None for nothing. `allowed_hosts` are further values of the Host header (a name without a port also stands
    for the name with this server's), `allowed_origins` those of the Origin header, such as `https://app.example`.

    `max_body` is in bytes; `body_seconds` the time to send it in, `idle_seconds` the time between requests and to send
    the head of one, `request_seconds` the time until an answer begins, `stream_seconds` that an answer may go on for if
    it is a stream, `stop_seconds` what requests under way get when the server is stopped. `max_connections` and
    `max_concurrent` count connections and requests under way. `rate` is in requests per second of one client, which may
    have saved up `burst` of them (None: what comes in two seconds, at most 2,000); 0 is no limit.

    `json_response` and `stateless`: as in the SDK; this server's own tools need neither streams nor sessions.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    path: str = "/mcp"
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body: int = 1_000_000
    body_seconds: float = 10.0
    idle_seconds: float = 20.0
    request_seconds: float = 120.0
    stream_seconds: float = 600.0
    stop_seconds: float = 5.0
    max_connections: int = 512
    max_concurrent: int = 256
    rate: float = 1000.0
    burst: int | None = None
    json_response: bool = True
    stateless: bool = True

    def __post_init__(self) -> None:
        """Raises `UsageError` for what is not safe or cannot be meant; nothing repeats the token."""
        if self.token is not None and not (len(self.token) >= LEAST_TOKEN and re.fullmatch(r"[!-~]+", self.token)):
            raise UsageError(
                f"the token must be at least {LEAST_TOKEN} characters of ASCII without spaces",
                remedy="make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
            )
        if not is_loopback(self.host) and (self.token is None or not self.allowed_hosts):
            raise UsageError(
                f"{clip(self.host, 80)!r} is reached from other machines, which needs a token and --allowed-host",
                remedy=f"set {TOKEN_VARIABLE} or give --token-file, and name with --allowed-host how clients reach it; "
                "or leave out --host",
            )
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host.lower()):
                raise UsageError(f"{clip(host, 80)!r} is no host", remedy="write it like example.org or example.org:80")
        for origin in self.allowed_origins:
            if not _is_origin(origin):
                raise UsageError(f"{clip(origin, 80)!r} is no origin", remedy="write it like https://app.example")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.path) or self.path == HEALTH:
            raise UsageError(f"{clip(self.path, 80)!r} is no path for the server", remedy="write it like /mcp")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"there is no port {self.port}", remedy="0 to 65535 are allowed; 0 takes a free one")
        self._check_limits()

    def _check_limits(self) -> None:
        limits = ("max_body", "body_seconds", "idle_seconds", "request_seconds", "stream_seconds", "stop_seconds")
        if not 0 <= self.rate < float("inf"):
            raise UsageError(f"the rate must be requests per second, not {self.rate}", remedy="0 is no limit")
        for name in (*limits, "max_connections", "max_concurrent", "saved_up"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name} must be positive, not {getattr(self, name)}")

    @property
    def saved_up(self) -> int:
        """The requests that a client which has asked nothing for long may send at once."""
        if self.burst is not None:
            return self.burst
        return max(1, int(min(2 * self.rate, MOST_SAVED))) if self.rate else MOST_SAVED

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the Host header that are let in, in small letters."""
        own = _LOOPBACK_NAMES if is_loopback(self.host) else ()
        named = {host.lower() for host in self.allowed_hosts}
        with_port = {f"{host}:{self.port}" for host in (*own, *named) if not re.search(r":\d+$", host)}
        return frozenset(named | with_port | (set(own) if self.port == 80 else set()))

    @property
    def origins(self) -> frozenset[str]:
        """The values of the Origin header that are let in: this server's own on the loopback, and those named."""
        own = {f"http://{host}" for host in self.hosts} if is_loopback(self.host) else set[str]()
        return frozenset(own | {origin.lower().rstrip("/") for origin in self.allowed_origins})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; of names that is known of localhost alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(file: Path | None) -> str | None:
    """The token of `file`, else of `NEURONAGENT_TOKEN`; None where neither is given.

    Raises:
        UsageError: the file cannot be read, or holds nothing.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        token = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise UsageError(
            f"the token file {file} cannot be read: {why}", remedy="name a file that holds one line"
        ) from error
    if not token:
        raise UsageError(f"the token file {file} is empty", remedy="write the token in it, in one line")
    return token


def _is_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin.lower())
        return bool(parts.scheme and _HOST.fullmatch(parts.netloc) and parts.path in ("", "/")) and not (
            parts.query or parts.fragment
        )
    except ValueError:
        return False
