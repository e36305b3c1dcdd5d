"""Box plots of the three cosines by layer, as the IO-functionality paper's Figure 4 has them, beside chance.

A box holds the middle half of a layer's neurons and its line the median; the whisker holds the middle 95 %, as the
grey band does for mismatched pairs of vectors, so that the two can be compared; dots are the extremes. Of cos(gate,in)
and cos(gate,out) absolute values are drawn, since their sign is a convention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.report.figures.axes import cosine_ticks, layer_axis, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import Looks
from neuronagent.report.figures.points import Points
from neuronagent.report.model_content import COSINES, Box, ModelContent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(content: ModelContent, points: Points, looks: Looks, title: str | None = None) -> Figure:
    """A panel per cosine, one above the other over the same layers."""
    figure = new_figure(6.6, looks)
    rows = content["layers"]
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 1.7))
    for axes, (name, label) in zip(panels, COSINES.items(), strict=True):
        quiet(axes, looks, grid="y")
        absolute = label.startswith("|")
        cosine_ticks(axes.yaxis, 0.0 if absolute else -1.0)
        axes.set_ylim(0 if absolute else -1, 1)
        axes.set_ylabel(label)
        places = layer_axis(axes, [row["layer"] for row in rows], label=axes is panels[-1])
        for edge in (content["threshold"],) if absolute else (-content["threshold"], content["threshold"]):
            axes.axhline(edge, color=looks.soft, linewidth=0.9, dashes=(4, 3))
        found = [(place, box) for place, row in zip(places, rows, strict=True) if (box := row["cosines"][name])]
        if found:
            _draw_boxes(axes, found, looks)
        else:
            axes.text(0.5, 0.5, "no numbers", transform=axes.transAxes, ha="center", va="center", color=looks.soft)
    legend_below(figure, _legend(looks), looks, columns=5)
    titled(figure, title, looks)
    return figure


def _draw_boxes(axes: Axes, found: list[tuple[int, Box]], looks: Looks) -> None:
    """Few collections instead of an element per line: a page with 100 layers stays small."""
    at = np.array([place for place, _ in found], dtype=np.float64)

    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([box[name] for _, box in found], dtype=np.float64)  # pyright: ignore[reportGeneralTypeIssues]

    chance = column("chance")
    for place, (lo, hi) in zip(at, chance, strict=True):
        axes.fill_between([place - 0.5, place + 0.5], lo, hi, color=looks.soft, alpha=0.28, linewidth=0)
    axes.vlines(at, column("lo"), column("hi"), colors=looks.ink, linewidth=0.9)
    q1, q3 = column("q1"), column("q3")
    axes.bar(at, q3 - q1, width=0.62, bottom=q1, color=looks.minus, linewidth=0.7, edgecolor=looks.ink,
             zorder=2.5)  # fmt: skip
    axes.hlines(column("median"), at - 0.31, at + 0.31, colors=looks.ink, linewidth=1.6, zorder=3)
    for name in ("min", "max"):
        axes.plot(at, column(name), linestyle="none", marker=".", markersize=2.6, color=looks.soft, zorder=2,
                  clip_on=False)  # fmt: skip


def _legend(looks: Looks) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=looks.minus, edgecolor=looks.ink, linewidth=0.7, label="middle half, median"),
        Line2D([], [], color=looks.ink, linewidth=0.9, label="middle 95 %"),
        Line2D([], [], color=looks.soft, marker=".", markersize=4, linestyle="none", label="extremes"),
        Patch(facecolor=looks.soft, alpha=0.28, label="95 % of mismatched pairs"),
        Line2D([], [], color=looks.soft, linewidth=0.9, dashes=(4, 3), label="edge of the classes"),
    ]
