"""Draws of an AUROC's confidence distribution that depend on each other as the bootstrap's do.

A percentile bootstrap of 20 and 20 items is too narrow near 1 (it covers .88 at an AUROC of .95), and has no width
where the sides are perfectly separated. So only the *order* of the bootstrap draws is kept, which is how the scores of
several subjects hang together; their values are those of the limits of `auroc_interval` at all levels: the limit at z
is the root θ of (θ − θ̂)² = z²·f·V(θ), with z in normal order. An AUROC that no draw moves gets z in random order.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from neuronagent.explain.statistics.common import Array
from neuronagent.explain.statistics.ranking import auroc_and_ties, newcombe_variance

_GRID = np.linspace(0.0, 1.0, 801)
_UNMOVED = 1e-12


def confidence_draws(
    positive: Array, negative: Array, drawn: Array, sizes: tuple[int, int], generator: np.random.Generator
) -> Array:
    """`[draws]` from the confidence distribution, in the order of the bootstrap's `drawn`; `sizes` are how many
    independent positives and negatives there are. Constant scores have the AUROC ½ for certain."""
    if np.ptp(np.concatenate([positive, negative])) == 0:
        return np.full(len(drawn), 0.5)
    value, ties = auroc_and_ties(positive, negative)
    variance = newcombe_variance(_GRID, *sizes, ties)
    # z of θ grows with θ; both ends have no variance and are beyond every z, or are the estimate itself.
    ends = np.where(value == _GRID, 0.0, np.copysign(np.inf, _GRID - value))
    z = np.clip(np.divide(_GRID - value, np.sqrt(variance), out=ends, where=variance > 0), -1e6, 1e6)
    normal = _normal_scores(len(drawn))
    if np.ptp(drawn) <= _UNMOVED:
        return np.interp(generator.permutation(normal), z, _GRID)
    # Equal draws, of which there are many, share the mean of their ranks.
    _, place, counts = np.unique(drawn, return_inverse=True, return_counts=True)
    ends_of_runs = np.cumsum(counts)
    twice_rank = 2 * ends_of_runs - counts - 1
    return np.interp((normal[twice_rank // 2] + normal[(twice_rank + 1) // 2]) / 2, z, _GRID)[place]


@lru_cache(maxsize=4)
def _normal_scores(n: int) -> Array:
    """Standard normal quantiles of n evenly spaced probabilities."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])
