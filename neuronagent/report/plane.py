"""The three cosines of a neuron, drawn: the plane of the IO-functionality paper's Figures 2 and 5, and a strip below.

In the plane x is cos(gate,out) and y is cos(in,out), as in Figure 5; the squares that τ = 0.5 cuts it into are the IO
classes (section 4.4), named where Figure 2 has their prototypes. A neuron whose gate and in are orthogonal lies within
the unit disk (section 4.3). The grey cross is where 95 % of unrelated vectors of the layer lie. Dots are neurons of the
layer, coloured by the third cosine; the strip below is the scale of these colours, and has the neuron's place on it.

Where signs are normalised cos(gate,in) is never negative, and the strip begins at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from neuronagent import wording
from neuronagent.domain import IO_CLASS_THRESHOLD
from neuronagent.report.content import Baseline, NeuronContent
from neuronagent.report.cosine_strip import SHADES, level_of, shade, strip
from neuronagent.report.svg import box, drawing, element, group, line, over, plain, words

_WIDTH, _HEIGHT = 360, 448
_LEFT, _TOP, _SIDE = 32, 6, 320
_HALF = _SIDE / 2
_STRIP = 384
"""Where the strip begins."""
_GRID = 500
"""Dots lie on a grid of so many steps from 0 to 1."""
_ROWS = (
    ("enrichment", "conditional enrichment", "enrichment"),
    ("proportional change", "orthogonal output", "proportional change"),
    ("depletion", "conditional depletion", "depletion"),
)
_LETTER = 0.04
"""About the width of a letter, in cosines."""
_CUTS = (-1.0, -IO_CLASS_THRESHOLD, IO_CLASS_THRESHOLD, 1.0)


def plane(content: NeuronContent, dots: int = 1500) -> Markup:
    """The drawing, with at most `dots` neurons of the layer; nothing for a neuron whose geometry is not known."""
    geometry: Mapping[str, float | None] = content["geometry"] or {}
    found = [geometry.get(name) for name in ("cos_gate_out", "cos_in_out", "cos_gate_in")]
    known = [_cosine(value) for value in found if value is not None and math.isfinite(value)]
    if len(known) < len(found):
        return Markup("")
    x, y, third = known
    baselines = content["baselines"] or {}
    layer = content["plane"]
    every = np.array(layer["layer"] if layer else [], dtype=np.float64).reshape(-1, 3)  # None becomes NaN
    every = every[:: max(1, -(-len(every) // dots))] if dots else every[:0]
    every = np.clip(every[np.isfinite(every).all(axis=1)], -1, 1)
    floor = 0.0 if content["provenance"]["sign_convention"] == "normalised" else -1.0
    return drawing(
        f"Where {content['neuron']} lies among the IO classes",
        _said(content, x, y, third, len(every)),
        _WIDTH,
        _HEIGHT,
        _regions(),
        _bands(baselines),
        element("circle", cx=_LEFT + _HALF, cy=_TOP + _HALF, r=_HALF, fill="none", stroke="currentColor",
                stroke_opacity=0.55, stroke_dasharray="3 3"),
        _layer(every),
        _threads(x, y),
        _names((content["io_class"] or "").removeprefix("atypical "), (x, y)),
        _axes(),
        _mark(content["neuron"], x, y),
        strip(every[:, 2], _limits(baselines.get("cos_gate_in")), third, floor=floor, top=_STRIP),
        words(_LEFT + _HALF, _HEIGHT - 4, "grey bands: 95 % of unrelated vectors · in the circle: gate ⊥ in",
              text_anchor="middle", fill="var(--soft)", font_size=10.5),
        class_="plane",
    )  # fmt: skip


def _cosine(value: float) -> float:
    return min(1.0, max(-1.0, value))


def _x(cosine: float) -> float:
    return _LEFT + _HALF * (1 + cosine)


def _y(cosine: float) -> float:
    return _TOP + _HALF * (1 - cosine)


def _said(content: NeuronContent, x: float, y: float, third: float, shown: int) -> str:
    found = f"cos(gate,out) {wording.number(x)}, cos(in,out) {wording.number(y)}, cos(gate,in) {wording.number(third)}"
    layer = content["plane"]
    among = f" Dots: {shown:,} of the layer's {layer['neurons']:,} neurons." if layer else ""
    return (
        f"{content['neuron']}, {content['io_class'] or 'class not known'}: {found}. Squares: IO classes at a threshold "
        f"of {IO_CLASS_THRESHOLD}. Dashed circle: within it lies every neuron whose gate and in are orthogonal. "
        f"Grey cross: 95 % of unrelated pairs of vectors of the layer.{among}"
    )


def _regions() -> Markup:
    return group(
        *(
            box(_x(_CUTS[column]), _y(-_CUTS[row]), _HALF * (_CUTS[column + 1] - _CUTS[column]),
                _HALF * (_CUTS[row + 1] - _CUTS[row]), fill=f"var(--{name.replace(' ', '-')})")
            for row, names in enumerate(_ROWS)
            for column, name in enumerate(names)
        ),
        fill_opacity=0.13,
    )  # fmt: skip


def _names(own: str, mark: tuple[float, float]) -> Markup:
    """The classes, at the outer edges of their squares where few neurons are, with a rim against those; at the inner
    edge where the mark would be in the way. The neuron's `own` class is bold."""
    named: list[Markup] = []
    for column, x in enumerate((-0.75, 0.0, 0.75)):
        for row, (outer, inner) in enumerate(((0.91, 0.55), (-0.42, 0.38), (-0.95, -0.6))):
            name = _ROWS[row][column]
            parts = [name] if column == 1 else name.split(" ")
            taken = _in_the_way(mark, x, outer, max(map(len, parts)))
            first = (inner if taken else outer) + 0.085 * (len(parts) - 1) * (row == 1)
            bold = 700 if own == name and _square(mark) == (row, column) else None
            named += [over(_x(x), _y(first - 0.085 * step), part, font_weight=bold) for step, part in enumerate(parts)]
    return group(*named, text_anchor="middle", fill="var(--ink)")


