"""Which IO classes and roles background neurons, and those sensitive to a property, are of: counts and odds ratios over
layers, coloured where they stand out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neuronagent.predictability.functional import ContingencyCell
from neuronagent.report.figures.axes import SMALL, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import TINT, Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.predictability_content import PredictabilityContent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FULL = 2.0
"""log₂ of the odds ratio at which a tint is full: 4 times, or a quarter."""
LEVEL = 0.05
_WIDE = 9
"""So many columns leave room for their titles at the usual size."""


def draw(content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None) -> Figure:
    """A row per group of neurons, a column per IO class and role; colour: the odds ratio, where it stands out."""
    from matplotlib.patches import Patch, Rectangle

    summary = content["functional"]["summary"]
    cells = summary["contingency"] if summary is not None else []
    groups = list(dict.fromkeys(cell["group"] for cell in cells))
    others = list(dict.fromkeys((cell["kind"], cell["other"]) for cell in cells))
    figure = new_figure(1.9 + 0.42 * max(2, len(groups)), looks)
    axes = figure.subplots()
    quiet(axes, looks, grid="none")
    for cell in cells:
        x, y = others.index((cell["kind"], cell["other"])), groups.index(cell["group"])
        colour, alpha = tint(cell, looks)
        axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, alpha=alpha, linewidth=0))
        axes.text(x, y - 0.02, f"{cell['count']:,}", ha="center", va="bottom", fontsize=SMALL, color=looks.ink)
        axes.text(x, y + 0.06, odds(cell), ha="center", va="top", fontsize=7, color=looks.ink)
    axes.set_xlim(-0.5, len(others) - 0.5)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xticks(range(len(others)), [other.replace(" ", "\n") for _, other in others])
    axes.set_yticks(range(len(groups)), groups)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=SMALL if len(others) <= _WIDE else 6.5)
    axes.spines[:].set_visible(False)
    scale = ((0.25, "odds a quarter or less"), (0.5, "half"), (2.0, "double"), (4.0, "4 times or more"))
    handles = [
        Patch(
            facecolor=looks.plus if ratio > 1 else looks.minus, alpha=TINT * abs(math.log2(ratio)) / _FULL, label=said
        )
        for ratio, said in scale
    ]
    legend_below(figure, handles, looks, columns=4)
    titled(figure, title, looks)
    return figure


def odds(cell: ContingencyCell) -> str:
    value = cell["odds"]
    return "–" if value is None else "×0" if value == 0 else f"×{value:.0f}" if value >= 9.95 else f"×{value:.2g}"


def tint(cell: ContingencyCell, looks: Looks) -> tuple[str, float]:
    """Colour and alpha of a cell; none where the odds may well be those of chance."""
    ratio, q = cell["odds"], cell["q"]
    if ratio is None or q is None or q >= LEVEL:
        return looks.plus, 0.0
    strength = min(1.0, abs(math.log2(ratio)) / _FULL) if ratio > 0 else 1.0
    return looks.plus if ratio > 1 else looks.minus, TINT * strength
