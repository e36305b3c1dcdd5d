"""Post-stratification: items of a sample that is not random stand for strata of a population whose sizes are exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics.common import Array


def stratum_weights(sampled: Array, totals: Array) -> Array:
    """How many members of the population each item of a stratum stands for, `[…, strata]`.

    `sampled` `[…, strata]` items and `totals` `[strata]` members. A stratum without an item goes to the nearest lower
    one that has one, or if there is none to the nearest higher one, so that Σ sampled·weight = Σ totals.
    """
    held = np.broadcast_to(totals, sampled.shape).astype(np.float64)
    empty = sampled <= 0
    order = range(held.shape[-1])
    for place in reversed(order[1:]):
        held[..., place - 1] += np.where(empty[..., place], held[..., place], 0.0)
    # What has come down to an empty lowest stratum goes up again to the first that has items.
    carried = np.zeros(held.shape[:-1])
    for place in order:
        carried = carried + np.where(empty[..., place], 0.0 if place else held[..., place], 0.0)
        held[..., place] += np.where(empty[..., place], 0.0, carried)
        carried = np.where(empty[..., place], carried, 0.0)
    return np.divide(held, sampled, out=np.zeros_like(held), where=~empty)


def item_weights(strata: NDArray[np.intp], totals: Array) -> Array:
    """The weight of each item `[items]` of `strata` `[items]`; those of an item's stratum."""
    sampled = np.bincount(strata, minlength=len(totals)).astype(np.float64)
    return stratum_weights(sampled, totals)[strata]
