"""The gates before the protocol: what is asked over HTTP reaches the SDK only if it may, fits and has its turn.

A request passes in this order, and each gate may answer it instead: path, Host and Origin, rate, token, method and
Content-Type, number of requests under way, size and slowness of its body, time. What is refused is answered with a
JSON-RPC error in one line.

Beside the protocol there may be pages for people. They pass the same gates under rules of their own
(`pages_access.py`), fewer of them at a time, and what is refused there is a page.
"""

from __future__ import annotations

import asyncio
import json
import logging
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from mcp_types import INTERNAL_ERROR

from neuronagent.mcp_server.http_access import Access, Headers, Refusal, busy
from neuronagent.mcp_server.http_exchange import Exchange, answer, late, refuse
from neuronagent.mcp_server.http_options import HEALTH, HttpOptions
from neuronagent.mcp_server.http_rate import Rate
from neuronagent.mcp_server.pages_access import PagesAccess
from neuronagent.mcp_server.pages_exchange import PageExchange, refuse_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

Running = Callable[[], AbstractAsyncContextManager[None]]

_STRANGE = (400, 403, 404, 421)
"""Refused before it is known that the origin is let in."""
_STOPPING = busy(503, "the server is stopping; try again when it is back", 5)
_PAGES_AT_ONCE = 32
"""Pages under way; people are few, and what they look at must leave room for the protocol."""
_FAILED = Refusal(500, "the server failed inside; it goes on, its log has the details", code=INTERNAL_ERROR)


class Pages(Protocol):
    """Pages for people: an ASGI application that answers what was let in."""

    def methods(self, path: str) -> tuple[str, ...] | None:
        """How the page at `path` may be asked for; None: there is none."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        ...


class App:
    """The gates before a protocol: `serve` answers requests, inside of `running`; `pages` is shown at other paths."""

    def __init__(self, running: Running, serve: ASGIApp, http: HttpOptions, pages: Pages | None = None) -> None:
        self._running, self._serve, self._http = running, serve, http
        self._pages, self._pages_access, self._pages_under_way = pages, PagesAccess(http), 0
        self._access, self._rate = Access(http), Rate(http.rate, http.saved_up)
        self._slow_body = Refusal(408, f"the body did not arrive within {http.body_seconds:g} seconds")
        self._late = late(http.request_seconds)
        self._health = json.dumps({"ok": True, "version": version("neuronagent")}).encode()
        self._under_way: set[Exchange] = set()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["path"] == HEALTH and scope["method"] in ("GET", "HEAD"):
            return await answer(send, 503 if self._stopping else 200, self._health)
        headers = Headers(scope["headers"])
        if scope["path"] != self._http.path and self._pages is not None and not _is_message(scope, headers):
            return await self._page(self._pages, scope, headers, receive, send)
        refusal = self._refusal(scope, headers)
        if refusal is None:
            exchange = Exchange(send, self._access.shared(headers), self._http.stream_seconds)
            return await self._exchange(exchange, self._serve, scope, receive)
        if scope["method"] == "OPTIONS" and refusal.status == 405 and b"origin" in headers:
            return await answer(send, 204, b"", self._access.preflight(headers))
        shared = () if refusal.status in _STRANGE else self._access.shared(headers)
        return await refuse(send, refusal, shared)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        with suppress(CancelledError):  # the process ends while a tool is still at work
            async with self._running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        if scope["path"] != self._http.path:
            return Refusal(404, f"there is nothing here; this server is at {self._http.path}")
        if stranger := self._access.stranger(headers):
            return stranger
        if too_often := self._too_often(scope):
            return too_often
        if scope["method"] != "OPTIONS" and (unknown := self._access.unknown(headers)):
            return unknown
        if unfit := self._access.unfit(scope["method"], headers):
            return unfit
        return self._too_much(headers)

    def _too_often(self, scope: Scope) -> Refusal | None:
        client = scope["client"][0] if scope.get("client") else ""
        if seconds := self._rate.wait(client, asyncio.get_running_loop().time()):
            return busy(429, f"more than {self._http.rate:g} requests per second; try again in {seconds} s", seconds)
        return None

    def _too_much(self, headers: Headers) -> Refusal | None:
        if self._stopping:
            return _STOPPING
        if len(self._under_way) >= self._http.max_concurrent:
            return busy(503, f"{self._http.max_concurrent} requests are under way already; try again in 1 s", 1)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self._http.max_body:
            return Refusal(413, f"the body is larger than {self._http.max_body:,} bytes; send a smaller one")
        return None

    async def _page(self, pages: Pages, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if refusal := self._page_refusal(pages, scope, headers):
            return await refuse_page(send, refusal)
        self._pages_under_way += 1
        try:
            await self._exchange(PageExchange(send, (), self._http.stream_seconds), pages, scope, receive)
        finally:
            self._pages_under_way -= 1

    def _page_refusal(self, pages: Pages, scope: Scope, headers: Headers) -> Refusal | None:
        access, method = self._pages_access, scope["method"]
        if stranger := access.stranger(method, headers):
            return stranger
        if too_often := self._too_often(scope):
            return too_often
        if unknown := access.unknown(headers):
            return unknown
        allowed = pages.methods(scope["path"])
        if allowed is None:
            return Refusal(404, "there is no such page")
        if unfit := access.unfit(method, allowed, headers):
            return unfit
        if self._pages_under_way >= _PAGES_AT_ONCE:
            return busy(503, f"{_PAGES_AT_ONCE} pages are under way already; try again in 1 s", 1)
        return self._too_much(headers)

    async def _exchange(self, exchange: Exchange, serve: ASGIApp, scope: Scope, receive: Receive) -> None:
        self._under_way.add(exchange)
        try:
            with exchange.scope:
                await self._work(exchange, serve, scope, receive)
        except CancelledError:
            if not exchange.given_up:  # else uvicorn stops waiting for what was answered already
                raise
        finally:
            await exchange.end()
            self._under_way.discard(exchange)

    async def _work(self, exchange: Exchange, serve: ASGIApp, scope: Scope, receive: Receive) -> None:
        exchange.within(self._http.body_seconds, self._slow_body)
        body = await exchange.read(receive, self._http.max_body)
        if body is None:
            return
        exchange.within(self._http.request_seconds, self._late)
        try:
            await serve(scope, body, exchange.send)
        except Exception:
            logger.exception("a request failed where nobody foresaw it")
            exchange.give_up(_FAILED)

    async def stop(self, seconds: float, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Take no more requests, and wait until those under way are answered: by what they ask for, or after `seconds`
        (at once if `hurry`) by word that the server stops.
        """
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + seconds
        while self._unanswered and asyncio.get_running_loop().time() < deadline and not hurry():
            await asyncio.sleep(0.02)
        for exchange in list(self._under_way):
            exchange.give_up(_STOPPING)

    @property
    def _unanswered(self) -> bool:
        return any(not exchange.given_up for exchange in self._under_way)


def _is_message(scope: Scope, headers: Headers) -> bool:
    """Whether a client of the protocol sent it, that has lost its way: it is told in its own terms."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return scope["method"] == "POST" and kind == b"application/json"
