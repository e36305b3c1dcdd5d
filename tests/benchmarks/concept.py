"""A search by concept against the bare forward passes over the same texts, and how fast columns are ranked."""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path

import numpy as np

from neuronagent import demo
from neuronagent.service.build import build_index
from neuronagent.service.live.concept import search_concept
from neuronagent.service.live.concept_items import LabelledText
from neuronagent.service.live.concept_statistics import permuted_labels, rank, rounded
from neuronagent.service.live.concept_values import place
from neuronagent.service.live.model import LiveModel, open_live
from neuronagent.service.lookup import Index
from neuronagent.service.options import BuildOptions

MODEL = Path(str(demo.__file__)).parent / "stdlib-4m"
BATCH_TOKENS = 4096
RUNS = 3


def texts(n: int) -> list[LabelledText]:
    """Pieces of the standard library, four lines each, labelled by whether there is a digit."""
    draw, found = random.Random(0), dict[str, None]()
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    while len(found) < n:
        lines = draw.choice(files).read_text(encoding="utf-8", errors="replace").splitlines()
        start = draw.randrange(max(1, len(lines)))
        text = "\n".join(lines[start : start + 4])[:300]
        if text.strip() and text.isascii():
            found[text] = None
    return [LabelledText(text=text, label=any(c.isdigit() for c in text)) for text in found]


def measure(folder: Path, n: int = 1_000) -> dict[str, float]:
    """All neurons of the demo model over `n` texts; medians of `RUNS`."""
    db, items = str(folder / "concept.db"), texts(n)
    build_index(BuildOptions(model=str(MODEL), text="python-stdlib", db=db, token_budget=20_000, neighbours="off"))
    with Index(db) as index:
        live = open_live(index)
        search_concept(live, items[:100], limit=2)
        bare = sorted(_bare(live, items) for _ in range(RUNS))[RUNS // 2]
        taken: list[float] = []
        for _ in range(RUNS):
            started = time.perf_counter()
            search_concept(live, items)
            taken.append(time.perf_counter() - started)
        tokens = sum(len(item.text.ids) for item in place(live, items))
    return {
        "texts": n,
        "tokens": tokens,
        "seconds": sorted(taken)[RUNS // 2],
        "search / bare forward passes": sorted(taken)[RUNS // 2] / bare,
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _bare(live: LiveModel, items: list[LabelledText]) -> float:
    """The same texts through all layers, in batches of like length; nothing is kept."""
    started = time.perf_counter()
    read = sorted((item.text for item in place(live, items)), key=lambda text: len(text.ids))
    start = 0
    for end in range(1, len(read) + 1):
        if end == len(read) or (end + 1 - start) * len(read[end].ids) > BATCH_TOKENS:
            live.model.record(live.batch(read[start:end]), lambda _layer, _gate, _into: None)
            start = end
    return time.perf_counter() - started


def ranking(n: int = 2_500, columns: int = 8_000, permutations: int = 200) -> dict[str, float]:
    """Columns of random values, as a search over 5,000 texts ranks them."""
    generator = np.random.default_rng(0)
    values = rounded(np.abs(generator.normal(size=(n, columns))).astype(np.float32))
    labels = permuted_labels(generator.random(n) < 0.5, np.arange(n), permutations, 0)
    started = time.perf_counter()
    rank(values, labels, np.ones(columns, dtype=np.bool_))
    taken = time.perf_counter() - started
    return {
        "columns/s": columns / taken,
        "seconds for the 1.4 million columns of a 7B model": 4 * 352_256 * taken / columns,
    }
