"""uvicorn, with what it lacks: a deadline for the head of a request, a limit of connections, and an end that answers.

uvicorn waits for ever for the first line of a request, so that a client that sends a byte now and then holds a
connection for nothing, as does one that does not read what it asked for. Here a connection on which no request is under
way, or no answer is read, is closed after `idle_seconds`; where there are too many, one that has asked nothing makes
room for the next, so that who holds connections for nothing keeps nobody out. When the process is told to stop,
requests under way get `stop_seconds`; those that are not done then are answered too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from neuronagent.mcp_server.http_options import HttpOptions

if TYPE_CHECKING:
    import socket

    from neuronagent.mcp_server.http_app import App

MODEL_SECONDS = 1.0
"""What questions to the model get when the server is stopped."""

LAST_SECONDS = 2
"""For taking everything down once all is answered."""

RESERVE = 32
"""Connections that may be about to send their first head; beyond these the oldest such one goes before one that has
been answered."""

GATHERED = 16_384
"""Bytes that are sent at once, whatever follows."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 22\r\n\r\ntoo many connections\r\n"
)


def connections(idle_seconds: float, most: int) -> type[asyncio.Protocol]:
    """The kind of connection that uvicorn makes for each client."""
    unasked: dict[Connection, None] = {}  # have not sent a whole head yet, the oldest first
    answered: dict[Connection, None] = {}  # and no request under way, the one that waits for longest first
    reserve = min(RESERVE, most // 8)

    def spare(new: Connection) -> Connection | None:
        """Which connection makes room for `new`."""
        old = next((each for each in unasked if each is not new), None)
        if old is not None and (len(unasked) > reserve + 1 or not answered):
            return old
        return next(iter(answered), None)

    class Connection(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None
        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.transport = cast(asyncio.Transport, _Gathering(transport))
            self._watch()
            if len(self.connections) <= most:
                return
            if (other := spare(self)) is not None:
                other.make_room()
            else:
                transport.write(_FULL)
                transport.close()
                self._stop()

        def make_room(self) -> None:
            """End it now; it counts no more."""
            self._stop()
            self.connections.discard(self)
            self.transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            self._read_on()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(idle_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._read_on()
            super().resume_writing()

        def _read_on(self) -> None:
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

        def _watch(self) -> None:
            """While no request is under way the clock runs; what arrives meanwhile does not set it back."""
            cycle: RequestResponseCycle | None = getattr(self, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                self._stop()
                return
            if cycle is None:
                unasked[self] = None
            elif self not in answered:
                answered[self] = None
            if self._deadline is None and not self.transport.is_closing():
                self._deadline = self.loop.call_later(idle_seconds, self.transport.close)

        def _stop(self) -> None:
            unasked.pop(self, None)
            answered.pop(self, None)
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Connection


class _Gathering:
    """A transport that sends the head and the body of an answer together: half the system calls and packets."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._parts = transport, list[bytes]()
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._call_soon(self._flush)
        self._parts.append(data)
        if len(data) > GATHERED:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._flush()
        self._transport.abort()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class StoppingServer(uvicorn.Server):
    """A uvicorn server of an `App`; `ready` is called once it answers, `ending` soon after it is told to stop, in a
    thread: it ends what requests may wait for.
    """

    def __init__(
        self, app: App, http: HttpOptions, ready: Callable[[], None], ending: Callable[[], None] = lambda: None
    ) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of every line of noise
        super().__init__(
            uvicorn.Config(
                app,
                http=connections(http.idle_seconds, http.max_connections),
                ws="none",
                loop="asyncio",
                lifespan="on",
                workers=1,
                log_config=None,
                access_log=False,
                proxy_headers=False,  # who a client is must not be for the client to say
                server_header=False,
                timeout_keep_alive=int(http.idle_seconds) + 60,  # the deadline above comes first
                timeout_graceful_shutdown=1,
            )
        )
        self._app, self._stop_seconds, self._ready, self._ending = app, http.stop_seconds, ready, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        ending = loop.call_later(MODEL_SECONDS, lambda: threading.Thread(target=self._ending, daemon=True).start())
        await self._app.stop(self._stop_seconds, hurry=lambda: self.force_exit)
        ending.cancel()
        with suppress(TimeoutError):  # of tools that are still at work; they have been answered for
            await asyncio.wait_for(super().shutdown(sockets), LAST_SECONDS)
