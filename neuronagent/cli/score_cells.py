"""Single scores as text: value, interval, how many items stand behind it, and what was lost on the way.

Which scores these are, and what they are called, is `service.score_choice`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuronagent.cli import text
from neuronagent.explain.scorers.base_rate import CORPUS
from neuronagent.service import score_choice
from neuronagent.service.score_choice import OVER_LIST, like_neuron

DAGGER = "†"
SETS = "sets"
View = Mapping[str, Any]


def stacked(shown: Mapping[str, str]) -> str:
    """One below the other, for a cell."""
    longest = max(map(len, shown), default=0)
    return "\n".join(f"{title:<{longest}} {cell}" for title, cell in shown.items())


def dagger(own: View) -> str:
    """The mark of scores whose judge failed its check."""
    return DAGGER if own.get("judge_fit") is False else ""


def score_cell(score: View | None, mark: str) -> str:
    """The score with its interval, and below it how many items stand behind it."""
    if score is None or score["value"] is None:
        return "–"
    return f"{_value(score, mark)}\n{score['n_pos']} : {score['n_neg']}{_failed(score)}"


def _value(score: View, mark: str) -> str:
    return f"{text.score(score['value'])}{mark} {text.interval(score['lo'], score['hi'])}"


def _failed(score: View) -> str:
    return f", {score['n_failed']} failed" if score["n_failed"] else ""


def compact(score: View, mark: str) -> str:
    """A score in one line; nothing where it has no value."""
    if score["value"] is None:
        return ""
    return f"{_value(score, mark)} {score['n_pos']}:{score['n_neg']}{_failed(score)}"


def harder(scores: Sequence[View], mark: str) -> dict[str, str]:
    """Against windows that look alike."""
    shown = {title: compact(score, mark) for title, score in score_choice.harder(scores).items()}
    return {title: cell for title, cell in shown.items() if cell}


def base_rate(scores: Sequence[View]) -> dict[str, str]:
    """Precision and recall at the corpus's base rate, or the limits between which they are."""
    return {
        metric: f"{text.score(s['lo'])} to {text.score(s['hi'])}"
        if s["value"] is None
        else f"{text.score(s['value'])} {text.interval(s['lo'], s['hi'])}"
        for metric, s in score_choice.base_rate(scores).items()
    }


def control_cell(score: View | None) -> str:
    """The lift over the strongest control, and which one that was."""
    found = score_choice.strongest(score)
    if found is None:
        return "–"
    kind, best = found
    return f"{_lift(best)}\n{text.score(best['value'])} {kind}"


def _lift(control: View) -> str:
    return f"{text.lift(control['lift'])} [{text.lift(control['lift_lo'])}, {text.lift(control['lift_hi'])}]"


def _correlation(score: View, mark: str) -> str:
    if score["value"] is None:
        return ""
    if score["lo"] >= 0:
        return _value(score, mark)
    return f"{text.lift(score['value'])}{mark} [{text.lift(score['lo'])}, {text.lift(score['hi'])}]"


def _pairs(score: View) -> str:
    """A score of pairs, and what a like neuron makes of them."""
    cell, other = compact(score, ""), like_neuron(score)
    return f"{cell}, like neuron {text.score(other['value'])}" if cell and other is not None else cell


def _further_cell(score: View, mark: str) -> str:
    if score_choice.is_simulation(score):
        return _correlation(score, mark)
    if score_choice.is_pairs(score):
        return _pairs(score)
    return compact(score, "" if score_choice.is_output(score) else mark)


def further(own: View, blocks: Sequence[str]) -> dict[str, str]:
    """What else was scored: the blocks that found no room, the other view and the other tasks."""
    scores, mark = own["scores"], dagger(own)
    shown = base_rate(scores) if CORPUS in blocks else {}
    shown |= harder(scores, mark) if SETS in blocks else {}
    shown |= {title: _further_cell(score, mark) for title, score in score_choice.other_tasks(scores).items()}
    token_list = score_choice.token_list(own)
    if token_list is not None:
        shown[OVER_LIST] = _lift(token_list)
    return {title: cell for title, cell in shown.items() if cell}
