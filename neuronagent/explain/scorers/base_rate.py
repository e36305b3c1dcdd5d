"""The base-rate view of a rule: of the corpus tokens where it says "fires", in how many does the neuron?

Balanced sets flatter: a combination's strong tokens are one in hundreds. The top list is extreme and no sample: each
of its windows stands for itself alone. For all other strong tokens of the corpus (the exact histogram says how many
there are) stand those of the sample in proportion to |post|, each weighing 1/|post|. Without one recall has no value,
only limits: the rule holds at none or at all of the strong tokens that nobody has seen.
A rule can be run over the corpus itself, so the share q of tokens at which it fires is counted, and

    precision = recall · π / q,   F1 = 2·recall·π / (π + q),   π = share of strong tokens in the corpus,

whose intervals are that of recall, carried over. Where precision reaches 1 it is cut there, and its lower limit is at
most Wilson's for as many windows as were predicted: an interval has a width. AUPRC = Σ_k (R_k − R_{k−1})·P_k over the
levels of the rule's score from the top; its limits are those at the limits of all R_k at once, which is cautious. All
of it for three meanings of strong: τ, and the edges that at most 10 % and 50 % of the combination's tokens reach. (What
a judge reads cannot be run over a corpus: `judged_base_rate`.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, Split, View
from neuronagent.explain import statistics
from neuronagent.explain.evidence import CombinationEvidence, Window
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.statistics import Array, Interval
from neuronagent.explain.subjects import Subject
from neuronagent.layout import HISTOGRAM_EDGES, at_or_above

PRECISION, RECALL, F1, AUPRC = "precision", "recall", "f1", "auprc"
CORPUS = "corpus"
WIDER = {10: "corpus, strongest 10 %", 50: "corpus, strongest 50 %"}
_NOWHERE = "it fires nowhere in the corpus"
_CONSTANT = "it scores all tokens alike"
_UNSAMPLED = "no strong token was sampled beyond the top list: lo and hi are limits, not an interval"
_ABOVE_HALF = float(np.nextafter(0.5, 1))


def base_rate(
    subject: Subject,
    own: CombinationEvidence,
    *,
    corpus: Array,
    split_tokens: int,
    split: Split,
    seed: int,
    judge: str,
) -> list[Score]:
    """Precision, recall and F1 of `score > 0.5`, and AUPRC, at the corpus base rate.

    `corpus` are the subject's scores at tokens of the split, all or evenly spaced ones; the split has `split_tokens` in
    all (position 0 left out).
    """
    rows = Rows(split=split, seed=seed, judge=judge)
    fires, scores = _Fires.of(corpus), list[Score]()
    edges = {CORPUS: own.tau, **{name: edge_reached_by(own, percent) for percent, name in WIDER.items()}}
    for name, tau in edges.items():
        sample = _Strong.of(own, split, tau)
        scores += _at(sample, name, subject, fires, sample.total / max(1, split_tokens), rows)
    return scores


def edge_reached_by(own: CombinationEvidence, percent: int) -> float | None:
    """The smallest histogram edge with at most `percent` % of the combination's tokens of `explain` at or above it, but
    never above τ."""
    histogram = np.array(own.record.histogram[Split.EXPLAIN], dtype=np.int64)
    if own.tau is None or not histogram.sum():
        return None
    few = np.flatnonzero(at_or_above(histogram) * 100 <= percent * histogram.sum())
    return min(own.tau, float(HISTOGRAM_EDGES[few[0] if len(few) else -1]))


def strong_tokens(own: CombinationEvidence, split: Split, tau: float | None) -> int:
    """How many tokens of the split's corpus reach `tau`, a histogram edge."""
    if tau is None:
        return 0
    return sum(own.record.histogram[split][int(np.searchsorted(HISTOGRAM_EDGES, tau)) + 1 :])


@dataclass(frozen=True, kw_only=True)
class _Fires:
    """How often a subject fires: at each of its `levels`, ascending, the share of the corpus that scores `at_least` it;
    `tokens` were scored."""

    levels: Array
    at_least: Array
    tokens: int

    @classmethod
    def of(cls, corpus: Array) -> _Fires:
        levels, counts = np.unique(corpus, return_counts=True)
        return cls(levels=levels, at_least=np.cumsum(counts[::-1])[::-1] / max(1, len(corpus)), tokens=len(corpus))

    def share(self, level: float) -> float:
        """The share of the corpus that scores at least `level`."""
        place = int(np.searchsorted(self.levels, level, side="left"))
        return float(self.at_least[place]) if place < len(self.levels) else 0.0


def _at(sample: _Strong, name: str, subject: Subject, fires: _Fires, share: float, rows: Rows) -> list[Score]:
    """The four scores over a `sample` of the strong tokens, which are a `share` of all."""
    n, tokens = len(sample.windows), fires.tokens
    if not sample.total or not n or not tokens:
        return [rows.null(metric, name, "no strong tokens", n, tokens) for metric in (RECALL, PRECISION, F1, AUPRC)]
    scores, often = subject.detect(sample.windows, View.CAUSAL), fires.share(_ABOVE_HALF)
    recall = sample.recall(scores > 0.5)
    if sample.unsampled:
        return _limits(recall, share, often, name, n, tokens, rows)
    found = [rows.value(RECALL, name, recall, n, 0)]
    if often:
        precision = _precision(recall, share / often, max(1, int((scores > 0.5).sum())))
        found.append(rows.value(PRECISION, name, precision, n, tokens))
        found.append(rows.value(F1, name, _carried(recall, lambda r: _f1(r, share, often)), n, tokens))
    else:
        found += [rows.null(metric, name, _NOWHERE, n, tokens) for metric in (PRECISION, F1)]
    area = _auprc(sample, scores, fires, share)
    return [
        *found,
        rows.null(AUPRC, name, _CONSTANT, n, tokens) if area is None else rows.value(AUPRC, name, area, n, tokens),
    ]


