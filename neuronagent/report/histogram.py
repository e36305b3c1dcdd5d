"""Small histograms: |post| of a sign combination, and the lift of many explanations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from neuronagent import wording
from neuronagent.report.content import Histogram
from neuronagent.report.svg import box, drawing, element, group, line, over, words

_WIDTH, _HEIGHT = 300, 116
_LEFT, _RIGHT, _TOP, _BASE = 34, 4, 16, 86
_TALL = _BASE - _TOP
_OCTAVES = 4
"""Between labels of |post|."""
_NAMED = 0.4 * _WIDTH  # as far as the name of the axis of counts reaches from the left


def histogram(found: Histogram, place: int) -> Markup:
    """|post| of the tokens of the combination at `place`, by half octaves: log2 from left to right, and counts by their
    logarithm too, since one token in a hundred is what counts. Bars are full from τ on, where a token is strong."""
    counts = [max(0, count) for count in found["counts"]]
    total, edges = sum(counts), found["edges"]
    title = "How |post| is distributed"
    if not total or not edges or len(counts) != len(edges) + 1:
        nothing = words(_WIDTH / 2, _HEIGHT / 2, "no tokens", text_anchor="middle", fill="var(--soft)")
        return drawing(title, "No tokens.", _WIDTH, _HEIGHT, nothing, class_="histogram")
    tau = found["tau"]
    strong = sum(count for lo, count in zip((0.0, *edges), counts, strict=True) if tau is not None and lo >= tau)
    top = max(1.0, math.log10(max(counts)) * 1.02)
    step = (_WIDTH - _LEFT - _RIGHT) / len(counts)

    def along(value: float) -> float:
        """Where |post| = `value` is; what an edge is worth, read off the edges."""
        octaves = math.log2(edges[-1] / edges[0]) if len(edges) > 1 else 1.0
        return _LEFT + step * (1 + (len(edges) - 1) * math.log2(value / edges[0]) / octaves)

    bars = [
        box(_LEFT + step * i + 0.4, _BASE - high, step - 0.8, high, _said(i, edges, count),
            fill_opacity=None if tau is None or (0.0, *edges)[i] >= tau else 0.45)
        for i, count in enumerate(counts)
        if count
        for high in [_high(count, top)]
    ]  # fmt: skip
    return drawing(
        title,
        f"{total:,} tokens, {_half(edges, counts, total)}"
        + (f"; {strong:,} strong ones, from τ = {tau:.2g} on." if tau is not None else "."),
        _WIDTH,
        _HEIGHT,
        _counts_axis(top, clear=tau is not None and tau > 0 and along(tau) < _NAMED),
        group(*bars, fill=f"var(--c{place})"),
        _tau(along(tau), tau, strong / total) if tau and tau > 0 else Markup(""),
        line(_LEFT, _BASE, _WIDTH - _RIGHT, _BASE, stroke="var(--line)"),
        _value_axis(edges, total, along),
        class_="histogram",
    )


def _said(place: int, edges: Sequence[float], count: int) -> Markup:
    """What a bar says when it is pointed at."""
    if not place:
        where = f"below {edges[0]:.2g}"
    elif place == len(edges):
        where = f"{edges[-1]:.3g} and more"
    else:
        where = f"{edges[place - 1]:.2g} to {edges[place]:.2g}"
    return element("title", f"|post| {where}: {count:,}")


def _half(edges: Sequence[float], counts: Sequence[int], total: int) -> str:
    """The edge below which at least half of the tokens are."""
    below = 0
    for edge, count in zip(edges, counts, strict=False):
        below += count
        if 2 * below >= total:
            return f"half of them below {edge:.2g}"
    return f"more than half of them above {edges[-1]:.3g}"


def _high(count: int, top: float) -> float:
    """The height of a bar: one token is seen, too."""
    return 3 + (_TALL - 3) * math.log10(count) / top


def _counts_axis(top: float, *, clear: bool) -> Markup:
    """1 and, by their logarithm, two larger powers of ten; the axis's name leaves the left `clear` for τ's."""
    largest = int(top)
    powers = sorted({0, largest // 2, largest} if largest > 1 else {0, largest})
    marks = [(_BASE - _high(10**power, top), _power(power)) for power in powers]
    return group(
        *(line(_LEFT, y, _WIDTH - _RIGHT, y, stroke="var(--line)") for y, _ in marks[1:]),
        *(words(_LEFT - 4, y + 3.5, said, text_anchor="end", fill="var(--soft)", font_size=10) for y, said in marks),
        words(
            _WIDTH - _RIGHT if clear else _LEFT,
            11,
            "tokens, log scale",
            text_anchor="end" if clear else "start",
            fill="var(--soft)",
            font_size=10,
        ),
    )


def _power(power: int) -> str:
    """`100k` for the fifth power of ten."""
    return f"{10 ** (power % 3)}{' kMGTPE'[power // 3].strip()}" if power < 21 else f"1e{power}"


def _value_axis(edges: Sequence[float], total: int, along: Callable[[float], float]) -> Markup:
    """Powers of 16, as far as there are edges; how many tokens there are in all."""
    first, last = math.ceil(math.log2(edges[0])), math.floor(math.log2(edges[-1]))
    shown = [2.0**power for power in range(first, last + 1) if power % _OCTAVES == 0]
    return group(
        *(line(along(v), _BASE, along(v), _BASE + 3, stroke="var(--soft)") for v in shown),
        *(words(along(v), _BASE + 13, f"{v:g}" if v >= 1 else f"1/{1 / v:g}", text_anchor="middle") for v in shown),
        words(_LEFT, _BASE + 26, "|post|, in half octaves"),
        words(_WIDTH - _RIGHT, _BASE + 26, f"n = {total:,}", text_anchor="end"),
        fill="var(--soft)",
        font_size=10,
    )


def _tau(x: float, tau: float, share: float) -> Markup:
    """From where a token is strong, and how many are."""
    right = x < 0.7 * _WIDTH
    said = f"τ {tau:.2g}: {wording.percent(share)}"
    return group(
        line(x, _TOP - 8, x, _BASE, stroke="var(--ink)", stroke_dasharray="3 2"),
        over(x + (4 if right else -4), _TOP - 3, said, text_anchor="start" if right else "end", fill="var(--ink)"),
    )


def _stacked(count: int, not_above: int, most: int) -> list[tuple[float, float, bool]]:
    """The parts of a bar, (from, to, whether they are of lifts above 0): first those that are not."""
    parts = [(0, not_above, False), (not_above, count, True)]
    return [
        (_TALL * lo / most, max(_TALL * lo / most + 1.0, _TALL * hi / most), good) for lo, hi, good in parts if hi > lo
    ]


def lift_distribution(distribution: Mapping[str, Any]) -> Markup:
    """The lift of explanations over their strongest control, `lift_over_strongest_control` of a batch report."""
    edges: Sequence[float] = distribution["histogram"]["edges"]
    counts: Sequence[int] = distribution["histogram"]["counts"]
    quantiles: Mapping[str, float] = distribution["quantiles"]
    most = max(counts, default=0)
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(counts))

    def along(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - edges[0]) / (edges[-1] - edges[0])

    # What is exactly 0 is in the first bin from 0 on, but no better than the control: it stands below the rest of it.
    level = sum(count for edge, count in zip(edges, counts, strict=False) if edge >= 0) - distribution["above_zero"]
    bars = [
        box(_LEFT + step * i + 0.4, _BASE - high, step - 0.8, high - low,
            fill="var(--good)" if good else "var(--soft)", fill_opacity=0.8)
        for i, count in enumerate(counts)
        for not_above in [count if edges[i] < 0 else min(count, level) if edges[i] == 0 else 0]
        for low, high, good in _stacked(count, not_above, most)
    ]  # fmt: skip
    median = quantiles["0.5"]
    x = along(median)
    return drawing(
        "Lift over the strongest control",
        f"{distribution['n']:,} explanations; median {wording.lift(median)}, 5 % below "
        f"{wording.lift(quantiles['0.05'])}, 5 % above {wording.lift(quantiles['0.95'])}; "
        f"{distribution['above_zero']:,} above 0, of "
        f"{distribution['lower_limit_above_zero']:,} the lower limit of the interval too.",
        _WIDTH,
        _HEIGHT,
        group(
            words(_LEFT - 4, _TOP + 4, f"{most:,}" if most < 10_000 else f"{most / 1000:,.0f}k", text_anchor="end"),
            fill="var(--soft)", font_size=10,
        ),
        group(*bars),
        line(_LEFT, _BASE, _WIDTH - _RIGHT, _BASE, stroke="var(--line)"),
        line(along(0), _TOP - 4, along(0), _BASE, stroke="var(--ink)", stroke_opacity=0.5),
        line(x, _TOP - 2, x, _BASE, stroke="var(--ink)", stroke_dasharray="3 2"),
        over(x + (4 if median < 0.3 else -4), _TOP - 3, f"median {wording.lift(median)}",
             text_anchor="start" if median < 0.3 else "end", fill="var(--ink)"),
        group(
            *(words(along(t), _BASE + 13, wording.minus(f"{t:g}"), text_anchor="middle")
              for t in (-0.5, 0.0, 0.5)),
            words(_LEFT, _BASE + 13, "−1", text_anchor="middle"),
            words(_WIDTH - _RIGHT, _BASE + 13, "1", text_anchor="end"),
            words((_LEFT + _WIDTH) / 2, _BASE + 26, "lift over the strongest control", text_anchor="middle"),
            fill="var(--soft)", font_size=10,
        ),
        class_="histogram",
    )  # fmt: skip
