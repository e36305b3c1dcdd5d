"""Neurons as dots: R² from the token alone against R² from the layer below, and how L2 goes with a neuron's scale.

A neuron above the diagonal of the first is foretold by the layer below beyond what the token at hand says. In the
second, a neuron on the upper line is not foretold at all (L2 is its standard deviation), on the lower with R² = 0.9: L2
follows the scale along them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuronagent.report.figures.axes import NORMAL, SMALL, WIDTH, new_figure, quiet, titled
from neuronagent.report.figures.looks import DENSITY, Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.figures.predict_style import by_depth, few_ticks, plain
from neuronagent.report.predictability_content import PredictabilityContent
from neuronagent.wording import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOWEST = -0.25
_DPI_DOTS = 1.5


def draw_token(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """A panel per layer, at most four."""
    shown = list(points.token)
    columns = max(2, len(shown))
    side = (WIDTH - 0.5) / max(3, columns)
    figure = new_figure(side + 0.75, looks, width=side * columns + 0.6, squares=True)
    panels = figure.subplots(1, columns, squeeze=False, sharex=True, sharey=True)[0]
    for place, axes in enumerate(panels):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        quiet(axes, looks)
        dots = np.clip(points.token[shown[place]], _LOWEST, 1)
        axes.plot([_LOWEST, 1], [_LOWEST, 1], color=looks.soft, linewidth=0.9, dashes=(4, 3))
        axes.scatter(dots[:, 0], dots[:, 1], s=_size(len(dots)), color=DENSITY, alpha=0.55, linewidths=0,
                     rasterized=True, zorder=2)  # fmt: skip
        axes.set_xlim(_LOWEST - 0.02, 1.02)
        axes.set_ylim(_LOWEST - 0.02, 1.02)
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_title(f"layer {shown[place]}", loc="left", fontsize=NORMAL, color=looks.ink)
        axes.set_xlabel("R² from the token alone")
        if place == 0:
            axes.set_ylabel("R² from the layer below")
    titled(figure, title, looks)
    return figure


def draw_scale(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """L2, and R², against the standard deviation of what a neuron does."""
    figure = new_figure(4.1, looks)
    left, right = figure.subplots(1, 2)
    colours = by_depth(list(points.scale))
    every = np.concatenate(list(points.scale.values())) if points.scale else np.ones((1, 3))
    for axes in (left, right):
        quiet(axes, looks)
        axes.set_xscale("log")
        axes.set_xlabel("standard deviation of post")
    for layer, dots in points.scale.items():
        known = dots[dots[:, 1] > 0]
        look = {"s": _size(len(every)), "color": colours[layer], "alpha": 0.6, "linewidths": 0, "rasterized": True}
        left.scatter(known[:, 0], known[:, 1], zorder=2, label=f"layer {layer}", **look)
        right.scatter(dots[:, 0], np.clip(dots[:, 2], _LOWEST, 1), zorder=2, **look)
    ends = np.array([every[:, 0].min(), every[:, 0].max()])
    for r2, end, shift, side in ((0.0, 1, (-8, 0), "right"), (0.9, 0, (10, -3), "left")):
        line = ends * np.sqrt(1 - r2)
        left.plot(ends, line, color=looks.soft, linewidth=0.9, dashes=(4, 3), zorder=3)
        left.annotate(f"R² = {r2:g}", (ends[end], line[end]), xytext=shift, textcoords="offset points", ha=side,
                      va="center", fontsize=SMALL, color=looks.ink)  # fmt: skip
    left.set_yscale("log")
    few_ticks(left.yaxis, left.get_ylim(), 6)
    for axes in (left, right):
        few_ticks(axes.xaxis, axes.get_xlim(), 6)
    left.set_ylabel("L2")
    right.set_ylabel("R² from the layer below")
    right.yaxis.set_major_formatter(plain)
    _legend(left, colours, looks)
    _say_ranks(left, content, looks)
    titled(figure, title, looks)
    return figure


def _legend(axes: Axes, colours: dict[int, str], looks: Looks) -> None:
    from matplotlib.lines import Line2D

    layers = list(colours)
    few = [layers[place] for place in np.unique(np.linspace(0, len(layers) - 1, 6).astype(int))] if layers else []
    handles = [
        Line2D([], [], linestyle="none", marker="o", markersize=5, color=colours[layer], label=f"layer {layer}")
        for layer in few
    ]
    axes.legend(handles=handles, loc="lower right", frameon=False, fontsize=SMALL, labelcolor=looks.ink,
                handletextpad=0.2)  # fmt: skip


def _say_ranks(axes: Axes, content: PredictabilityContent, looks: Looks) -> None:
    found = [row["rmse_sd"] for row in content["layers"]["rows"] if row["rmse_sd"] is not None]
    if found:
        low, high = min(found), max(found)
        said = signed(low) if len(found) == 1 else f"{signed(low)} to {signed(high)}"
        axes.set_title(f"ρ within layers {said}", loc="left", fontsize=NORMAL, color=looks.ink)


def _size(count: int) -> float:
    return float(np.clip(9_000 / max(1, count), _DPI_DOTS, 9))
