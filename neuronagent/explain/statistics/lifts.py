"""How far a score lies above those of its controls, paired over the same items and resamples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from neuronagent.explain.statistics.common import Array, Interval, Texts, Values, column
from neuronagent.explain.statistics.confidence import confidence_draws
from neuronagent.explain.statistics.ranking import auroc
from neuronagent.explain.statistics.resampling import check_draws, percentiles_of_rows, resample, text_numbers

_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, kw_only=True)
class Lift:
    """How far an AUROC lies above those of its controls; `strongest` names the best one on the items themselves."""

    auroc: float
    control_auroc: Mapping[str, float]
    over: Mapping[str, Interval]
    strongest: str
    over_strongest: Interval


def lift(
    positive: Values,
    negative: Values,
    controls: Mapping[str, tuple[Values, Values]],
    positive_texts: Texts,
    negative_texts: Texts,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Lift:
    """AUROC minus each control's AUROC and minus the strongest's, paired: all see the same items and resamples.

    `controls` has (positive scores, negative scores) by name, item for item as those of the explanation. Texts are
    drawn within positives and within negatives. The AUROC of a draw is p'Cn/(Σp·Σn), with multiplicities p and n and
    C the matrix of pairwise comparisons (1, ½, 0); `confidence_draws` gives it the spread of `auroc_interval`, for as
    many items as there are texts. *Over the strongest*: each draw subtracts its own best control, as choosing the best
    is part of what is uncertain. That makes draws too low, as it makes the estimate: the upper limit is therefore that
    over the control that is best on the items, raised by how far the median of the draws lies below the estimate.
    Over a control that is not constant limits are √(n/(n−1)) farther from the estimate, n the smaller number of texts.

    Measured coverage of 95 % at 20 and 20 (1,500 simulations of each of AUROC .5–.95, mean and least):

                                            percentiles   of confidence   this interval
        over an empty text                  .926 .877     .956 .942       .956 .942
        over one, correlated .6             .946 .933     .945 .929       .951 .934
        over the strongest of three         .916 .890     .908 .881       .967 .960
        of four, three of them equal        .691 .625     .701 .563       .938 .932
        of five, unequal                                  .923 .877       .970 .961
        yes-or-no scores, one and empty     .935 .920     .934 .902       .953 .945

    Over the strongest nearly all misses are above the upper limit: that a lift is above 0 is claimed too seldom.

    Raises:
        ValueError: no positives, negatives, controls or draws, NaN, or not as many scores or texts as items.
    """
    if not controls:
        raise ValueError("no controls to lift over")
    check_draws(draws)
    scores = [(column(p, "positives"), column(n, "negatives")) for p, n in [(positive, negative), *controls.values()]]
    shape = (len(positive_texts), len(negative_texts))
    if any((p.size, n.size) != shape for p, n in scores):
        raise ValueError("the explanation, its controls and the texts do not have the same items")
    counts = _counts(_numbers(positive_texts), _numbers(negative_texts), draws, seed)
    drawn = _resampled_aurocs(scores, *counts)
    values = [auroc(p, n) for p, n in scores]
    texts = len(set(positive_texts)), len(set(negative_texts))
    believed = _believed(scores, drawn, texts, seed)
    best = 1 + int(np.argmax(values[1:]))
    differences = believed[0] - np.concatenate([believed[1:], believed[1:].max(axis=0, keepdims=True)])
    estimates = [values[0] - value for value in [*values[1:], values[best]]]
    *over_each, over_strongest = percentiles_of_rows(estimates, differences, level)
    below = max(0.0, over_strongest.value - float(np.median(differences[-1])))
    raised = max(over_strongest.hi, over_each[best - 1].hi + below)
    over_strongest = Interval(over_strongest.value, over_strongest.lo, raised)
    widening = [1.0 if np.ptp(np.concatenate(pair)) == 0 else _small_sample(min(texts)) for pair in scores[1:]]
    over_each = [_widened(interval, factor) for interval, factor in zip(over_each, widening, strict=True)]
    over_strongest = _widened(over_strongest, widening[best - 1])
    return Lift(
        auroc=values[0],
        control_auroc=dict(zip(controls, values[1:], strict=True)),
        over=dict(zip(controls, over_each, strict=True)),
        strongest=list(controls)[best - 1],
        over_strongest=over_strongest,
    )


def _numbers(texts: Texts) -> tuple[int, ...]:
    return tuple(text_numbers(texts).tolist())


@lru_cache(maxsize=4)
def _counts(positive: tuple[int, ...], negative: tuple[int, ...], draws: int, seed: int) -> tuple[Array, Array]:
    """Multiplicities of positives and of negatives `[draws, items]`, kept as the same items are compared again."""
    generator = np.random.default_rng(seed)
    return resample(positive, draws, generator), resample(negative, draws, generator)


def _resampled_aurocs(scores: Sequence[tuple[Array, Array]], p_counts: Array, n_counts: Array) -> Array:
    """`[scores, draws]`. Sums of halves are exact in any order and precision that can hold them."""
    pairs = p_counts.sum(axis=1) * n_counts.sum(axis=1)
    exact = np.float32 if 2 * pairs.max() < _EXACT_IN_FLOAT32 else np.float64
    p_rows, n_rows = p_counts.astype(exact), n_counts.astype(exact)
    drawn = np.empty((len(scores), len(pairs)))
    for row, (positive, negative) in enumerate(scores):
        difference = positive[:, None] - negative[None, :]
        compared = ((difference > 0) + 0.5 * (difference == 0)).astype(exact)
        drawn[row] = np.einsum("ij,ij->i", p_rows @ compared, n_rows)
    return drawn / pairs


def _believed(scores: Sequence[tuple[Array, Array]], drawn: Array, texts: tuple[int, int], seed: int) -> Array:
    """`confidence_draws` of each, `[scores, draws]`; equal scores have equal draws."""
    generator, known = np.random.default_rng((seed, 1)), dict[bytes, Array]()
    for (positive, negative), row in zip(scores, drawn, strict=True):
        key = positive.tobytes() + negative.tobytes()
        if key not in known:
            known[key] = confidence_draws(positive, negative, row, texts, generator)
    return np.stack([known[p.tobytes() + n.tobytes()] for p, n in scores])


def _small_sample(n: int) -> float:
    return math.sqrt(n / (n - 1)) if n > 1 else math.sqrt(2)


def _widened(interval: Interval, factor: float) -> Interval:
    value = interval.value
    lo, hi = value - factor * (value - interval.lo), value + factor * (interval.hi - value)
    return Interval(value, max(-1.0, lo), min(1.0, hi))
