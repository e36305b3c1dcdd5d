"""Serves over stdin and stdout, tolerant of how clients open a connection.

The protocol has two eras: since 2026-07-28 every request carries its own envelope, before that a connection begins
with `initialize`. Some clients ask in the one way first and go on in the other on the same pipe, which the SDK's own
loop refuses. Here each request is served in the era that it speaks, so any order works.

A line that is no message is answered with an error if it has an id, and noted on stderr otherwise. When the client
closes stdin, what it asked before is still answered; then the process ends.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

import anyio
from mcp.server.connection import Connection, NotifyOnlyOutbound
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner, aclose_shielded, modern_error_data, serve_one
from mcp.server.stdio import stdio_server
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.message import SessionMessage
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from pydantic import ValidationError

from neuronagent.domain import clip

logger = logging.getLogger(__name__)

FINISH_SECONDS = 10.0
"""How long requests that were asked before stdin closed may still take."""

Params = Mapping[str, Any] | None


async def serve_stdio(server: Server[Any]) -> None:
    """Serve `server` until stdin closes and everything asked before is answered."""
    async with stdio_server() as (read, write), server.lifespan(server) as state:
        await serve_streams(server, read, write, state)


async def serve_streams(server: Server[Any], read: Receives, write: Sends, state: Any) -> None:
    """One connection in both eras over a pair of streams."""
    unanswered = _Unanswered()
    writes = _Writes(write, unanswered)
    dispatcher: JSONRPCDispatcher[TransportContext] = JSONRPCDispatcher(
        _Reads(read, writes, unanswered),
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


def _has_envelope(params: Params) -> bool:
    meta = (params or {}).get("_meta")
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta


class Receives(Protocol):
    async def receive(self) -> SessionMessage | Exception: ...
    async def aclose(self) -> None: ...


class Sends(Protocol):
    async def send(self, item: SessionMessage, /) -> None: ...
    async def aclose(self) -> None: ...


class _Unanswered:
    """The ids of the requests that were read and not answered yet."""

    def __init__(self) -> None:
        self._ids: set[RequestId] = set()
        self._none = anyio.Event()

    def add(self, request: RequestId) -> None:
        self._ids.add(request)

    def remove(self, request: RequestId | None) -> None:
        if request is not None:
            self._ids.discard(request)
        if not self._ids:
            self._none.set()

    async def wait(self) -> None:
        """Until there is none, or time is up."""
        if self._ids:
            self._none = anyio.Event()
            with anyio.move_on_after(FINISH_SECONDS):
                await self._none.wait()


class _Writes:
    """The stream of answers; notes which requests they settle."""

    def __init__(self, inner: Sends, unanswered: _Unanswered) -> None:
        self._inner, self._unanswered = inner, unanswered

    async def send(self, item: SessionMessage, /) -> None:
        await self._inner.send(item)
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._unanswered.remove(item.message.id)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> _Writes:
        return self

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        await self.aclose()


class _Reads:
    """The stream of messages: refuses what is none, and ends only when every request has its answer."""

    def __init__(self, inner: Receives, writes: _Writes, unanswered: _Unanswered) -> None:
        self._inner, self._writes, self._unanswered = inner, writes, unanswered

    async def receive(self) -> SessionMessage | Exception:
        while True:
            try:
                item = await self._inner.receive()
            except anyio.EndOfStream:
                await self._unanswered.wait()
                raise
            if isinstance(item, Exception):
                await self._refuse(item)
                continue
            if isinstance(item.message, JSONRPCRequest):
                self._unanswered.add(item.message.id)
            elif isinstance(item.message, JSONRPCNotification) and item.message.method == "notifications/cancelled":
                self._unanswered.remove((item.message.params or {}).get("requestId"))
            return item

    async def _refuse(self, problem: Exception) -> None:
        request = _request_id(problem)
        logger.warning("a line that is no message: %s", clip(str(problem).partition("\n")[0], 120))
        if request is None:
            return
        error = ErrorData(code=INVALID_REQUEST, message="Invalid request: not a JSON-RPC 2.0 message")
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._writes.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=request, error=error)))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> _Reads:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _Reads:
        return self

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        await self.aclose()


def _request_id(problem: Exception) -> RequestId | None:
    """The id of a line that is no message, as far as it can be told."""
    if not isinstance(problem, ValidationError):
        return None
    for detail in problem.errors(include_url=False):
        given: object = detail["input"]
        if isinstance(given, str | bytes) and detail["type"] == "json_invalid":
            return _id_in_text(given if isinstance(given, str) else given.decode("utf-8", "replace"))
        if isinstance(given, dict):
            found = cast("dict[str, object]", given).get("id")
            if isinstance(found, str | int) and not isinstance(found, bool):
                return found
    return None


_ID = r'"id"\s*:\s*("[^"\\]{0,200}"|-?\d{1,18})\s*[,}]'
_ID_FIRST = re.compile(r"\s*\{[^{}\[\]]{0,1000}?" + _ID)
_ID_LAST = re.compile(r"[}\]]\s*,[^{}\[\]]{0,1000}?" + _ID + r"[^{}\[\]]*$")


def _id_in_text(line: str) -> RequestId | None:
    """The id of a request that the parser gave up on (nesting, lone surrogates, numbers of thousands of digits), if it
    stands outside of what is nested."""
    found = _ID_FIRST.match(line) or _ID_LAST.search(line[-1_000:])
    if found is None or not line.rstrip().endswith("}"):
        return None
    return json.loads(found[1])
