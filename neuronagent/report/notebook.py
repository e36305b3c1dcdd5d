"""A neuron's page as a fragment for notebooks: what an expression shows in Jupyter, VS Code, Colab and nbviewer.

It is no frame: those are taken out of notebooks that are not trusted, and their height would need a script. It is plain
HTML with one style sheet that cannot reach beyond it (`templates/notebook.css`). Hosts that take out the style sheet or
the drawing leave a text with tables; tokens have their colours on themselves, since some hosts keep only those. Where
even these go, the marked token still stands between ⟦ and ⟧. There is no script, and nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from neuronagent import wording
from neuronagent.report import visible
from neuronagent.report.citation import cite
from neuronagent.report.content import ControlRow, NeuronContent, PageCombination, PageExample
from neuronagent.report.environment import render
from neuronagent.report.filters import digits
from neuronagent.report.plane import plane

_DOTS = 400
_EXAMPLES = 3
_BEFORE, _AFTER = 14, 6
"""Tokens shown on either side of the marked one."""
_LEVELS, _STRONGEST = 5, 0.5
"""Shades of a token, and the opacity of the last one: text has a contrast of 4.5 on it in light and in dark hosts."""
_WRITES = {1: "240,138,36", -1: "74,144,226"}
_LONG = 40


def notebook(content: NeuronContent) -> str:
    """The fragment: the neuron in words and in the plane, its four combinations with up to three examples each."""
    return render(
        "notebook.html",
        content=content,
        pairs=wording.PAIRS,
        cite=cite(f"Neuron {content['neuron']}", content["provenance"]),
        plane=plane(content, _DOTS),
        columns=[_column(own) for own in content["combinations"]],
    )


def notebook_index(title: str, kind: str, rows: Mapping[str, Any], classes: Mapping[str, int]) -> str:
    """What an index shows of itself: rows of what it says, None left out, and how many neurons each IO class has."""
    return render("notebook_index.html", title=title, kind=kind, rows=rows, classes=classes)


def _column(own: PageCombination) -> dict[str, Any]:
    largest = max((abs(example["value"]) for example in own["examples"]), default=0.0)
    return {
        "own": own,
        "control": _strongest(own["explanation"]["controls"]) if own["explanation"] else None,
        "examples": [(e["value"], _text(e, largest), _place(e)) for e in own["examples"][:_EXAMPLES]],
    }


def _strongest(controls: Sequence[ControlRow]) -> ControlRow | None:
    """The control over which the lift is least."""
    known = [(control["lift"], control) for control in controls if control["lift"] is not None]
    if not known:
        return None
    found = min(known, key=lambda pair: pair[0])[1]
    return {**found, "name": found["name"].removeprefix("strongest: ")}


def _place(example: PageExample) -> str:
    """The split, and how many copies are not shown."""
    split = f" {example['split']}" if example["split"] else ""
    return split + (f" ×{example['copies'] + 1}" if example["copies"] else "")


def _text(example: PageExample, largest: float) -> Markup:
    """The tokens round the marked one; those that write much have the colour of what they write."""
    marked, tokens = example["marked"], example["tokens"]
    first, last = max(0, marked - _BEFORE), marked + 1 + _AFTER
    before = [_token(example, place, largest) for place in range(first, marked)]
    after = [_token(example, place, largest) for place in range(marked + 1, min(last, len(tokens)))]
    values = example["values"][marked]
    peak = Markup('<b style="background-color:{}" title="{}">⟦{}⟧</b>').format(
        _colour(example["value"], largest), _said(values), visible.token(tokens[marked], _LONG)
    )
    more = "…" if first or example["before"] else ""
    rest = "…" if last < len(tokens) or example["after"] else ""
    return Markup("{}{}{}{}{}").format(more, Markup("").join(before), peak, Markup("").join(after), rest)


def _token(example: PageExample, place: int, largest: float) -> Markup:
    shown, values = visible.token(example["tokens"][place], _LONG), example["values"][place]
    if values is None or not _level(values[3], largest):
        return shown
    colour = _colour(values[3], largest)
    return Markup('<span style="background-color:{}" title="{}">{}</span>').format(colour, _said(values), shown)


def _level(post: float, largest: float) -> int:
    return min(_LEVELS, round(_LEVELS * abs(post) / largest)) if largest else 0


def _colour(post: float, largest: float) -> str:
    return f"rgba({_WRITES[1 if post >= 0 else -1]},{_STRONGEST * _level(post, largest) / _LEVELS:g})"


def _said(values: tuple[float, float, float, float] | None) -> str:
    """The four numbers of a token; nothing where the model was not run on it."""
    if values is None:
        return "the model was not run here"
    names = zip(("gate", "in", "act", "post"), values, strict=True)
    return ", ".join(f"{name} {digits(value)}" for name, value in names)
