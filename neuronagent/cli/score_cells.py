"""Single scores as text: value, interval, how many items stand behind it, and what was lost on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuronagent.cli import text
from neuronagent.explain.items import N0, N1, N2, N3, SAME_TEXTS
from neuronagent.explain.scorers.base_rate import CORPUS, PRECISION, RECALL
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.scorers.fuzzing import FUZZING
from neuronagent.explain.scorers.generation import BLIND_EDITS, FIRES, GENERATION, GIVEN_EDITS, LANDS
from neuronagent.explain.scorers.output import LIVE_JUDGE, PROMOTED, SUPPRESSED, WEIGHTS_JUDGE
from neuronagent.explain.scorers.simulation import SIMULATION, SIMULATION_RANDOM
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL

RULE = "rule"
DAGGER = "†"
SETS = "sets"
HARDER = {N2: "same token", N3: "close text", SAME_TEXTS: "same text"}
FULL = {N0: "full view", N1: "full, others"}
MARKED, _OVER_LIST = "marked token", "over tokens"
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
    *(*_SIMULATION.values(), *_OUTPUT.values(), *_PAIRS.values(), _OVER_LIST),
)
"""The further scores, in the order in which they are shown."""
View = Mapping[str, Any]


def find(scores: Iterable[View], metric: str, negative_set: str, view: str = "causal") -> View | None:
    """The score of that name."""
    key = (metric, negative_set, view)
    return next((s for s in scores if (s["metric"], s["negative_set"], s["view"]) == key), None)


def stacked(shown: Mapping[str, str]) -> str:
    """One below the other, for a cell."""
    longest = max(map(len, shown), default=0)
    return "\n".join(f"{title:<{longest}} {cell}" for title, cell in shown.items())


def headline(scores: Sequence[View]) -> View | None:
    """Detection against random tokens; where only lists are known, against weak tokens of the same texts."""
    return find(scores, AUROC, N0) or find(scores, AUROC, SAME_TEXTS)


def dagger(own: View) -> str:
    """The mark of scores whose judge failed its check."""
    return DAGGER if own.get("judge_fit") is False else ""


def score_cell(score: View | None, mark: str) -> str:
    """The score with its interval, and below it how many items stand behind it."""
    if score is None or score["value"] is None:
        return "–"
    failed = f", {score['n_failed']} failed" if score["n_failed"] else ""
    return f"{_value(score, mark)}\n{score['n_pos']} : {score['n_neg']}{failed}"


def _value(score: View, mark: str) -> str:
    return f"{text.score(score['value'])}{mark} {text.interval(score['lo'], score['hi'])}"


def compact(score: View | None, mark: str) -> str:
    """A score in one line; nothing where there is none."""
    if score is None or score["value"] is None:
        return ""
    failed = f", {score['n_failed']} failed" if score["n_failed"] else ""
    return f"{_value(score, mark)} {score['n_pos']}:{score['n_neg']}{failed}"


def harder(scores: Sequence[View], mark: str) -> dict[str, str]:
    """Against windows that look alike: the same token, the closest texts, the same texts."""
    first = headline(scores)
    own = {title: find(scores, AUROC, negative) for negative, title in HARDER.items()}
    shown = {title: compact(score, mark) for title, score in own.items() if score is not first}
    return {title: cell for title, cell in shown.items() if cell}


def base_rate(scores: Sequence[View]) -> dict[str, str]:
    """Precision and recall at the corpus's base rate, where balanced sets cannot flatter."""
    shown: dict[str, str] = {}
    for metric in (PRECISION, RECALL):
        own = find(scores, metric, CORPUS)
        if own is not None and own["value"] is not None:
            shown[metric] = f"{text.score(own['value'])} {text.interval(own['lo'], own['hi'])}"
        elif own is not None and own["lo"] is not None:  # limits without an estimate
            shown[metric] = f"{text.score(own['lo'])} to {text.score(own['hi'])}"
    return shown


def control_cell(score: View | None) -> str:
    """The lift over the strongest control, and which one that was."""
    controls = {c["kind"]: c for c in (score or {}).get("controls", ())}
    best = controls.pop(STRONGEST, None)
    if best is None or best["value"] is None:
        return "–"
    kinds = (k for k, c in controls.items() if k != TOKEN_LIST_CONTROL and c["value"] == best["value"])
    kind = next(kinds, "").replace("other combination ", "").replace("_", " ")
    named = text.visible(kind) if kind != "empty" else "empty text"
    return f"{_lift(best)}\n{text.score(best['value'])} {named}"


def _lift(control: View) -> str:
    return f"{text.lift(control['lift'])} [{text.lift(control['lift_lo'])}, {text.lift(control['lift_hi'])}]"


def of_metric(scores: Iterable[View], metric: str) -> View | None:
    """The score of a metric that has only one."""
    return next((s for s in scores if s["metric"] == metric), None)


def _correlation(score: View, mark: str) -> str:
    if score["lo"] >= 0:
        return _value(score, mark)
    return f"{text.lift(score['value'])}{mark} [{text.lift(score['lo'])}, {text.lift(score['hi'])}]"


def _pairs(score: View | None) -> str:
    """A score of pairs, and what a like neuron makes of them."""
    cell = compact(score, "")
    if score is None or not cell:
        return ""
    other = next((c for c in score["controls"] if str(c["kind"]).startswith("other neuron")), None)
    return cell if other is None else f"{cell}, like neuron {text.score(other['value'])}"


def pairs_title(score: View) -> str | None:
    """What a score of pairs is called; None for any other."""
    return _PAIRS.get((str(score["metric"]), str(score["negative_set"])))


def further(own: View, blocks: Sequence[str]) -> dict[str, str]:
    """What else was scored: the blocks that found no room, the other view and the other tasks."""
    scores, mark = own["scores"], dagger(own)
    shown = base_rate(scores) if CORPUS in blocks else {}
    shown |= harder(scores, mark) if SETS in blocks else {}
    for negative, title in FULL.items():
        shown[title] = compact(find(scores, AUROC, negative, "full"), mark)
    shown[MARKED] = compact(of_metric(scores, FUZZING), mark)
    for (metric, judge), title in _OUTPUT.items():  # no judge's doing
        own_scores = [s for s in scores if (s["judge"] == LIVE_JUDGE) == (judge == LIVE_JUDGE)]
        shown[title] = compact(of_metric(own_scores, metric), "")
    for (metric, edits), title in _PAIRS.items():
        shown[title] = _pairs(find(scores, metric, edits))
    for metric, title in _SIMULATION.items():
        score = of_metric(scores, metric)
        shown[title] = "" if score is None or score["value"] is None else _correlation(score, mark)
    controls = (headline(scores) or {}).get("controls", ())
    token_list = next((c for c in controls if c["kind"] == TOKEN_LIST_CONTROL), None)
    if own["explanation"]["source"] != RULE and token_list is not None and token_list["value"] is not None:
        shown[_OVER_LIST] = _lift(token_list)
    return {title: cell for title, cell in shown.items() if cell}
