"""How fast the MCP server answers, over HTTP and over pipes, beside a tool of the bare SDK that reads the same rows.

`python -m tests.benchmarks mcp`

Servers run on one core, what asks them on another. The two servers of a comparison are up at the same time and asked in
turns, so that a busy machine slows both; rates are medians of the turns, and processor time per call is given beside
them, since it depends less on who else is at work. Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.mcp_server.pipe import ENVELOPE, Pipe

TURNS, SECONDS = 6, 1.5
NEURONS = [f"{layer}.{neuron}" for layer in range(2) for neuron in range(25)]
"""What is asked for, over and over; a server remembers 64 neurons."""


def measure(db: Path) -> dict[str, dict[str, Any]]:
    """Everything, on the index `db`."""
    found: dict[str, dict[str, Any]] = {}
    with _server("ours", db) as ours, _server("bare", db) as bare:
        found["HTTP, 10 connections, neuron_weights"] = compare(ours, bare, "neuron_weights", connections=10)
        found["HTTP, 1 connection, neuron_weights"] = compare(ours, bare, "neuron_weights", connections=1, turns=2)
        found["HTTP, 10 connections, initialize era"] = compare(ours, bare, "neuron_weights", modern=False, turns=2)
        for tool in ("neuron_stats", "neuron_explanations", "neuron_overview"):
            found[f"HTTP, 10 connections, {tool}"] = ours.turns(tool, 2).figures()
        found["HTTP, 200 connections, neuron_weights"] = ours.turns("neuron_weights", 2, connections=200).figures()
    with _server("broken", db) as broken:
        found["HTTP, a tool that raises"] = broken.turns("neuron_weights", 3, failing=True).figures()
    found["pipes"] = pipes(db)
    found["start"] = start(db)
    return found


def compare(
    ours: Server, bare: Server, tool: str, *, connections: int = 10, turns: int = TURNS, modern: bool = True
) -> dict[str, Any]:
    """Our tool and the bare one in turns."""
    mine, theirs = Turns(), Turns()
    for turn in range(turns + 1):
        for server, all_turns in ((ours, mine), (bare, theirs)):
            one = server.turn(tool, connections, modern=modern)
            if turn:  # the first one warms up
                all_turns.add(one)
    figures = mine.figures()
    figures |= {f"bare SDK, {name}": value for name, value in theirs.figures().items() if name != "errors"}
    figures["calls/s, share of the bare SDK's"] = mine.rate / theirs.rate
    figures["processor time, share of the bare SDK's"] = mine.cpu / theirs.cpu
    return figures


class Turns:
    """What several turns of asking found."""

    def __init__(self) -> None:
        self._rates, self._cpu, self._taken, self._errors = list[float](), list[float](), list[float](), 0

    def add(self, turn: Turn) -> None:
        self._rates.append(len(turn.taken) / turn.seconds)
        self._cpu.append(turn.cpu / len(turn.taken))
        self._taken += turn.taken
        self._errors += turn.errors

    @property
    def rate(self) -> float:
        return statistics.median(self._rates)

    @property
    def cpu(self) -> float:
        return statistics.median(self._cpu)

    def figures(self) -> dict[str, Any]:
        taken = sorted(self._taken)
        return {
            "calls/s": self.rate,
            "calls/s, best turn": max(self._rates),
            "p50 ms": taken[len(taken) // 2] * 1e3,
            "p99 ms": taken[len(taken) * 99 // 100] * 1e3,
            "processor µs per call": self.cpu * 1e6,
            "errors": self._errors,
        }


class Turn:
    """One turn of asking: `connections` clients that ask again as soon as they are answered."""

    def __init__(self, requests: list[bytes], port: int, connections: int, *, failing: bool) -> None:
        self.taken: list[float] = []
        self.errors, self.cpu, self.seconds = 0, 0.0, 0.0
        self._requests, self._port, self._connections, self._failing = requests, port, connections, failing
        self._open = connections

    async def run(self) -> None:
        loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        started = time.perf_counter()
        self.ends = started + SECONDS
        for number in range(self._connections):
            await loop.create_connection(lambda number=number: _Client(self, number), "127.0.0.1", self._port)
        await self._over.wait()
        self.seconds = time.perf_counter() - started

    def request(self, number: int) -> bytes:
        return self._requests[number % len(self._requests)]

    def answered(self, answer: bytes, seconds: float) -> None:
        self.taken.append(seconds)
        result = b'"isError":true' in answer if self._failing else b'"isError":true' not in answer
        self.errors += not (answer.startswith(b"HTTP/1.1 200") and b'"result":' in answer and result)

    def left(self) -> None:
        self._open -= 1
        if not self._open:
            self._over.set()


class _Client(asyncio.Protocol):
    def __init__(self, turn: Turn, number: int) -> None:
        self._turn, self._number, self._read = turn, number * 7, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._turn.request(self._number))
        self._number += 1

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not (found and length and len(body) >= int(length[1])):
            return
        now = time.perf_counter()
        self._turn.answered(self._read, now - self._asked)
        self._read = b""
        if now < self._turn.ends:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._turn.errors += exc is not None
        self._turn.left()


class Server:
    """A server process, pinned to the first core; this process keeps to the others."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def turns(self, tool: str, turns: int, *, connections: int = 10, failing: bool = False) -> Turns:
        found = Turns()
        self.turn(tool, connections, failing=failing)
        for _ in range(turns):
            found.add(self.turn(tool, connections, failing=failing))
        return found

    def turn(self, tool: str, connections: int, *, modern: bool = True, failing: bool = False) -> Turn:
        turn = Turn([_request(tool, n, self.port, modern) for n in NEURONS], self.port, connections, failing=failing)
        before = _processor_seconds(self.process.pid)
        asyncio.run(turn.run())
        turn.cpu = _processor_seconds(self.process.pid) - before
        return turn


