"""Which scores of an explanation are shown, in which order and under which names: the same on cards and on pages.

First how well it tells strong tokens from random ones and from those of the other combinations (detection in the
causal view), then precision and recall in the corpus, then tokens that look alike, then the other views and tasks. A
score without a value says why, where that is worth a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuronagent import wording
from neuronagent.domain import SignCombination
from neuronagent.explain.items import N0, N1, N2, N3, SAME_TEXTS
from neuronagent.explain.scorers.base_rate import CORPUS, PRECISION, RECALL
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.scorers.fuzzing import FUZZING
from neuronagent.explain.scorers.generation import BLIND_EDITS, FIRES, GENERATION, GIVEN_EDITS, LANDS
from neuronagent.explain.scorers.output import LIVE_JUDGE, PROMOTED, SUPPRESSED, WEIGHTS_JUDGE
from neuronagent.explain.scorers.simulation import SIMULATION, SIMULATION_RANDOM
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL

RULE = "rule"
VS_RANDOM, VS_OTHERS, VS_WEAK = "vs random", "vs the others", "vs weak, same texts"
HARDER = {N2: "same token", N3: "close text", SAME_TEXTS: "same text"}
FULL = {N0: "full view", N1: "full, others"}
MARKED, OVER_LIST = "marked token", "over tokens"
_SIMULATION = {SIMULATION: "simulation r", SIMULATION_RANDOM: "on random"}
_OUTPUT = {
    (PROMOTED, WEIGHTS_JUDGE): "promotes",
    (PROMOTED, LIVE_JUDGE): "promotes, live",
    (SUPPRESSED, WEIGHTS_JUDGE): "suppresses",
    (SUPPRESSED, LIVE_JUDGE): "suppresses, live",
}
_PAIRS = {
    (metric, edits): f"{title}{suffix}"
    for edits, suffix in ((BLIND_EDITS, ""), (GIVEN_EDITS, ", given"))
    for metric, title in ((GENERATION, "pairs right"), (FIRES, "pairs fire"), (LANDS, "pairs land"))
}
ORDER = (
    *(PRECISION, RECALL, *HARDER.values(), *FULL.values(), MARKED),
    *(*_SIMULATION.values(), *_OUTPUT.values(), *_PAIRS.values(), OVER_LIST),
)
"""The further scores, in the order in which they are shown."""
_KINDS = {AUROC: "AUROC", FUZZING: "AUROC", PROMOTED: "AUROC", SUPPRESSED: "AUROC", SIMULATION: "Pearson r",
          SIMULATION_RANDOM: "Pearson r", GENERATION: "share of pairs", FIRES: "share of sentences",
          LANDS: "share of sentences"}  # fmt: skip
_CHANCE = {AUROC: 0.5, FUZZING: 0.5, PROMOTED: 0.5, SUPPRESSED: 0.5, SIMULATION: 0.0, SIMULATION_RANDOM: 0.0,
           GENERATION: 0.5}  # fmt: skip
View = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A score under the name that it is shown by. `kind`: what sort of number it is; `chance`: its value where nothing
    is known, None where that is no one number."""

    title: str
    kind: str
    chance: float | None
    score: View


def find(scores: Iterable[View], metric: str, negative_set: str, view: str = "causal") -> View | None:
    """The score of that name."""
    key = (metric, negative_set, view)
    return next((s for s in scores if (s["metric"], s["negative_set"], s["view"]) == key), None)


def headline(scores: Sequence[View]) -> View | None:
    """Detection against random tokens; where only lists are known, against weak tokens of the same texts."""
    return find(scores, AUROC, N0) or find(scores, AUROC, SAME_TEXTS)


def against(scores: Sequence[View]) -> str:
    """What the headline compares with."""
    return VS_RANDOM if find(scores, AUROC, N0) or not find(scores, AUROC, SAME_TEXTS) else VS_WEAK


def base_rate(scores: Sequence[View]) -> dict[str, View]:
    """Precision and recall at the corpus's base rate, where balanced sets cannot flatter; without a value but with
    limits where no estimate can be made."""
    found = {metric: find(scores, metric, CORPUS) for metric in (PRECISION, RECALL)}
    return {m: s for m, s in found.items() if s is not None and (s["value"] is not None or s["lo"] is not None)}


def harder(scores: Sequence[View]) -> dict[str, View]:
    """Against windows that look alike: the same token, the closest texts, the same texts."""
    first = headline(scores)
    found = {title: find(scores, AUROC, negative) for negative, title in HARDER.items()}
    return {title: score for title, score in found.items() if score is not None and score is not first}


