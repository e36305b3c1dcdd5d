"""The base-rate view: of the corpus tokens where an explanation says "fires", in how many does it?

Balanced sets flatter: a combination's strong tokens are one in hundreds. The top list is extreme and no sample: each
of its windows stands for itself alone. For all other strong tokens of the corpus (the exact histogram says how many
there are) stand those of the sample in proportion to |post|, each weighing 1/|post|. Without one recall has no value,
only limits: the rule holds at none or at all of the strong tokens that nobody has seen.
A rule can be run over the corpus itself, so the share q of tokens at which it fires is counted, and

    precision = recall · π / q,   π = share of strong tokens in the corpus,

whose interval is that of recall, times π/q. Where that reaches 1 it is cut there, and the lower limit is at most
Wilson's for as many windows as were predicted: an interval has a width. (An explanation that needs a judge cannot be
run over a corpus; its precision comes from random windows.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neuronagent.domain import Score, Split
from neuronagent.explain import statistics
from neuronagent.explain.evidence import CombinationEvidence, Strength, Window
from neuronagent.explain.scorers.predictor import Predictor

PRECISION, RECALL = "precision", "recall"
CORPUS = "corpus"
_NOWHERE = "it fires nowhere in the corpus"
_UNSAMPLED = "no strong token was sampled beyond the top list: lo and hi are limits, not an interval"


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
    strong = own.strong_count(split)
    listed, sampled = _listed(own, split), _sampled(own, split)
    n = len(listed) + len(sampled)
    if not strong or not n:
        return [_null(metric, split, n, tokens, seed, judge, "no strong tokens") for metric in (RECALL, PRECISION)]
    if strong > len(listed) and not sampled:
        certain = int((predictor(listed) > 0.5).sum())
        limits = (certain / strong, (certain + strong - len(listed)) / strong)
        recall_row = replace(_null(RECALL, split, n, 0, seed, judge, _UNSAMPLED), lo=limits[0], hi=limits[1])
        if not fires:
            return [recall_row, _null(PRECISION, split, n, tokens, seed, judge, _NOWHERE)]
        lo, hi = (min(1.0, limit * (strong / split_tokens) / (fires / tokens)) for limit in limits)
        return [recall_row, replace(_null(PRECISION, split, n, tokens, seed, judge, _UNSAMPLED), lo=lo, hi=hi)]
    recall, predicted = _recall(predictor, listed, sampled, strong)
    scores = [_score(RECALL, recall, split, n, 0, seed, judge)]
    if not fires:
        return [*scores, _null(PRECISION, split, n, tokens, seed, judge, _NOWHERE)]
    precision = _precision(recall, (strong / split_tokens) / (fires / tokens), max(1, predicted))
    return [*scores, _score(PRECISION, precision, split, n, tokens, seed, judge)]


def _precision(recall: statistics.Interval, ratio: float, predicted: int) -> statistics.Interval:
    """recall · ratio, cut at 1; `predicted` windows stand behind it."""
    value, lo, hi = (x * ratio for x in (recall.value, recall.lo, recall.hi))
    if hi < 1:
        return statistics.Interval(value, lo, hi)
    value = min(1.0, value)
    return statistics.Interval(value, min(lo, statistics.wilson(value * predicted, predicted).lo), 1.0)


def _listed(own: CombinationEvidence, split: Split) -> list[Window]:
    """The strong windows that the top list has."""
    numbers = {entry.token_number for entry in own.record.post_by_split[split]}
    return [w for w in own.strong[split] if _number(w) in numbers]


def _sampled(own: CombinationEvidence, split: Split) -> list[Window]:
    """The strong windows of the sample in proportion to |post| that the top list does not have."""
    numbers = {entry.token_number for entry in own.record.post_by_split[split]}
    weighted = own.sampled[split][len(own.record.uniform[split]) :]
    return [w for w in weighted if own.strength(w) is Strength.STRONG and _number(w) not in numbers]


def _number(window: Window) -> int:
    return window.text.first_token + window.position


def _recall(
    predictor: Predictor, listed: list[Window], sampled: list[Window], strong: int
) -> tuple[statistics.Interval, int]:
    """Recall over `strong` tokens, and how many windows were predicted; Wilson at the sample's effective size."""
    certain = predictor(listed) > 0.5 if listed else np.zeros(0, dtype=np.bool_)
    if not sampled or strong <= len(listed):
        return statistics.wilson(float(certain.sum()), len(listed)), int(certain.sum())
    held = predictor(sampled) > 0.5
    weights = np.array([1 / abs(w.post) for w in sampled], dtype=np.float64)
    size = statistics.effective_size(weights, [w.text.text_id for w in sampled])
    rest = statistics.wilson(min(1.0, float(weights[held].sum() / weights.sum())) * size, size)
    value, lo, hi = (
        min(1.0, (float(certain.sum()) + share * (strong - len(listed))) / strong)
        for share in (rest.value, rest.lo, rest.hi)
    )
    return statistics.Interval(value, lo, hi), int(certain.sum()) + int(held.sum())


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
