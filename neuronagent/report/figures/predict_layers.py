"""R² by layer: from the layer below and from what knows less, and how R² is distributed within each layer.

Above, a mark is the median of a layer's neurons and the line through it their middle half. Below, each column is a
layer: the stronger the colour, the more of its neurons have this R² from the layer below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuronagent.predictability.scores import MEAN, source_layer
from neuronagent.report.figures.axes import NORMAL, layer_axis, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import DENSITY, Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.figures.predict_style import MARKERS, PREDICTORS, plain
from neuronagent.report.predictability_content import R2_EDGES, LayerRow, PredictabilityContent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOWEST = -0.15


def draw(content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None) -> Figure:
    """Two panels, one above the other, over the same layers."""
    rows = content["layers"]["rows"]
    figure = new_figure(5.6, looks)
    above, below = figure.subplots(2, 1, height_ratios=(1.25, 1))
    for axes in (above, below):
        quiet(axes, looks, grid="y")
        axes.yaxis.set_major_formatter(plain)
    handles = _medians(above, rows)
    above.set_ylabel("R² of neurons")
    above.set_title("median and middle half", loc="left", fontsize=NORMAL, color=looks.ink)
    _histograms(below, rows)
    below.set_ylabel("R² from the layer below")
    below.set_title("neurons of each layer", loc="left", fontsize=NORMAL, color=looks.ink)
    legend_below(figure, handles, looks, columns=5)
    titled(figure, title, looks)
    return figure


def _medians(axes: Axes, rows: Sequence[LayerRow]) -> list[object]:
    places = layer_axis(axes, [row["layer"] for row in rows], label=False)
    kinds = [kind for kind in PREDICTORS if kind != MEAN]
    handles: list[object] = []
    for number, kind in enumerate(kinds):
        shift = (number - (len(kinds) - 1) / 2) * 0.17
        found = [
            (place + shift, one["r2"])
            for place, row in zip(places, rows, strict=True)
            for one in row["predictors"]
            if one["r2"] is not None and kind == ("layer" if source_layer(one["predictor"]) is not None
                                                  else one["predictor"])
        ]  # fmt: skip
        if not found:
            continue
        label = "the layer below" if kind == "layer" else f"the {kind} alone"
        axes.vlines([x for x, _ in found], [s["q1"] for _, s in found], [s["q3"] for _, s in found],
                    colors=PREDICTORS[kind], linewidth=2)  # fmt: skip
        handles += axes.plot([x for x, _ in found], [s["median"] for _, s in found], linestyle="none",
                             marker=MARKERS[number], markersize=5, color=PREDICTORS[kind], label=label)  # fmt: skip
    low = min((one["r2"]["q1"] for row in rows for one in row["predictors"] if one["r2"]), default=0.0)
    axes.set_ylim(max(-1.05, min(_LOWEST / 3, low - 0.05)), 1.02)
    return handles


def _histograms(axes: Axes, rows: Sequence[LayerRow]) -> None:
    from matplotlib.colors import to_rgb

    layer_axis(axes, [row["layer"] for row in rows])
    bins = len(R2_EDGES)
    shares = np.zeros((bins, len(rows)))
    for place, row in enumerate(rows):
        if row["histogram"]:
            shares[:, place] = np.array(row["histogram"]) / max(1, sum(row["histogram"]))
    image = np.empty((bins, len(rows), 4))
    image[..., :3] = to_rgb(DENSITY)
    image[..., 3] = np.where(shares > 0, 0.08 + 0.92 * np.sqrt(shares / max(shares.max(), 1e-9)), 0)
    step = R2_EDGES[1] - R2_EDGES[0]
    axes.imshow(image, origin="lower", extent=(-0.5, len(rows) - 0.5, -step, 1), aspect="auto",
                interpolation="nearest", zorder=1.5)  # fmt: skip
    axes.set_xlim(-0.7, len(rows) - 0.3)
    axes.set_yticks([-step / 2, 0.25, 0.5, 0.75, 1], ["< 0", "0.25", "0.5", "0.75", "1"])
    axes.set_ylim(-step, 1.0)
