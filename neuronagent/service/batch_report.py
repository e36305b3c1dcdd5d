"""What a batch of explained neurons comes to, from what the index holds of them: a batch that was stopped and finished
later reports on everything.

Each unit, a neuron in one sign combination, counts once, by its current explanation of one source. *Lift*: how far
detection against random tokens lies above the strongest control, with the distribution over all units. *Discoveries*:
units whose permutation p, adjusted over all of them (Benjamini–Hochberg), is at most `LEVEL`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neuronagent.domain import COMBINATIONS, NeuronId, Score, SignCombination, Split, View
from neuronagent.explain import statistics
from neuronagent.explain.items import N0, N1, SAME_TEXTS
from neuronagent.explain.prompts import judge_prompt_version
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL, Verdict, by_judge, verdict
from neuronagent.service.scoring import CHOSEN
from neuronagent.store.explanations import StoredScore
from neuronagent.store.overview import ScoreKinds, Stored
from neuronagent.store.reader import IndexReader

LEVEL = 0.05
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_COUNTED = (View.CAUSAL.value, Split.TEST)
DECISIVE = ScoreKinds(
    metrics={AUROC: (N0, SAME_TEXTS, N1), cross_combination.PAIRWISE: ()},
    view=View.CAUSAL.value,
    split=Split.TEST,
    marks=(CHOSEN,),
    controlled=(N0, SAME_TEXTS),
    controls=(STRONGEST, TOKEN_LIST_CONTROL),
)
"""The scores on which it depends which explanation of a unit counts, by which judge, and its verdict."""
_EDGES = tuple(round(-1 + step / 10, 1) for step in range(21))

Pair = tuple[NeuronId, SignCombination, SignCombination]


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Numbers between −1 and 1: how many, at which quantiles, how many in each bin between `edges`, how many above 0,
    and of how many the lower confidence limit is."""

    n: int
    quantiles: Mapping[float, float]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    positive: int
    surely_positive: int


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """The whole of a batch. `unexplained` neurons have nothing stored: they failed, were not reached, or have too few
    examples in every combination; in the others such combinations count as *not enough examples*. `tested` units have
    a p value. `failures` and `seconds` are of the last run and are not stored."""

    neurons: int
    unexplained: int
    units: int
    verdicts: Mapping[Verdict, int]
    lift: Distribution | None
    tested: int
    discoveries: int
    not_told_apart: tuple[Pair, ...]
    protocols: Mapping[str, int]
    failures: Mapping[str, tuple[NeuronId, ...]] = field(default_factory=dict[str, tuple[NeuronId, ...]])
    seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        lift = self.lift
        return {
            "neurons": self.neurons,
            "unexplained": self.unexplained,
            "explanations": self.units,
            "verdicts": {found.value: count for found, count in self.verdicts.items()},
            "lift_over_strongest_control": None
            if lift is None
            else {
                "n": lift.n,
                "quantiles": {f"{q:g}": value for q, value in lift.quantiles.items()},
                "histogram": {"edges": list(lift.edges), "counts": list(lift.counts)},
                "above_zero": lift.positive,
                "lower_limit_above_zero": lift.surely_positive,
            },
            "benjamini_hochberg": {"q": LEVEL, "tested": self.tested, "discoveries": self.discoveries},
            "not_told_apart": [
                {"neuron": str(neuron), "combinations": [a.value, b.value]} for neuron, a, b in self.not_told_apart
            ],
            "protocols": dict(self.protocols),
            "failures": [
                {"reason": reason, "neurons": [str(neuron) for neuron in those]}
                for reason, those in self.failures.items()
            ],
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What counts of one explanation that was scored."""

    verdict: Verdict
    lift: float | None
    lift_lo: float | None
    p: float | None
    protocol: str


@dataclass(frozen=True, kw_only=True)
class NeuronUnits:
    """What counts of one neuron: its units, and the pairs of combinations that they do not tell apart."""

    units: tuple[Unit, ...] = ()
    not_told_apart: tuple[tuple[SignCombination, SignCombination], ...] = ()


def report(
    reader: IndexReader, neurons: Iterable[NeuronId], *, source: str = "rule", judge: str | None = None
) -> BatchReport:
    """What the index holds of `neurons` by explanations of `source`, current ones that are scored.

    An explanation that several judges scored counts by the first of them. With `judge` the explanation counts that a
    campaign of this judge chose last, whatever its source: it may have kept the rule; without any, the one that it
    scored last. Scores of one protocol count, the newest.
    """
    wanted = list(dict.fromkeys(neurons))
    fit = judge is None or reader.judges_fit(judge_prompt_version()).get(judge, True)
    found: dict[NeuronId, NeuronUnits] = {}
    for neuron, stored in reader.stored(wanted, DECISIVE):
        scores = _scores(stored, source, judge)
        if scores:
            found[neuron] = NeuronUnits(
                units=tuple(
                    unit(own, protocol, is_rule=by == "rule", fit=fit) for own, protocol, by in scores.values()
                ),
                not_told_apart=tuple(cross_combination.not_told_apart({c: own for c, (own, _, _) in scores.items()})),
            )
    return tally(wanted, found)


def tally(wanted: Sequence[NeuronId], found: Mapping[NeuronId, NeuronUnits]) -> BatchReport:
    """What the neurons come to; those that are not among `found` have nothing that was explained and scored."""
    explained = [found[neuron] for neuron in wanted if neuron in found]
    units = [unit for own in explained for unit in own.units]
    verdicts = Counter(unit.verdict for unit in units)
    verdicts[Verdict.NOT_ENOUGH] += len(explained) * len(COMBINATIONS) - len(units)
    p_values = [unit.p for unit in units if unit.p is not None]
    adjusted = statistics.benjamini_hochberg(p_values) if p_values else np.zeros(0)
    unclear = ((neuron, pair) for neuron in wanted if neuron in found for pair in found[neuron].not_told_apart)
    return BatchReport(
        neurons=len(wanted),
        unexplained=len(wanted) - len(explained),
        units=len(units),
        verdicts={found: verdicts[found] for found in Verdict if verdicts[found]},
        lift=_distribution([(u.lift, u.lift_lo) for u in units if u.lift is not None and u.lift_lo is not None]),
        tested=len(p_values),
        discoveries=int((adjusted <= LEVEL).sum()),
        not_told_apart=tuple((neuron, a, b) for neuron, (a, b) in unclear),
        protocols=Counter(unit.protocol for unit in units),
    )


def _scores(
    stored: Sequence[Stored], source: str, judge: str | None
) -> dict[SignCombination, tuple[Sequence[Score], str, str]]:
    """By combination, the scores that count, their protocol and who wrote what was scored."""
    found: dict[SignCombination, tuple[Sequence[Score], str, str]] = {}
    last: dict[SignCombination, tuple[bool, int]] = {}
    for explanation, scores in stored:
        c, by = explanation.explanation.combination, explanation.explanation.source
        if judge is not None:
            scores = [row for row in scores if row.score.judge == judge]
        elif by != source:
            continue
        scores = newest_protocol(scores)
        judged = by_judge([row.score for row in scores])
        rank = any(row.score.metric == CHOSEN for row in scores), max((row.id for row in scores), default=0)
        if judged and (judge is None or rank > last.get(c, (False, 0))):
            first = next(iter(judged))
            protocol = next(row.protocol_version for row in scores if row.score.judge == first)
            found[c], last[c] = (judged[first], protocol, by), rank
    return found


def newest_protocol(scores: Sequence[StoredScore]) -> list[StoredScore]:
    """Of each judge's scores those of the protocol that it scored under last: items of two protocols never mix."""
    last = {row.score.judge: row.protocol_version for row in sorted(scores, key=lambda row: row.id)}
    return [row for row in scores if row.protocol_version == last[row.score.judge]]


def unit(scores: Sequence[Score], protocol: str, *, is_rule: bool, fit: bool) -> Unit:
    """What counts of an explanation, from the scores of one judge under one `protocol`."""
    detection = {s.negative_set: s for s in scores if s.metric == AUROC and (s.view, s.split) == _COUNTED}
    random = detection.get(N0) or detection.get(SAME_TEXTS)
    strongest = next((c for c in random.controls if c.kind == STRONGEST), None) if random is not None else None
    return Unit(
        verdict=verdict(scores, enough=True, is_rule=is_rule, judge_fit=fit),
        lift=None if strongest is None else strongest.lift,
        lift_lo=None if strongest is None else strongest.lift_lo,
        p=None if random is None else random.p,
        protocol=protocol,
    )


def _distribution(lifts: Sequence[tuple[float, float]]) -> Distribution | None:
    if not lifts:
        return None
    values, lower = (np.array(column) for column in zip(*lifts, strict=True))
    counts, _ = np.histogram(np.clip(values, -1, 1), bins=np.array(_EDGES))
    return Distribution(
        n=len(values),
        quantiles=dict(zip(QUANTILES, np.quantile(values, QUANTILES).tolist(), strict=True)),
        edges=_EDGES,
        counts=tuple(counts.tolist()),
        positive=int((values > 0).sum()),
        surely_positive=int((lower > 0).sum()),
    )
