"""Quantiles of `post` in a sign combination, from what an index keeps: how much a strong token of it writes.

The histogram of |post| has exact counts in bins of half an octave. Inside a bin the value is interpolated on the log
scale, below the first edge linearly down to 0; the strongest listed token bounds it from above. Beyond the last edge,
where the histogram says nothing, the top list does: it has each text once, so that there the tail is a little short.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import CombinationRecord, Quantity
from neuronagent.layout import HISTOGRAM_EDGES


def signed_quantile(record: CombinationRecord, q: float) -> float | None:
    """The `q`-quantile of |post| over the combination's tokens of all splits, position 0 left out, with the sign that
    `post` has there; None for a combination without tokens.

    Raises:
        ValueError: `q` is not between 0 and 1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"{q} is no quantile: it must be between 0 and 1")
    lists = (record.top.get(Quantity.POST, ()), *record.post_by_split.values())
    by_token = {entry.token_number: abs(entry.value) for entries in lists for entry in entries}
    listed = sorted(by_token.values(), reverse=True)
    counts = np.array(list(record.histogram.values()), dtype=np.int64).sum(axis=0)
    total = int(counts.sum())
    if total:
        magnitude = _within(counts, q * total, listed)
    elif listed:  # published lists have no histogram
        magnitude = listed[min(len(listed) - 1, int((1 - q) * len(listed)))]
    else:
        return None
    return record.combination.write_sign * magnitude


def _within(counts: NDArray[np.int64], rank: float, listed: Sequence[float]) -> float:
    """The value that `rank` of the tokens counted in `counts` are below."""
    below = np.concatenate([[0], np.cumsum(counts)])
    place = int(np.searchsorted(below[1:], rank))
    while not counts[place]:  # rank 0, and lower bins are empty
        place += 1
    strongest = listed[0] if listed else np.inf
    edges = HISTOGRAM_EDGES.astype(np.float64)
    if place == len(edges):
        above = int(below[-1] - rank)
        tail = [value for value in listed if value >= edges[-1]]
        return float(tail[min(above, len(tail) - 1)] if tail else edges[-1])
    share = (rank - below[place]) / counts[place]
    upper = min(float(edges[place]), strongest)
    if place == 0:
        return share * upper
    lower = min(float(edges[place - 1]), upper)
    return lower * (upper / lower) ** share
