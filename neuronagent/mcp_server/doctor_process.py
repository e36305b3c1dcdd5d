"""A server process as a client starts it: few variables, another folder, messages over pipes, an end that is sure to
come. Whatever it prints is read and bounded; it is never trusted."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, cast

from neuronagent.service.mcp_clients.starting import client_environment, client_folder
from neuronagent.service.untrusted import clean

_LONGEST_LINE = 8 << 20
_MOST_NOISE = 200
_MOST_UNREAD = 1_000
_IMPORT_TIMES = "PYTHONPROFILEIMPORTTIME"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "neuronagent doctor", "version": "0"},
}
HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "neuronagent doctor", "version": "0"},
}


class ServerProblem(Exception):
    """What is wrong with a server, and what to do."""

    def __init__(self, said: str, remedy: str) -> None:
        super().__init__(said)
        self.said, self.remedy = said, remedy


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of a request, how long it took, and how long its line was."""

    result: Mapping[str, Any]
    seconds: float
    size: int


class ServerProcess:
    """A started server. Requests go one at a time; none is waited for longer than `patience` seconds, and nothing after
    `deadline` (of `time.monotonic`)."""

    def __init__(
        self,
        command: Sequence[str],
        extra: Mapping[str, str],
        *,
        patience: float,
        deadline: float,
        import_times: bool = False,
    ) -> None:
        """Raises ServerProblem if the command cannot be started."""
        self.noise: list[str] = []
        self.imported_torch = False
        self._errors: deque[str] = deque(maxlen=20)
        self._messages: queue.Queue[tuple[dict[str, Any], int] | None] = queue.Queue(_MOST_UNREAD)
        self._patience, self._deadline, self._last = patience, deadline, 0
        environment = client_environment() | dict(extra) | ({_IMPORT_TIMES: "1"} if import_times else {})
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment, cwd=client_folder(), start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise ServerProblem(
                f"the command does not start: {clean(str(error), 200)}",
                "look at the command, or write the entry anew: neuronagent mcp install",
            ) from error
        self.started = time.monotonic()
        self._readers = [
            threading.Thread(target=reads, args=(stream,), daemon=True)
            for reads, stream in (
                (self._read_messages, self._process.stdout),
                (self._read_errors, self._process.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    def ask(self, method: str, params: Mapping[str, Any] | None = None, *, modern: bool = True) -> Answer:
        """The answer to a request.

        Raises:
            ServerProblem: there is none, or it is an error.
        """
        self._last += 1
        sent: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last, "method": method}
        held = {**(params or {}), **({"_meta": ENVELOPE} if modern else {})}
        begun = time.monotonic()
        self._send(sent | ({"params": held} if held else {}))
        message, size = self._answer(method)
        if "error" in message:
            raise ServerProblem(f"{method} is answered with an error: {_line(message['error'])}", _NEWER)
        result = message.get("result")
        if not isinstance(result, dict):
            raise ServerProblem(f"{method} is answered without a result", _NEWER)
        return Answer(result=cast("dict[str, Any]", result), seconds=time.monotonic() - begun, size=size)

    def initialize(self) -> Answer:
        """The handshake of the protocol before 2026."""
        answer = self.ask("initialize", HANDSHAKE, modern=False)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def end(self) -> float:
        """Close its stdin; the seconds until it has ended.

        Raises:
            ServerProblem: it goes on, or ends with an error.
        """
        begun = time.monotonic()
        with suppress(OSError):
            self._stdin.close()
        try:
            code = self._process.wait(self._left())
        except subprocess.TimeoutExpired:
            raise ServerProblem(
                f"it still runs {time.monotonic() - begun:.0f} s after its stdin was closed, and was killed",
                "clients would leave it behind; report it",
            ) from None
        for reader in self._readers:
            reader.join(2.0)
        if code:
            raise ServerProblem(f"it ended with {_code(code)}{self._last_error()}", _BY_HAND)
        return time.monotonic() - begun

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill whatever is left of it, with the processes that it started."""
        if sys.platform == "win32":
            if self._process.poll() is None:
                kill = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
                subprocess.run(kill, capture_output=True, check=False, timeout=30)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(2.0)
        with suppress(OSError):
            self._stdin.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _left(self) -> float:
        return max(0.0, min(self._patience, self._deadline - time.monotonic()))

    def _send(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError):  # a server that is gone is told of by the answer that is missing
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()

    def _answer(self, method: str) -> tuple[dict[str, Any], int]:
        wait = self._left()
        limit = time.monotonic() + wait
        while time.monotonic() < limit:
            try:
                found = self._messages.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                break
            if found is None:
                raise self._ended(method)
            if found[0].get("id") == self._last:
                return found
        raise ServerProblem(
            f"no answer to {method} within {wait:.3g} s, it was killed{self._last_error()}",
            f"{_BY_HAND}; --timeout waits longer",
        )

    def _ended(self, method: str) -> ServerProblem:
        if len(self.noise) >= _MOST_NOISE:
            return ServerProblem("it floods its stdout, and was killed", _BY_HAND)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(min(1.0, self._left()))
        code = self._process.poll()
        how = "closed its stdout" if code is None else f"ended with {_code(code)}"
        return ServerProblem(f"it {how} before it answered {method}{self._last_error()}", _BY_HAND)

    def _last_error(self) -> str:
        self._readers[1].join(0.5)
        said = [line for line in self._errors if line]
        return f": {said[-1]}" if said else ""

    def _read_messages(self, stream: IO[bytes]) -> None:
        """Sort stdout into messages and what is none; a flood of either ends the reading."""
        with suppress(queue.Full):
            while len(self.noise) < _MOST_NOISE and (line := stream.readline(_LONGEST_LINE)):
                message = _message(line)
                if message is None and line.strip():
                    self.noise.append(_line(line.decode("utf-8", "replace")))
                elif message is not None and message.get("id") is not None:
                    self._messages.put_nowait((message, len(line)))
            self._messages.put_nowait(None)

    def _read_errors(self, stream: IO[bytes]) -> None:
        while line := stream.readline(1 << 16):
            text = line.decode("utf-8", "replace").strip()
            if text.startswith("import time:"):
                self.imported_torch |= text.rpartition("|")[2].strip() == "torch"
            else:
                self._errors.append(_line(text))


_BY_HAND = "run the command in a terminal to see why"
_NEWER = "the command may start another version of neuronagent: write the entry anew with neuronagent mcp install"


def _code(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _message(line: bytes) -> dict[str, Any] | None:
    """A JSON-RPC message; None for anything else."""
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and cast("dict[str, Any]", found).get("jsonrpc") == "2.0":
        return cast("dict[str, Any]", found)
    return None


def _line(value: object) -> str:
    """Anything that a server said as one short line."""
    if isinstance(value, Mapping):
        value = cast("Mapping[str, object]", value).get("message", "")
    return clean(" ".join(str(value).split()), 160)
