"""What all figures share: quiet axes, layers as ticks, a legend below, text in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.report.figures.looks import Looks
from neuronagent.wording import minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0
"""Inches: a page shows them 900 to 1,100 CSS pixels wide."""
SMALL, NORMAL = 8.0, 9.0
_MOST_TICKS = 17


def new_figure(height: float, looks: Looks, *, width: float = WIDTH, squares: bool = False) -> Figure:
    """An empty figure whose parts find their own places; `squares`: panels of a fixed shape, close to each other."""
    from matplotlib.figure import Figure

    layout = "compressed" if squares else "constrained"
    return Figure(figsize=(width, height), layout=layout, facecolor=looks.paper)


def quiet(axes: Axes, looks: Looks, *, grid: str = "both") -> None:
    """Two sides of the frame, ticks and labels in soft ink, a grid behind everything (`grid`: both, x, y or none)."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(looks.soft)
    axes.spines[["left", "bottom"]].set_linewidth(0.8)
    axes.tick_params(colors=looks.soft, labelcolor=looks.ink, labelsize=SMALL, length=3, width=0.8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=looks.ink, size=NORMAL)
    if grid != "none":
        axes.grid(True, axis=grid, color=looks.line, linewidth=0.6)  # pyright: ignore[reportArgumentType]
        axes.set_axisbelow(True)


def layer_axis(axes: Axes, layers: Sequence[int], *, label: bool = True) -> list[int]:
    """Layers at equal distances, some of them named; their places."""
    places = list(range(len(layers)))
    apart = max(1, -(-len(layers) // _MOST_TICKS))
    axes.set_xticks(places[::apart], [str(layer) for layer in layers[::apart]])
    axes.set_xlim(-0.7, len(layers) - 0.3)
    if label:
        axes.set_xlabel("layer")
    return places


def legend_below(figure: Figure, handles: Sequence[Any], looks: Looks, *, columns: int) -> None:
    """One legend for the whole figure."""
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        labelcolor=looks.ink,
        handlelength=1.8,
        columnspacing=1.4,
    )


def titled(figure: Figure, title: str | None, looks: Looks) -> None:
    """A title for a file; a page has its own."""
    if title:
        figure.suptitle(title, fontsize=11, color=looks.ink, parse_math=False)


def cosine_ticks(axis: Any, low: float = -1.0) -> None:
    """Halves from `low` to 1, with a true minus."""
    ticks = np.arange(low, 1.01, 0.5)
    axis.set_ticks(ticks, [minus(f"{tick:g}") for tick in ticks])
