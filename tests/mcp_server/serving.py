"""A server over HTTP on a port of the loopback interface, and a client that knows nothing but sockets.

`python -m tests.mcp_server.serving SECONDS` serves the tools below in a process of its own until it is told to stop.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer

from neuronagent.mcp_server.http import build_app, leave, serve_http
from neuronagent.mcp_server.http_app import Pages
from neuronagent.mcp_server.http_connections import StoppingServer
from neuronagent.mcp_server.http_options import HttpOptions
from tests.mcp_server.pipe import ENVELOPE

TOKEN = "correct-horse-battery-staple"


def small_server() -> MCPServer[Any]:
    """Tools that are quick, slow, and broken."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    server: MCPServer[Any] = MCPServer("small")

    @server.tool()
    def echo(text: str) -> str:
        return text

    @server.tool()
    def work(seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    @server.tool()
    async def wait(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "done"

    _ = (echo, work, wait)
    return server


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def connect(self) -> Wire:
        return Wire(self.port)

    def ask(self, request: bytes) -> Response:
        """The answer to one request on a connection of its own."""
        with self.connect() as wire:
            wire.send(request)
            return wire.read()

    def page(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str | None] | None = None
    ) -> Response:
        """The answer to a browser's request; a header that is None is left out."""
        given: dict[str, str | None] = {"host": f"127.0.0.1:{self.port}", "accept": "text/html"}
        if body is not None:
            given |= {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (given | dict(headers or {})).items() if value is not None]
        return self.ask("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + (body or b""))

    def call(self, tool: str, *, id: object = 1, modern: bool = True, **arguments: Any) -> bytes:
        """A request that calls a tool."""
        return self.post(
            self.body(tool, id=id, modern=modern, **arguments), **(MODERN | {"mcp-name": tool} if modern else {})
        )

    def body(self, tool: str, *, id: object = 1, modern: bool = True, **arguments: Any) -> bytes:
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if modern:
            params["_meta"] = ENVELOPE
        return json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()

    def post(self, body: bytes, **headers: str | None) -> bytes:
        """A POST request; a header that is None is left out, `_` in names stands for `-`."""
        given = {
            "host": f"127.0.0.1:{self.port}", "content-type": "application/json",
            "accept": "application/json, text/event-stream", "content-length": str(len(body)),
        }  # fmt: skip
        given |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[dict-item]
        lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
        return "\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + body


MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def error(self) -> dict[str, Any]:
        """The error of the answer, which must be one line of JSON-RPC."""
        assert self.json["jsonrpc"] == "2.0"
        assert "\n" not in self.json["error"]["message"]
        return self.json["error"]


class Wire:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._read = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Response:
        """The next answer."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._take(size)
                self._until(b"\r\n")
            self._until(b"\r\n")
        else:
            body = self._take(int(headers.get("content-length", 0)))
        return Response(int(head[0].split()[1]), headers, body)

    def closed(self) -> bool:
        """Waits for the server to close the connection without another word."""
        try:
            return not self._read and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            self._more()
        found, self._read = self._read[: (end := self._read.index(mark) + len(mark))], self._read[end:]
        return found

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        found, self._read = self._read[:size], self._read[size:]
        return found

    def _more(self) -> None:
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {self._read!r}")
        self._read += part

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@contextmanager
def serving(server: MCPServer[Any] | None = None, *, pages: Pages | None = None, **options: Any) -> Generator[Served]:
    """A real server on a free port, in a thread, until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    http = replace(HttpOptions(port=listening.getsockname()[1], stop_seconds=0.2), **options)
    ready = threading.Event()
    running = StoppingServer(build_app(server or small_server(), http, pages), http, ready.set)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield Served(http.port)
    finally:
        running.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()


def main(stop_seconds: float) -> None:
    http = replace(HttpOptions(port=0), stop_seconds=stop_seconds)
    code = 0
    try:
        serve_http(small_server(), http, lambda url: print(url, file=sys.stderr, flush=True))  # noqa: T201
    except KeyboardInterrupt:
        code = 130
    leave(code)
    sys.exit(code)


if __name__ == "__main__":
    main(float(sys.argv[1]))
