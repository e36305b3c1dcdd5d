"""Reads what a model's map needs of every neuron: a query of a few columns per layer, some 30 MB for a 7B model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COSINES, CosineBaseline, IOClass, Role
from neuronagent.errors import NotFoundError, StorageError
from neuronagent.service.lookup import Index
from neuronagent.store.engine import display_name
from neuronagent.store.schema import COMBINATION_SUFFIXES

Array = NDArray[np.float64]
IN_OUT = COSINES.index("cos_in_out")
_GATE_PLUS = tuple(f"frequency_{suffix}" for suffix in COMBINATION_SUFFIXES if suffix.startswith("p"))


@dataclass(frozen=True, kw_only=True)
class LayerNumbers:
    """One layer. `cosines` `[N, 3]` in the order of `COSINES`; `gate_plus` `[N]`: the share of all tokens, position 0
    included, with x_gate > 0, NaN without a corpus; `counts`: neurons by role (None: none) and IO class."""

    layer: int
    cosines: Array
    gate_plus: Array
    counts: Mapping[tuple[Role | None, IOClass], int]
    baselines: Mapping[str, CosineBaseline]


def model_numbers(index: Index, layers: Sequence[int] = ()) -> list[LayerNumbers]:
    """The numbers of `layers`, or of all, in order.

    Raises:
        NotFoundError: a layer that the index does not have.
        StorageError: the index cannot be read, or lacks neurons.
    """
    there = index.reader.layers()
    if not there:
        raise StorageError(f"{display_name(index.target)} has no layers", remedy="delete it and make it again")
    for layer in layers:
        if layer not in there:
            raise NotFoundError(f"layer {layer} is not in this index", remedy=f"layers: {min(there)}–{max(there)}")
    return list(_read(index, {layer: there[layer] for layer in sorted(set(layers) or there)}))


def _read(index: Index, neurons: Mapping[int, int]) -> Iterator[LayerNumbers]:
    for layer, expected in neurons.items():
        table = index.reader.layer_numbers(layer, (*COSINES, *_GATE_PLUS))
        counts = index.reader.layer_classes(layer)
        if not expected == len(table) == sum(counts.values()):
            raise StorageError(
                f"{display_name(index.target)} has {len(table)} of the {expected} neurons of layer {layer} only",
                remedy="delete it and make it again",
            )
        yield LayerNumbers(
            layer=layer,
            cosines=np.ascontiguousarray(table[:, : len(COSINES)]),
            gate_plus=table[:, len(COSINES) :].sum(axis=1),
            counts=counts,
            baselines=index.reader.baselines(layer),
        )
