"""What the best of hundreds of thousands of columns is worth: AUROCs of all, and what chance alone would have reached.

1. With r the mid-ranks of a column (ties share theirs), c = 2r − (n + 1) and S = Σ c over the m items of label 1,
   AUROC = ½ + S / (2m(n − m)). c is whole, so that sums are exact and equal in any order (below 2²⁴ in float32).
2. Labels are permuted; the S of all permutations is one product, permuted labels × ranks. The maximum of |AUROC − ½|
   over all columns, permutation by permutation, is what the best of as many columns reaches by chance: the family-wise
   p of a column is (1 + #{maxima ≥ its own}) / (1 + permutations) (single-step maxT, Westfall and Young 1993).
3. Items of a group are not independent, so that whole groups are permuted: each takes the labels of another, shuffled,
   repeated or cut to its own size. How many items have label 1 then varies, and AUROCs are compared, not S.

A p is exact where any group could as well have had the labels of any other: all have one size, or each has one label,
which does not go with its size (`exchangeable`; single items are groups too). Where they differ in size and have both
labels it is approximate, and too large when measured, as a small group may give a large one a single label. Where
labels can be exchanged in few ways only (`divisions`) there is no p.

Measured: of 600 sets without effect, with 40 columns that hang together within groups, the share in which the best
column has p ≤ .05, one column has one-sided p ≤ .05, and its 95 % interval is above ½ (nominal: .05, .05, .025):

    groups                    one label each       both labels
    20 of 5                   .057 .062 .027       .052 .050 .010
    20 of 1 to 9              .048 .050 .010       .017 .040 .010
    20 of 2, 30 of 1          .053 .045 .017       .042 .033 .017
    30, of 1 to 100, heavy    .052 .045 .007       .003 .025 .000
    one of 60, 30 of 1        .050 .042 .000       .012 .018 .000

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
from neuronagent.service.live.concept_items import LEAST_IN_HALF

Floats = NDArray[np.float32]
_CHUNK = 1 << 18
"""Values that are ranked at a time: what a processor's cache holds is sorted twice as fast."""
_EXACT_IN_FLOAT32 = 1 << 24
FEWEST_DIVISIONS = 20
"""With fewer ways to divide the items no p can be ≤ .05."""
_TRIES = 5
"""Permutations that are drawn for each that is wanted, where many leave too few items of a label."""


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
    """`labels` `[n]` and, below, as many permutations of them `[1 + permutations, n]`.

    Each has as many items of each label as a half needs (or as `labels` has, if fewer): others would not have been
    searched. There are fewer permutations where hardly any is so.
    """
    generator, n = np.random.default_rng(seed), len(labels)
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    places = np.argsort(numbers, kind="stable")
    own, starts = numbers[places], np.cumsum(sizes) - sizes
    within = np.arange(n) - starts[own]
    positive = int(labels.sum())
    least = min(LEAST_IN_HALF, positive, n - positive)
    found = np.empty((1 + permutations, n), dtype=np.bool_)
    found[0], made = labels, 1
    for _ in range(_TRIES * permutations):
        shuffled = labels[places][np.argsort(own + generator.random(n))]
        donor = generator.permutation(len(sizes))[own]
        found[made, places] = shuffled[starts[donor] + within % sizes[donor]]
        made += least <= int(found[made].sum()) <= n - least
        if made > permutations:
            break
    return found[:made]


def divisions(labels: NDArray[np.bool_]) -> int:
    """In how many ways `labels` `[1 + permutations, n]` divide the items; as AUROCs on both sides of ½ count, a
    labelling and its reverse are one."""
    return len(np.unique(np.packbits(labels ^ labels[:, :1], axis=1), axis=0))


def exchangeable(labels: NDArray[np.bool_], groups: NDArray[np.intp]) -> bool:
    """Whether groups have one size, or each has one label: then p is exact."""
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    positive = np.bincount(numbers, weights=labels)
    return bool((sizes == sizes[0]).all() or ((positive == 0) | (positive == sizes)).all())


def distances(sums: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AUROC − ½ for each of `sums`, all by `labels` `[n]` or each by its own `[…, n]`; equal ones are equal floats."""
    positive = labels.sum(axis=-1)
    return sums / (2 * positive * (labels.shape[-1] - positive))


def family_wise(found: NDArray[np.float64], highest: NDArray[np.float64]) -> NDArray[np.float64]:
    """The p of each distance from ½ against the largest of the permutations."""
    reached = len(highest) - np.searchsorted(np.sort(highest), np.abs(found), side="left")
    return (1 + reached) / (1 + len(highest))


def held_out_p(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One-sided p that the AUROC of each row of `scores` `[N, n]` is above ½, by `labels` `[1 + permutations, n]`."""
    sums = centred_ranks(scores.astype(np.float32)).astype(np.float64) @ labels.T.astype(np.float64)
    found = distances(sums, labels)
    return (1 + (found[:, 1:] >= found[:, :1]).sum(axis=1)) / len(labels)


def grouped_interval(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], groups: NDArray[np.intp], level: float = 0.95
) -> Interval:
    """`auroc_interval`, with as many independent positives and negatives as their groups are worth: (Σ s)² / Σ s² for
    groups with s items of the label (Kish 1965), which is their number where all are of one size."""
    positive, negative = scores[labels], scores[~labels]
    m, n = _effective(groups[labels]), _effective(groups[~labels])
    if (m, n) == (len(positive), len(negative)):
        return auroc_interval(positive, negative, level)
    value, ties = auroc_and_ties(positive, negative)
    quantile = normal_quantile(level) ** 2

    def inside(theta: float) -> bool:
        return (value - theta) ** 2 <= quantile * newcombe_variance(theta, m, n, ties)

    return Interval(value, bisect(inside, 0.0, value), bisect(inside, 1.0, value))


def _effective(groups: NDArray[np.intp]) -> float:
    sizes = np.unique(groups, return_counts=True)[1]
    return len(groups) ** 2 / int((sizes**2).sum())


def quantiles(highest: NDArray[np.float64], shares: Sequence[float]) -> list[float]:
    """The AUROCs, on the side above ½, that the best column reaches by chance; from distances."""
    return [0.5 + float(q) for q in np.quantile(highest, list(shares))]
