"""What is said of a neuron and how good that is, as a page shows it: the same scores in the same words as the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuronagent import wording
from neuronagent.report.content import ControlRow, PageExplanation, ScoreRow
from neuronagent.service import saying, score_choice
from neuronagent.service.score_choice import Line

View = Mapping[str, Any]
NOT_EXPLAINED = "Nothing is said of it yet, or it has too few strong tokens: `neuronagent explain {}` looks at them."


def summary(view: View, examples: Mapping[str, str | None]) -> list[str]:
    """The sentences at the head of a page, from `views.explanation_view`. `examples`: by combination the token of the
    strongest example shown, None where there is none; empty without a corpus."""
    if not examples:
        return [saying.WEIGHTS_ALONE]
    combinations: Mapping[str, View] = view["combinations"]
    if any(own["explanation"] for own in combinations.values()):
        return saying.sentences(combinations, view["summary"])
    where = saying.where_it_writes(
        {name: {**own, "strongest": examples[name]} for name, own in combinations.items() if name in examples}
    )
    return [*([where] if where else []), NOT_EXPLAINED.format(view["neuron"])]


def page_explanation(own: View) -> PageExplanation | None:
    """The explanation of one combination of `views.explanation_view`; None where it has none."""
    said = own["explanation"]
    if not said:
        return None
    return {
        "text": str(said["text"]),
        "label": saying.label(own),
        "by": saying.writer(said),
        "judge": None if own["judge"] is None else wording.visible(str(own["judge"])),
        "judge_fit": own["judge_fit"],
        "verdict": str(own["verdict"]),
        "scores": [_score_row(line) for line in score_choice.lines(own["scores"])],
        "controls": _controls(own),
        "others": [
            {
                "text": str(other["explanation"]["text"]),
                "by": saying.writer(other["explanation"]),
                "verdict": str(other["verdict"]),
                "unsealed": bool(other["explanation"]["unsealed"]),
            }
            for other in own["others"]
        ],
        "unsealed": bool(said["unsealed"]),
        "judged_also": saying.judged_also(own),
    }


def _score_row(line: Line) -> ScoreRow:
    score = line.score
    notes = [str(score["reason"])] if score["reason"] else []
    notes += [f"{score['n_failed']} failed"] if score["n_failed"] else []
    like = score_choice.like_neuron(score)
    notes += [f"like neuron {wording.score(like['value'])}"] if like is not None else []
    return {
        "name": line.title,
        "metric": line.kind,
        "value": score["value"],
        "lo": score["lo"],
        "hi": score["hi"],
        "n_pos": score["n_pos"],
        "n_neg": score["n_neg"],
        "chance": line.chance,
        "note": wording.visible("; ".join(notes)),
    }


def _controls(own: View) -> list[ControlRow]:
    """The strongest control first, named with what it is, then each; beside a text also the token list, which does not
    compete for being the strongest."""
    first = score_choice.headline(own["scores"])
    best = score_choice.strongest(first)
    rows = [] if best is None else [_control_row(f"strongest: {best[0]}", best[1])]
    rows += [_control_row(name, control) for name, control in score_choice.competing(first)]
    token_list = score_choice.token_list(own)
    return rows if token_list is None else [*rows, _control_row("token list", token_list)]


def _control_row(name: str, control: View) -> ControlRow:
    return {
        "name": name,
        "value": control["value"],
        "lift": control["lift"],
        "lift_lo": control["lift_lo"],
        "lift_hi": control["lift_hi"],
    }
