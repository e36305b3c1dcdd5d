"""Small histograms, read back from their bars."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.layout import HISTOGRAM_EDGES
from neuronagent.report.content import Histogram
from neuronagent.report.histogram import histogram, lift_distribution

EDGES = [float(edge) for edge in HISTOGRAM_EDGES]


def made(counts: dict[int, int], tau: float | None = None) -> Histogram:
    return {"edges": EDGES, "counts": [counts.get(place, 0) for place in range(len(EDGES) + 1)], "tau": tau}


def drawn(found: Histogram, place: int = 0) -> Element:
    return ElementTree.fromstring(str(histogram(found, place)))


def bars(svg: Element) -> list[Element]:
    return list(svg.iter("rect"))


def words(svg: Element) -> list[str]:
    return [e.text or "" for e in svg.iter("text")]


def height(bar: Element) -> float:
    return float(bar.attrib["height"])


def test_a_bar_stands_where_its_half_octave_is_and_says_its_count() -> None:
    svg = drawn(made({0: 5, 20: 1000, 21: 30, 33: 2}))
    assert [bar.findtext("title") for bar in bars(svg)] == [
        "|post| below 0.00098: 5",
        "|post| 0.71 to 1: 1,000",
        "|post| 1 to 1.4: 30",
        "|post| 64 and more: 2",
    ]
    x = [float(bar.attrib["x"]) for bar in bars(svg)]
    assert (x[1] - x[0]) / (x[3] - x[0]) == pytest.approx(20 / 33, abs=1e-3)
    (one,) = [e for e in svg.iter("text") if e.text == "1" and e.get("text-anchor") == "middle"]
    assert float(one.attrib["x"]) == pytest.approx(x[2] - 0.4, abs=0.1)


@given(st.dictionaries(st.integers(0, 33), st.integers(1, 10**13), min_size=1))
def test_bars_are_as_high_as_the_logarithm_of_their_counts(counts: dict[int, int]) -> None:
    svg = drawn(made(counts))
    found = [height(bar) for bar in bars(svg)]
    assert len(found) == len(counts)
    base = max(float(bar.attrib["y"]) + height(bar) for bar in bars(svg))
    assert all(0 <= float(bar.attrib["y"]) < base for bar in bars(svg))
    pairs = sorted(zip((count for _, count in sorted(counts.items())), found, strict=True))
    for (less, low), (more, high) in pairwise(pairs):
        assert (high - low) >= -0.02
        assert less == more or high - low == pytest.approx(
            (math.log10(more / less)) * (pairs[-1][1] - 3) / max(1e-9, math.log10(pairs[-1][0])), abs=0.05
        )
    assert min(found) >= 2.9
    assert f"n = {sum(counts.values()):,}" in words(svg)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "10"),
        (10, "10"),
        (800, "100"),
        (1000, "1k"),
        (10**5, "100k"),
        (10**9, "1G"),
        (10**13, "10T"),
        (10**22, "1e22"),
    ],
)
def test_the_axis_of_counts_names_powers_of_ten(count: int, said: str) -> None:
    axis = [
        e for e in drawn(made({20: count})).iter("text") if e.get("text-anchor") == "end" and float(e.attrib["x"]) < 40
    ]
    assert axis[0].text == "1"
    assert axis[-1].text == said


def test_strong_tokens_are_full_and_begin_at_tau() -> None:
    svg = drawn(made({18: 900, 19: 80, 21: 15, 22: 5}, tau=1.0))
    assert [bar.get("fill-opacity") for bar in bars(svg)] == ["0.45", "0.45", None, None]
    (mark,) = [e for e in svg.iter("line") if e.get("stroke-dasharray")]
    assert float(mark.attrib["x1"]) == pytest.approx(float(bars(svg)[2].attrib["x"]) - 0.4, abs=0.02)
    assert "τ 1: 2.0 %" in words(svg)
    assert "20 strong ones, from τ = 1 on" in (svg.findtext("desc") or "")


def test_without_a_tau_nothing_is_marked() -> None:
    svg = drawn(made({20: 7}))
    assert not any("τ" in said for said in words(svg))
    assert [bar.get("fill-opacity") for bar in bars(svg)] == [None]
    assert svg.findtext("desc") == "7 tokens, half of them below 1."


@pytest.mark.parametrize("place", range(4))
def test_each_combination_has_its_colour(place: int) -> None:
    assert f'fill="var(--c{place})"' in histogram(made({20: 7}), place)


@pytest.mark.parametrize("found", [made({}), {"edges": [], "counts": [3], "tau": None}, made({}, tau=1.0)])
def test_no_tokens_are_said_to_be_none(found: Histogram) -> None:
    assert words(drawn(found)) == ["no tokens"]


def lifts(counts: dict[int, int], **changed: Any) -> dict[str, Any]:
    quantiles = {"0": -0.3, "0.05": -0.1, "0.25": 0.1, "0.5": 0.25, "0.75": 0.3, "0.95": 0.45, "1": 0.5}
    edges = [round(-1 + step / 10, 1) for step in range(21)]
    shown = {"edges": edges, "counts": [counts.get(place, 0) for place in range(20)]}
    n = sum(counts.values())
    return {"n": n, "quantiles": quantiles, "histogram": shown, "above_zero": 9, "lower_limit_above_zero": 7} | changed


def test_lifts_have_bars_in_proportion_and_those_above_zero_are_told_apart() -> None:
    svg = ElementTree.fromstring(str(lift_distribution(lifts({8: 2, 12: 10, 13: 5}))))
    assert [height(bar) / height(bars(svg)[1]) for bar in bars(svg)] == pytest.approx([0.2, 1, 0.5])
    assert [bar.get("fill") for bar in bars(svg)] == ["var(--soft)", "var(--good)", "var(--good)"]
    assert "median +.25" in words(svg)
    said = svg.findtext("desc") or ""
    for part in ("17 explanations", "median +.25", "5 % below −.10", "5 % above +.45", "9 above 0", "of 7 the lower"):
        assert part in said


def test_lifts_of_exactly_zero_are_not_drawn_as_above_zero() -> None:
    svg = ElementTree.fromstring(str(lift_distribution(lifts({10: 4, 12: 4}, above_zero=5))))
    assert [bar.get("fill") for bar in bars(svg)] == ["var(--soft)", "var(--good)", "var(--good)"]
    assert [height(bar) / height(bars(svg)[2]) for bar in bars(svg)] == pytest.approx([0.75, 0.25, 1])


def test_a_single_lift_is_a_distribution_too() -> None:
    svg = ElementTree.fromstring(str(lift_distribution(lifts({19: 1}, above_zero=1))))
    assert len(bars(svg)) == 1
