"""What a limited context changes (the paper's Figure 6): for each window the difference of L2 and of R² from whole
texts, or from the longest window; a line per pair of layers, coloured by the depth of its target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuronagent.report.figures.axes import NORMAL, SMALL, new_figure, quiet, titled
from neuronagent.report.figures.looks import Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.figures.predict_style import by_depth, plain
from neuronagent.report.predictability_content import PredictabilityContent, Windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 8


def draw(content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None) -> Figure:
    """Two panels."""
    found = content["windows"]
    figure = new_figure(3.9, looks)
    panels = figure.subplots(1, 2)
    windows = sorted({row["window"] for row in found["rows"] if row["window"] is not None})
    lines = differences(found)
    colours = by_depth(sorted({target for _, target in lines}))
    few = len(lines) <= _NAMED
    for place, (axes, name) in enumerate(zip(panels, ("L2", "R²"), strict=True)):
        quiet(axes, looks)
        axes.axhline(0, color=looks.soft, linewidth=0.9)
        for (source, target), values in lines.items():
            known = {window: pair[place] for window, pair in values.items() if pair[place] is not None}
            axes.plot(list(known), list(known.values()), color=colours[target], marker="o", markersize=3,
                      linewidth=1.2, label=f"{source} → {target}" if few else "_")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(windows, [str(window) for window in windows])
        axes.minorticks_off()
        axes.set_xlabel("window of context, tokens")
        base = "whole texts" if found["base"] is None else f"{found['base']} tokens"
        axes.set_title(f"{name}, less that of {base}", loc="left", fontsize=NORMAL, color=looks.ink)
        axes.yaxis.set_major_formatter(plain)
    if few:
        panels[1].legend(loc="best", frameon=False, fontsize=SMALL, labelcolor=looks.ink)
    titled(figure, title, looks)
    return figure


def differences(found: Windows) -> dict[tuple[int, int], dict[int, tuple[float, float | None]]]:
    """By pair and window: L2 and R² less those under `base`."""
    base = {(row["source"], row["target"]): row for row in found["rows"] if row["window"] == found["base"]}
    lines: dict[tuple[int, int], dict[int, tuple[float, float | None]]] = {}
    for row in sorted(found["rows"], key=lambda row: row["window"] or 0):
        pair = row["source"], row["target"]
        if row["window"] is None or pair not in base:
            continue
        r2, other = row["r2"], base[pair]["r2"]
        lines.setdefault(pair, {})[row["window"]] = (
            row["rmse"] - base[pair]["rmse"],
            None if r2 is None or other is None else r2 - other,
        )
    return lines
