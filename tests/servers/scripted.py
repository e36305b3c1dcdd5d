"""A real HTTP server on loopback whose answers a test writes: for what a well-behaved server never does.

    with Scripted() as server:
        server.chat = lambda body, number: says("Yes")
        … server.base_url … server.requests …

`chat` and `decisions` get the request's body and its number (from 1) and return a `Response`; None for a path that the
server does not have. Every request is kept, in the order in which they came.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request as it came; names of headers in lower case."""

    path: str
    body: Body
    headers: Mapping[str, str]
    raw: bytes


@dataclass(frozen=True, kw_only=True)
class Response:
    """What the server does: it waits `delay` seconds, then sends `content`; `drip` seconds between single bytes;
    `cut` closes the connection after so many bytes, although more was announced."""

    status: int = 200
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    delay: float = 0.0
    drip: float = 0.0
    cut: int | None = None


Answering = Callable[[Body, int], Response]


class Scripted:
    """The server; it listens from the moment that it is made."""

    def __init__(self, chat: Answering | None = None, decisions: Answering | None = None) -> None:
        self.chat, self.decisions = chat, decisions
        self.requests: list[Received] = []
        self.at_once = 0
        """The most requests that were in the works at the same time."""
        self._now = 0
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def bodies(self) -> list[Body]:
        return [request.body for request in self.requests]

    def answer(self, request: Received) -> Response:
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        try:
            by_path = {"/v1/chat/completions": self.chat, "/v1/systemone": self.decisions}
            answering = by_path.get(request.path)
            response = answering(request.body, number) if answering else Response(status=404, content=b"{}")
            self.wait(response.delay)
            return response
        finally:
            with self._lock:
                self._now -= 1

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the server's end."""
        if seconds:
            self._ending.wait(seconds)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the server's business."""


def _handler(server: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # header and content leave together

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(path=self.path, body=json.loads(raw), headers=headers, raw=raw)
            response = server.answer(received)
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            if response.cut is not None:
                self.wfile.write(response.content[: response.cut])
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if not response.drip:
                self.wfile.write(response.content)
                self.wfile.flush()
                return
            for byte in response.content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                server.wait(response.drip)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the requests are kept."""

    return Handler


def as_json(value: object, status: int = 200, **how: Any) -> Response:
    """A response with a JSON body."""
    return Response(status=status, content=json.dumps(value).encode(), **how)


def says(text: str, *, top: Mapping[str, float] | None = None, **choice: Any) -> Response:
    """A chat completion that says `text`; `top` are log-probabilities of likely first tokens."""
    logprobs = None
    if top is not None:
        listed = [{"token": token, "logprob": value, "bytes": None} for token, value in top.items()]
        logprobs = {"content": [{**listed[0], "top_logprobs": listed}]}
    message = {"role": "assistant", "content": text, **choice.pop("message", {})}
    return as_json(
        {
            "id": "1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs, **choice}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    )


def fails(
    status: int, message: str = "no", code: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error in OpenAI's form."""
    error = {"error": {"message": message, "type": "error", "code": code}}
    return as_json(error, status, headers={"Content-Type": "application/json", **(headers or {})})


def in_turn(responses: Sequence[Response]) -> Answering:
    """The responses one after the other, the last one for ever."""
    return lambda _body, number: responses[min(number, len(responses)) - 1]
