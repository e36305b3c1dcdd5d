"""Matrices of layer pairs, as the paper's Figures 2 (a, b) and 7 have them: sources across, targets down, for each fit
the mean L2, the median R² and the median Pearson.

Colours are those of viridis, whose lightness is even, in a light page and a dark one alike; numbers stand on them in
black or white, whichever reads better. The scale is that of two different layers, and of R² from 0: a layer that is
foretold from itself may lie beyond its ends. A pair that is not fitted or not scored is left empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.report.figures.axes import NORMAL, SMALL, new_figure, quiet, titled
from neuronagent.report.figures.looks import Looks
from neuronagent.report.figures.predict_points import Array, PredictionPoints
from neuronagent.report.figures.predict_style import plain
from neuronagent.report.predictability_content import Matrix, PairRow, PredictabilityContent
from neuronagent.wording import minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_FITS = 3
_MOST_NUMBERS = 9
_MOST_TICKS = 12
_DARK = 0.18
"""From this luminance on black text reads better than white."""

_Value = Callable[[PairRow], float | None]
_R2 = "median R²"
_PANELS: tuple[tuple[str, _Value], ...] = (
    ("mean L2", lambda row: row["rmse"]),
    (_R2, lambda row: row["r2"]["median"] if row["r2"] else None),
    ("median Pearson", lambda row: row["pearson"]["median"] if row["pearson"] else None),
)


def draw_pairs(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """A row per fit within the model."""
    return _draw(content["pairs"]["matrices"], "source layer", looks, title)


def draw_models(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """A row per fit from another model."""
    return _draw(content["models"]["matrices"], "layer of the other model", looks, title)


def shown(matrices: Sequence[Matrix]) -> list[Matrix]:
    """Those that a figure has room for: with most pairs first, if they have two at least and are scored; none whose
    pairs are all among those of another one of its kind."""
    known = [one for one in matrices if len(one["rows"]) > 1 and any(row["rmse"] is not None for row in one["rows"])]
    kept: list[Matrix] = []
    for one in sorted(known, key=lambda one: -len(one["rows"])):
        if not any(one["kind"] == other["kind"] and _pairs(one) <= _pairs(other) for other in kept):
            kept.append(one)
    return kept[:MOST_FITS]


def _pairs(one: Matrix) -> set[tuple[int, int]]:
    return {(row["source"], row["target"]) for row in one["rows"] if row["rmse"] is not None}


def _draw(matrices: Sequence[Matrix], across: str, looks: Looks, title: str | None) -> Figure:
    chosen = shown(matrices)
    shape = max((len(one["targets"]) / max(1, len(one["sources"])) for one in chosen), default=1.0)
    figure = new_figure(0.7 + max(1, len(chosen)) * (0.5 + 2.5 * min(1.5, max(0.5, shape))), looks)
    panels = figure.subplots(max(1, len(chosen)), len(_PANELS), squeeze=False)
    for column, (name, value) in enumerate(_PANELS):
        grids = [grid_of(one, value) for one in chosen]
        ends = _ends([_two_layers(one, grid) for one, grid in zip(chosen, grids, strict=True)], name == _R2)
        for row, one in enumerate(chosen):
            axes: Axes = panels[row][column]
            _panel(axes, one, grids[row], ends, looks)
            said = f"{name}, {one['fit']}" if len(chosen) > 1 else name
            axes.set_title(said, loc="left", fontsize=NORMAL, color=looks.ink, parse_math=False)
            axes.set_xlabel(across)
            if column == 0:
                axes.set_ylabel("target layer")
    titled(figure, title, looks)
    return figure


def _two_layers(one: Matrix, grid: Array) -> Array:
    """`grid` without layers that are foretold from themselves, unless there is nothing else."""
    same = np.equal.outer(np.array(one["targets"]), np.array(one["sources"])) & bool(one["directions"])
    others = np.where(same, np.nan, grid)
    return others if np.isfinite(others).any() else grid


def _ends(grids: Sequence[Array], from_zero: bool) -> tuple[float, float]:
    """One scale for all fits, so that they can be compared."""
    known = np.concatenate([grid[np.isfinite(grid)] for grid in grids]) if grids else np.empty(0)
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (max(low, 0.0) if from_zero and high > 0 else low), high


def _panel(axes: Axes, one: Matrix, grid: Array, ends: tuple[float, float], looks: Looks) -> None:
    quiet(axes, looks, grid="none")
    image = _image(axes, grid, ends, looks)
    for axis, layers in ((axes.xaxis, one["sources"]), (axes.yaxis, one["targets"])):
        apart = -(-len(layers) // _MOST_TICKS)
        axis.set_ticks(range(0, len(layers), apart), [str(layer) for layer in layers[::apart]])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if max(grid.shape) <= _MOST_NUMBERS:
        for (row, column), number in np.ndenumerate(grid):
            if np.isfinite(number):
                axes.text(column, row, short(number), ha="center", va="center", fontsize=_size(grid),
                          color=_readable(image.to_rgba(number)))  # fmt: skip


def grid_of(one: Matrix, value: _Value) -> Array:
    """The values `[targets, sources]`; NaN where there is none."""
    grid = np.full((len(one["targets"]), len(one["sources"])), np.nan)
    for row in one["rows"]:
        found = value(row)
        if found is not None:
            grid[one["targets"].index(row["target"]), one["sources"].index(row["source"])] = found
    return grid


def _image(axes: Axes, grid: Array, ends: tuple[float, float], looks: Looks) -> Any:
    from matplotlib import colormaps

    low, high = ends
    image = axes.imshow(np.ma.masked_invalid(grid), cmap=colormaps["viridis"], vmin=low, vmax=max(high, low + 1e-9),
                        aspect="auto", interpolation="nearest")  # fmt: skip
    figure: Any = axes.figure
    known = grid[np.isfinite(grid)]
    below, above = bool((known < low).any()), bool((known > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
    bar = figure.colorbar(image, ax=axes, aspect=22, pad=0.02, fraction=0.06, extend=extend)
    bar.ax.tick_params(colors=looks.soft, labelcolor=looks.ink, labelsize=7, length=2)
    bar.ax.yaxis.set_major_formatter(plain)
    bar.outline.set_visible(False)
    return image


def short(value: float) -> str:
    """Two digits behind the point, three of what is small, without the zero before it: `.41`, `.037`, `1.02`."""
    size = abs(value)
    if 0 < size < 0.0005:
        return minus(f"{value:.0e}".replace("e-0", "e-"))
    if size >= 9.995:
        return minus(f"{value:.3g}")
    said = f"{value:.3f}" if size < 0.0995 else f"{value:.2f}"
    return minus(said.replace("0.", ".", 1) if size < 0.995 else said)


def _size(grid: Array) -> float:
    return SMALL if max(grid.shape) <= 6 else 6.5


def _readable(colour: tuple[float, float, float, float]) -> str:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return "#000000" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] >= _DARK else "#ffffff"
