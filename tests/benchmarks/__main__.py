"""`make bench`: how long what users wait for takes, and what the recorder adds to a bare forward pass.

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


def recorder_overhead(folder: Path) -> dict[str, float]:
    """Seconds of recorded and bare passes over the same batches, in turn, after the lists have filled."""
    import torch

    from neuronagent.index.corpus import read_corpus
    from neuronagent.index.recorder import Batch, LayerRecorder
    from neuronagent.index.sources import documents
    from neuronagent.models.bridge import load_model
    from neuronagent.service.demo import MODEL

    model = load_model(str(MODEL))
    corpus = read_corpus(
        documents("python-stdlib"), model.encode, bos_id=model.bos_id, vocab_size=model.vocab_size, max_tokens=256,
        token_budget=TOKENS, truncate=False, salt="bench", folder=folder / "corpus",
    )  # fmt: skip
    ones = torch.ones(model.d_mlp)
    recorders = [
        LayerRecorder(sign=ones, k=16, salt="bench", activate=model.activate, name=str(layer))
        for layer in range(model.n_layers)
    ]
    recorded: list[float] = []
    bare: list[float] = []
    for batch in corpus.batches(4096):
        ids, lengths, first = corpus.padded(batch)
        started = time.perf_counter()
        model.record(torch.from_numpy(ids), lambda _layer, _gate, _in: None)
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        of = Batch.of(lengths, first, corpus.table().splits[batch], "bench", "cpu")
        model.record(torch.from_numpy(ids), lambda layer, g, i, of=of: recorders[layer].update(g, i, of))
        recorded.append(time.perf_counter() - started)
    ratios = [r / b for r, b in zip(recorded, bare, strict=True)]
    return {"first batch": ratios[0], "median": statistics.median(ratios), "whole pass": sum(recorded) / sum(bare)}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result: dict[str, Any] = {
            "machine": {
                "cores": os.cpu_count(),
                "processor": platform.processor(),
                "python": platform.python_version(),
            },
            "seconds": commands(folder),
            "recorder time ÷ bare forward": recorder_overhead(folder),
        }
    for title, taken in result["seconds"].items():
        print(f"{title:<24} {taken['median']:8.3f} s   ({taken['min']:.3f}–{taken['max']:.3f})")
    for title, ratio in result["recorder time ÷ bare forward"].items():
        print(f"recorded ÷ bare forward, {title:<12} {ratio:6.2f}")
    Path("bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
