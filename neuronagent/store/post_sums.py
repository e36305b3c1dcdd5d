"""Sums of `post` of a whole layer, as ablation to the mean needs them: one query instead of one per neuron."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from neuronagent.domain import COMBINATIONS, QUANTITIES, Quantity
from neuronagent.store import schema
from neuronagent.store.blobs import unpack_statistics
from neuronagent.store.packing import unpack_array

_POST = QUANTITIES.index(Quantity.POST)


def find_post_sums(
    connection: Connection, layer: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Sums of post and counts of tokens of the neurons of a layer by sign combination, `[N, 4]` each, and counts of all
    tokens `[N]`, those at an exact zero included.

    Position 0 is left out where all texts share it: its values are stored once, and how often it was counted.
    """
    table = schema.combination.c
    columns = (table.neuron, table.combination, table.count, table.first_count, table.statistics)
    rows = connection.execute(select(*columns).where(table.layer == layer)).all()
    own = schema.neuron.c
    neurons = connection.execute(select(own.neuron, own.tokens, own.first_values).where(own.layer == layer)).all()
    sums = np.zeros((len(neurons), len(COMBINATIONS)))
    counts = np.zeros(sums.shape, dtype=np.int64)
    tokens = np.zeros(len(neurons), dtype=np.int64)
    if not rows:
        return sums, counts, tokens
    texts = connection.execute(select(func.count()).select_from(schema.text)).scalar() or 0
    first = np.full(len(neurons), np.nan)
    for neuron, read, values in neurons:
        tokens[neuron] = read
        if values is not None:
            first[neuron] = unpack_array(values, np.float32)[_POST]
    tokens -= np.where(np.isfinite(first), texts, 0)
    numbers, places, total, at_first = (np.array([row[column] for row in rows]) for column in range(4))
    shared = np.where(np.isfinite(first[numbers]), at_first, 0)
    summed = unpack_statistics([row[4] for row in rows])[:, 0, _POST]
    counts[numbers, places] = total - shared
    sums[numbers, places] = summed - shared * np.nan_to_num(first[numbers])
    sums[counts == 0] = 0.0  # what is left of sums that cancel
    return sums, counts, tokens
