"""Serves over stdin and stdout, tolerant of how clients open a connection.

The protocol has two eras: since 2026-07-28 every request carries its own envelope, before that a connection begins
with `initialize`. Some clients ask in the one way first and go on in the other on the same pipe, which the SDK's own
loop refuses. Here each request is served in the era that it speaks, so any order works.

A line that is no message is answered with an error for every request in it (`lines.py`), and noted on stderr. When the
client closes stdin, or stops reading, what it asked before is still answered; then the process ends.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio
from mcp.server.connection import Connection, NotifyOnlyOutbound
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner, aclose_shielded, modern_error_data, serve_one
from mcp.shared.dispatcher import DispatchContext, coerce_request_id
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher, cancelled_request_id_from_params
from mcp.shared.message import SessionMessage
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from pydantic import ValidationError

from neuronagent.mcp_server.lines import Refused, read_ends, read_line
from neuronagent.mcp_server.pipes import LONGEST_LINE, LongLine, Pipes, taken_pipes

logger = logging.getLogger(__name__)

WAIT_SECONDS = 10.0
"""How long requests that were asked before stdin closed may still take."""

MOST_UNANSWERED = 256
"""Requests under way with which reading goes on: who asks faster than can be answered waits, not the memory."""

NOTED = 20
"""Records of each kind that go to stderr: a client that does not read it must not hold up the server."""

LISTEN = "subscriptions/listen"

Params = Mapping[str, Any] | None


async def serve_stdio(server: Server[Any]) -> None:
    """Serve `server` until stdin closes and everything asked before is answered."""
    few = _Few()
    for handler in logging.getLogger().handlers:
        handler.addFilter(few)
    with taken_pipes() as (source, target):
        pipes = Pipes(source, target)
        async with server.lifespan(server) as state:
            pipes.start()
            await serve_lines(server, pipes, state)


async def serve_lines(server: Server[Any], pipes: Pipes, state: Any) -> None:
    """One connection in both eras over a pair of pipes."""
    unanswered = _Unanswered()
    writes = _Writes(pipes, unanswered)
    dispatcher: JSONRPCDispatcher[TransportContext] = JSONRPCDispatcher(
        _Reads(pipes, writes, unanswered),
        writes,
        inline_methods=frozenset({"initialize"}),  # who pipelines the next request must find the handshake done
    )
    handshake = Connection.for_loop(dispatcher)
    runner = ServerRunner(server, handshake, state)
    outbound = NotifyOnlyOutbound(dispatcher)

    async def on_request(context: DispatchContext[TransportContext], method: str, params: Params) -> dict[str, Any]:
        if method == "initialize" or not _has_envelope(params):
            return await runner.on_request(context, method, params)
        route = classify_inbound_request({"method": method, "params": params})
        if isinstance(route, InboundLadderRejection):
            raise MCPError(code=route.code, message=route.message, data=route.data)
        connection = Connection.from_envelope(
            route.protocol_version, route.client_info, route.client_capabilities, outbound=outbound
        )
        try:
            return await serve_one(server, context, method, params, connection=connection, lifespan_state=state)
        except (MCPError, ValidationError):
            raise
        except Exception as error:
            raise MCPError.from_error_data(modern_error_data(error)) from error

    try:
        await dispatcher.run(on_request, runner.on_notify)
    finally:
        await aclose_shielded(handshake)


class _Few(logging.Filter):
    """Lets through the first records that each line of code logs."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        where = (record.pathname, record.lineno)
        self._seen[where] += 1
        return self._seen[where] <= NOTED


def _has_envelope(params: Params) -> bool:
    meta = (params or {}).get("_meta")
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta


class _Unanswered:
    """The ids of the requests that were read and not answered yet; how often, since an id may be used twice."""

    def __init__(self) -> None:
        self._ids: Counter[RequestId] = Counter()
        self._fewer = anyio.Event()

    def add(self, request: RequestId) -> None:
        self._ids[coerce_request_id(request)] += 1

    def remove(self, request: RequestId | None) -> None:
        if request is None:
            return
        request = coerce_request_id(request)
        self._ids[request] -= 1
        if self._ids[request] <= 0:
            del self._ids[request]
        self._fewer.set()

    async def wait(self, most: int = 0) -> None:
        """Until there are no more than `most`, or time is up."""
        with anyio.move_on_after(WAIT_SECONDS):
            while self._ids.total() > most:
                self._fewer = anyio.Event()
                await self._fewer.wait()


class _Writes:
    """The stream of answers; notes which requests they settle."""

    def __init__(self, pipes: Pipes, unanswered: _Unanswered) -> None:
        self._pipes, self._unanswered = pipes, unanswered

    async def send(self, item: SessionMessage, /) -> None:
        message = item.message
        await self._pipes.send(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            self._unanswered.remove(message.id)

    async def aclose(self) -> None:
        """The pipe stays open: what was asked last may still be answered."""

    async def __aenter__(self) -> _Writes:
        return self

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        await self.aclose()


class _Reads:
    """The stream of messages: refuses what is none, and ends only when every request has its answer."""

    def __init__(self, pipes: Pipes, writes: _Writes, unanswered: _Unanswered) -> None:
        self._pipes, self._writes, self._unanswered = pipes, writes, unanswered

    async def receive(self) -> SessionMessage:
        while True:
            try:
                line = await self._pipes.receive()
            except anyio.EndOfStream:
                await self._unanswered.wait()
                raise
            read = read_ends(line.head, line.tail, LONGEST_LINE) if isinstance(line, LongLine) else read_line(line)
            if isinstance(read, Refused):
                await self._refuse(read)
                continue
            self._note(read)
            await self._unanswered.wait(MOST_UNANSWERED)
            return SessionMessage(read)

    def _note(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            if message.method != LISTEN:  # is answered by the end of the connection
                self._unanswered.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._unanswered.remove(cancelled_request_id_from_params(message.params))

    async def _refuse(self, refused: Refused) -> None:
        logger.warning("a line that is no message: %s", refused.reason)
        error = ErrorData(code=INVALID_REQUEST, message=f"Invalid request: {refused.reason}")
        for request in refused.ids:
            await self._writes.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=request, error=error)))

    async def aclose(self) -> None:
        """Nothing to do: stdin is read until its end, or the process's."""

    def __aiter__(self) -> _Reads:
        return self

    async def __anext__(self) -> SessionMessage:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _Reads:
        return self

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        await self.aclose()
