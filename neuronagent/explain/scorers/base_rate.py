"""The base-rate view: of the corpus tokens where an explanation says "fires", in how many does it?

Balanced sets flatter: a combination's strong tokens are one in hundreds. Recall is estimated from strong windows, each
standing for as many corpus tokens as its bin of |post| holds per window sampled (the bin counts are exact). A rule can
be run over the corpus itself, so the share q of tokens at which it fires is counted, and

    precision = recall · π / q,   π = share of strong tokens in the corpus,

whose interval is that of recall, times π/q. Where that reaches 1 it is cut there, and the lower limit is at most
Wilson's for as many windows as were predicted: an interval has a width. (An explanation that needs a judge cannot be
run over a corpus; its precision comes from random windows.)
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, Split
from neuronagent.explain import statistics
from neuronagent.explain.evidence import CombinationEvidence
from neuronagent.explain.items import magnitude_bin
from neuronagent.explain.scorers.predictor import Predictor

PRECISION, RECALL = "precision", "recall"
CORPUS = "corpus"


def base_rate(
    predictor: Predictor,
    own: CombinationEvidence,
    *,
    fires: int,
    tokens: int,
    split_tokens: int,
    split: Split,
    seed: int,
    judge: str,
) -> list[Score]:
    """Precision and recall of `score > 0.5` at the corpus base rate.

    `fires` of the `tokens` of the split that the rule was run over were predicted to be strong; the split has
    `split_tokens` in all (position 0 left out).
    """
    windows = own.strong[split]
    strong = own.strong_count(split)
    if not windows or not strong:
        return [_null(metric, split, len(windows), tokens, seed, judge) for metric in (RECALL, PRECISION)]
    held = predictor(windows) > 0.5
    bins = [magnitude_bin(window) for window in windows]
    sampled = Counter(bins)
    weights = np.array([own.record.histogram[split][b] / sampled[b] for b in bins], dtype=np.float64)
    recall = weighted_share(held, weights, [w.text.text_id for w in windows], seed)
    scores = [_score(RECALL, recall, split, len(windows), 0, seed, judge)]
    if not fires:
        return [*scores, _null(PRECISION, split, len(windows), tokens, seed, judge, "it fires nowhere in the corpus")]
    precision = _precision(recall, (strong / split_tokens) / (fires / tokens), max(1, int(held.sum())))
    return [*scores, _score(PRECISION, precision, split, len(windows), tokens, seed, judge)]


def _precision(recall: statistics.Interval, ratio: float, predicted: int) -> statistics.Interval:
    """recall · ratio, cut at 1; `predicted` windows stand behind it."""
    value, lo, hi = (x * ratio for x in (recall.value, recall.lo, recall.hi))
    if hi < 1:
        return statistics.Interval(value, lo, hi)
    value = min(1.0, value)
    return statistics.Interval(value, min(lo, statistics.wilson(value * predicted, predicted).lo), 1.0)


def weighted_share(
    held: NDArray[np.bool_], weights: NDArray[np.float64], texts: list[int], seed: int
) -> statistics.Interval:
    """The weighted share of windows that hold, bootstrapped over texts; Wilson at the effective size if that has no
    width (all or none hold)."""
    share = float(weights[held].sum() / weights.sum())
    if len(set(texts)) > 1 and 0 < share < 1:

        def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
            return (counts @ (weights * held)) / np.maximum(counts @ weights, 1e-12)

        drawn = statistics.bootstrap_texts(texts, statistic, seed=seed)
        if drawn.hi > drawn.lo:
            return drawn
    n = statistics.effective_size(weights, texts)
    return statistics.wilson(min(share, 1.0) * n, n)


def _score(
    metric: str, value: statistics.Interval, split: Split, n_pos: int, n_neg: int, seed: int, judge: str
) -> Score:
    return Score(
        metric=metric, negative_set=CORPUS, split=split, value=value.value, lo=value.lo, hi=value.hi,
        n_pos=n_pos, n_neg=n_neg, seed=seed, judge=judge,
    )  # fmt: skip


def _null(
    metric: str, split: Split, n_pos: int, n_neg: int, seed: int, judge: str, reason: str = "no strong tokens"
) -> Score:
    return Score(
        metric=metric, negative_set=CORPUS, split=split, value=None, lo=None, hi=None,
        n_pos=n_pos, n_neg=n_neg, reason=reason, seed=seed, judge=judge,
    )  # fmt: skip
