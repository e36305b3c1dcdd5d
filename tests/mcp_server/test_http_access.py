"""Who is let in over HTTP, tried on a real port with a client that sends what it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import nullcontext

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from neuronagent.mcp_server.http_app import App
from neuronagent.mcp_server.http_options import HttpOptions
from tests.mcp_server.serving import MODERN, TOKEN, Served, serving


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with serving(allowed_hosts=("mcp.example",), allowed_origins=("https://app.example",)) as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Generator[Served]:
    with serving(token=TOKEN) as running:
        yield running


@pytest.mark.parametrize("modern", [True, False])
def test_a_tool_answers_in_both_eras(served: Served, modern: bool) -> None:
    answer = served.ask(served.call("echo", id="a", modern=modern, text="hello"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["id"] == "a"
    assert answer.json["result"]["content"][0]["text"] == "hello"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_is_served_in_both_eras(served: Served, mode: str) -> None:
    async def talk() -> None:
        async with Client(served.url, mode=mode) as client:  # type: ignore[arg-type]
            assert len((await client.list_tools()).tools) == 3
            assert not (await client.call_tool("echo", {"text": "hello"})).is_error

    anyio.run(talk)


def test_several_requests_go_over_one_connection(served: Served) -> None:
    with served.connect() as wire:
        for number in range(3):
            wire.send(served.call("echo", id=number, text="again"))
            assert wire.read().json["id"] == number


def test_pipelined_requests_are_all_answered_in_order(served: Served) -> None:
    with served.connect() as wire:
        wire.send(b"".join(served.call("echo", id=number, text="again") for number in range(20)))
        assert [wire.read().json["id"] for _ in range(20)] == list(range(20))


STRANGE_HOSTS = ("evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", "localhost",
    "", "localhost:{port}@evil.example", "localhost.:{port}", "127.1:{port}",
    "mcp.example:1", "xmcp.example", "0.0.0.0:{port}")  # fmt: skip


@pytest.mark.parametrize("host", STRANGE_HOSTS)
def test_a_strange_host_is_turned_away(served: Served, host: str) -> None:
    request = served.post(served.body("echo", text=""), **MODERN, host=host.format(port=served.port))
    assert served.ask(request).status == 421


@pytest.mark.parametrize("host", ["LOCALHOST:{port}", "[::1]:{port}", "mcp.example", "mcp.example:{port}"])
def test_a_host_that_is_expected_may_be_spelt_in_capitals(served: Served, host: str) -> None:
    request = served.post(served.body("echo", text=""), **MODERN, mcp_name="echo", host=host.format(port=served.port))
    assert served.ask(request).status == 200


def test_a_request_without_a_host_is_turned_away(served: Served) -> None:
    request = served.post(b"{}", host=None).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert served.ask(request).status == 421


def test_headers_that_decide_may_come_once(served: Served) -> None:
    for name in (b"host", b"origin", b"content-type"):
        first = served.post(b"{}", origin="https://app.example")
        twice = first.replace(b"\r\n\r\n", b"\r\n" + name + b": x\r\n\r\n", 1)
        assert served.ask(twice).status == 400


STRANGE_ORIGINS = ("https://evil.example", "null", "http://127.0.0.1:{port}.evil.example", "https://127.0.0.1:{port}",
    "http://localhost", "https://app.example.evil", "http://app.example", "https://app.example:444", "file://",
    "")  # fmt: skip


@pytest.mark.parametrize("origin", STRANGE_ORIGINS)
def test_a_strange_origin_is_forbidden(served: Served, origin: str) -> None:
    request = served.post(served.body("echo", text=""), **MODERN, origin=origin.format(port=served.port))
    answer = served.ask(request)
    assert answer.status == 403
    assert "--allowed-origin" in answer.error["message"]


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://localhost:{port}", "https://app.example"])
def test_a_page_of_an_origin_that_is_let_in_may_read_the_answer(served: Served, origin: str) -> None:
    origin = origin.format(port=served.port)
    answer = served.ask(served.post(served.body("echo", text=""), **MODERN, mcp_name="echo", origin=origin))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)


def test_a_browser_is_told_what_a_page_may_send(served: Served) -> None:
    asking = f"OPTIONS /mcp HTTP/1.1\r\nhost: localhost:{served.port}\r\norigin: ORIGIN\r\n\r\n"
    told = served.ask(asking.replace("ORIGIN", "https://app.example").encode())
    assert (told.status, told.headers["access-control-allow-methods"]) == (204, "POST")
    assert "authorization" in told.headers["access-control-allow-headers"]
    assert served.ask(asking.replace("ORIGIN", "https://evil.example").encode()).status == 403


@pytest.mark.parametrize("kind", [None, "text/plain", "application/jsonx", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read(served: Served, kind: str | None) -> None:
    assert served.ask(served.post(served.body("echo", text=""), **MODERN, content_type=kind)).status == 415


def test_a_compressed_body_is_refused(served: Served) -> None:
    assert served.ask(served.post(b"{}", content_encoding="gzip")).status == 415


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS", "NONSENSE"])
def test_other_methods_are_answered_at_once_with_what_is_allowed(served: Served, method: str) -> None:
    # A legacy GET opens a stream that nothing is ever sent on.
    request = served.post(b"", accept="text/event-stream", mcp_protocol_version="2025-11-25")
    answer = served.ask(request.replace(b"POST", method.encode(), 1))
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_other_paths_lead_nowhere(served: Served) -> None:
    for path in (b"/", b"/mcp/", b"/mcp/../mcp", b"/sse", b"//mcp", b"http://evil.example/mcp"):
        assert served.ask(served.post(b"{}").replace(b"/mcp", path, 1)).status == 404


def test_health_needs_neither_token_nor_name_and_tells_no_secret(guarded: Served) -> None:
    answer = guarded.ask(b"GET /health HTTP/1.1\r\nhost: 10.0.0.7\r\n\r\n")
    assert answer.status == 200
    assert set(answer.json) == {"ok", "version"}


WRONG = (None, "", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN,
    f"Bearer {TOKEN.upper()}", "Bearer \u00e9")  # fmt: skip


@pytest.mark.parametrize("authorization", WRONG)
def test_without_the_token_nobody_gets_in(guarded: Served, authorization: str | None) -> None:
    answer = guarded.ask(guarded.post(guarded.body("echo", text=""), **MODERN, authorization=authorization))
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert TOKEN.encode() not in answer.body


def test_the_token_is_not_taken_from_the_address(guarded: Served) -> None:
    request = guarded.post(guarded.body("echo", text=""), **MODERN)
    assert guarded.ask(request.replace(b"/mcp", f"/mcp?token={TOKEN}".encode(), 1)).status == 401


def test_with_the_token_the_official_client_gets_in_and_without_it_is_told(guarded: Served) -> None:
    async def tools(headers: dict[str, str]) -> int:
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(guarded.url, http_client=http), mode="legacy") as client,
        ):
            return len((await client.list_tools()).tools)

    assert anyio.run(tools, {"authorization": f"Bearer {TOKEN}"}) == 3
    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(tools, {})
    assert caught.group_contains(MCPError, match="bearer token")


def test_a_request_that_fails_where_nobody_foresaw_it_is_answered_with_its_id() -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    async def ask() -> list[dict[str, object]]:
        app = App(nullcontext, broken, HttpOptions())  # type: ignore[arg-type]
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b'{"id": 7}', "more_body": False}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        headers = [(b"host", b"127.0.0.1:8765"), (b"content-type", b"application/json")]
        scope = {"type": "http", "path": "/mcp", "method": "POST", "headers": headers, "client": ("127.0.0.1", 1)}
        await app(scope, receive, send)  # type: ignore[arg-type]
        return sent

    start, body = asyncio.run(ask())
    assert start["status"] == 500
    assert b'"id":7' in body["body"]  # type: ignore[operator]
    assert b"secret" not in body["body"]  # type: ignore[operator]
