"""What the best of hundreds of thousands of columns is worth: AUROCs of all, and what chance alone would have reached.

1. With r the mid-ranks of a column (ties share theirs), c = 2r − (n + 1) and S = Σ c over the m items of label 1,
   AUROC = ½ + S / (2m(n − m)). c is whole, so that sums are exact and equal in any order (below 2²⁴ in float32).
2. Labels are permuted; the S of all permutations is one product, permuted labels × ranks. The maximum of |S| over all
   columns, permutation by permutation, is what the best of as many columns reaches by chance: the family-wise p of a
   column is (1 + #{maxima ≥ |S|}) / (1 + permutations) (single-step maxT, Westfall and Young 1993).
3. Items of a group are not independent: the labels of a group are shuffled among themselves, and groups take each
   other's places as blocks. Exact where groups have one size; with groups of one item it is a plain permutation.

`values` are float32 and not negative. They are rounded to 12 binary digits first: what float noise alone tells apart
is a tie, so that ranks do not depend on how texts were batched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics import Interval, auroc_interval
from neuronagent.explain.statistics.common import bisect, normal_quantile
from neuronagent.explain.statistics.ranking import auroc_and_ties, newcombe_variance

Floats = NDArray[np.float32]
_CHUNK = 1 << 18
"""Values that are ranked at a time: what a processor's cache holds is sorted twice as fast."""
_EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class Ranked:
    """`sums`: S of each column `[C]`. `present`: whether it is above 0 anywhere `[C]`. `highest`: for each permutation
    the largest |S| among the columns that count."""

    sums: NDArray[np.float64]
    present: NDArray[np.bool_]
    highest: NDArray[np.float64]


def rounded(values: Floats) -> Floats:
    """`values` (not negative) to 12 binary digits, in place; −0 becomes 0."""
    np.abs(values, out=values)
    bits = values.view(np.uint32)
    bits += np.uint32(0x800)
    bits &= np.uint32(0xFFFFF000)
    return values


def centred_ranks(values: Floats) -> NDArray[np.int32]:
    """2·rank − (n + 1) within each row of `values` `[C, n]`; ties share the mean of their ranks."""
    n = values.shape[1]
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    first = np.broadcast_to(np.arange(n, dtype=np.int32), ordered.shape)
    begins = np.ones(ordered.shape, dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=begins[:, 1:])
    low = np.maximum.accumulate(np.where(begins, first, 0), axis=1)
    ends = np.ones(ordered.shape, dtype=np.bool_)
    ends[:, :-1] = begins[:, 1:]
    high = np.minimum.accumulate(np.where(ends, first, n)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(ordered.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, (low + high + (1 - n)).astype(np.int32), axis=1)
    return ranks


def rank(values: Floats, labels: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Ranked:
    """Ranks `values` `[n, C]` by `labels` `[1 + permutations, n]`, the true ones first; `counted` `[C]` says which
    columns are tried, the others have sums only."""
    columns = values.shape[1]
    sums, present = np.zeros(columns), np.zeros(columns, dtype=np.bool_)
    highest = np.zeros(len(labels) - 1)
    exact = np.float32 if values.shape[0] ** 2 // 4 < _EXACT_IN_FLOAT32 else np.float64
    weights, step = labels.astype(exact), max(1, _CHUNK // values.shape[0])

    def part(start: int) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
        """Columns that are present, and the S of all labellings there."""
        own = np.ascontiguousarray(values[:, start : start + step].T)
        there = np.flatnonzero(own.any(axis=1))
        return start + there, weights @ centred_ranks(own[there]).astype(exact).T

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # NumPy sorts and multiplies without the interpreter's lock
        for place, found in threads.map(part, range(0, columns, step)):
            present[place], sums[place] = True, found[0]
            own = found[1:, counted[place]]
            if own.size:
                np.maximum(highest, np.abs(own).max(axis=1), out=highest)
    return Ranked(sums, present, highest)


def permuted_labels(
    labels: NDArray[np.bool_], groups: NDArray[np.intp], permutations: int, seed: int
) -> NDArray[np.bool_]:
    """`labels` `[n]` and, below, as many permutations of them `[1 + permutations, n]`."""
    generator, n = np.random.default_rng(seed), len(labels)
    keys = generator.random((permutations, n))
    _, numbers = np.unique(groups, return_inverse=True)
    places = np.argsort(numbers, kind="stable")
    blocks = generator.random((permutations, int(numbers.max()) + 1))
    found = np.empty((1 + permutations, n), dtype=np.bool_)
    found[0] = labels
    for row in range(permutations):
        found[1 + row, places] = labels[np.lexsort((keys[row], blocks[row, numbers]))]
    return found


def family_wise(sums: NDArray[np.float64], highest: NDArray[np.float64]) -> NDArray[np.float64]:
    """The p of each |S| against the maxima of the permutations."""
    reached = len(highest) - np.searchsorted(np.sort(highest), np.abs(sums), side="left")
    return (1 + reached) / (1 + len(highest))


def auroc_of(sums: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The AUROCs that sums stand for."""
    positive = int(labels.sum())
    return 0.5 + sums / (2 * positive * (len(labels) - positive))


def held_out_p(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One-sided p that the AUROC of each row of `scores` `[N, n]` is above ½, by `labels` `[1 + permutations, n]`."""
    sums = labels.astype(np.float64) @ centred_ranks(scores.astype(np.float32)).astype(np.float64).T
    return (1 + (sums[1:] >= sums[0]).sum(axis=0)) / len(labels)


def grouped_interval(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], groups: NDArray[np.intp], level: float = 0.95
) -> Interval:
    """`auroc_interval`, with as many independent positives and negatives as they have groups."""
    positive, negative = scores[labels], scores[~labels]
    m, n = len(np.unique(groups[labels])), len(np.unique(groups[~labels]))
    if (m, n) == (len(positive), len(negative)):
        return auroc_interval(positive, negative, level)
    value, ties = auroc_and_ties(positive, negative)
    quantile = normal_quantile(level) ** 2

    def inside(theta: float) -> bool:
        return (value - theta) ** 2 <= quantile * newcombe_variance(theta, m, n, ties)

    return Interval(value, bisect(inside, 0.0, value), bisect(inside, 1.0, value))


def quantiles(highest: NDArray[np.float64], labels: NDArray[np.bool_], shares: Sequence[float]) -> list[float]:
    """The AUROCs, as distances from ½ on the side above, that the best column reaches by chance."""
    return [float(q) for q in np.quantile(auroc_of(highest, labels), list(shares))]
