"""What the model loses when something takes the place of its neurons: by chunks of layers (the paper's Table 1), and
for halves of the neurons by four metrics (Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.predictability.substitution import CLEAN, MAPPINGS, METRICS, SETTINGS, WAYS, Measured
from neuronagent.report.figures.axes import NORMAL, SMALL, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import FAMILIES, Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.figures.predict_style import MARKERS, by_depth, few_ticks
from neuronagent.report.predictability_content import PredictabilityContent
from neuronagent.report.predictability_rows import HalvesRow, Row, chunk_names, halves_rows, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HIGHEST = 100.0
"""Times the unmodified perplexity: what is worse stands there, at the edge."""
_MOST_CHANGE = 20.0


def draw_table(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """Complete and partial substitution on the first text; lines of chained sources are dotted, their marks hollow."""
    view = content["substitution"]["views"][0]
    chunks, base = chunk_names(view), view["text"]["original"]["perplexity"]
    figure = new_figure(4.1, looks)
    panels = figure.subplots(1, len(SETTINGS), sharey=True)
    handles: dict[str, Any] = {}
    for axes, setting in zip(panels, SETTINGS, strict=True):
        quiet(axes, looks, grid="y")
        axes.set_yscale("log")
        axes.set_title(f"{setting} substitution", loc="left", fontsize=NORMAL, color=looks.ink)
        axes.set_xticks(range(len(chunks)), [name.replace(" (", "\n(") for name in chunks])
        axes.set_xlim(-0.5, len(chunks) - 0.5)
        if base is not None:
            handles["unmodified"] = axes.axhline(base, color=looks.ink, linewidth=1, dashes=(4, 3), label="unmodified")
        for row in rows(view):
            if row.setting == setting:
                handles[_label(row)] = _line(axes, row, base)
    panels[0].set_ylabel("perplexity")
    known = [cell for row in rows(view) for cell in row.cells]
    _ticks(panels[0].yaxis, known, base, most=7)
    _limits(panels[0].set_ylim, known, base)
    legend_below(figure, list(handles.values()), looks, columns=5)
    titled(figure, title, looks)
    return figure


def _line(axes: Axes, row: Row, base: float | None) -> Any:
    """A mark per chunk, with the interval of its change where that is within the picture: documents differ far more
    than what is done to them."""
    number, clean = MAPPINGS.index(row.mapping), row.sources == CLEAN
    colour = FAMILIES[number]
    shift = (number - (len(MAPPINGS) - 1) / 2) * 0.1 + (0 if clean else 0.04)
    places = [place + shift for place in range(len(row.cells))]
    for x, cell in zip(places, row.cells, strict=True):
        if cell and base is not None and cell["change_lo"] is not None and cell["change_hi"] is not None:
            lo, hi = (base * np.exp(min(change, _MOST_CHANGE)) for change in (cell["change_lo"], cell["change_hi"]))
            if hi < base * _HIGHEST:
                axes.vlines(x, lo, hi, colors=colour, linewidth=1)
    (line,) = axes.plot(
        places, [_capped(cell, base) if cell else np.nan for cell in row.cells], color=colour, marker=MARKERS[number],
        markersize=5, linewidth=1.1, linestyle="-" if clean else ":", markerfacecolor=colour if clean else "none",
        label=_label(row),
    )  # fmt: skip
    return line


def _label(row: Row) -> str:
    return row.mapping if row.sources == CLEAN else f"{row.mapping}, {row.sources}"


def _capped(cell: Measured, base: float | None) -> float:
    value = cell["perplexity"]
    return min(value if value is not None else np.nan, (base or 1) * _HIGHEST)


def _values(cells: Sequence[Measured | None], base: float | None) -> list[float]:
    found = [_capped(cell, base) for cell in cells if cell is not None and cell["perplexity"] is not None]
    return [*found, *([base] if base is not None else [])]


def _limits(set_limits: Any, cells: Sequence[Measured | None], base: float | None) -> None:
    found = _values(cells, base)
    if found:
        set_limits(min(found) / 1.12, max(found) * 1.12)


def _ticks(axis: Any, cells: Sequence[Measured | None], base: float | None, *, most: int) -> None:
    found = _values(cells, base)
    if found:
        few_ticks(axis, (min(found) / 1.12, max(found) * 1.12), most)


def draw_halves(
    content: PredictabilityContent, points: PredictionPoints, looks: Looks, title: str | None = None
) -> Figure:
    """A panel per metric, a row per way to treat the two halves, a dot per chunk."""
    view = content["halves"]["view"]
    assert view is not None
    found, base = halves_rows(view), view["text"]["original"]["perplexity"]
    metrics = [metric for metric in METRICS if any(row.metric == metric for row in found)]
    ways = [way for way in WAYS if any((row.top, row.bottom) == way for row in found)]
    figure = new_figure(1.7 + 0.32 * max(4, len(ways)), looks)
    panels = figure.subplots(1, max(1, len(metrics)), squeeze=False, sharey=True)[0]
    colours = by_depth(list(range(len(view["text"]["chunks"]))))
    every = [cell for row in found for cell in row.cells]
    for axes, metric in zip(panels, metrics, strict=False):
        quiet(axes, looks, grid="both")
        axes.set_xscale("log")
        axes.set_title(f"halves by {metric}", loc="left", fontsize=NORMAL, color=looks.ink)
        if base is not None:
            axes.axvline(base, color=looks.ink, linewidth=1, dashes=(4, 3))
        _dots(axes, [row for row in found if row.metric == metric], ways, colours, base)
        axes.set_xlabel("perplexity")
        _ticks(axes.xaxis, every, base, most=4)
        _limits(axes.set_xlim, every, base)
        axes.tick_params(axis="x", labelsize=7)
    panels[0].set_yticks(range(len(ways)), [f"{top} / {bottom}" for top, bottom in ways], fontsize=SMALL)
    panels[0].set_ylim(len(ways) - 0.4, -0.6)
    panels[0].set_ylabel("top half / bottom half")
    legend_below(figure, _chunk_handles(chunk_names(view), colours), looks, columns=4)
    titled(figure, title, looks)
    return figure


def _dots(
    axes: Axes, found: Sequence[HalvesRow], ways: Sequence[tuple[str, str]], colours: dict[int, str], base: float | None
) -> None:
    for row in found:
        place = ways.index((row.top, row.bottom))
        for chunk, cell in enumerate(row.cells):
            if cell is not None and cell["perplexity"] is not None:
                height = place + (chunk - (len(row.cells) - 1) / 2) * 0.16
                axes.plot([_capped(cell, base)], [height], marker=MARKERS[chunk % len(MARKERS)], markersize=4.5,
                          color=colours[chunk], linestyle="none")  # fmt: skip


def _chunk_handles(chunks: Sequence[str], colours: dict[int, str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linestyle="none", marker=MARKERS[place % len(MARKERS)], color=colours[place], label=name)
        for place, name in enumerate(chunks)
    ]
