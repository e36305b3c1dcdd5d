"""The two passes that score a group of target layers: means by key over the fitted tokens, then every predictor at the
scored ones. Documents are read one after the other, so that sums can be closed document by document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.index.predictability.lookups import Baselines, Keys
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.index.predictability.moments import Moments
from neuronagent.models.gated import GatedModel
from neuronagent.predictability.scores import (
    BASELINES,
    POSITION,
    PREVIOUS_TOKEN,
    TOKEN,
    Pair,
    PredictorScores,
    layer_predictor,
)
from neuronagent.service.devices import products
from neuronagent.service.predict.activations import Activations, TokenPlaces, activations, plan_batches
from neuronagent.service.predict.fits import Fit
from neuronagent.service.predict.texts import TokenTexts

Advance = Callable[[int], None]
"""Called with the tokens done so far; may raise to stop."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """With what texts are read: the model, the one whose layers are sources (the same one, but for a fit between two),
    the window of the fit, tokens per batch."""

    model: GatedModel
    source_model: GatedModel
    context: int | None
    batch_tokens: int

    def read(
        self, texts: TokenTexts, sources: Sequence[int], targets: Sequence[int]
    ) -> Iterator[tuple[TokenPlaces, Mapping[int, Tensor], Mapping[int, Tensor]]]:
        """Batch by batch, document by document: the places, `post` of the sources, that of the targets."""
        batches = plan_batches(texts, self.batch_tokens, by_document=True)

        def run(model: GatedModel, layers: Sequence[int]) -> Iterator[Activations]:
            return activations(
                model, texts, layers, context=self.context, batch_tokens=self.batch_tokens, batches=batches
            )

        if self.source_model is self.model or not sources:
            for found in run(self.model, sorted({*sources, *targets})):
                yield found.places, found.post, found.post
            return
        for found, other in zip(run(self.model, targets), run(self.source_model, sources), strict=True):
            yield found.places, other.post, found.post


def wanted_keys(texts: TokenTexts) -> dict[str, Keys]:
    """The keys of the baselines that occur in `texts`."""
    first = texts.first
    ids = [text.ids for text in texts.texts if len(text.ids) > first]
    before = [own[max(0, first - 1) : -1] for own in ids]
    longest = max((len(own) for own in ids), default=first)
    start = [np.array([-1])] if first == 0 else []
    return {
        TOKEN: Keys(np.concatenate([own[first:] for own in ids])),
        PREVIOUS_TOKEN: Keys(np.concatenate([*start, *before])),
        POSITION: Keys(np.arange(first, longest)),
    }


def keys_at(places: TokenPlaces) -> dict[str, NDArray[np.int64]]:
    """The keys of the tokens of a batch."""
    return {TOKEN: places.ids, PREVIOUS_TOKEN: places.previous, POSITION: places.positions}


def bytes_needed(fit: Fit, target: int, keys: Mapping[str, Keys], reading: Reading) -> int:
    """What scoring one layer takes beside the model and the activations of a batch."""
    sources, neurons = fit.sources(target), reading.model.d_mlp
    rank = fit.info["rank"]
    widths = [reading.source_model.d_mlp * neurons if rank is None else rank * 2 * neurons for _ in sources]
    return (
        Baselines.bytes_needed(keys, neurons)
        + Moments.bytes_needed(len(BASELINES) + len(sources), neurons)
        + 4 * sum(widths)
    )


def sums_device(model: GatedModel, layer: int) -> torch.device:
    """Where the float64 sums of a layer are made: Apple's GPUs have no float64."""
    device = model.layer_device(layer)
    return torch.device("cpu") if device.type == "mps" else device


def make_baselines(
    reading: Reading, fitted: TokenTexts, targets: Sequence[int], keys: Mapping[str, Keys], advance: Advance
) -> dict[int, Baselines]:
    """The first pass."""
    found = {
        target: Baselines(keys, reading.model.d_mlp, sums_device(reading.model, target)) for target in targets
    }  # fmt: skip
    done = 0
    for places, _, posts in reading.read(fitted, (), targets):
        at = keys_at(places)
        for target, baselines in found.items():
            baselines.update(at, posts[target])
        done += len(places)
        advance(done)
    for baselines in found.values():
        baselines.finish()
    return found


def score_targets(
    reading: Reading, fit: Fit, scored: TokenTexts, baselines: Mapping[int, Baselines], advance: Advance
) -> dict[int, dict[str, PredictorScores]]:
    """The second pass: the scores of every predictor of every layer that has `baselines`."""
    layers = [_Layer(reading.model, fit, target, own) for target, own in baselines.items()]
    sources = sorted({source for layer in layers for source in layer.maps})
    done = 0
    with products("float32"), torch.inference_mode():
        for places, source_posts, posts in reading.read(scored, sources, list(baselines)):
            for layer in layers:
                layer.update(places, source_posts, posts[layer.target])
            done += len(places)
            advance(done)
        return {layer.target: layer.moments.scores() for layer in layers}


class _Layer:
    """One target layer: its maps, its baselines, its sums."""

    def __init__(self, model: GatedModel, fit: Fit, target: int, baselines: Baselines) -> None:
        self.target, self._baselines = target, baselines
        self._device = model.layer_device(target)
        self.maps: dict[int, NeuronMap] = {
            source: fit.map(Pair(source, target), self._device) for source in fit.sources(target)
        }
        assert baselines.mean is not None
        self.moments = Moments([*BASELINES, *map(layer_predictor, self.maps)], baselines.mean)

    def update(self, places: TokenPlaces, sources: Mapping[int, Tensor], post: Tensor) -> None:
        predicted = self._baselines(keys_at(places))
        for source, own in self.maps.items():
            predicted[layer_predictor(source)] = own(sources[source].to(self._device))
        self.moments.update(places.documents, post, predicted)
