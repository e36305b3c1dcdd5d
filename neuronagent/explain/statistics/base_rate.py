"""Precision, recall and AUPRC at the base rate of a corpus, every item counted with its weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics.common import Array, Interval, Labels, Texts, Values, column, normal_quantile
from neuronagent.explain.statistics.rates import ratio, wilson_of_rare
from neuronagent.explain.statistics.resampling import text_numbers


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Precision, recall and F1 at a threshold, at the corpus base rate.

    `precision` is None where nothing is predicted. `false_positive_bound` is the 95 % upper bound of the false positive
    rate where none was seen, else None.
    """

    precision: Interval | None
    recall: Interval
    f1: Interval
    false_positive_bound: float | None


def _weighted_items(
    scores: Values, positive: Labels, weights: Values, texts: Texts
) -> tuple[Array, NDArray[np.bool_], Array]:
    values, weight = column(scores, "scores"), column(weights, "weights")
    label = np.asarray(positive, dtype=bool)
    if not values.size == weight.size == label.size == len(texts):
        raise ValueError("scores, labels, weights and texts do not have the same items")
    if not label.any() or label.all():
        raise ValueError("no positives" if not label.any() else "no negatives")
    if not np.isfinite(weight).all() or (weight <= 0).any():
        raise ValueError("a weight is not a positive number")
    return values, label, weight


def effective_size(weights: Values, texts: Texts) -> float:
    """How many equally weighted independent texts the items are worth: (Σ W)²/Σ W², W per text (Kish 1965).

    Raises:
        ValueError: no weights.
    """
    totals = np.bincount(text_numbers(texts), weights=column(weights, "weights"))
    return float(totals.sum() ** 2 / (totals**2).sum())


def weighted_precision_recall(
    scores: Values, positive: Labels, weights: Values, texts: Texts, *, threshold: float = 0.5, level: float = 0.95
) -> PrecisionRecall:
    """Precision, recall and F1 of `score ≥ threshold`, each item counted with its weight.

    A weight is the number of corpus tokens that the item stands for, so that precision is that of the corpus and not
    that of a sample with as many positives as negatives. Recall R and the false positive rate F have the intervals of
    `wilson_of_rare` at the effective number of texts of their side; with k negatives of the corpus to one positive

        precision = 1/(1 + k·F/R),   F1 = 2/(1 + (1 + k·F)/R),

    whose ratios have the limits of Donner and Zou (2012, MOVER for ratios). With no false positive among n negatives F
    is at most 3/n (Hanley and Lippman-Hand 1983), n the effective number of texts.

    Exact coverage of 95 % at 20 and 20, over R .3–.95 and F .003–.5 where the true value is .45–.96, mean and least
    (k = 99: hardly any false positive can be seen at all), and of the bootstrap, from 300 simulations:

        k                           1            9            99
        precision, this interval    .952 .940    .973 .946    .994 .983
        precision, Wilson alone                  .946 .912
        precision, bootstrap                     .942 .920
        F1, this interval           .953 .926    .957 .939    .987 .982
        F1, bootstrap                            .920 .893

    Raises:
        ValueError: no positives, no negatives, NaN, a weight that is not positive, or lists of unlike length.
    """
    values, label, weight = _weighted_items(scores, positive, weights, texts)
    predicted = values >= threshold
    total, others, hit, wrong = (
        float(weight[side].sum()) for side in (label, ~label, predicted & label, predicted & ~label)
    )
    n_pos, n_neg = (effective_size(weight[side], _chosen(texts, side)) for side in (label, ~label))
    recall = wilson_of_rare(min(hit / total, 1.0) * n_pos, n_pos, level)
    alarm = wilson_of_rare(min(wrong / others, 1.0) * n_neg, n_neg, level)
    k = others / total
    base = Interval(1 + k * alarm.value, 1 + k * alarm.lo, 1 + k * alarm.hi)
    return PrecisionRecall(
        precision=_falling(ratio(alarm, recall), lambda r: 1 / (1 + k * r)) if hit + wrong else None,
        recall=recall,
        f1=_falling(ratio(base, recall), lambda r: 2 / (1 + r)),
        false_positive_bound=None if wrong else min(1.0, 3 / n_neg),
    )


