"""AUROC with an interval for small samples, and its permutation test."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics.common import Array, Interval, Values, bisect, column, normal_quantile
from neuronagent.explain.statistics.resampling import check_draws

_LEAST_TIE_FACTOR = 0.2
_T = TypeVar("_T", float, Array)


def auroc_and_ties(positive: Array, negative: Array) -> tuple[float, float]:
    """The AUROC, and the share of pairs that are tied; from whole counts, so that equal ranks give equal floats."""
    ordered = np.sort(negative)
    below = int(np.searchsorted(ordered, positive, side="left").sum())
    not_above = int(np.searchsorted(ordered, positive, side="right").sum())
    pairs = positive.size * negative.size
    return (below + not_above) / (2 * pairs), (not_above - below) / pairs


def auroc(positive_scores: Values, negative_scores: Values) -> float:
    """P(positive > negative) + ½·P(equal) over all pairs (Mann and Whitney 1947; Hanley and McNeil 1982).

    By sorting: O(n log n).

    Raises:
        ValueError: no positives, no negatives, or NaN.
    """
    return auroc_and_ties(column(positive_scores, "positives"), column(negative_scores, "negatives"))[0]


def auroc_interval(positive: Values, negative: Values, level: float = 0.95) -> Interval:
    """The AUROC with Newcombe's score-type interval (Newcombe 2006, part 2, method 5), narrowed for ties.

    The limits are the roots θ of (θ̂ − θ)² = z²·f·V(θ), where, with n* = (m + n)/2 − 1,
    V(θ) = θ(1−θ)·[1 + n*·(1−θ)/(2−θ) + n*·θ/(1+θ)]/(m·n), and f = √max(0.2, 1 − share of tied pairs).
    f is ours: V is that of continuous scores, of which ties remove a part; √ because the share is itself an estimate
    (the whole share undercovers). Since V depends on θ and f > 0 there is always a width: also at 0, at 1, all tied.

    Measured coverage of 95 % (4,000 simulations of each of 8 normal shapes, AUROC .5–.95, spread equal or double, and
    of 11 with two to four levels, as a decision list gives), mean and least; the others with 3,000:

        n_pos, n_neg                      20, 20       20, 7        10, 10       50, 50
        this interval                     .959 .938    .964 .942    .961 .944    .955 .939
        Newcombe 5 as published           .967 .943    .971 .947    .967 .946
        f = 1 − share of tied pairs       .945 .909    .954 .922    .943 .884
        logit, variance of DeLong         .945 .775    .931 .738    .918 .640
        logit, Hanley and McNeil          .972 .948    .979 .957    .978 .956
        Mee, two pseudo-items added       .930 .906    .923 .835    .919 .884

    Above .98 only where most items share one level. With 7 positives of double spread it covers .89.

    Raises:
        ValueError: no positives, no negatives, or NaN.
    """
    positives, negatives = column(positive, "positives"), column(negative, "negatives")
    m, n = positives.size, negatives.size
    value, ties = auroc_and_ties(positives, negatives)
    quantile = normal_quantile(level) ** 2

    def inside(theta: float) -> bool:
        return (value - theta) ** 2 <= quantile * newcombe_variance(theta, m, n, ties)

    return Interval(value, bisect(inside, 0.0, value), bisect(inside, 1.0, value))


def newcombe_variance(theta: _T, m: float, n: float, ties: float) -> _T:
    """f·V(θ) of `auroc_interval` for m positives, n negatives and a share of tied pairs."""
    spare, scale = (m + n) / 2 - 1, math.sqrt(max(_LEAST_TIE_FACTOR, 1 - ties)) / (m * n)
    return scale * theta * (1 - theta) * (1 + spare * ((1 - theta) / (2 - theta) + theta / (1 + theta)))


def permutation_p(positive: Values, negative: Values, draws: int = 2000, seed: int = 0) -> float:
    """One-sided p that the AUROC is above ½, labels permuted: (1 + #{permuted ≥ observed})/(1 + draws).

    Counting the observed labelling keeps p above 0 (Phipson and Smyth 2010). By rank sums: with ties shared, the
    AUROC is a linear function of the sum of the positives' mid-ranks.

    Raises:
        ValueError: no positives, no negatives, no draws, or NaN.
    """
    positives, negatives = column(positive, "positives"), column(negative, "negatives")
    check_draws(draws)
    pooled = np.concatenate([positives, negatives])
    ordered = np.sort(pooled)
    # Twice the mid-rank is whole, so that sums compare exactly.
    ranks = np.searchsorted(ordered, pooled, side="left") + np.searchsorted(ordered, pooled, side="right")
    shuffled = ranks[_permutations(pooled.size, draws, seed)[:, : positives.size]]
    reached = int((shuffled.sum(axis=1) >= ranks[: positives.size].sum()).sum())
    return (1 + reached) / (1 + draws)


@lru_cache(maxsize=4)
def _permutations(n: int, draws: int, seed: int) -> NDArray[np.intp]:
    """`[draws, n]`, kept as the same items are scored again."""
    return np.random.default_rng(seed).permuted(np.tile(np.arange(n), (draws, 1)), axis=1)
