"""Neighbours of a neuron, to the two blobs of its row and back.

Lists are sorted by |cosine|, so that the differences of consecutive ones are small numbers, which compress: `cosines`
holds the first |cosine| of each list in steps of 1/32767 and then by how much each next one is less. The cosine's sign
is the lowest bit of what `ordinals` holds, 2 · ordinal + (negative), −1 for an empty place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import RowMapping

from neuronagent.domain import NEIGHBOUR_LISTS, Neighbour, NeighbourList, NeuronId
from neuronagent.layout import COSINE_STEPS, LayerNeighbours
from neuronagent.store.packing import pack_rows, unpack_array


def pack_neighbours(found: LayerNeighbours, part: slice) -> tuple[list[bytes], list[bytes]]:
    """The blobs `ordinals` and `cosines` of the neurons in `part` of a layer."""
    ordinals, steps = found.ordinals[part].astype(np.int64), found.cosines[part].astype(np.int64)
    named = np.where(ordinals < 0, -1, 2 * ordinals + (steps < 0))
    lessened = -np.diff(np.abs(steps), axis=2, prepend=0)
    lessened[:, :, 0] *= -1  # the first one itself
    return pack_rows(named.astype(np.int32)), pack_rows(lessened.astype(np.uint16))


def neighbours_of(row: RowMapping, neuron_of: Callable[[int], NeuronId]) -> dict[NeighbourList, tuple[Neighbour, ...]]:
    """The neighbours in a row of `neighbour`; `neuron_of` names the neuron with an ordinal."""
    named: NDArray[np.int32] = unpack_array(row["ordinals"], np.int32).reshape(len(NEIGHBOUR_LISTS), -1)
    lessened = unpack_array(row["cosines"], np.uint16).reshape(len(NEIGHBOUR_LISTS), -1).astype(np.int64)
    lessened[:, 1:] *= -1
    steps = lessened.cumsum(axis=1) * np.where(named & 1, -1, 1)

    def listed(place: int) -> tuple[Neighbour, ...]:
        pairs = zip(named[place].tolist(), steps[place].tolist(), strict=True)
        return tuple(Neighbour(neuron_of(name >> 1), value / COSINE_STEPS) for name, value in pairs if name >= 0)

    return {kind: listed(kind.position) for kind in NEIGHBOUR_LISTS}