def _in_the_way(mark: tuple[float, float], x: float, y: float, letters: int) -> bool:
    """Whether the ring of a neuron or its numbers would touch a name of so many letters round a place."""
    half, (_, across), room = letters * _LETTER / 2, _beside(mark[0]), 13 * _LETTER
    ring = (mark[0] - 0.06, mark[0] + 0.06, mark[1] - 0.06, mark[1] + 0.06)
    left, right = sorted((mark[0], mark[0] + math.copysign(room, across)))
    numbers = (left, right, mark[1], mark[1] + 0.22) if mark[1] < 0 else (left, right, mark[1] - 0.22, mark[1])
    return any(
        x_0 < x + half and x_1 > x - half and y_0 < y + 0.07 and y_1 > y - 0.03
        for x_0, x_1, y_0, y_1 in (ring, numbers)
    )


def _beside(x: float) -> tuple[str, float]:
    """On which side of a neuron its numbers stand: away from the crowd, within the frame."""
    return ("start", 9) if x < -0.5 or 0 <= x <= 0.5 else ("end", -9)


def _square(mark: tuple[float, float]) -> tuple[int, int]:
    """Row and column of the square that a point is in."""
    (x, y), tau = mark, IO_CLASS_THRESHOLD
    return (0 if y > tau else 2 if y < -tau else 1), (0 if x < -tau else 2 if x > tau else 1)


def _bands(baselines: Mapping[str, Baseline]) -> Markup:
    """Where unrelated vectors lie, on either axis."""
    shown: list[Markup] = []
    if across := _limits(baselines.get("cos_gate_out")):
        shown.append(box(_x(across[0]), _TOP, _HALF * (across[1] - across[0]), _SIDE))
    if up := _limits(baselines.get("cos_in_out")):
        shown.append(box(_LEFT, _y(up[1]), _SIDE, _HALF * (up[1] - up[0])))
    return group(*shown, fill="currentColor", fill_opacity=0.1)


def _limits(baseline: Baseline | None) -> tuple[float, float] | None:
    if baseline is None or not (math.isfinite(baseline["lo"]) and math.isfinite(baseline["hi"])):
        return None
    lo, hi = sorted((_cosine(baseline["lo"]), _cosine(baseline["hi"])))
    return lo, hi


def _layer(every: NDArray[np.float64]) -> Markup:
    """The dots, those of the strongest colours on top."""
    level = level_of(every[:, 2])
    shown = [
        element(
            "path", d=_dots(every[(level == size) & ((every[:, 2] >= 0) == positive)]), stroke=shade(size, positive)
        )
        for size in range(len(SHADES))
        for positive in (True, False)
        if np.any((level == size) & ((every[:, 2] >= 0) == positive))
    ]
    return group(
        *shown,
        transform=f"translate({plain(_x(0))} {plain(_y(0))}) scale({_HALF / _GRID:g})",
        fill="none",
        stroke_width=6.6,
        stroke_linecap="round",
        stroke_opacity=0.75,
    )


def _dots(places: NDArray[np.float64]) -> str:
    """Dots of one colour as one path: a step to each and a line without length, which has a round end."""
    grid = np.unique(np.rint(places[:, :2] * (_GRID, -_GRID)).astype(np.int64), axis=0)
    steps = np.diff(grid, axis=0, prepend=np.zeros((1, 2), np.int64))
    return "".join(f"m{x}{',' if y >= 0 else ''}{y}h0" for x, y in steps.tolist())


def _axes() -> Markup:
    ticks = (-1.0, -0.5, 0.0, 0.5, 1.0)
    below = _TOP + _SIDE
    return group(
        box(_LEFT, _TOP, _SIDE, _SIDE, fill="none", stroke="var(--line)"),
        group(
            *(words(_x(t), below + 13, _tick(t), text_anchor="middle") for t in ticks),
            *(words(_LEFT - 4, _y(t) + 4, _tick(t), text_anchor="end") for t in (-0.5, 0.0, 0.5)),
            words(_x(0), below + 28, "cos(gate, out)", text_anchor="middle"),
            words(0, 0, "cos(in, out)", text_anchor="middle", transform=f"translate(12 {plain(_y(0.25))}) rotate(-90)"),
            fill="var(--soft)",
            font_size=10.5,
        ),
    )


def _tick(value: float) -> str:
    return wording.minus(f"{value:g}")


def _threads(x: float, y: float) -> Markup:
    """From the neuron to both axes."""
    px, py = _x(x), _y(y)
    return group(line(px, py, px, _y(-1)), line(px, py, _LEFT, py), stroke="var(--ink)", stroke_dasharray="1 3")


def _mark(neuron: str, x: float, y: float) -> Markup:
    """The neuron: a ring, and its numbers where there is room."""
    px, py = _x(x), _y(y)
    end, across = _beside(x)
    down = -20 if y < 0 else 17
    return group(
        element("circle", cx=px, cy=py, r=6.5, fill="none", stroke="var(--paper)", stroke_width=5),
        element("circle", cx=px, cy=py, r=6.5, fill="none", stroke="var(--ink)", stroke_width=2),
        element("circle", cx=px, cy=py, r=2, fill="var(--ink)"),
        group(
            over(px + across, py + down, neuron, text_anchor=end, font_weight=700),
            over(px + across, py + down + 13, f"{wording.number(x)}, {wording.number(y)}", text_anchor=end),
            fill="var(--ink)",
        ),
    )
