"""Neuron predictability as one page: the tables and figures of the NPL paper for one model, what holds of its findings,
and what it did not measure.

Figures are SVG within the page and follow its colours; each says in words what it shows, and has its numbers as tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from neuronagent.report.citation import cite
from neuronagent.report.environment import policy, render, unbroken
from neuronagent.report.figures.inline import svg
from neuronagent.report.figures.looks import PAGE
from neuronagent.report.figures.predict_drawing import DRAW, drawable
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.predictability_content import SECTIONS, PredictabilityContent
from neuronagent.report.predictability_says import lead, says
from neuronagent.report.predictability_tables import fits, tables
from neuronagent.report.predictability_words import COMMANDS, HOW, TITLES, missing

_TONES = {"holds": "good", "does not hold": "bad", "not clear": "doubt"}
_PLURAL = {"holds": "hold", "does not hold": "do not hold", "not clear": "not clear"}


def predictability_page(
    content: PredictabilityContent,
    points: PredictionPoints,
    files: Mapping[str, Mapping[str, str]] | None = None,
    *,
    home: str | None = None,
    data: str | None = None,
    markdown: str | None = None,
) -> str:
    """The page. `files`: the addresses of each figure as files, by what they are called; `home`: of the overview,
    `data` and `markdown`: of the same numbers; None where there is none.

    Raises:
        ImportError: matplotlib is missing.
    """
    sections = [
        {
            "name": name,
            "title": TITLES[name],
            "how": unbroken(HOW[name]),
            "missing": reason,
            "command": COMMANDS[name],
            "says": unbroken(says(content, name)) if reason is None else "",
            "figure": svg(DRAW[name](content, points, PAGE, None), name) if drawable(content, name) else None,
            "tables": tables(content, name) if reason is None else [],
            "files": (files or {}).get(name, {}),
        }
        for name in SECTIONS
        for reason in (missing(content, name),)
    ]
    return render(
        "predictability.html",
        policy=policy(),
        content=content,
        sections=sections,
        lead=unbroken(lead(content)),
        fits=fits(content),
        warnings=[f"{one['name']}: {warning}" for one in content["fits"] for warning in one["warnings"]],
        tones=_TONES,
        plural=_PLURAL,
        cite=cite("Neuron predictability", content["provenance"]),
        home=home,
        data=data,
        markdown=markdown,
    )
