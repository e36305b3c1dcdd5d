"""Live questions on the demo model, and how database tools answer while it computes.

Both are asked through the server's own tools with a client in memory, the model in its process. The server is a process
of its own, as users have it: one that has made an index before holds millions of objects, which its garbage collector
walks for 80 ms at a time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
from mcp import Client

TOKENS = 200
RUNS = 30
SECONDS = 8.0


def measure(folder: Path) -> dict[str, Any]:
    """Milliseconds for `activate_text` and its kin, alone; and of database tools, alone and during forward passes."""
    from neuronagent.service.demo import run_demo

    db = str(folder / "live.db")
    run_demo(db, tokens=60_000)
    command = [sys.executable, "-m", "tests.benchmarks.live", db]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {f"{TOKENS} tokens, {os.cpu_count()} cores": json.loads(found)}


def serve_and_measure(db: str) -> dict[str, float]:
    """What a server over `db` takes in this process."""
    from neuronagent.mcp_server.core import CoreTools
    from neuronagent.mcp_server.live import LiveTools
    from neuronagent.mcp_server.server import NeuronServer
    from neuronagent.mcp_server.shared import SharedSource
    from neuronagent.service.live.worker import LiveWorker

    worker, source = LiveWorker(db), SharedSource(db)
    server = NeuronServer([*CoreTools(source).tools(), *LiveTools(source, worker).tools()], source)
    try:
        return anyio.run(_measure, server)
    finally:
        worker.close()


async def _measure(server: Any) -> dict[str, float]:
    text = _text()
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "activate_text, one neuron": ("activate_text", {"neurons": ["3.5"]}),
        "activate_text, a token's neurons": ("activate_text", {}),
        "activate_text, effect on a target": ("activate_text", {"target": " if"}),
        "ablate_neurons, 5 controls": ("ablate_neurons", {"neurons": ["3.5"]}),
    }
    found: dict[str, float] = {}
    async with Client(server) as client:
        started = time.perf_counter()
        first = await _call(client, "activate_text", {"text": text, "neurons": ["3.5"]})
        found["loading and the first answer, s"] = time.perf_counter() - started
        found["tokens"] = first["tokens"]
        for name, (tool, arguments) in asked.items():
            taken = [await _timed(client, tool, {"text": text, **arguments}) for _ in range(RUNS)]
            found[f"{name}, median ms"] = 1000 * statistics.median(taken)
            found[f"{name}, most ms"] = 1000 * max(taken)
        alone = await _reading(client)
        during = await _reading(client, text)
    for title, taken in (("alone", alone), ("during forward passes", during)):
        found[f"database tools {title}, p50 ms"] = 1000 * statistics.median(taken)
        found[f"database tools {title}, p99 ms"] = 1000 * statistics.quantiles(taken, n=100)[98]
    return found


def _text() -> str:
    """Python of about so many tokens."""
    import tokenize

    source = Path(tokenize.__file__).read_text(encoding="utf-8")
    return source[2_000 : 2_000 + int(TOKENS * 2.3)]


async def _call(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content or {}


async def _timed(client: Client, tool: str, arguments: dict[str, Any]) -> float:
    started = time.perf_counter()
    await _call(client, tool, arguments)
    return time.perf_counter() - started


async def _reading(client: Client, text: str | None = None) -> list[float]:
    """Times of database tools for some seconds, with `text` while the model is asked without a pause."""
    taken: list[float] = []
    end = time.monotonic() + SECONDS

    async def ask() -> None:
        while time.monotonic() < end:
            await _call(client, "ablate_neurons", {"text": text, "neurons": ["3.5"], "controls": 20})

    async with anyio.create_task_group() as group:
        if text is not None:
            group.start_soon(ask)
        number = 0
        while time.monotonic() < end:
            number += 1
            tool = ("neuron_stats", "neuron_vocab", "neuron_weights")[number % 3]
            taken.append(await _timed(client, tool, {"neuron": f"{number % 6}.{number % 512}"}))
            await anyio.sleep(0.01)
    return taken


if __name__ == "__main__":
    print(json.dumps(serve_and_measure(sys.argv[1])))
