"""Numbers that somebody else computed and published, as values: what importers read and the store keeps.

They have types of their own, apart from `domain.NeuronRecord`, so that a published number can never be taken for a
computed one. What was not published is None or missing; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, Quantity, QuantityStatistics, SignCombination

IMPORTED = "imported-v1"
"""The protocol under which imported lists are scored, and what `info["protocol"]` of an imported index says."""

HOOKS: Mapping[str, Quantity] = {
    "hook_post": Quantity.POST,
    "hook_pre_linear": Quantity.X_IN,
    "hook_pre": Quantity.X_GATE,
    "swish": Quantity.ACT,
}
"""GLUScope's names of the four quantities; its `swish` is the activation of the gate whatever the function is."""

UNKNOWN_POSITION = -1
NO_EXAMPLE = -1
"""In an array of texts: an empty place of a list."""


@dataclass(frozen=True)
class PublishedExample:
    """An entry of a published list: its value, its text, and where in the text it is; None where that is unknown.

    `text` is a text of the index, or, where the index has no texts, the place of the text in the publisher's corpus.
    """

    value: float
    text: int
    position: int | None


@dataclass(frozen=True, kw_only=True)
class PublishedCombination:
    """What was published of a neuron in one sign combination; lists have the publisher's order, strongest first."""

    combination: SignCombination
    frequency: float | None
    statistics: Mapping[Quantity, QuantityStatistics]
    lists: Mapping[Quantity, tuple[PublishedExample, ...]]


@dataclass(frozen=True, kw_only=True)
class PublishedNeuron:
    """All that was published of one neuron. `repaired`: what was stored with the other sign than it came with."""

    neuron: NeuronId
    combinations: Mapping[SignCombination, PublishedCombination]
    repaired: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PublishedBatch:
    """Many neurons as arrays, for data sets of a whole model.

    `layers`, `indices` `[N]`; `frequency` `[N, 4 combinations]` and `statistics` `[N, 4, 4 quantities, 3]` (mean, min,
    max) float64, NaN where absent; lists `values` float32, `texts` and `positions` int32 `[N, 4, 4, k]`, text −1 for an
    empty place, `positions` None where none is known; `repaired` as in `PublishedNeuron`.
    """

    layers: NDArray[np.int64]
    indices: NDArray[np.int64]
    frequency: NDArray[np.float64]
    statistics: NDArray[np.float64]
    values: NDArray[np.float32]
    texts: NDArray[np.int32]
    positions: NDArray[np.int32] | None
    repaired: list[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The four quantities of one neuron at consecutive tokens of a text, from position `start` on.

    `values` `[tokens, 4]` float32, quantities in the order of `domain.QUANTITIES`.
    """

    text: int
    start: int
    values: NDArray[np.float32]
