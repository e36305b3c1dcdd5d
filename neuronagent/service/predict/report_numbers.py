"""Numbers that a report on predictability sums up layers by: quartiles, means, ranks. None for what does not exist."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from neuronagent.predictability.intervals import student_quantile
from neuronagent.report.predictability_content import R2_EDGES, Spread

_EXACT, _CHANCE = 8, 0.05

Array = NDArray[np.float64]


def spread(values: Array) -> Spread | None:
    """Quartiles of the finite ones among `values`."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    q1, median, q3 = (float(value) for value in np.quantile(known, (0.25, 0.5, 0.75)))
    return {"n": int(known.size), "q1": q1, "median": median, "q3": q3}


def mean(values: Array | Iterable[float | None]) -> float | None:
    """Of the finite ones."""
    listed = values if isinstance(values, np.ndarray) else np.array([v for v in values if v is not None], np.float64)
    known = listed[np.isfinite(listed)]
    return float(known.mean()) if known.size else None


def median_of(found: Spread | None) -> float | None:
    return None if found is None else found["median"]


def share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    """Of `among`, those with `hits`."""
    return float((hits & among).sum() / among.sum()) if among.any() else None


def histogram(r2: Array) -> list[int]:
    """Neurons by R²: below 0, then between each two of `R2_EDGES`; 1 belongs to the last."""
    known = r2[np.isfinite(r2)]
    inner, _ = np.histogram(known[known >= 0], bins=np.array(R2_EDGES))
    return [int((known < 0).sum()), *(int(count) for count in inner)]


def spearman(first: Array | Sequence[float | None], second: Array | Sequence[float | None]) -> float | None:
    """Spearman's ρ, ties at their mean rank, over the places where both are finite; None with fewer than three of
    them, or where one never varies."""
    pair = np.array([_floats(first), _floats(second)])
    pair = pair[:, np.isfinite(pair).all(axis=0)]
    if pair.shape[1] < 3:
        return None
    a, b = (_ranks(row) for row in pair)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a @ a) * (b @ b)))
    return max(-1.0, min(1.0, float(a @ b) / scale)) if scale else None


def rank_is_clear(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether at most 5 % of all orders of `second` would have a ρ as far from 0: of five places only a perfect order
    does. Exact up to eight places, by Student's t beyond."""
    found, count = spearman(first, second), len(first)
    if found is None:
        return False
    if count > _EXACT:
        return abs(found) >= 1 or abs(found) * math.sqrt((count - 2) / (1 - found**2)) >= student_quantile(count - 2)
    a, b = (_ranks(_floats(row)) for row in (first, second))
    a, b = a - a.mean(), b - b.mean()
    chances = np.abs(b[_orders(count)] @ a)
    return bool((chances >= abs(float(a @ b)) - 1e-9).mean() <= _CHANCE)


def share_is_clear(share: float, count: int) -> bool:
    """Whether a fair coin shows one side as often as this, of `count` throws, with a chance of at most 5 %."""
    least = math.ceil(max(share, 1 - share) * count - 1e-9) if count else 0
    tail = sum(math.comb(count, heads) for heads in range(least, count + 1)) / 2**count
    return min(1.0, 2 * tail) <= _CHANCE


@lru_cache(maxsize=8)
def _orders(count: int) -> NDArray[np.int64]:
    return np.array(list(permutations(range(count))))


def _floats(values: Array | Sequence[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _ranks(values: Array) -> Array:
    """Mid-ranks, doubled: whole numbers."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")).astype(np.float64)
