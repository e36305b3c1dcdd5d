"""Serves any `MCPServer` over streamable HTTP: one path that takes POST, in both eras of the protocol, and `/health`;
beside them pages for people, if there are any.

What a request must pass first is in `http_app.py`, what uvicorn lacks in `http_connections.py`.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from neuronagent.domain import clip
from neuronagent.errors import UsageError
from neuronagent.mcp_server.http_app import App, Pages
from neuronagent.mcp_server.http_options import HttpOptions

LEAVE_SECONDS = 1.0
"""What threads get to end by themselves when the server has stopped."""


def build_app(server: MCPServer[Any], http: HttpOptions, pages: Pages | None = None) -> App:
    """`server` as an ASGI application under `http.path`; it can be run once.

    Raises:
        UsageError: there is a page at that path.
    """
    if pages is not None and pages.methods(http.path) is not None:
        raise UsageError(f"at {clip(http.path, 80)} there is a page", remedy="serve the protocol at /mcp, or no pages")
    server.streamable_http_app(  # makes the session manager; its routes are not used
        streamable_http_path=http.path,
        json_response=http.json_response,
        stateless_http=http.stateless,
        max_request_body_size=http.max_body,
        # Compares prefixes, and switches itself off on all interfaces: http_access.py looks instead.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    manager = server.session_manager
    return App(manager.run, manager.handle_request, http, pages)


def serve_http(
    server: MCPServer[Any],
    http: HttpOptions,
    ready: Callable[[str], None] = lambda url: None,
    ending: Callable[[], None] = lambda: None,
    pages: Pages | None = None,
) -> None:
    """Serve until SIGTERM, after which it returns, or SIGINT, which is raised as `KeyboardInterrupt`; requests under
    way are answered first. `ready` is called with the URL once it can be asked, `ending` when those under way have had
    their first second.

    Raises:
        UsageError: the address cannot be listened on, or `pages` are in the way.
    """
    from neuronagent.mcp_server.http_connections import StoppingServer

    with _listen(http) as listening:
        http = replace(http, port=listening.getsockname()[1])
        host = f"[{http.host}]" if ":" in http.host and not http.host.startswith("[") else http.host
        url = f"http://{host}:{http.port}{http.path}"
        running = StoppingServer(build_app(server, http, pages), http, lambda: ready(url), ending)
        before = signal.signal(signal.SIGTERM, _ignore)  # uvicorn raises it again when everything is done
        try:
            with _rare_collections():
                running.run(sockets=[listening])
        finally:
            signal.signal(signal.SIGTERM, before)


def leave(code: int) -> None:
    """After `serve_http`: end the process here if a tool is still at work. Its client has been told, and no thread can
    be stopped.
    """
    deadline = time.monotonic() + LEAVE_SECONDS
    while any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        time.sleep(0.02)


@contextmanager
def _rare_collections() -> Generator[None]:
    """Python looks for cyclic garbage less often: most of what a request makes is gone before, what imports made stays
    for good. A tenth more requests per second for some MB.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """What else SIGTERM would do."""


def _listen(http: HttpOptions) -> socket.socket:
    host = http.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, http.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "not a host"
        raise UsageError(
            f"cannot listen on {clip(http.host, 80)} port {http.port}: {why}",
            remedy="choose another with --port (0 takes a free one) or --host",
        ) from error
    return listening
