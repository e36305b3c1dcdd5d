"""One request over HTTP on its way to its answer: it gets exactly one, whatever happens and however long it takes.

Giving up on a request cannot wait for what works on it: a tool in a thread cannot be stopped. So the answer that time
is up is sent at once, what the tool says later is dropped, and the request counts as under way until the tool is done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from anyio import CancelScope
from mcp_types import REQUEST_TIMEOUT

from neuronagent.mcp_server.http_access import Refusal
from neuronagent.mcp_server.lines import Refused, read_line

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

Pairs = Iterable[tuple[bytes, bytes]]

_TOO_LARGE = "the body is larger than {limit:,} bytes; send a smaller one"


async def answer(send: Send, status: int, body: bytes, headers: Pairs = (), kind: bytes = b"application/json") -> None:
    """A whole answer at once."""
    length = (b"content-length", b"%d" % len(body))
    described = [(b"content-type", kind), length] if body else [length]
    await send({"type": "http.response.start", "status": status, "headers": [*described, *headers]})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refusal: Refusal, headers: Pairs = (), *, request: object = None) -> None:
    """`refusal` as a JSON-RPC error to the request with the id `request`."""
    error = {"code": refusal.code, "message": refusal.message}
    body = json.dumps({"jsonrpc": "2.0", "id": request, "error": error}, separators=(",", ":")).encode()
    await answer(send, refusal.status, body, [*refusal.headers, *headers])


class Exchange:
    """A request that was let in, and its answer; `shared` are headers that every answer carries."""

    def __init__(self, send: Send, shared: Pairs, stream_seconds: float) -> None:
        self._send, self._shared, self._stream_seconds = send, list(shared), stream_seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._last: asyncio.Task[None] | None = None
        self._body = b""
        self.scope = CancelScope()
        self.started = self._streams = False

    @property
    def given_up(self) -> bool:
        return self._last is not None

    def within(self, seconds: float, late: Refusal) -> None:
        """From now on: answer `late` if the answer has not begun in `seconds`."""
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self.give_up, late)

    def give_up(self, why: Refusal) -> None:
        """Stop working on the request, as far as that goes, and answer `why` unless an answer has begun."""
        self._stop_timer()
        if not self.started and self._last is None:
            self._last = self._loop.create_task(self._refuse(why))
        self.scope.cancel()

    async def read(self, receive: Receive, limit: int) -> Receive | None:
        """Takes the whole body in. None if it is larger than `limit`, which is answered, or the client has left; else
        what hands it on.
        """
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                await self._refuse(Refusal(413, _TOO_LARGE.format(limit=limit)))
                return None
            parts.append(part)
            more = message.get("more_body", False)
        self._body = parts[0] if len(parts) == 1 else b"".join(parts)
        return _again(self._body, receive)

    async def send(self, message: Message) -> None:
        """Passes on what answers the request, unless it has been given up."""
        if self._last is not None:
            return
        if not self.started:
            if message["status"] in (202, 400) and (unread := self._unread(message["status"])):
                self.give_up(unread)
                return
            self.started = True
            message = self._begun(message)
        await self._send(message)

    async def end(self) -> None:
        """When nothing works on it any more: wait for the last word, and end a stream that was cut off."""
        self._stop_timer()
        if self._last is not None:
            await self._last
        elif self._streams and self.scope.cancel_called:
            await self._send({"type": "http.response.body", "body": b""})

    def _begun(self, message: Message) -> Message:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
        if any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers):
            self._streams = True
            self.within(self._stream_seconds, Refusal(504, "time is up"))
        return {**message, "headers": headers + self._shared} if self._shared else message

    def _unread(self, status: int) -> Refusal | None:
        """What to say in place of an answer with this status."""
        return _unread(self._body, status)

    async def _refuse(self, why: Refusal) -> None:
        self.started = True
        await refuse(self._send, why, self._shared, request=_request_id(self._body))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def late(seconds: float) -> Refusal:
    """Time for the answer is up."""
    message = f"no answer within {seconds:g} seconds; ask for less at a time, or try again"
    return Refusal(504, message, code=REQUEST_TIMEOUT)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, followed by what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


def _unread(body: bytes, status: int) -> Refusal | None:
    """What to say in place of the SDK's `status` if `body` is no message: 202 takes a request for a notification if its
    id is none, 400 comes with what a parser says.
    """
    found = read_line(body)
    if isinstance(found, Refused) and (found.ids or status == 400):
        return Refusal(400, f"Invalid request: {found.reason}")
    if status == 400 and b"\xef\xbf\xbd" not in body and "\ufffd" in body.decode("utf-8", "replace"):
        return Refusal(400, "Invalid request: the body is no UTF-8")
    return None


def _request_id(body: bytes) -> object:
    """The id of the request that `body` holds; None where it cannot be told."""
    found = read_line(body)
    if isinstance(found, Refused):
        return found.ids[0] if len(found.ids) == 1 else None
    return getattr(found, "id", None)
