"""A model's map as one page: the figures of the IO-functionality and GLUScope papers for any model, and their numbers.

Figures are SVG within the page and follow its colours; each says in words what it shows, and has its numbers as tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from neuronagent.report.citation import cite
from neuronagent.report.environment import policy, render, unbroken
from neuronagent.report.figures.drawing import DRAW, missing
from neuronagent.report.figures.inline import svg
from neuronagent.report.figures.looks import PAGE
from neuronagent.report.figures.points import Points
from neuronagent.report.model_content import ModelContent
from neuronagent.report.model_tables import tables
from neuronagent.report.model_words import HOW, TITLES, manipulators, says, totals


def model_page(
    content: ModelContent,
    points: Points,
    files: Mapping[str, Mapping[str, str]] | None = None,
    *,
    home: str | None = None,
    data: str | None = None,
) -> str:
    """The page. `files`: the addresses of each figure as files, by what they are called; `home`: of the overview,
    `data`: of the same numbers as JSON; None where there is none.

    Raises:
        ImportError: matplotlib is missing.
    """
    sections = [
        {
            "name": name,
            "title": TITLES[name],
            "how": unbroken(HOW[name]),
            "missing": reason,
            "says": unbroken(says(content, name)) if reason is None else "",
            "figure": svg(draw(content, points, PAGE, None), name) if reason is None else None,
            "tables": tables(content, name) if reason is None else [],
            "files": (files or {}).get(name, {}),
        }
        for name, draw in DRAW.items()
        for reason in (missing(content, name),)
    ]
    return render(
        "model.html",
        policy=policy(),
        content=content,
        sections=sections,
        classes=totals(content),
        manipulators=_share(content),
        cite=cite("Model map", content["provenance"]),
        home=home,
        data=data,
    )


def _share(content: ModelContent) -> float | None:
    """Input manipulators of the whole model."""
    neurons = content["neurons"]
    return sum(manipulators(row) * row["neurons"] for row in content["layers"]) / neurons if neurons else None
