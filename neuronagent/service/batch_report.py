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
from neuronagent.explain.items import N0, SAME_TEXTS
from neuronagent.explain.prompts import judge_prompt_version
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.verdict import Verdict, by_judge, verdict
from neuronagent.service.scoring import CHOSEN
from neuronagent.store.explanations import StoredScore
from neuronagent.store.reader import IndexReader

LEVEL = 0.05
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_COUNTED = (View.CAUSAL.value, Split.TEST)
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
class _Unit:
    """What counts of one explanation."""

    verdict: Verdict
    lift: float | None
    lift_lo: float | None
    p: float | None
    protocol: str


def report(
    reader: IndexReader, neurons: Iterable[NeuronId], *, source: str = "rule", judge: str | None = None
) -> BatchReport:
    """What the index holds of `neurons` by explanations of `source`, current ones that are scored.

    An explanation that several judges scored counts by the first of them. With `judge` the explanation counts that a
    campaign of this judge chose last, whatever its source: it may have kept the rule; without any, the one that it
    scored last. Scores of one protocol count, the newest.
    """
    units: list[_Unit] = []
    unclear: list[Pair] = []
    wanted = list(dict.fromkeys(neurons))
    explained = 0
    fit = judge is None or reader.judges_fit(judge_prompt_version()).get(judge, True)
    for neuron in wanted:
        scores = _scores(reader, neuron, source, judge)
        explained += bool(scores)
        units += [_unit(own, protocol, by, fit) for own, protocol, by in scores.values()]
        pairs = cross_combination.not_told_apart({c: own for c, (own, _, _) in scores.items()})
        unclear += [(neuron, a, b) for a, b in pairs]
    verdicts = Counter(unit.verdict for unit in units)
    verdicts[Verdict.NOT_ENOUGH] += explained * len(COMBINATIONS) - len(units)
    p_values = [unit.p for unit in units if unit.p is not None]
    adjusted = statistics.benjamini_hochberg(p_values) if p_values else np.zeros(0)
    return BatchReport(
        neurons=len(wanted),
        unexplained=len(wanted) - explained,
        units=len(units),
        verdicts={found: verdicts[found] for found in Verdict if verdicts[found]},
        lift=_distribution([(u.lift, u.lift_lo) for u in units if u.lift is not None and u.lift_lo is not None]),
        tested=len(p_values),
        discoveries=int((adjusted <= LEVEL).sum()),
        not_told_apart=tuple(unclear),
        protocols=Counter(unit.protocol for unit in units),
    )


def _scores(
    reader: IndexReader, neuron: NeuronId, source: str, judge: str | None
) -> dict[SignCombination, tuple[Sequence[Score], str, str]]:
    """By combination, the scores that count, their protocol and who wrote what was scored."""
    found: dict[SignCombination, tuple[Sequence[Score], str, str]] = {}
    last: dict[SignCombination, tuple[bool, int]] = {}
    for stored in reader.explanations(neuron):
        c, by = stored.explanation.combination, stored.explanation.source
        scores = reader.scores(stored.id)
        if judge is not None:
            scores = [row for row in scores if row.score.judge == judge]
        elif by != source:
            continue
        scores = newest_protocol(scores)
        judged = by_judge([row.score for row in scores])
        rank = any(row.score.metric == CHOSEN for row in scores), max((row.id for row in scores), default=0)
        if judged and (judge is None or rank > last.get(c, (False, 0))):
            found[c], last[c] = (next(iter(judged.values())), scores[0].protocol_version, by), rank
    return found


def newest_protocol(scores: Sequence[StoredScore]) -> list[StoredScore]:
    """Of each judge's scores those of the protocol that it scored under last: items of two protocols never mix."""
    last = {row.score.judge: row.protocol_version for row in sorted(scores, key=lambda row: row.id)}
    return [row for row in scores if row.protocol_version == last[row.score.judge]]


def _unit(scores: Sequence[Score], protocol: str, source: str, fit: bool) -> _Unit:
    detection = {s.negative_set: s for s in scores if s.metric == AUROC and (s.view, s.split) == _COUNTED}
    random = detection.get(N0) or detection.get(SAME_TEXTS)
    strongest = next((c for c in random.controls if c.kind == STRONGEST), None) if random is not None else None
    return _Unit(
        verdict=verdict(scores, enough=True, is_rule=source == "rule", judge_fit=fit),
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
