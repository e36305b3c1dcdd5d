"""One modified run of a model after another: which neurons something takes the place of, and what the model then loses.

The unmodified model is run first on every batch. From it come the clean sources, and what the replaced layers write:
`partial` substitution adds that to the final residual stream in place of what they write in the modified run, before
the last norm. Complete and partial substitution are one run, read out twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.errors import ModelError
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.models.gated import Change, GatedModel
from neuronagent.predictability.substitution import COMPLETE, PARTIAL
from neuronagent.service.devices import products
from neuronagent.service.predict.losses import losses_at
from neuronagent.service.predict.windows import WindowBatch, Windows, window_batches

Substitute = Callable[[Tensor, Tensor], Tensor]
"""From `post` of the source and of the layer itself in this run, `[texts, tokens, N]` each, to what is put in place."""


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What takes the place of the neurons of `layer`, whose source is another layer."""

    layer: int
    source: int
    substitute: Substitute


@dataclass(frozen=True, kw_only=True)
class Run:
    """One modified run. `chained`: sources are read in this run, not in the unmodified one; `settings`: how its end is
    read out."""

    name: str
    replacements: tuple[Replacement, ...]
    chained: bool
    settings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Sums of losses by document `[D]`, of the unmodified model and by (run, setting); NaN where one is not finite.
    `counts`: predictions by document."""

    counts: NDArray[np.float64]
    original: NDArray[np.float64]
    runs: Mapping[tuple[str, str], NDArray[np.float64]]


def random_like(found: NeuronMap, seed: Sequence[int]) -> NeuronMap:
    """A Gaussian map whose rows have the norms of those of `found`, and its intercept; the same on every device."""
    entropy = np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0] >> np.uint64(1)
    weight = found.weight
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(int(entropy))).to(weight.device)
    norms = weight.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    return NeuronMap(factors=(drawn * norms,), bias=found.bias)


def mapped(found: NeuronMap) -> Substitute:
    """What a map predicts."""
    return lambda source, own: found(source.to(own.device)).to(own.dtype)


def zeros(_source: Tensor, own: Tensor) -> Tensor:
    return torch.zeros_like(own)


def identical(source: Tensor, own: Tensor) -> Tensor:
    return source.to(own)


def actual(_source: Tensor, own: Tensor) -> Tensor:
    return own


def halved(top: Tensor, upper: Substitute, lower: Substitute) -> Substitute:
    """`upper` where `top` `[N]` says so, else `lower`."""
    return lambda source, own: torch.where(top.to(own.device), upper(source, own), lower(source, own))


def losses_of_runs(
    model: GatedModel, windows: Windows, runs: Sequence[Run], advance: Callable[[int], None], batch_tokens: int
) -> Losses:
    """Losses of the unmodified model and of each run, at all predictions of `windows` that count; `advance` is told
    after each run of a batch how many predictions it had, which makes `windows.predictions × (1 + runs)`.

    Raises:
        ModelError: too little memory, or losses of the unmodified model that are not finite.
    """
    numbers = {number: place for place, number in enumerate(dict.fromkeys(w.document for w in windows.windows))}
    counts, original = np.zeros(len(numbers)), np.zeros(len(numbers))
    sums = {(run.name, setting): np.zeros(len(numbers)) for run in runs for setting in run.settings}
    with products("float32"), torch.inference_mode():
        for batch in window_batches(windows, batch_tokens):
            places = np.array([numbers[document] for document in batch.documents.tolist()], dtype=np.int64)
            counts += np.bincount(places, minlength=len(counts))
            for name, by_setting in _of_batch(model, batch, windows.first, runs):
                for setting, losses in by_setting.items():
                    into = original if name is None else sums[name, setting]
                    into += np.bincount(places, weights=losses, minlength=len(counts))
                advance(len(places))
    if not np.isfinite(original).all():
        raise ModelError(f"the losses of {model.name} are not finite", remedy="name an undamaged model")
    return Losses(counts=counts, original=original, runs=sums)


def _of_batch(
    model: GatedModel, batch: WindowBatch, first: int, runs: Sequence[Run]
) -> Iterator[tuple[str | None, dict[str, NDArray[np.float64]]]]:
    """Losses of the unmodified model (None), then of each run, by setting."""
    ids = torch.from_numpy(batch.ids)
    made = torch.from_numpy(batch.made)
    try:
        clean, writes = _Kept(), _Writes()
        end = model.residual(
            ids, changes={layer: clean.of(layer) for layer in {r.source for run in runs for r in run.replacements}},
            layers={r.layer for run in runs for r in run.replacements}, written=writes.keep,
        )  # fmt: skip
        yield None, {"": losses_at(model, model.normed(end), ids, made)}
        for run in runs:
            yield run.name, _of_run(model, run, ids, made, first, clean.posts, writes.by_layer)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} ran out of memory on a batch of {ids.numel():,} tokens", remedy="lower --batch-tokens"
        ) from error


def _of_run(
    model: GatedModel, run: Run, ids: Tensor, made: Tensor, first: int, clean: Mapping[int, Tensor],
    actual_writes: Mapping[int, Tensor],
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    writes = _Writes()
    layers = [each.layer for each in run.replacements] if PARTIAL in run.settings else []
    changes = _changes(run, first, clean)
    end = model.residual(ids, changes=changes, layers=layers, written=writes.keep)
    found: dict[str, NDArray[np.float64]] = {}
    for setting in run.settings:
        if setting == COMPLETE:
            final = end
        else:
            final = end.clone()
            for layer in layers:
                final += (actual_writes[layer] - writes.by_layer[layer]).to(final.device)
        found[setting] = losses_at(model, model.normed(final), ids, made)
    return found


class _Kept:
    """`post` of layers as it is written, by layer."""

    def __init__(self) -> None:
        self.posts: dict[int, Tensor] = {}

    def of(self, layer: int) -> Change:
        def keep(post: Tensor, _x_gate: Tensor, _x_in: Tensor, _first: int) -> None:
            self.posts[layer] = post

        return keep


class _Writes:
    """What MLPs add to the residual stream, by layer."""

    def __init__(self) -> None:
        self.by_layer: dict[int, Tensor] = {}

    def keep(self, layer: int, output: Tensor) -> None:
        self.by_layer[layer] = output


def _changes(run: Run, first: int, clean: Mapping[int, Tensor]) -> dict[int, Change]:
    """The changes that make `run`; positions before `first` stay as they are."""
    kept = _Kept()
    posts = kept.posts if run.chained else clean
    found: dict[int, Change] = {}
    if run.chained:
        found = {layer: kept.of(layer) for layer in {each.source for each in run.replacements}}
    for each in run.replacements:
        found[each.layer] = _change(each, first, posts, kept if run.chained else None)
    return found


def _change(replacement: Replacement, first: int, posts: Mapping[int, Tensor], kept: _Kept | None) -> Change:
    def change(post: Tensor, _x_gate: Tensor, _x_in: Tensor, _first: int) -> Tensor:
        changed = replacement.substitute(posts[replacement.source], post).clone()
        changed[:, :first] = post[:, :first]
        if kept is not None:
            kept.posts[replacement.layer] = changed
        return changed

    return change
