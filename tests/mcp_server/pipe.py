"""A client that knows nothing but pipes: newline-delimited JSON-RPC to a server process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "pipe", "version": "0"},
}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "pipe", "version": "0"}}
ROOT = Path(__file__).parents[2]


class Pipe:
    """A server process over the index `db`, with `options` by the command line; `with` ends it."""

    def __init__(self, db: Path, *options: str) -> None:
        command = [sys.executable, "-m", "neuronagent.mcp_server", str(db)]
        if options:
            command = [sys.executable, "-m", "neuronagent", "serve", "--db", str(db), *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, encoding="utf-8",
        )  # fmt: skip
        self._last = 0

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server closed its stdout"
        return json.loads(line)

    def post(self, method: str, params: dict[str, Any] | None = None, *, modern: bool = False) -> int:
        """Send a request and return its id."""
        self._last += 1
        sent: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last, "method": method}
        if modern:
            params = {**(params or {}), "_meta": ENVELOPE}
        if params is not None:
            sent["params"] = params
        self.write(json.dumps(sent))
        return self._last

    def ask(self, method: str, params: dict[str, Any] | None = None, *, modern: bool = False) -> dict[str, Any]:
        """Send a request and return its answer."""
        wanted = self.post(method, params, modern=modern)
        answer = self.read()
        assert answer["id"] == wanted
        return answer

    def initialize(self) -> dict[str, Any]:
        answer = self.ask("initialize", INITIALIZE)
        self.write('{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return answer

    def end(self) -> tuple[int, str, str]:
        """Close stdin; the exit code, and what was left on stdout and stderr."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