def _limits(recall: Interval, share: float, often: float, name: str, n: int, tokens: int, rows: Rows) -> list[Score]:
    """What is known where nothing stands for the strong tokens beyond the top list."""
    found = [rows.null(RECALL, name, _UNSAMPLED, n, 0, limits=(recall.lo, recall.hi))]
    if not often:
        return [*found, *(rows.null(metric, name, _NOWHERE, n, tokens) for metric in (PRECISION, F1))]
    carried: dict[str, Callable[[float], float]] = {
        PRECISION: lambda r: min(1.0, r * share / often),
        F1: lambda r: _f1(r, share, often),
    }
    for metric, of in carried.items():
        found.append(rows.null(metric, name, _UNSAMPLED, n, tokens, limits=(of(recall.lo), of(recall.hi))))
    return found


@dataclass(frozen=True, kw_only=True)
class _Strong:
    """The windows that stand for the `total` strong tokens of a corpus: the `listed` first of them for themselves, the
    others, in proportion to their `weights`, for all the rest. The top list has `known` strong tokens, near-duplicates
    and second ones of a text included."""

    windows: list[Window]
    listed: int
    known: int
    weights: Array
    total: int

    @classmethod
    def of(cls, own: CombinationEvidence, split: Split, tau: float | None) -> _Strong:
        numbers = {entry.token_number for entry in own.record.post_by_split[split]}
        strong = [w for w in own.strong[split] if tau is not None and abs(w.post) >= tau and w.number in numbers]
        weighted = own.sampled[split][len(own.record.uniform[split]) :]
        others = [w for w in weighted if tau is not None and abs(w.post) >= tau and w.number not in numbers]
        return cls(
            windows=strong + others,
            listed=len(strong),
            known=sum(tau is not None and abs(e.value) >= tau for e in own.record.post_by_split[split]),
            weights=np.array([1 / abs(w.post) for w in others], dtype=np.float64),
            total=strong_tokens(own, split, tau),
        )

    @property
    def unsampled(self) -> bool:
        """Whether there are strong tokens for which no window stands."""
        return self.total > self.known and self.listed == len(self.windows)

    def recall(self, held: NDArray[np.bool_]) -> Interval:
        """The share of the strong tokens that is `held` `[windows]`; Wilson at the sample's effective size. Limits that
        hold without exception where the sample is missing."""
        certain, held = int(held[: self.listed].sum()), held[self.listed :]
        if self.unsampled:
            limits = certain / self.total, (certain + self.total - self.listed) / self.total
            return Interval(limits[0], *limits)
        if (
            not len(held) or self.total <= self.listed
        ):  # the list has them all; near-duplicates in it are of one kind with what they copy
            return statistics.wilson(certain, self.listed)
        size = statistics.effective_size(self.weights, [w.text.text_id for w in self.windows[self.listed :]])
        rest = statistics.wilson(min(1.0, float(self.weights[held].sum() / self.weights.sum())) * size, size)
        return _carried(rest, lambda share: min(1.0, (certain + share * (self.total - self.listed)) / self.total))


def _carried(interval: Interval, by: Callable[[float], float]) -> Interval:
    """The interval of a growing function of what has `interval`."""
    return Interval(by(interval.value), by(interval.lo), by(interval.hi))


def _precision(recall: Interval, ratio: float, predicted: int) -> Interval:
    """recall · ratio, cut at 1; `predicted` windows stand behind it."""
    found = _carried(recall, lambda r: min(1.0, r * ratio))
    if found.hi < 1:
        return found
    return Interval(found.value, min(found.lo, statistics.wilson(found.value * predicted, predicted).lo), 1.0)


def _f1(recall: float, share: float, fires: float) -> float:
    precision = min(1.0, recall * share / fires)
    return 2 * precision * recall / (precision + recall) if recall else 0.0


def _auprc(sample: _Strong, scores: Array, fires: _Fires, share: float) -> Interval | None:
    """Average precision over the levels of the score, and at the limits of every recall; None for a single level."""
    levels = np.union1d(scores, fires.levels)[::-1]
    if len(levels) < 2:
        return None
    recalls = [sample.recall(scores >= level) for level in levels[:-1]]
    often = [fires.share(float(level)) for level in levels]

    def area(found: list[float]) -> float:
        total = last = 0.0
        for recall, q in zip([*found, 1.0], often, strict=True):  # at the lowest level everything is predicted
            total += (recall - last) * (min(1.0, recall * share / q) if q else 1.0)
            last = recall
        return min(1.0, total)

    value, lo, hi = (area([side(recall) for recall in recalls]) for side in _SIDES)
    return Interval(value, min(lo, value), max(hi, value))


_SIDES: tuple[Callable[[Interval], float], ...] = (lambda r: r.value, lambda r: r.lo, lambda r: r.hi)
