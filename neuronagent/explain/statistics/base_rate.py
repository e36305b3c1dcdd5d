"""Precision, recall and AUPRC at the base rate of a corpus, every item counted with its weight."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics.common import Array, Interval, Labels, Texts, Values, column
from neuronagent.explain.statistics.rates import wilson
from neuronagent.explain.statistics.resampling import bootstrap_texts, percentiles, resample_strata, text_numbers


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Precision and recall at a threshold, at the corpus base rate.

    `precision` is None where nothing is predicted. `…_method` is `bootstrap`, or `bound` where the bootstrap had no
    width. `false_positive_bound` is the 95 % upper bound of the false positive rate where none was seen, else None.
    """

    precision: Interval | None
    recall: Interval
    f1: Interval
    precision_method: str
    recall_method: str
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
    scores: Values,
    positive: Labels,
    weights: Values,
    texts: Texts,
    *,
    threshold: float = 0.5,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> PrecisionRecall:
    """Precision, recall and F1 of `score ≥ threshold`, each item counted with its weight.

    A weight is the number of corpus tokens that the item stands for, so that precision is that of the corpus and not
    that of a sample with as many positives as negatives. Intervals: bootstrap over texts, within positives and
    negatives. Where that has no width (perfect or empty prediction, one text) recall has the Wilson interval at the
    effective sample size, and precision the limits R·P/(R·P + F·N) at Wilson limits of recall R and false positive
    rate F, P and N the weights of both labels. With no false positive among n negatives F ≤ 3/n (Hanley and
    Lippman-Hand 1983), n the effective number of texts.

    Raises:
        ValueError: no positives, no negatives, NaN, a weight that is not positive, or lists of unlike length.
    """
    values, label, weight = _weighted_items(scores, positive, weights, texts)
    predicted = values >= threshold
    true, false = weight * (predicted & label), weight * (predicted & ~label)
    total, others, hit, wrong = (float(part.sum()) for part in (weight * label, weight * ~label, true, false))
    n_pos, n_neg = (effective_size(weight[side], _chosen(texts, side)) for side in (label, ~label))
    found = wilson(min(hit / total, 1.0) * n_pos, n_pos, level)
    alarm = wilson(min(wrong / others, 1.0) * n_neg, n_neg, level)
    bound = None if wrong else min(1.0, 3 / n_neg)

    counts = resample_strata(texts, label, draws, seed)
    recall = percentiles(found.value, np.minimum((counts @ true) / (counts @ (weight * label)), 1.0), level)
    precision = _drawn_precision(counts @ true, counts @ false, hit, wrong, level)
    limits = (
        _precision(found.lo * total, (alarm.hi if bound is None else bound) * others),
        _precision(found.hi * total, alarm.lo * others),
    )
    precision_bound = precision is not None and not _has_width(precision)
    if precision is not None and precision_bound:
        precision = Interval(precision.value, min(precision.value, limits[0]), max(precision.value, limits[1]))
    return PrecisionRecall(
        precision=precision,
        recall=recall if _has_width(recall) else found,
        f1=_f1(hit, wrong, total, counts @ true, counts @ false, counts @ (weight * label), level),
        precision_method="bound" if precision_bound else "bootstrap",
        recall_method="bootstrap" if _has_width(recall) else "bound",
        false_positive_bound=bound,
    )


def _drawn_precision(true: Array, false: Array, hit: float, wrong: float, level: float) -> Interval | None:
    """The bootstrap interval of hit/(hit + wrong); None where nothing is predicted.

    A draw without any prediction says nothing of precision and is left out.
    """
    if not hit + wrong:
        return None
    said = true + false > 0
    return percentiles(_precision(hit, wrong), true[said] / (true[said] + false[said]), level)


def _f1(hit: float, wrong: float, total: float, true: Array, false: Array, positives: Array, level: float) -> Interval:
    return percentiles(2 * hit / (hit + wrong + total), 2 * true / (true + false + positives), level)


def _has_width(interval: Interval) -> bool:
    # Equal sums in another order differ in the last bit, which is no width.
    return interval.hi - interval.lo > 1e-9


def _chosen(texts: Texts, side: NDArray[np.bool_]) -> list[Hashable]:
    return [texts[int(i)] for i in np.flatnonzero(side)]


def _precision(true: float, false: float) -> float:
    return true / (true + false) if true + false else 0.0


def auprc(
    scores: Values,
    positive: Labels,
    weights: Values,
    texts: Texts,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Average precision Σ_k (R_k − R_{k−1})·P_k over distinct scores from the top, items weighted to the base rate.

    Equal scores enter together, so the order of ties does not matter; nothing is interpolated (Davis and Goadrich
    2006). Interval: bootstrap over texts, within positives and negatives. A perfect ranking, which no resample can
    break, gets as its lower limit the precision at full recall under the false positive bound 3/n; a constant score
    has the base rate itself, of which the weights leave nothing uncertain.

    Raises:
        ValueError: as for `weighted_precision_recall`, or one text.
    """
    values, label, weight = _weighted_items(scores, positive, weights, texts)
    order = np.argsort(-values, kind="stable")
    # The last item of each run of equal scores: only there has the whole run been counted.
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))

    def average_precision(counts: Array) -> Array:
        counted = (counts * weight)[:, order]
        true = np.cumsum(counted * label[order], axis=1)[:, ends]
        seen = np.cumsum(counted, axis=1)[:, ends]
        precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
        return np.minimum((np.diff(true, axis=1, prepend=0.0) * precision).sum(axis=1) / true[:, -1], 1.0)

    interval = bootstrap_texts(texts, average_precision, draws, seed, strata=label, level=level)
    if values[label].min() > values[~label].max():
        n_neg = effective_size(weight[~label], _chosen(texts, ~label))
        false = min(1.0, 3 / n_neg) * float(weight[~label].sum())
        interval = Interval(interval.value, _precision(float(weight[label].sum()), false), interval.hi)
    return interval
