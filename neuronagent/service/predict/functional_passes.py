"""The passes over the texts that `functional` makes: losses, then sums by key of some layers at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Split
from neuronagent.index.predictability.functional import LayerSums, Scratch
from neuronagent.models.gated import GatedModel
from neuronagent.predictability.functional import FunctionalLayer, SensitiveNeurons
from neuronagent.service.predict.activations import activations
from neuronagent.service.predict.functional_layer import analyse_layer
from neuronagent.service.predict.losses import token_losses
from neuronagent.service.predict.outliers import find_outliers, largest_ratio
from neuronagent.service.predict.plan import free_memory
from neuronagent.service.predict.properties import Flat, Properties, TokenBytes, make_properties
from neuronagent.service.predict.selection import Errors
from neuronagent.service.predict.texts import TokenText, TokenTexts

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A model, what it reads, and the properties of these tokens."""

    model: GatedModel
    texts: TokenTexts
    flat: Flat
    properties: Properties
    token_bytes: TokenBytes

    @property
    def bos(self) -> int | None:
        """What texts begin with at a position that does not count."""
        return self.model.bos_id if self.texts.first else None

    def bytes_needed(self, neurons: int) -> int:
        """Memory for the sums of a layer."""
        return LayerSums.bytes_needed(self.properties.keys.count, neurons)


def read_properties(model: GatedModel, texts: TokenTexts, ngrams: int, seeds: int, advance: Advance) -> Reading:
    """All properties of the tokens of `texts`; one forward pass with the head."""
    flat = Flat.of(texts)
    losses = token_losses(model, texts, flat, advance)
    table = model.token_bytes()

    def token_bytes(ids: Sequence[int]) -> list[bytes | None]:
        return [table[number] for number in ids]

    bos = model.bos_id if texts.first else None
    found = make_properties(flat, losses, token_bytes, ngrams=ngrams, seeds=seeds, bos=bos)
    return Reading(model=model, texts=texts, flat=flat, properties=found, token_bytes=token_bytes)


def sum_layers(reading: Reading, layers: Sequence[int], advance: Advance) -> dict[int, LayerSums]:
    """Sums of `layers` over all tokens; one forward pass as far as the last of them."""
    scratch, done = Scratch(), 0
    sums = {layer: LayerSums(reading.properties.keys.count, scratch) for layer in layers}
    for batch in activations(reading.model, reading.texts, layers):
        tokens = reading.flat.numbers(batch.places.texts, batch.places.positions)
        membership = reading.properties.keys.batch(tokens)
        for layer, post in batch.post.items():
            sums[layer].update(membership, tokens, post)
        done += len(tokens)
        advance(done)
    return sums


def values_at_bos(reading: Reading, layers: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """`post` at position 0 by layer `[N]`, where it is BOS, the same in all texts; none where it is not."""
    if reading.bos is None:
        return {}
    text = TokenText(ids=np.array([reading.bos], dtype=np.int64), document=0, split=Split.TEST)
    texts = replace(reading.texts, texts=(text,), first=0)
    (found,) = activations(reading.model, texts, layers)
    return {layer: post[0].double().cpu().numpy() for layer, post in found.post.items()}


def finish_layer(
    reading: Reading, layer: int, sums: LayerSums, first: NDArray[np.float64] | None, errors: Errors,
    predictor: str | None, reason: str | None, identity: str, outlier_ratio: float,
) -> tuple[FunctionalLayer, SensitiveNeurons]:  # fmt: skip
    """What a layer's sums come to."""
    totals, by_key = sums.finish()
    outliers = find_outliers(
        layer, totals, first, errors, reading.flat, reading.texts, reading.token_bytes, reading.bos, outlier_ratio
    )
    ratio = largest_ratio(totals, first)
    return analyse_layer(
        layer, totals, by_key, reading.properties, errors, predictor, reason, outliers, ratio, identity
    )


def room(model: GatedModel, layer: int) -> int:
    """Half of what is free where `layer` is computed, in bytes."""
    return free_memory(model.layer_device(layer))
