"""How an optimiser learns, averaged by target and by source (the paper's Figure 2, c and d), and what it leaves to the
exact minimum: held-out errors of both, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.report.figures.axes import NORMAL, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import FAMILIES, Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.figures.predict_style import by_depth, few_ticks
from neuronagent.report.predictability_content import Curve, OptimiserRow, PredictabilityContent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 6
_MOST_ROWS = 40
_FLOOR = 1e-3
"""Of shares of the variance: the axis never goes further down."""


def draw_curves(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """Two panels: a line per target, and a line per source."""
    figure = new_figure(3.7, looks)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, curves, said in (
        (left, content["curves"]["by_target"], "to this layer, from any"),
        (right, content["curves"]["by_source"], "from this layer, to any"),
    ):
        quiet(axes, looks)
        axes.set_title(said, loc="left", fontsize=NORMAL, color=looks.ink)
        axes.set_xlabel("step")
        _lines(axes, curves, looks)
    left.set_ylabel("mean squared error")
    if left.get_yscale() == "log":
        few_ticks(left.yaxis, left.get_ylim(), 6)
    named = {str(line.get_label()): line for axes in (left, right) for line in axes.lines}
    legend_below(figure, [line for name, line in named.items() if not name.startswith("_")], looks, columns=6)
    titled(figure, title, looks)
    return figure


def _lines(axes: Axes, curves: Sequence[Curve], looks: Looks) -> None:
    from matplotlib.ticker import MaxNLocator

    colours = by_depth([one["layer"] for one in curves])
    named = {int(place) for place in np.linspace(0, max(0, len(curves) - 1), _NAMED)}
    for place, one in enumerate(curves):
        axes.plot(one["steps"], one["mse"], color=colours[one["layer"]], linewidth=1.4,
                  marker="o" if len(one["steps"]) < 3 else None,
                  label=f"layer {one['layer']}" if place in named else "_")  # fmt: skip
    if any(value > 0 for one in curves for value in one["mse"]):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def draw_optimisers(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """A row per pair, those with the largest ratios if there are many: both errors as a share of the variance."""
    found = content["optimisers"]
    known = [row for row in found["rows"] if row["mean"] > 0]
    rows = sorted(known, key=lambda row: -row["adagrad"] / max(row["exact"], 1e-30))[:_MOST_ROWS]
    rows = sorted(rows, key=lambda row: (row["target"], row["source"]), reverse=True)
    figure = new_figure(1.3 + 0.2 * max(3, len(rows)), looks)
    axes = figure.subplots()
    quiet(axes, looks, grid="x")
    shares = np.array([[row["exact"] / row["mean"], row["adagrad"] / row["mean"]] for row in rows]).reshape(-1, 2)
    low = _lowest(rows, shares)
    far = shares[:, 0] < low
    shares = np.maximum(shares, low)
    places = np.arange(len(rows))
    axes.hlines(places, shares[:, 0], shares[:, 1], colors=looks.soft, linewidth=1.2)
    handles = [
        *axes.plot(
            shares[~far, 0], places[~far], linestyle="none", marker="o", color=FAMILIES[1], label="least squares"
        ),
        *axes.plot(
            shares[far, 0],
            places[far],
            linestyle="none",
            marker="<",
            color=FAMILIES[1],
            label="least squares, further left",
        ),
        *axes.plot(shares[:, 1], places, linestyle="none", marker="s", color=FAMILIES[0], label="Adagrad"),
    ]
    axes.axvline(1, color=looks.soft, linewidth=0.9, dashes=(4, 3))
    axes.set_xscale("log")
    axes.set_yticks(places, [f"{row['source']} → {row['target']}" for row in rows])
    axes.set_ylim(-0.8, len(rows) - 0.2)
    axes.set_xlabel(f"mean squared error on {found['split'] or 'held-out'} tokens, as a share of the variance")
    if rows:
        few_ticks(axes.xaxis, axes.get_xlim(), 6)
    legend_below(figure, [one for one in handles if np.size(one.get_xdata())], looks, columns=3)
    titled(figure, title, looks)
    return figure


def _lowest(rows: Sequence[OptimiserRow], shares: NDArray[np.float64]) -> float:
    """Where the axis ends: so that pairs of different layers are not squeezed by layers foretold from themselves."""
    others = [own for row, own in zip(rows, shares[:, 0], strict=True) if row["source"] != row["target"]]
    return max(_FLOOR, 0.7 * min(others)) if others else _FLOOR
