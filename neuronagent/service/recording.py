"""The pass over the corpus: batches through the model into the recorders, with checkpoints and a clean stop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronagent.errors import Interrupted, ModelError
from neuronagent.index import checkpoint
from neuronagent.index.corpus import Corpus
from neuronagent.index.recorder import Batch, LayerRecorder
from neuronagent.models.gated import GatedModel
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress
from neuronagent.service.stopping import stops_cleanly


def record_corpus(
    model: GatedModel,
    corpus: Corpus,
    signs: list[np.ndarray[Any, np.dtype[np.int8]]],
    options: BuildOptions,
    identity: str,
    folder: Path,
    progress: Progress,
) -> list[LayerRecorder]:
    """One pass over the corpus, continued from the last checkpoint."""
    recorders = [
        LayerRecorder(
            sign=torch.from_numpy(sign).to(model.device),
            k=options.k,
            salt=options.salt,
            activate=model.activate,
            name=f"layer {layer}",
        )
        for layer, sign in enumerate(signs)
    ]
    state = folder / "state.safetensors"
    run = f"{identity} {options.batch_tokens}"  # other batches round differently: a run is continued as it began
    next_batch = checkpoint.load(state, recorders, identity=run)
    batches = corpus.batches(options.batch_tokens)
    lengths = corpus.lengths
    done = int(sum(lengths[batch].sum() for batch in batches[:next_batch]))
    progress.start("recording neurons", corpus.n_tokens, "tokens")
    progress.advance(done)
    saved = time.monotonic()
    with stops_cleanly() as stop:
        for place in range(next_batch, len(batches)):
            if stop.is_set():
                checkpoint.save(state, recorders, next_batch=place, identity=run)
                raise Interrupted(
                    f"stopped after {done:,} of {corpus.n_tokens:,} tokens; they are kept",
                    remedy="the same command continues from there",
                )
            _record_batch(model, corpus, batches[place], recorders, options.salt)
            done += int(lengths[batches[place]].sum())
            progress.advance(done)
            if time.monotonic() - saved > options.checkpoint_seconds and place + 1 < len(batches):
                checkpoint.save(state, recorders, next_batch=place + 1, identity=run)
                saved = time.monotonic()
    checkpoint.save(state, recorders, next_batch=len(batches), identity=run)
    return recorders


def _record_batch(
    model: GatedModel,
    corpus: Corpus,
    texts: np.ndarray[Any, np.dtype[np.int64]],
    recorders: list[LayerRecorder],
    salt: str,
) -> None:
    ids, lengths, first = corpus.padded(texts)
    batch = Batch.of(lengths, first, corpus.table().splits[texts], salt, str(model.device))

    def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor) -> None:
        recorders[layer].update(x_gate, x_in, batch)

    try:
        model.record(torch.from_numpy(ids), sink)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} ran out of memory on a batch of {ids.size:,} tokens", remedy="lower --batch-tokens"
        ) from error
