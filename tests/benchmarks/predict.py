"""Fitting maps between layers: against the paper's optimiser, against the bare work, and the memory it takes.

    python -m tests.benchmarks.predict [--tokens 300000]

1. Closed form and Adagrad on shared activations (`predict_optimisers`), for the demo model on the standard library and
   for stories260K on TinyStories where it is at hand.
2. A whole `predict fit` beside the bare forward passes through the layers it needs and the bare Gram products (each
   block of two layers once, float32, nothing added up), over the same batches before and after it.
3. The peak memory of a `predict fit` of all pairs of a wide random model, in a process of its own, with and without
   `--memory`, beside that of the same command for one pair and one batch.
4. One pair of layers of 11,008 neurons from a million tokens on a graphics card, if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from neuronagent.domain import Split
from neuronagent.index.predictability.gram import Grams
from neuronagent.index.predictability.ridge import solve
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.predictability.scores import Pair, parse_pairs
from neuronagent.service.build import build_index
from neuronagent.service.demo import MODEL
from neuronagent.service.lookup import Index
from neuronagent.service.options import BuildOptions
from neuronagent.service.predict.activations import Batch, make_batch, plan_batches
from neuronagent.service.predict.fit import FitOptions, fit
from neuronagent.service.predict.texts import corpus_texts
from tests.benchmarks import predict_optimisers
from tests.benchmarks.end_to_end import random_checkpoint
from tests.benchmarks.recorder import Shape

TOKENS = 300_000
WIDE = Shape(layers=8, width=128, neurons=1024, heads=4, vocabulary=4096, tokens=30_000, batch_tokens=4096,
             max_tokens=256)  # fmt: skip
LIMIT = "300MB"


class _Seen(Exception):
    """The last layer has been computed."""


def forward(model: GatedModel, batches: Sequence[Batch], last: int) -> None:
    """Bare passes up to the MLP of layer `last`."""

    def sink(layer: int, _gate: torch.Tensor, _into: torch.Tensor) -> None:
        if layer == last:
            raise _Seen

    for batch in batches:
        with suppress(_Seen):
            model.record(torch.from_numpy(batch.ids), sink)


def products(tokens: Sequence[int], neurons: int, blocks: int) -> None:
    """`blocks` products `[N, T] × [T, N]` for every batch of so many tokens."""
    a, b, out = torch.randn(max(tokens), neurons), torch.randn(max(tokens), neurons), torch.empty(neurons, neurons)
    for count in tokens:
        for _ in range(blocks):
            torch.mm(a[:count].T, b[:count], out=out)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def end_to_end(db: str, folder: str, spec: str) -> dict[str, Any]:
    """A whole fit in this process beside what it cannot do without."""
    model = load_model(folder, dtype="float32", device="cpu")
    pairs = parse_pairs(spec, model.n_layers)
    with Index(db) as index:
        texts = [corpus_texts(index, [split]) for split in (Split.EXPLAIN, Split.SELECT)]
    batches = [make_batch(each, places) for each in texts for places in plan_batches(each)]
    tokens = [len(batch.places) for batch in batches]
    blocks = len({tuple(sorted(pair)) for pair in pairs} | {(pair.source, pair.source) for pair in pairs})

    def bare() -> float:
        return seconds(lambda: forward(model, batches, max(map(max, pairs)))) + seconds(
            lambda: products(tokens, model.d_mlp, blocks)
        )

    forward(model, batches[:2], model.n_layers - 1)
    before = bare()
    name = f"bench-{spec.replace(':', '-')}"
    whole = seconds(lambda: fit(FitOptions(db=db, name=name, pairs=spec, model=folder, device="cpu")))
    after = bare()
    return {
        f"{spec}: tokens": sum(tokens),
        f"{spec}: predict fit, s": whole,
        f"{spec}: bare, before, s": before,
        f"{spec}: bare, after, s": after,
        f"{spec}: predict fit ÷ bare": 2 * whole / (before + after),
    }


def peak(*arguments: str) -> float:
    """The most memory that a command ever had, in megabytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "neuronagent", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(said.decode(errors="replace")[-2000:])
    return used.ru_maxrss / 1e3


