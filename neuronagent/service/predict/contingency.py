"""Whether background and functional neurons are of some IO classes and roles more often than chance.

Classes, roles and predictability all change with depth, so that counts are compared within layers: what is expected is
the sum over layers of row · column ÷ neurons, the odds ratio is Mantel and Haenszel's (1959), its interval that of
Robins, Breslow and Greenland (1986), and p is two-sided: twice the smaller mid-p of the sum of independent
hypergeometric counts, exact where their variance is at most `EXACT`, else by the normal distribution (Cochran 1954,
Mantel and Haenszel 1959, without a correction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

EXACT = 100.0
_NEGLIGIBLE = 1e-40
_Z = NormalDist().inv_cdf(0.975)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stratum:
    """One layer: `both` neurons are of the row and of the column, of `total`."""

    both: int
    row: int
    column: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Association:
    """`odds`, `lo`, `hi` None where the ratio is 0 or infinite or there is none; `p` None where the margins allow one
    count only."""

    count: int
    expected: float
    odds: float | None
    lo: float | None
    hi: float | None
    p: float | None
    exact: bool


def associate(strata: Sequence[Stratum]) -> Association:
    """Over all strata."""
    count = sum(s.both for s in strata)
    expected = sum(s.row * s.column / s.total for s in strata if s.total)
    variance = sum(_variance(s) for s in strata)
    exact = variance <= EXACT
    p = None if variance <= 0 else _exact_p(strata, count) if exact else _normal_p(count, expected, variance)
    return Association(count=count, expected=expected, **_odds(strata), p=p, exact=exact)


def _variance(s: Stratum) -> float:
    if s.total < 2:
        return 0.0
    return s.row * (s.total - s.row) * s.column * (s.total - s.column) / (s.total**2 * (s.total - 1))


def _normal_p(count: int, expected: float, variance: float) -> float:
    return math.erfc(abs(count - expected) / math.sqrt(2 * variance))


def _exact_p(strata: Sequence[Stratum], count: int) -> float:
    """Twice the smaller of both mid-p, at most 1."""
    low, chances = 0, np.ones(1)
    for s in strata:
        if s.total:
            start, own = hypergeometric(s.row, s.column, s.total)
            low, chances = low + start, np.convolve(chances, own)
    place = count - low
    if not 0 <= place < len(chances):  # beyond what is negligible
        return 0.0
    half = chances[place] / 2
    return float(min(1.0, 2 * min(chances[:place].sum() + half, chances[place + 1 :].sum() + half)))


def hypergeometric(row: int, column: int, total: int) -> tuple[int, Floats]:
    """The smallest count that is not negligible, and the chances from there on."""
    low, high = max(0, row + column - total), min(row, column)
    there = np.arange(low, high + 1)
    logs = _log_factorials(total)
    chosen = (
        logs[row] - logs[there] - logs[row - there]
        + logs[total - row] - logs[column - there] - logs[total - row - column + there]
        - (logs[total] - logs[column] - logs[total - column])
    )  # fmt: skip
    chances = np.exp(chosen)
    kept = np.flatnonzero(chances > _NEGLIGIBLE)
    return low + int(kept[0]), chances[kept[0] : kept[-1] + 1]


@lru_cache(maxsize=8)
def _log_factorials(total: int) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])


def _odds(strata: Sequence[Stratum]) -> dict[str, float | None]:
    """Mantel and Haenszel's ratio R ÷ S with the variance of its logarithm."""
    r = s = pr = qs = mixed = 0.0
    for each in strata:
        if not each.total:
            continue
        a, n = each.both, each.total
        b, c = each.row - a, each.column - a
        d = n - a - b - c
        own_r, own_s = a * d / n, b * c / n
        p, q = (a + d) / n, (b + c) / n
        r, s = r + own_r, s + own_s
        pr, qs = pr + p * own_r, qs + q * own_s
        mixed += p * own_s + q * own_r
    if r <= 0 or s <= 0:
        return {"odds": None, "lo": None, "hi": None}
    error = math.sqrt(pr / (2 * r * r) + mixed / (2 * r * s) + qs / (2 * s * s))
    log = math.log(r / s)
    return {"odds": r / s, "lo": math.exp(log - _Z * error), "hi": math.exp(log + _Z * error)}
