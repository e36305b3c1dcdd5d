"""`make bench`: how long what users wait for takes, and what building an index costs beside a bare forward pass.

    python -m tests.benchmarks            # everything, some 15 minutes on two cores
    python -m tests.benchmarks recorder   # or commands, build, growth, weights, neighbours, database, tracing, batch,
                                          # concept, live, mcp, pages, predict, map

Whole processes are timed as a shell would, medians of several runs; ratios are measured side by side in one run.
Nothing is asserted: machines differ. The table goes to stdout and `bench.json` beside it holds the numbers.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

RUNS = 7
TOKENS = 60_000


def seconds(work: Callable[[], object], runs: int = RUNS) -> dict[str, float]:
    """Median, least and most of `runs` runs after one that does not count."""
    work()
    taken: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return {"median": statistics.median(taken), "min": min(taken), "max": max(taken)}


def command(*arguments: str) -> Callable[[], object]:
    """A whole process; its output is read and dropped."""
    return lambda: subprocess.run(
        [sys.executable, "-m", "neuronagent", *arguments], capture_output=True, check=True, env=dict(os.environ)
    )


def commands(folder: Path) -> dict[str, dict[str, float]]:
    """What a person waits for, on an index of the demo model."""
    from neuronagent.service.demo import MODEL, run_demo

    db = str(folder / "bench.db")
    (neuron, *_) = run_demo(db, tokens=TOKENS)
    measured = {
        "--help": seconds(command("--help")),
        "show": seconds(command("show", neuron, "--db", db)),
        "show --json": seconds(command("show", neuron, "--json", "--db", db)),
        "search": seconds(command("search", "--db", db)),
        "explain, stored": seconds(command("explain", neuron, "--db", db)),
    }
    source = ["index", str(MODEL), "--text", "python-stdlib", "--token-budget", str(TOKENS)]
    started = time.perf_counter()
    command(*source, "--db", str(folder / "again.db"))()
    whole = time.perf_counter() - started
    measured[f"index, {TOKENS:,} tokens"] = {"median": whole, "min": whole, "max": whole}
    return measured


def recorder(_folder: Path) -> dict[str, Any]:
    """Recorded passes against bare ones, with and without what costs most; on a graphics card too, if there is one."""
    import torch

    from tests.benchmarks.recorder import ENGINES, SHAPES, measure

    found: dict[str, Any] = {f"small, {name}": measure(SHAPES["small"], engine=name) for name in list(ENGINES)[:2]}
    found["tiny, everything"] = measure(SHAPES["tiny"])
    if torch.cuda.is_available():
        found["7b in bfloat16 on CUDA"] = measure(SHAPES["7b"], "cuda", torch.bfloat16)
    return found


def build(folder: Path) -> dict[str, Any]:
    """Whole builds: a random model, and the trained one where it is at hand."""
    from tests.benchmarks import end_to_end
    from tests.benchmarks.recorder import SHAPES

    shape = SHAPES["small"]
    checkpoint = end_to_end.random_checkpoint(shape, folder / "small")
    found = {"small": end_to_end.measure(checkpoint, "python-stdlib", shape.max_tokens, shape.tokens)}
    shared = Path(os.environ.get("NEURONAGENT_SHARED", "../shared"))
    stories = shared / "models" / "stories260K"
    if stories.is_dir():
        text = str(shared / "text" / "tinystories_valid.txt")
        found["stories260K"] = end_to_end.measure(stories, text, 512)
    return found


def growth(_folder: Path) -> dict[str, Any]:
    """How the cost of recording grows with tokens, layers, width and k: one of them doubled at a time."""
    from tests.benchmarks.recorder import SHAPES, measure

    base = replace(SHAPES["small"], layers=4, width=256, neurons=688, heads=4, tokens=30_000)
    changed = {
        "base": base,
        "twice the tokens": replace(base, tokens=60_000),
        "twice the layers": replace(base, layers=8),
        "twice the width": replace(base, width=512, neurons=1376),
        "k = 32": replace(base, k=32),
    }
    return {name: measure(shape) for name, shape in changed.items()}


def weights(_folder: Path) -> dict[str, Any]:
    """The pass over the weights alone against reading the file and the bare matrix products."""
    from tests.benchmarks import weights_pass

    return {"weights pass": weights_pass.measure(weights_pass.Shape(), runs=3)}


def neighbours(_folder: Path) -> dict[str, Any]:
    """Finding neighbours against the bare products."""
    from tests.benchmarks import neighbours as measured

    return {"neighbours": measured.small()}


def database(folder: Path) -> dict[str, Any]:
    """Size, writing and reading of a synthetic index of 20,000 neurons."""
    from tests.benchmarks import database as measured

    return {"20,000 neurons": measured.measure(layers=4, neurons=5000, folder=folder)}


def tracing(folder: Path) -> dict[str, Any]:
    """Running neurons on the tokens of their items against the bare forward pass, and finding close texts."""
    from tests.benchmarks import tracing as measured

    return {"256 neurons of the demo model": measured.measure(folder), "closest texts": measured.similar()}


def batch(folder: Path) -> dict[str, Any]:
    """A batch of explanations over an index of the demo model."""
    from neuronagent.service.demo import run_demo
    from tests.benchmarks import batch as measured

    db = folder / "bench.db"
    run_demo(str(db))
    return measured.measure(db, folder)


def concept(folder: Path) -> dict[str, Any]:
    """A search by concept over 1,000 labelled texts against the bare forward passes, and ranking alone."""
    from tests.benchmarks import concept as measured

    return {"1,000 texts, demo model": measured.measure(folder), "ranking": measured.ranking()}


def live(folder: Path) -> dict[str, Any]:
    """Questions to the loaded model, and database tools while it computes."""
    from tests.benchmarks import live as measured

    return measured.measure(folder)


def mcp(folder: Path) -> dict[str, Any]:
    """The MCP server over HTTP and over pipes, on an index of the demo model."""
    from neuronagent.service.demo import run_demo
    from tests.benchmarks import mcp as measured

    db = folder / "bench.db"
    run_demo(str(db), tokens=TOKENS)
    return measured.measure(db)


def model_map(folder: Path) -> dict[str, Any]:
    """The map of a model of 352,256 neurons."""
    from tests.benchmarks import model_map as measured

    return {"352,256 neurons": measured.measure(folder)}


def pages(folder: Path) -> dict[str, Any]:
    """Neuron pages, one by one and a thousand at once, on an index of the demo model."""
    from neuronagent.service.demo import run_demo
    from tests.benchmarks import pages as measured

    db = folder / "bench.db"
    run_demo(str(db))
    return measured.measure(db, folder)


def predict(folder: Path) -> dict[str, Any]:
    """Maps between layers: closed form against the paper's optimiser, a whole fit against the bare work, and memory."""
    from tests.benchmarks import predict as measured

    return measured.measure(folder)


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    part.__name__: part
    for part in (
        commands,
        recorder,
        build,
        growth,
        weights,
        neighbours,
        database,
        tracing,
        batch,
        concept,
        live,
        mcp,
        pages,
        predict,
    )
} | {"map": model_map}


def show(part: str, found: dict[str, Any]) -> None:
    """One part as a table: a line per figure."""
    for title, figures in found.items():
        print(f"\n{part}: {title}")
        for name, value in figures.items():
            print(f"  {name:<44} {value:12,.4g}" if isinstance(value, int | float) else f"  {name:<44} {value}")


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    for name in chosen:
        if name not in PARTS:
            sys.exit(f"{name!r} is not a part; allowed: {', '.join(PARTS)}")
    machine = {"cores": os.cpu_count(), "processor": platform.processor(), "python": platform.python_version()}
    result: dict[str, Any] = {"machine": machine}
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = PARTS[name](Path(folder))
        show(name, result[name])
        Path("bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