def other_tasks(scores: Sequence[View]) -> dict[str, View]:
    """The full view, marked tokens, simulation, what it promotes, and pairs of sentences."""
    found: dict[str, View | None] = {title: find(scores, AUROC, negative, "full") for negative, title in FULL.items()}
    found[MARKED] = _of_metric(scores, FUZZING)
    for (metric, judge), title in _OUTPUT.items():  # no judge's doing
        live = judge == LIVE_JUDGE
        found[title] = _of_metric([s for s in scores if (s["judge"] == LIVE_JUDGE) == live], metric)
    for (metric, edits), title in _PAIRS.items():
        found[title] = find(scores, metric, edits)
    for metric, title in _SIMULATION.items():
        found[title] = _of_metric(scores, metric)
    return {title: score for title, score in found.items() if score is not None}


def lines(scores: Sequence[View]) -> Iterator[Line]:
    """All that is shown of the scores of one explanation, in order, with those that only have a reason."""
    shown: dict[str, View | None] = {against(scores): headline(scores), VS_OTHERS: find(scores, AUROC, N1)}
    further: dict[str, View] = {**base_rate(scores), **harder(scores), **other_tasks(scores)}
    shown |= {title: further[title] for title in ORDER if title in further}
    for title, score in shown.items():
        if score is not None and (score["value"] is not None or score["lo"] is not None or _worth_a_reason(score)):
            metric = str(score["metric"])
            yield Line(title=title, kind=_KINDS.get(metric, metric), chance=_CHANCE.get(metric), score=score)


def _worth_a_reason(score: View) -> bool:
    in_row = score["metric"] == AUROC and score["view"] == "causal" and score["negative_set"] in (N0, N1)
    return score["reason"] is not None and (in_row or missing_title(score) is not None)


def missing_title(score: View) -> str | None:
    """What a further score is called where it is said to be missing; None for one that nobody misses."""
    if score["metric"] == AUROC:
        return (FULL if score["view"] == "full" else HARDER).get(str(score["negative_set"]))
    return {FUZZING: MARKED, SIMULATION: "simulation"}.get(str(score["metric"])) or _pairs_title(score)


def is_simulation(score: View) -> bool:
    """Whether it is a correlation, between −1 and 1."""
    return score["metric"] in _SIMULATION


def is_output(score: View) -> bool:
    """Whether it is about what the neuron writes, which no judge reads."""
    return score["metric"] in (PROMOTED, SUPPRESSED)


def is_pairs(score: View) -> bool:
    """Whether it is a share of pairs of sentences."""
    return _pairs_title(score) is not None


def like_neuron(score: View) -> View | None:
    """What a like neuron makes of the same pairs of sentences: the control of a score of pairs; None of any other."""
    if not is_pairs(score):
        return None
    return next((c for c in score["controls"] if str(c["kind"]).startswith("other neuron")), None)


def strongest(score: View | None) -> tuple[str, View] | None:
    """The strongest control and its name; None where no control has a value."""
    best = next((c for c in (score or {}).get("controls", ()) if c["kind"] == STRONGEST), None)
    if best is None or best["value"] is None:
        return None
    return next((name for name, control in competing(score) if control["value"] == best["value"]), ""), best


def competing(score: View | None) -> list[tuple[str, View]]:
    """The controls of which one is the strongest, by name."""
    apart = (STRONGEST, TOKEN_LIST_CONTROL)
    return [(control_name(str(c["kind"])), c) for c in (score or {}).get("controls", ()) if c["kind"] not in apart]


def token_list(own: View) -> View | None:
    """The control that knows only the list of tokens: said beside texts, since a rule is partly that list itself."""
    controls = (headline(own["scores"]) or {}).get("controls", ())
    found = next((c for c in controls if c["kind"] == TOKEN_LIST_CONTROL), None)
    return None if own["explanation"]["source"] == RULE or found is None or found["value"] is None else found


def control_name(kind: str) -> str:
    """`empty text`, `gate+ in−` for the explanation of another combination, `other neuron 3.4`."""
    if kind == "empty":
        return "empty text"
    other = kind.removeprefix("other combination ")
    if other in {c.value for c in SignCombination}:
        return wording.combination(other)
    return wording.visible(other)


def _of_metric(scores: Iterable[View], metric: str) -> View | None:
    """The score of a metric that has only one."""
    return next((s for s in scores if s["metric"] == metric), None)


def _pairs_title(score: View) -> str | None:
    return _PAIRS.get((str(score["metric"]), str(score["negative_set"])))