def _request(tool: str, neuron: str, port: int, modern: bool) -> bytes:
    params: dict[str, Any] = {"name": tool, "arguments": {"neuron": neuron}}
    lines = ["POST /mcp HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json",
        "accept: application/json, text/event-stream"]  # fmt: skip
    if modern:
        params["_meta"] = ENVELOPE
        lines += ["mcp-protocol-version: 2026-07-28", "mcp-method: tools/call", f"mcp-name: {tool}"]
    body = json.dumps({"jsonrpc": "2.0", "id": neuron, "method": "tools/call", "params": params}).encode()
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


@contextmanager
def _server(kind: str, db: Path) -> Generator[Server]:
    with _apart() as core:
        command = [sys.executable, "-m", "tests.benchmarks.mcp", kind, str(db), core]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            try:
                yield Server(process, int(process.stdout.readline()))
            finally:
                process.terminate()


def pipes(db: Path, calls: int = 2000) -> dict[str, float]:
    """One request after the other over stdin and stdout, and then 50 on their way at a time."""
    with Pipe(db) as pipe:
        pipe.initialize()
        taken: list[float] = []
        for number in range(calls + 100):
            call = {"name": "neuron_weights", "arguments": {"neuron": NEURONS[number % len(NEURONS)]}}
            started = time.perf_counter()
            answer = pipe.ask("tools/call", call)
            taken.append(time.perf_counter() - started)
            assert not answer["result"].get("isError"), answer
        taken = sorted(taken[100:])
        before, started = _processor_seconds(pipe.process.pid), time.perf_counter()
        for first in range(0, calls, 50):
            for number in range(first, first + 50):
                pipe.post("tools/call", {"name": "neuron_weights", "arguments": {"neuron": NEURONS[number % 50]}})
            for _ in range(50):
                pipe.read()
        together = time.perf_counter() - started
        cpu = _processor_seconds(pipe.process.pid) - before
    return {
        "p50 ms": taken[calls // 2] * 1e3,
        "p99 ms": taken[calls * 99 // 100] * 1e3,
        "processor µs per call": cpu / calls * 1e6,
        "calls/s, one at a time": calls / sum(taken),
        "calls/s, 50 at a time": calls / together,
    }


def start(db: Path) -> dict[str, Any]:
    """From starting the process until `tools/list` is answered, what it holds then, and after the first call."""
    taken, cpu = list[float](), list[float]()
    figures: dict[str, Any] = {}
    for _ in range(5):
        started = time.perf_counter()
        with Pipe(db) as pipe:
            listed = pipe.ask("tools/list", modern=True)
            taken.append(time.perf_counter() - started)
            cpu.append(_processor_seconds(pipe.process.pid))
            memory = _memory(pipe.process.pid)
            pipe.ask("tools/call", {"name": "neuron_weights", "arguments": {"neuron": "0.1"}}, modern=True)
            maps = Path(f"/proc/{pipe.process.pid}/maps")
            figures = {
                "tools": len(listed["result"]["tools"]),
                "tools/list, kB": len(json.dumps(listed["result"]["tools"], ensure_ascii=False)) / 1e3,
                "MB": memory,
                "MB after a call": _memory(pipe.process.pid),
                "torch is loaded": "torch" in maps.read_text() if maps.exists() else "?",
            }
    times = {"seconds to tools/list": statistics.median(taken), "at best": min(taken), "of a processor": min(cpu)}
    return times | figures


def _memory(pid: int) -> float:
    with suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def _processor_seconds(pid: int) -> float:
    """What all threads of a process have used."""
    used = 0.0
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                used += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return used


_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def _apart() -> Generator[str]:
    """This process keeps off the first core meanwhile, which is left to a server; its number, or nothing."""
    if len(_CORES) < 2:
        yield ""
        return
    os.sched_setaffinity(0, _CORES[1:])
    try:
        yield str(_CORES[0])
    finally:
        os.sched_setaffinity(0, _CORES)


def _serve(kind: str, db: str, core: str) -> None:
    """Child process: one server on a free port, which it prints, on `core`."""
    if core:
        os.sched_setaffinity(0, {int(core)})
    _KINDS[kind](db)


def _serve_ours(db: str) -> None:
    from neuronagent.mcp_server.options import ServerOptions
    from neuronagent.mcp_server.server import build_server

    _gated(build_server(ServerOptions(db=db, live=False)))


def _serve_broken(db: str) -> None:
    """A tool with a mistake in it, on our server."""
    from neuronagent.mcp_server.making import content_tool
    from neuronagent.mcp_server.options import ServerOptions
    from neuronagent.mcp_server.server import NeuronServer, build_server
    from neuronagent.mcp_server.shared import SharedSource

    def neuron_weights(neuron: str) -> list[str]:
        """Fails."""
        return [neuron][1:][0]  # type: ignore[return-value]

    build_server(ServerOptions(db=db, live=False))  # sets up logging as a server does
    _gated(NeuronServer([content_tool(neuron_weights, "Fails")], SharedSource(db)))


def _gated(server: Any) -> None:
    from neuronagent.mcp_server.http import serve_http
    from neuronagent.mcp_server.http_options import HttpOptions

    serve_http(server, HttpOptions(port=0, rate=1e6), lambda url: _print_port(url))


def _print_port(url: str) -> None:
    print(url.partition("127.0.0.1:")[2].partition("/")[0], flush=True)


def _serve_bare(db: str) -> None:
    """The SDK as it comes, and a tool that reads what `neuronagent`'s reads and returns about as much."""
    import socket
    import sqlite3

    import uvicorn
    from mcp.server.mcpserver import MCPServer

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    server: MCPServer[Any] = MCPServer("bare")
    kept = threading.local()

    @server.tool()
    def neuron_weights(neuron: str) -> dict[str, Any]:
        connection: sqlite3.Connection | None = getattr(kept, "connection", None)
        if connection is None:
            connection = kept.connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
        place = tuple(map(int, neuron.split(".")))
        row = connection.execute("SELECT * FROM neuron WHERE layer = ? AND neuron = ?", place).fetchone()
        baselines = json.loads(
            connection.execute("SELECT baselines FROM layer WHERE layer = ?", place[:1]).fetchone()[0]
        )
        cosines = [
            {
                "pair": pair,
                "cosine": round(cosine, 3),
                **{key: [round(x, 4) for x in v["gaussian"]] for key in ("lo", "hi")},
            }
            for (pair, v), cosine in zip(baselines.items(), row[3:6], strict=True)
        ]
        return {"neuron": neuron, "io_class": row[9], "cosines": cosines, "norms": row[6:9], "note": "x" * 400}

    _ = neuron_weights
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio lets answers wait
    listening.bind(("127.0.0.1", 0))
    _print_port(f"127.0.0.1:{listening.getsockname()[1]}/")
    app = server.streamable_http_app(json_response=True, stateless_http=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


_KINDS: dict[str, Callable[[str], None]] = {"ours": _serve_ours, "bare": _serve_bare, "broken": _serve_broken}

if __name__ == "__main__":
    _serve(*sys.argv[1:4])
