"""Functional neurons under the lens: how predictable those that a property selects are (the paper's Figure 5, a to c),
and background neurons (Figures 5 d and 8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuronagent.predictability.functional import EASY, HARD, PANELS, TOTAL_VARIANCE, Against, FunctionalLayer
from neuronagent.report.figures.axes import NORMAL, layer_axis, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import FAMILIES, Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.figures.predict_style import MARKERS, plain
from neuronagent.report.predictability_content import PredictabilityContent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = {"a": "a: n-grams", "b": "b: difficulty", "c": "c: position"}
_WORDS = {HARD: "hard tokens", EASY: "easy tokens"}

_Pick = Callable[[FunctionalLayer, str], Against | None]


def draw_families(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """A column per panel of Figure 5; above with L2, below with R². The grey band is the random baseline."""
    layers = content["functional"]["layers"]
    figure = new_figure(5.6, looks)
    grid = figure.subplots(2, len(_PANELS), sharex=True)
    for column, (panel, said) in enumerate(_PANELS.items()):
        families = [family for family, own in PANELS.items() if own == panel]
        for row, pick in enumerate((_l2, _r2)):
            axes: Axes = grid[row][column]
            quiet(axes, looks)
            _families(axes, layers, families, pick, looks)
            axes.yaxis.set_major_formatter(plain)
        grid[0][column].set_title(said, loc="left", fontsize=NORMAL, color=looks.ink)
        grid[0][column].set_xlabel("")
        grid[1][column].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=7,
                               labelcolor=looks.ink, ncols=2, columnspacing=1)  # fmt: skip
    grid[0][0].set_ylabel("mean L2")
    grid[1][0].set_ylabel("mean R²")
    titled(figure, title, looks)
    return figure


def _l2(layer: FunctionalLayer, family: str) -> Against | None:
    found = layer["families"].get(TOTAL_VARIANCE, {}).get(family)
    return None if found is None else found["l2"]


def _r2(layer: FunctionalLayer, family: str) -> Against | None:
    found = layer["families"].get(TOTAL_VARIANCE, {}).get(family)
    return None if found is None else found["r2"]


def _families(
    axes: Axes, layers: Sequence[FunctionalLayer], families: Sequence[str], pick: _Pick, looks: Looks
) -> None:
    places = np.array(layer_axis(axes, [one["layer"] for one in layers]), float)
    low, high = np.full(len(layers), np.nan), np.full(len(layers), np.nan)
    for number, family in enumerate(families):
        found = [pick(one, family) for one in layers]
        x = places + (number - (len(families) - 1) / 2) * 0.12
        colour = FAMILIES[number]
        axes.plot(x, [_or_nan(one and one["score"]) for one in found], color=colour, marker=MARKERS[number],
                  markersize=4, linewidth=1.1, label=_WORDS.get(family, family), zorder=3)  # fmt: skip
        same = [one["score"] if one and one["verdict"] == "no different" else None for one in found]
        axes.plot(x, [*map(_or_nan, same)], color=colour, marker=MARKERS[number], markersize=4, linestyle="none",
                  markerfacecolor=looks.paper, zorder=4)  # fmt: skip
        axes.vlines(x, [_or_nan(one and one["lo"]) for one in found], [_or_nan(one and one["hi"]) for one in found],
                    colors=colour, linewidth=1, zorder=3)  # fmt: skip
        low = np.fmin(low, [_or_nan(one and one["random_lo"]) for one in found])
        high = np.fmax(high, [_or_nan(one and one["random_hi"]) for one in found])
    axes.fill_between(places, low, high, color=looks.soft, alpha=0.3, linewidth=0, label="random tokens")
    if len(layers) == 1 and np.isfinite([low, high]).all():
        axes.vlines(places, low, high, colors=looks.soft, linewidth=6, alpha=0.3)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def draw_background(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """Left, the share of background neurons by layer; right, R² of background neurons and of the others."""
    layers = content["functional"]["layers"]
    figure = new_figure(3.9, looks)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    quiet(left, looks, grid="y")
    places = layer_axis(left, [one["layer"] for one in layers])
    shares = [100 * _or_nan(one["background"]["share"]) for one in layers]
    left.bar(places, shares, width=0.7, color=FAMILIES[1], label="by L2, as in the paper")
    by_r2 = [100 * _or_nan(one["background"]["share_r2"]) for one in layers]
    left.plot(places, by_r2, linestyle="none", marker="D", color=FAMILIES[0], markersize=5, label="by R²")
    left.set_ylim(0, 100)
    left.set_ylabel("background neurons, %")
    quiet(right, looks, grid="y")
    _both_sides(right, layers)
    handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    legend_below(figure, handles, looks, columns=2)
    titled(figure, title, looks)
    return figure


def _both_sides(axes: Axes, layers: Sequence[FunctionalLayer]) -> None:
    places = layer_axis(axes, [one["layer"] for one in layers])
    for number, said in enumerate(("background", "others")):
        known = [
            (place + (number - 0.5) * 0.22, one)
            for place, layer in zip(places, layers, strict=True)
            for one in (layer["background"]["inside" if number == 0 else "outside"].get("r2"),)
            if one is not None
        ]
        colour = FAMILIES[number + 2]
        axes.vlines([x for x, _ in known], [s["q1"] for _, s in known], [s["q3"] for _, s in known], colors=colour,
                    linewidth=2)  # fmt: skip
        axes.plot([x for x, _ in known], [s["median"] for _, s in known], linestyle="none", marker=MARKERS[number],
                  color=colour, markersize=5, label=f"R² of {said}: median, middle half")  # fmt: skip
    axes.set_ylabel("R²")
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter(plain)
