"""cos(gate,in) on a line: the scale of a colour, the layer's neurons as a low outline on it, and one neuron's place."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from neuronagent import wording
from neuronagent.report.svg import box, element, group, line, over, plain, words

BINS = (0.1, 0.3, 0.5, 0.7)
"""|cos(gate,in)| from which the colour is stronger."""
SHADES = (0, 30, 55, 78, 100)
WIDTH = 320
_LEFT = 32
_THICK, _TALL = 12, 14


def shade(level: int, positive: bool) -> str:
    """The colour of a cos(gate,in) whose size is in bin `level`: grey for 0, of the signed scale beyond."""
    side = "plus" if positive else "minus"
    return f"color-mix(in oklab, var(--{side}) {SHADES[level]}%, var(--soft))"


def level_of(cosines: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which bin each is in, by its size."""
    return np.digitize(np.abs(cosines), BINS)


def strip(
    layer: NDArray[np.float64], band: tuple[float, float] | None, own: float, *, floor: float, top: float
) -> Markup:
    """The strip, its colours from `top` on, from `floor` (0 or −1) to 1; `band` is where unrelated vectors are."""

    def along(cosine: float) -> float:
        return _LEFT + WIDTH * (max(cosine, floor) - floor) / (1 - floor)

    cuts = [-1.0, *(-b for b in reversed(BINS)), *BINS, 1.0] if floor < 0 else [0.0, *BINS, 1.0]
    cells = [
        box(along(lo), top, along(hi) - along(lo), _THICK,
            fill=shade(int(level_of(np.array((lo + hi) / 2))), lo + hi >= 0))
        for lo, hi in pairwise(cuts)
    ]  # fmt: skip
    return group(
        _density(layer, floor, top),
        group(*cells),
        _band(along(band[0]), along(band[1]), top + _THICK + 1) if band else Markup(""),
        _mark(along(own), top, wording.number(own)),
        group(
            *(
                words(along(t), top + 29, wording.minus(f"{t:g}"), text_anchor="middle")
                for t in (-1.0, -0.5, 0.0, 0.5, 1.0)
                if t >= floor
            ),
            words(_LEFT + WIDTH / 2, top + 43, "cos(gate, in), the colour of the dots", text_anchor="middle"),
            fill="var(--soft)",
            font_size=10.5,
        ),
    )


def _band(lo: float, hi: float, y: float) -> Markup:
    return box(lo, y, max(1.0, hi - lo), 4, fill="currentColor", fill_opacity=0.45)


def _mark(where: float, top: float, said: str) -> Markup:
    """The neuron's own place, and its number within the frame."""
    share = (where - _LEFT) / WIDTH
    anchor, shift = ("start", -4) if share < 0.06 else ("end", 4) if share > 0.94 else ("middle", 0)
    return group(
        element("path", d=f"M{plain(where)} {plain(top - 2)}l-5-8h10z", fill="var(--ink)", stroke="var(--paper)"),
        line(where, top - 2, where, top + _THICK, stroke="var(--ink)", stroke_width=2),
        over(where + shift, top - 13, said, text_anchor=anchor, fill="var(--ink)", font_weight=700),
    )


def _density(values: NDArray[np.float64], floor: float, top: float) -> Markup:
    """How many of the layer's neurons lie where, by the root of their number, so that few are seen beside many."""
    counts, _ = np.histogram(values, bins=64, range=(floor, 1))
    if not counts.any():
        return Markup("")
    heights = np.sqrt(counts / counts.max()) * _TALL
    outline = "".join(f"V{plain(top - h)}h{plain(WIDTH / 64)}" for h in heights.tolist())
    return element("path", d=f"M{_LEFT} {plain(top)}{outline}V{plain(top)}z", fill="currentColor", fill_opacity=0.22)
