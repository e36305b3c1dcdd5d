"""Neighbours of a neuron, to the two blobs of its row and back.

Lists are sorted by |cosine|, so that the differences of consecutive ones are small numbers (`frames.falls`): `cosines`
holds |cosine| in steps of 1/32767. The cosine's sign is the lowest bit of what `ordinals` holds, 2 · ordinal +
(negative), −1 for an empty place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sqlalchemy import RowMapping

from neuronagent.domain import NEIGHBOUR_LISTS, Neighbour, NeighbourList, NeuronId
from neuronagent.errors import StorageError
from neuronagent.layout import COSINE_STEPS, LayerNeighbours
from neuronagent.store.blobs import pack_ids, unpack_ids
from neuronagent.store.frames import falls, pack_frames, rises, unpack_frames


def pack_neighbours(found: LayerNeighbours, part: slice) -> tuple[list[bytes], list[bytes]]:
    """The blobs `ordinals` and `cosines` of the neurons in `part` of a layer."""
    ordinals, steps = found.ordinals[part].astype(np.int64), found.cosines[part].astype(np.int64)
    named = np.where(ordinals < 0, -1, 2 * ordinals + (steps < 0))
    return pack_ids(named), pack_frames(falls(np.abs(steps).astype(np.uint32)))


def unpack_neighbours(ordinals: Sequence[bytes], cosines: Sequence[bytes]) -> LayerNeighbours:
    """The neighbours of the neurons with these blobs.

    Raises:
        StorageError: the index is damaged.
    """
    named, words = unpack_ids(ordinals), unpack_frames(cosines)
    if named.shape != words.shape or words.shape[1] % len(NEIGHBOUR_LISTS):
        raise StorageError(
            "the index is damaged: neighbours of an impossible size",
            remedy="restore it from a copy, or build the index again",
        )
    steps = rises(words, len(NEIGHBOUR_LISTS)).astype(np.int64)
    named = named.reshape(steps.shape)
    signed = np.where((named >= 0) & (named % 2 == 1), -steps, steps)
    places = np.where(named < 0, -1, named >> 1)
    return LayerNeighbours(ordinals=places.astype(np.int32), cosines=signed.astype(np.int16))


def neighbours_of(row: RowMapping, neuron_of: Callable[[int], NeuronId]) -> dict[NeighbourList, tuple[Neighbour, ...]]:
    """The neighbours in a row of `neighbour`; `neuron_of` names the neuron with an ordinal."""
    found = unpack_neighbours([row["ordinals"]], [row["cosines"]])

    def listed(place: int) -> tuple[Neighbour, ...]:
        pairs = zip(found.ordinals[0, place].tolist(), found.cosines[0, place].tolist(), strict=True)
        return tuple(Neighbour(neuron_of(ordinal), step / COSINE_STEPS) for ordinal, step in pairs if ordinal >= 0)

    return {kind: listed(kind.position) for kind in NEIGHBOUR_LISTS}
