"""Tracing neurons against the bare forward pass over the same texts, and the room that traces take.

The bare pass runs the same padded batches of the same texts through all layers, and keeps nothing.
"""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from neuronagent import demo
from neuronagent.domain import NeuronId, Split
from neuronagent.explain.evidence import gather
from neuronagent.explain.similar_texts import SimilarTexts
from neuronagent.explain.trace_plan import CORPUS_TOKENS, TraceCorpus, plan
from neuronagent.models.bridge import load_model
from neuronagent.service.build import build_index
from neuronagent.service.options import BuildOptions
from neuronagent.service.token_values import Asked, Work
from neuronagent.service.tracing import trace
from neuronagent.store.reader import IndexReader

MODEL = Path(str(demo.__file__)).parent / "stdlib-4m"
BATCH_TOKENS = 4096


def measure(folder: Path, tokens: int = 300_000, neurons: int = 256) -> dict[str, float]:
    """Trace some neurons of the demo model over `tokens` tokens of the standard library."""
    db = str(folder / "traced.db")
    build_index(BuildOptions(model=str(MODEL), text="python-stdlib", db=db, token_budget=tokens, neighbours="off"))
    draw = random.Random(0)
    model = load_model(str(MODEL))
    chosen = [NeuronId(draw.randrange(model.n_layers), draw.randrange(model.d_mlp)) for _ in range(neurons + 1)]
    trace(db, str(MODEL), chosen[:1])  # loads the model
    chosen = [neuron for neuron in dict.fromkeys(chosen[1:]) if neuron != chosen[0]]
    started = time.perf_counter()
    trace(db, str(MODEL), chosen)
    traced = time.perf_counter() - started
    with closing(sqlite3.connect(db)) as connection:
        (size,) = connection.execute(
            'SELECT avg(length(numbers) + length("values") + length(sets)) FROM traced_tokens'
        ).fetchone()
    with IndexReader.open(db) as reader:
        salt = str(reader.info()["salt"])
        corpus = TraceCorpus(reader.texts(Split.TEST, tokens=CORPUS_TOKENS), salt)
        plans = [plan(gather(reader, neuron, salt=salt), corpus) for neuron in chosen]
    texts = {text_id: text for planned in plans for text_id, text in planned.texts.items()}
    asked = [Asked(neuron=p.evidence.neuron, sign=1, numbers=p.numbers) for p in plans]
    work = Work(list(texts.values()), asked, model.n_layers, BATCH_TOKENS)
    started = time.perf_counter()
    for batch in range(len(work.batches)):
        model.record(torch.from_numpy(work.padded(batch)), lambda _layer, _gate, _into: None)
    bare = time.perf_counter() - started
    return {
        "neurons": len(chosen),
        "texts run": len(texts),
        "tokens run": int(work.lengths.sum()),
        "tokens asked about, per neuron": sum(len(p.numbers) for p in plans) / len(plans),
        "neurons/s": len(chosen) / traced,
        "tracing / bare forward pass": traced / bare,
        "bytes stored per neuron": size,
    }


def similar(
    tokens: int = 1_000_000, vocabulary: int = 30_000, length: int = 256, queries: int = 500
) -> dict[str, float]:
    """BM25 over random texts whose tokens are as unevenly frequent as words are."""
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.2, tokens // length * length) - 1, vocabulary - 1).reshape(-1, length).tolist()
    started = time.perf_counter()
    found = SimilarTexts(ids)
    built = time.perf_counter() - started
    asked = [ids[int(text)][40:72] for text in rng.integers(0, len(ids), queries)]
    started = time.perf_counter()
    for query in asked:
        found.closest(query, 120)
    return {"passages": len(found), "seconds to invert": built, "queries/s": queries / (time.perf_counter() - started)}
