"""How often the gate is open against cos(in,out), over all neurons, and Pearson's r in each layer: the analysis of
section 5.1 of the GLUScope paper.

Left, all neurons as a density (the darker, the more; logarithmic), with the median frequency in twenty groups of equal
size. Right, r with its 95 % interval; a layer without one has no mark, and the page says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuronagent.report.figures.axes import NORMAL, SMALL, cosine_ticks, layer_axis, new_figure, quiet, titled
from neuronagent.report.figures.looks import DENSITY, Looks
from neuronagent.report.figures.points import Array, Points
from neuronagent.report.model_content import ModelContent
from neuronagent.wording import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUPS = 20


def draw(content: ModelContent, points: Points, looks: Looks, title: str | None = None) -> Figure:
    """Two panels."""
    figure = new_figure(3.9, looks)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    for axes in (left, right):
        quiet(axes, looks)
    _draw_density(left, points.frequency, looks)
    pooled = content["frequency"]["pooled"]
    said = f"r = {signed(pooled['r'])}" if pooled and pooled["r"] is not None else "no r"
    left.set_title(f"{len(points.frequency):,} neurons, {said}", loc="left", fontsize=NORMAL, color=looks.ink)
    _draw_correlations(right, content, looks)
    titled(figure, title, looks)
    return figure


def _draw_density(axes: Axes, points: Array, looks: Looks) -> None:
    from matplotlib.colors import to_rgb

    axes.set_xlim(-1, 1)
    axes.set_ylim(0, 100)
    cosine_ticks(axes.xaxis)
    axes.set_xlabel("cos(in,out)")
    axes.set_ylabel("gate+: share of tokens, %")
    if not len(points):
        return
    cells = int(np.clip(np.sqrt(len(points)), 24, 120))
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=cells, range=((-1, 1), (0, 1)))
    strength = np.log1p(counts.T) / np.log1p(counts.max())
    image = np.empty((cells, cells, 4))
    image[..., :3] = to_rgb(DENSITY)
    image[..., 3] = np.where(counts.T > 0, 0.18 + 0.82 * strength, 0)
    axes.imshow(image, origin="lower", extent=(-1, 1, 0, 100), aspect="auto", interpolation="nearest", zorder=1.5)
    groups = np.array_split(points[np.argsort(points[:, 0], kind="stable")], min(_GROUPS, len(points)))
    middles = np.array([np.median(group, axis=0) for group in groups])
    axes.plot(middles[:, 0], 100 * middles[:, 1], color=looks.ink, linewidth=1.4, marker="o", markersize=2.8, zorder=3,
              label="median of a twentieth")  # fmt: skip
    axes.legend(loc="upper right", frameon=False, fontsize=SMALL, labelcolor=looks.ink)


def _draw_correlations(axes: Axes, content: ModelContent, looks: Looks) -> None:
    found = content["frequency"]["layers"]
    places = layer_axis(axes, [int(one["layer"] or 0) for one in found])
    axes.axhline(0, color=looks.soft, linewidth=0.9)
    for place, one in zip(places, found, strict=True):
        if one["r"] is None:
            continue
        if one["lo"] is not None and one["hi"] is not None:
            axes.vlines(place, one["lo"], one["hi"], colors=looks.ink, linewidth=1.2)
        axes.plot([place], [one["r"]], marker="o", markersize=4.2, color=DENSITY, markeredgecolor=looks.ink,
                  markeredgewidth=0.8, zorder=3)  # fmt: skip
    axes.set_ylim(-1, 1)
    cosine_ticks(axes.yaxis)
    axes.set_ylabel("Pearson's r with its 95 % interval")
    axes.set_title("by layer", loc="left", fontsize=NORMAL, color=looks.ink)