def _falling(interval: Interval, by: Callable[[float], float]) -> Interval:
    """The interval of a falling function of what has `interval`."""
    value = by(interval.value)
    return Interval(value, max(0.0, min(value, by(interval.hi))), min(1.0, max(value, by(interval.lo))))


def _chosen(texts: Texts, side: NDArray[np.bool_]) -> list[Hashable]:
    return [texts[int(i)] for i in np.flatnonzero(side)]


def auprc(scores: Values, positive: Labels, weights: Values, texts: Texts, *, level: float = 0.95) -> Interval:
    """Average precision Σ_k (R_k − R_{k−1})·P_k over distinct scores from the top, items weighted to the base rate.

    Equal scores enter together, so the order of ties does not matter; nothing is interpolated (Davis and Goadrich
    2006). Each recall R_k and each false positive rate F_k has Wilson limits at z/√2 and the effective number of texts
    of its side. Taking all R_k, or all F_k, at their limits at once moves the area in each direction; the two ways add
    up in quadrature (as MOVER). √2 is ours: at the whole z, all thresholds at once are too cautious. A constant score
    has the base rate itself, of which the weights leave nothing uncertain.

    Measured coverage of 95 % (1,000 simulations of each of 25 normal shapes with areas .48–.96, spread .6, 1 or 2, with
    1, 9 or 99 negatives of the corpus to one positive), mean and least; the others with up to 1,500, at 20 and 20:

        n_pos, n_neg                          20, 20       50, 50       10, 20
        this interval                         .964 .934    .961 .930    .962 .927
        with z                                .993 .985
        bootstrap over texts, percentiles     .784 .336
        bootstrap, bias-corrected             .820 .368
        bootstrap, logit and t                .924 .368
        binomial logit                        .959 .733

    Raises:
        ValueError: as for `weighted_precision_recall`.
    """
    values, label, weight = _weighted_items(scores, positive, weights, texts)
    order = np.argsort(-values, kind="stable")
    # The last item of each run of equal scores: only there has the whole run been counted.
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    k = float(weight[~label].sum() / weight[label].sum())
    rates, limits = list[Array](), list[tuple[Array, Array]]()
    for side in (label, ~label):
        share = np.minimum(np.cumsum((weight * side)[order])[ends] / weight[side].sum(), 1.0)
        rates.append(share)
        limits.append(_wilson_limits(share, effective_size(weight[side], _chosen(texts, side)), level))
    recall, alarm = rates
    value = _area(recall, alarm, k)
    moved = [
        (_area(recall_at, alarm, k) - value, _area(recall, alarm_at, k) - value)
        for recall_at, alarm_at in zip(limits[0], reversed(limits[1]), strict=True)
    ]
    down, up = (
        math.hypot(max(0.0, sign * by_recall), max(0.0, sign * by_alarm))
        for sign, (by_recall, by_alarm) in zip((-1, 1), moved, strict=True)
    )
    return Interval(value, max(0.0, value - down), min(1.0, value + up))


def _wilson_limits(shares: Array, n: float, level: float) -> tuple[Array, Array]:
    """Wilson limits at z/√2. Everything is predicted at the last threshold, for certain."""
    z = normal_quantile(level) / math.sqrt(2)
    centre, scale = shares + z * z / (2 * n), 1 + z * z / n
    half = z * np.sqrt(shares * (1 - shares) / n + z * z / (4 * n * n))
    lo, hi = np.clip((centre - half) / scale, 0.0, shares), np.clip((centre + half) / scale, shares, 1.0)
    lo[-1] = hi[-1] = 1.0
    return lo, hi


def _area(recall: Array, alarm: Array, k: float) -> float:
    """Average precision of a curve of recalls and false positive rates, both growing."""
    seen = recall + k * alarm
    precision = np.divide(recall, seen, out=np.zeros_like(recall), where=seen > 0)
    return min(1.0, float((np.diff(recall, prepend=0.0) * precision).sum()))
