"""R² of one neuron by predictor, as dots with their intervals: what knows the token or the position alone, then the
layers in order. Left of the line at 0 a predictor is worse than the neuron's mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from neuronagent import wording
from neuronagent.predictability.view import PredictabilityView, PredictorView
from neuronagent.report.svg import drawing, element, group, line, plain, words

_WIDTH, _LEFT, _RIGHT = 380, 96, 62
_TOP, _BOTTOM = 6, 32
_LOWEST = -0.5
"""Where the axis ends at the left at the latest: what lies further out is drawn at its end; its number says where."""
_TIGHT = 24  # rows, from which on they stand closer
_LONGEST = 16


class _Row(NamedTuple):
    """A predictor that has an R², and the height at which it stands."""

    each: PredictorView
    r2: float
    y: float


class _Axis(NamedTuple):
    floor: float

    def along(self, r2: float) -> float:
        share = (min(1.0, max(self.floor, r2)) - self.floor) / (1 - self.floor)
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * share, 1)


def foretold(view: PredictabilityView) -> Markup | None:
    """The drawing; None where no predictor has an R²."""
    rows = _rows(view)
    if not rows:
        return None
    lowest = min(0.0, *(value for row in rows for value in (row.r2, row.each["r2_lo"]) if value is not None))
    axis = _Axis(max(_LOWEST, math.floor(10 * lowest) / 10) if lowest < -0.005 else 0.0)
    high = rows[-1].y + rows[0].y - _TOP
    headline = view.get("headline")
    name = None if headline is None else headline["predictor"]
    layers = [row for row in rows if row.each["source"] is not None]
    return drawing(
        "How much of the neuron’s variance each predictor foretells",
        "R² on held-out text, with 95 % intervals: " + "; ".join(map(_said, rows)) + ".",
        _WIDTH,
        high + _BOTTOM,
        _scale(axis, high),
        _marks([row for row in rows if row.each["source"] is None], axis, "var(--soft)", None),
        _marks(layers, axis, "var(--c1)", name),
        group(*(_label(_LEFT - 8, row, _named(row.each), name) for row in rows), text_anchor="end"),
        group(*(_label(_WIDTH - _RIGHT + 8, row, wording.score(row.r2), name) for row in rows)),
        class_="foretold",
    )


def _rows(view: PredictabilityView) -> list[_Row]:
    """Baselines, then layers, those that have an R²; the mean, which is about 0 by definition, is left out."""
    known = [each for each in view.get("predictors", []) if each["direction"] != "mean"]
    found = [(each, each["r2"]) for each in known if each["r2"] is not None]
    found.sort(key=lambda item: item[0]["source"] is not None)
    step = 17 if len(found) < _TIGHT else 13
    return [_Row(each, r2, _TOP + step * (place + 0.5)) for place, (each, r2) in enumerate(found)]


def _scale(axis: _Axis, high: float) -> Markup:
    ticks = [tick for tick in (-0.5, 0.0, 0.5, 1.0) if tick >= axis.floor]
    return group(
        group(*(line(axis.along(t), _TOP, axis.along(t), high, stroke="var(--line)") for t in ticks)),
        line(axis.along(0.0), _TOP, axis.along(0.0), high + 4, stroke="currentColor"),
        group(
            *(words(axis.along(t), high + 15, wording.minus(f"{t:g}"), text_anchor="middle") for t in ticks),
            words(axis.along((axis.floor + 1) / 2), high + 28, "R² on held-out text [95 %]", text_anchor="middle"),
            fill="var(--soft)",
        ),
    )


def _marks(rows: Sequence[_Row], axis: _Axis, colour: str, headline: str | None) -> Markup:
    """Dots on their intervals."""
    if not rows:
        return Markup("")
    limits = [(row.y, axis.along(lo), axis.along(hi)) for row in rows for lo, hi in [_limits(row.each)]]
    intervals = "".join(f"M{plain(lo)} {plain(y)}h{plain(max(1.0, hi - lo))}" for y, lo, hi in limits)

    def dots(width: float, chosen: bool) -> Markup:
        """Round ends of lines of no length: a fifth of what circles take."""
        own = [row for row in rows if (row.each["predictor"] == headline) is chosen]
        places = "".join(f"M{plain(axis.along(row.r2))} {plain(row.y)}h0" for row in own)
        return element("path", d=places, stroke_width=width) if own else Markup("")

    return group(
        element("path", d=intervals, stroke_width=3, stroke_opacity=0.5),
        group(dots(7, False), dots(9.5, True), stroke_linecap="round"),
        stroke=colour,
    )


def _limits(each: PredictorView) -> tuple[float, float]:
    """The interval; where there is none, the value twice."""
    r2 = each["r2"] or 0.0
    lo, hi = each["r2_lo"], each["r2_hi"]
    return (r2, r2) if lo is None or hi is None else (lo, hi)


def _label(x: float, row: _Row, text: str, headline: str | None) -> Markup:
    return words(x, row.y + 4, text, font_weight=700 if row.each["predictor"] == headline else None)


def _named(each: PredictorView) -> str:
    return wording.clipped(wording.visible(each["predictor"]), _LONGEST)


def _said(row: _Row) -> str:
    """`layer 2 .62 [.58–.66]`."""
    limits = wording.interval(row.each["r2_lo"], row.each["r2_hi"])
    return f"{_named(row.each)} {wording.score(row.r2)} {limits}".rstrip()
