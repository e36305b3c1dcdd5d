"""What the statistics share: types of arrays, intervals, quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = Sequence[float] | Sequence[int] | NDArray[np.floating] | NDArray[np.integer] | NDArray[np.bool_]
Labels = Sequence[bool] | NDArray[np.bool_]
Texts = Sequence[Hashable] | NDArray[np.integer]

_BISECTIONS = 60


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits, lo ≤ value ≤ hi."""

    value: float
    lo: float
    hi: float


def bisect(inside: Callable[[float], bool], outer: float, inner: float) -> float:
    """The border between `outer` (not inside) and `inner` (inside), on the side of `outer`."""
    for _ in range(_BISECTIONS):
        middle = (outer + inner) / 2
        outer, inner = (outer, middle) if inside(middle) else (middle, inner)
    return outer


def normal_quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level of {level} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + level) / 2)


def student_quantile(level: float, df: int) -> float:
    """The two-sided quantile of Student's t: exact for one and two degrees of freedom, else by the expansion of
    Fisher and Cornish (1960), right to .01 from three on."""
    z, p = normal_quantile(level), (1 + level) / 2
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:
        return (2 * p - 1) * math.sqrt(1 / (2 * p * (1 - p)))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / df**power for power, term in enumerate(terms, start=1))


def column(values: Values, what: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"no {what}")
    if np.isnan(array).any():
        raise ValueError(f"{what} contain NaN")
    return array
