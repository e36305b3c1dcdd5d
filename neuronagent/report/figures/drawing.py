"""All figures of a model's map by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from neuronagent.report.figures import classes, cosines, frequency, medians, roles, scatter
from neuronagent.report.figures.looks import Looks
from neuronagent.report.figures.points import Points
from neuronagent.report.model_content import ModelContent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Draw = Callable[[ModelContent, Points, Looks, str | None], "Figure"]

DRAW: Mapping[str, _Draw] = {
    "classes": classes.draw,
    "cosines": cosines.draw,
    "scatter": scatter.draw,
    "medians": medians.draw,
    "frequency": frequency.draw,
    "roles": roles.draw,
}


def missing(content: ModelContent, name: str) -> str | None:
    """Why the figure `name` cannot be drawn; None where it can."""
    if name == "frequency":
        return content["frequency"]["reason"]
    return content["roles"]["reason"] if name == "roles" else None
