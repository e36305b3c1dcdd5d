"""The pass over the corpus: batches through the model into the recorders, with checkpoints and a clean stop.

The layers may be split over several forward passes, which changes nothing but the memory that recording needs: every
layer sees the same batches in the same order. Each pass leaves one state file, named after its first layer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.errors import IndexMismatchError, Interrupted, ModelError
from neuronagent.index import checkpoint, kernel
from neuronagent.index.activation import activation_of
from neuronagent.index.batch import Batch
from neuronagent.index.checkpoint import StateFile
from neuronagent.index.corpus import Corpus
from neuronagent.index.recorder import LayerRecorder
from neuronagent.models.gated import GatedModel
from neuronagent.service.devices import products
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress
from neuronagent.service.stopping import stops_cleanly

_CHECKPOINT_SHARE = 0.05  # of the time: checkpoints that take long are written less often


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process records: these `batches` of the corpus, into state files `NAME.layer-….safetensors`; `run`
    names all that the numbers depend on, so that a state is continued as it began."""

    name: str
    run: str
    batches: list[NDArray[np.int64]]
    folder: Path

    def path(self, first_layer: int) -> Path:
        return self.folder / f"{self.name}.layer-{first_layer}.safetensors"

    def found(self) -> list[StateFile]:
        """The state files that are there, of this run.

        Raises:
            IndexMismatchError: one belongs to a recording with other settings.
            StorageError: one is damaged.
        """
        states = [checkpoint.read(path) for path in sorted(self.folder.glob(f"{self.name}.layer-*.safetensors"))]
        for state in states:
            if state is not None and state.run != self.run:
                raise IndexMismatchError(
                    f"{self.folder} holds an unfinished index with other settings",
                    remedy="repeat its command, or delete that folder",
                )
        return [state for state in states if state is not None]

    def recorded(self) -> dict[int, StateFile]:
        """The layers that have seen every batch, each with the file that holds it."""
        return {layer: state for state in self.found() if state.complete for layer in state.layers}


def record(
    model: GatedModel,
    corpus: Corpus,
    signs: list[NDArray[np.int8]],
    options: BuildOptions,
    part: Part,
    progress: Progress,
) -> None:
    """Record the wanted layers that are not recorded yet, continuing from the last checkpoint.

    Raises:
        ModelError: activations that are not finite, or too little memory on the device.
        Interrupted: Ctrl-C; the work so far is kept.
        IndexMismatchError, StorageError: of the state files.
    """
    found = {state.path: state for state in part.found()}
    complete = [state for state in found.values() if state.complete]
    done = {layer for state in complete for layer in state.layers}
    wanted = [layer for layer in (options.layers or range(model.n_layers)) if layer not in done]
    size = -(-model.n_layers // options.passes)
    passes = [tuple(wanted[start : start + size]) for start in range(0, len(wanted), size)]
    tokens = int(sum(corpus.lengths[batch].sum() for batch in part.batches))
    slow = kernel.missing(model.device)
    if slow is not None and passes:
        progress.note(slow)
    progress.start("recording neurons", tokens * (len(complete) + len(passes)), "tokens")
    told = _Told(progress, tokens * len(complete))
    for layers in passes:
        before = found.get(part.path(layers[0]))
        if before is not None and before.layers != layers:
            progress.note(f"an unfinished pass over {len(before.layers)} layers is begun again with {len(layers)}")
            before = None
        _pass(model, corpus, signs, options, part, layers, before, told)
    if not passes:
        progress.advance(told.done)


@dataclass
class _Told:
    """Tokens done in all passes, as the progress is told."""

    progress: Progress
    done: int

    def add(self, tokens: int) -> None:
        self.done += tokens
        self.progress.advance(self.done)


@dataclass
class _Clock:
    """When the next checkpoint is due: after `seconds`, and not so often that writing takes more than its share."""

    seconds: float
    cost: float = 0.0
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        wait = max(self.seconds, self.cost / _CHECKPOINT_SHARE) if self.seconds else 0.0
        return time.monotonic() - self.last > wait

    def written(self, begun: float) -> None:
        self.last = time.monotonic()
        self.cost = self.last - begun


def _pass(
    model: GatedModel,
    corpus: Corpus,
    signs: list[NDArray[np.int8]],
    options: BuildOptions,
    part: Part,
    layers: tuple[int, ...],
    before: StateFile | None,
    told: _Told,
) -> None:
    """One forward pass over the batches of `part`, recording `layers`."""
    recorders = _recorders(model, signs, options, layers)
    path, clock = part.path(layers[0]), _Clock(options.checkpoint_seconds)

    def save(next_batch: int, *, complete: bool) -> None:
        begun = time.monotonic()
        checkpoint.save(path, recorders, next_batch=next_batch, complete=complete, run=part.run)
        clock.written(begun)

    begin = 0 if before is None else before.next_batch
    tokens = [int(corpus.lengths[batch].sum()) for batch in part.batches]
    with stops_cleanly() as stop, products(options.dtype):
        if before is not None:
            for layer, recorder in recorders.items():
                recorder.load(before.state(layer))
        told.add(sum(tokens[:begin]))
        for place in range(begin, len(part.batches)):
            _record_batch(model, corpus, part.batches[place], recorders, options.salt)
            told.add(tokens[place])
            last = place + 1 == len(part.batches)
            if stop.is_set():
                save(place + 1, complete=last)
                raise Interrupted(
                    f"stopped after {sum(tokens[: place + 1]):,} of {sum(tokens):,} tokens; they are kept",
                    remedy="the same command continues from there",
                )
            if not last and clock.due():
                save(place + 1, complete=False)
    save(len(part.batches), complete=True)


def _recorders(
    model: GatedModel, signs: list[NDArray[np.int8]], options: BuildOptions, layers: tuple[int, ...]
) -> dict[int, LayerRecorder]:
    """Empty recorders of `layers`, each on the device of its layer."""
    try:
        return {
            layer: LayerRecorder(
                sign=torch.from_numpy(signs[layer]).to(model.layer_device(layer)),
                k=options.k,
                salt=options.salt,
                activate=activation_of(model.activation),
                name=f"layer {layer}",
            )
            for layer in layers
        }
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} has no room for what {len(layers)} layers record", remedy="raise --passes"
        ) from error


class _AllSeen(Exception):
    """The last layer that is wanted has been recorded: the rest of the forward pass is not needed."""


def _record_batch(
    model: GatedModel,
    corpus: Corpus,
    texts: NDArray[np.int64],
    recorders: dict[int, LayerRecorder],
    salt: str,
) -> None:
    ids, lengths, first = corpus.padded(texts)
    places = {str(model.layer_device(layer)) for layer in recorders}
    splits = corpus.table().splits[texts]
    batches = {place: Batch.of(lengths, first, splits, salt, place) for place in places}
    last = max(recorders)

    def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor) -> None:
        if layer in recorders:
            recorders[layer].update(x_gate, x_in, batches[str(x_gate.device)])
        if layer == last:
            raise _AllSeen

    try:
        model.record(torch.from_numpy(ids), sink)
    except _AllSeen:
        pass
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} ran out of memory on a batch of {ids.size:,} tokens",
            remedy="lower --batch-tokens, or raise --passes",
        ) from error