def memory(folder: Path, shape: Shape = WIDE) -> dict[str, Any]:
    """All pairs of a wide model."""
    checkpoint, db = str(random_checkpoint(shape, folder / "wide")), str(folder / "wide.db")
    build_index(
        BuildOptions(
            model=checkpoint,
            text="python-stdlib",
            db=db,
            token_budget=shape.tokens,
            max_tokens=shape.max_tokens,
            dtype="float32",
            device="cpu",
            neighbours="off",
            k=2,
        )
    )
    common = ("predict", "fit", "--db", db, "--model", checkpoint, "--device", "cpu")
    base = peak(*common, "--name", "base", "--pairs", "0:0", "--tokens", str(shape.batch_tokens))
    bounded = peak(*common, "--name", "bounded", "--pairs", "all", "--memory", LIMIT)
    free = peak(*common, "--name", "free", "--pairs", "all", "--memory", "16GB")
    return {
        "model": f"{shape.layers} layers × {shape.neurons:,} neurons, {shape.tokens:,} tokens, 64 pairs",
        "peak for one pair, MB": base,
        f"peak with --memory {LIMIT}, MB": bounded,
        f"peak with --memory {LIMIT}, above one pair, MB": bounded - base,
        "peak with --memory 16GB, MB": free,
    }


def wide_pair(neurons: int = 11_008, tokens: int = 1_000_000, batch: int = 32_768) -> dict[str, Any]:
    """One pair `0→1` of random activations in bfloat16, made on the device, as wide as OLMo-7B's."""
    device, pair = "cuda", Pair(0, 1)
    torch.manual_seed(0)
    widths = {0: neurons, 1: neurons}
    fitted, aside = (Grams([pair], widths, widths, shared=True, device=device) for _ in range(2))
    post = {layer: torch.randn(batch, neurons, device=device).bfloat16().float() for layer in widths}
    aside.update(post, post)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(-(-tokens // batch)):
        fitted.update(post, post)
    torch.cuda.synchronize()
    gram = time.perf_counter() - started
    solve(fitted, aside, 0, [1], intercept=False)
    torch.cuda.synchronize()
    whole = time.perf_counter() - started
    per_token = gram / 2 / tokens  # one of two blocks
    return {
        "Gram and cross-Gram, s": gram,
        "solution, s": whole - gram,
        "one pair, s": whole,
        "projected: 10⁷ tokens, 256 ordered pairs of 16 layers, h": (
            (per_token * 136 * 1e7 + (whole - gram) * 256) / 3600
        ),
        "peak, GB": torch.cuda.max_memory_allocated() / 1e9,
    }


def measure(folder: Path, tokens: int = TOKENS) -> dict[str, Any]:
    """All four."""
    shared = Path(os.environ.get("NEURONAGENT_SHARED", "../shared"))
    subjects = {"demo": (str(MODEL), "python-stdlib", 256)}
    stories = shared / "models" / "stories260K"
    if stories.is_dir():
        subjects["stories260K"] = (str(stories), str(shared / "text" / "tinystories_valid.txt"), 512)
    found: dict[str, Any] = {}
    for name, (model, text, longest) in subjects.items():
        db = str(folder / f"{name}.db")
        build_index(
            BuildOptions(
                model=model,
                text=text,
                db=db,
                token_budget=tokens,
                max_tokens=longest,
                dtype="float32",
                device="cpu",
                neighbours="off",
            )
        )
        found[f"{name}, closed form and Adagrad"] = predict_optimisers.measure(db, model)
        found[f"{name}, predict fit"] = end_to_end(db, model, "adjacent") | end_to_end(db, model, "all")
    found["memory"] = memory(folder)
    wide = wide_pair() if torch.cuda.is_available() else {"one pair": "not measured: no GPU"}
    return found | {"11,008 neurons, a million tokens": wide}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), chosen.tokens), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
