"""What the statistics share: types of arrays, intervals, quantiles."""

from __future__ import annotations

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


def column(values: Values, what: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"no {what}")
    if np.isnan(array).any():
        raise ValueError(f"{what} contain NaN")
    return array
