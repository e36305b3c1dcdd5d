"""The neurons of some layers, each a dot at (cos(gate,out), cos(in,out)), coloured by cos(gate,in): Figure 5 of the
IO-functionality paper.

Regions of the six classes are tinted in their colours, with edges at ±τ. A neuron whose gate and in are at right angles
lies within the unit disk. Dots are one image per panel, however many neurons there are; those of largest
|cos(gate,in)| are on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.report.figures.axes import NORMAL, SMALL, WIDTH, cosine_ticks, new_figure, quiet, titled
from neuronagent.report.figures.looks import Looks
from neuronagent.report.figures.points import Array, Points
from neuronagent.report.model_content import ModelContent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 12
_IN_A_ROW = 4
_EDGE = 1.04
# Middle luminance throughout: 3 : 1 on white and on a dark page. Lightness cannot say more there, so hue does.
_ALIGNED = ("#3579c4", "#9a5fc0", "#d8457f", "#d9540a")
_SIGNED = ("#1d7fb8", "#4f86b8", "#878d96", "#bd7a4a", "#d9540a")


def draw(content: ModelContent, points: Points, looks: Looks, title: str | None = None) -> Figure:
    """A panel per layer of `points.clouds`, at most four in a row, and the scale of the colours."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    layers = list(points.clouds)
    columns = min(_IN_A_ROW, max(1, len(layers)))
    rows = max(1, -(-len(layers) // columns))
    side = (WIDTH - 0.9) / max(columns, 2)
    one = columns == 1
    height = rows * (side + 0.28) + (0.85 if one else 0.5)
    figure = new_figure(height, looks, width=side + 1.6 if one else WIDTH, squares=True)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    signed = any(bool((cloud[:, 0] < 0).any()) for cloud in points.clouds.values())
    colours = LinearSegmentedColormap.from_list("cos(gate,in)", _SIGNED if signed else _ALIGNED)
    scale = ScalarMappable(Normalize(-1 if signed else 0, 1), colours)
    neurons = {row["layer"]: row["neurons"] for row in content["layers"]}
    for place, axes in enumerate(panels.flat):
        if place >= len(layers):
            axes.set_axis_off()
            continue
        layer = layers[place]
        _draw_panel(axes, points.clouds[layer], scale, content["threshold"], looks)
        axes.set_title(
            f"layer {layer}: {neurons.get(layer, 0):,} neurons", fontsize=NORMAL, loc="left", color=looks.ink
        )
        if place % columns == 0:
            axes.set_ylabel("cos(in,out)")
        if place + columns >= len(layers):
            axes.set_xlabel("cos(gate,out)")
            axes.tick_params(labelbottom=True)
    bar = figure.colorbar(
        scale, ax=panels, shrink=0.85, aspect=28, pad=0.015, ticks=[-1, 0, 1] if signed else [0, 0.5, 1]
    )
    bar.set_label("cos(gate,in)", color=looks.ink, size=NORMAL)
    bar.ax.tick_params(colors=looks.soft, labelcolor=looks.ink, labelsize=SMALL, length=3)
    bar.ax.set_yticklabels(["−1", "0", "+1"] if signed else ["0", "0.5", "1"])
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    titled(figure, title, looks)
    return figure


def _draw_panel(axes: Axes, cloud: Array, scale: Any, edge: float, looks: Looks) -> None:
    quiet(axes, looks, grid="none")
    _draw_regions(axes, edge, looks)
    cloud = cloud[np.argsort(np.abs(cloud[:, 0]), kind="stable")]
    size = float(np.clip(14_000 / max(1, len(cloud)), 1.3, 9))
    axes.scatter(cloud[:, 1], cloud[:, 2], s=size, c=scale.to_rgba(cloud[:, 0], alpha=0.75), linewidths=0,
                 rasterized=True, zorder=2)  # fmt: skip
    axes.set_xlim(-_EDGE, _EDGE)
    axes.set_ylim(-_EDGE, _EDGE)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        cosine_ticks(axis)


def _draw_regions(axes: Axes, edge: float, looks: Looks) -> None:
    from matplotlib.patches import Circle, Rectangle

    for name, (x, y, width, height) in _regions(edge):
        axes.add_patch(
            Rectangle((x, y), width, height, facecolor=looks.classes[name], alpha=0.13, linewidth=0, zorder=0)
        )
    for place in (-edge, edge):
        axes.plot([place, place], [-1, 1], color=looks.soft, linewidth=0.7, dashes=(4, 3), zorder=1)
        axes.plot([-1, 1], [place, place], color=looks.soft, linewidth=0.7, dashes=(4, 3), zorder=1)
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=looks.soft, linewidth=0.8, zorder=1))


def _regions(edge: float) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Each class with the rectangles (x, y, width, height) where it is, |x| = |cos(gate,out)|."""
    outer, inner = 1 - edge, 2 * edge
    bands = (("enrichment", edge, outer), ("depletion", -1.0, outer))
    found = [("proportional change", (x, -edge, outer, inner)) for x in (-1.0, edge)]
    found.append(("orthogonal output", (-edge, -edge, inner, inner)))
    for name, y, height in bands:
        found += [(name, (x, y, outer, height)) for x in (-1.0, edge)]
        found.append((f"conditional {name}", (-edge, y, inner, height)))
    return found
