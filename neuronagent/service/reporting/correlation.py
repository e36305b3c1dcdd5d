"""Pearson's r over neurons, with Fisher's interval.

The interval is tanh(artanh r ± 1.96/√(n − 3)): it takes neurons for independent draws, which those of one layer,
trained together, are not quite; it is a measure of how many there are.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from neuronagent.report.model_content import Correlation

_FEWEST = 4
_NO_VARIANCE = 1e-12
_HALF_WIDTH = NormalDist().inv_cdf(0.975)


def pearson(layer: int | None, points: NDArray[np.float64], names: tuple[str, str]) -> Correlation:
    """r of the two columns of `points` `[n, 2]`, all finite, which are called `names`; None with the reason where there
    are fewer than four neurons, or a column is the same for all: no correlation is something else than 0."""
    n = len(points)
    if n < _FEWEST:
        return _none(layer, n, f"{n} {'neuron is' if n == 1 else 'neurons are'} too few")
    centred = points - points.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    for name, own, largest in zip(names, spread, np.abs(points).max(axis=0), strict=True):
        if own <= _NO_VARIANCE * max(1.0, float(largest)) * math.sqrt(n):
            return _none(layer, n, f"{name} is the same for all neurons")
    r = float(np.clip((centred[:, 0] @ centred[:, 1]) / (spread[0] * spread[1]), -1, 1))
    if abs(r) == 1:
        return Correlation(layer=layer, n=n, r=r, lo=r, hi=r, reason=None)
    half = _HALF_WIDTH / math.sqrt(n - 3)
    lo, hi = (math.tanh(math.atanh(r) + sign * half) for sign in (-1, 1))
    return Correlation(layer=layer, n=n, r=r, lo=lo, hi=hi, reason=None)


def _none(layer: int | None, n: int, reason: str) -> Correlation:
    return Correlation(layer=layer, n=n, r=None, lo=None, hi=None, reason=reason)
