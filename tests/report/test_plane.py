"""The drawing of a neuron's three cosines, read back from its marks."""

from __future__ import annotations

import math
import re
from collections import Counter
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from neuronagent.report.content import NeuronContent
from neuronagent.report.cosine_strip import shade
from neuronagent.report.plane import plane
from tests.report.sample_content import hostile, imported_sample, sample

STEP = 1 / 500


def drawn(content: NeuronContent, **options: int) -> Element:
    return ElementTree.fromstring(str(plane(content, **options)))


def number(element: Element, name: str) -> float:
    return float(element.attrib[name])


def frame(svg: Element) -> tuple[float, float, float]:
    """Left, top and side of the square, which is the rectangle that is drawn as a mere line."""
    (found,) = [e for e in svg.iter("rect") if e.get("fill") == "none"]
    assert found.get("width") == found.get("height")
    return number(found, "x"), number(found, "y"), number(found, "width")


def cosines(svg: Element, x: float, y: float) -> tuple[float, float]:
    """What a place in the square stands for."""
    left, top, side = frame(svg)
    return 2 * (x - left) / side - 1, 1 - 2 * (y - top) / side


def dots(svg: Element) -> dict[str, list[tuple[float, float]]]:
    """The neurons of the layer by colour: where each step of a path ends."""
    (layer,) = [g for g in svg.iter("g") if g.get("transform", "").endswith(")") and g.get("stroke-linecap") == "round"]
    move = re.fullmatch(r"translate\((\S+) (\S+)\) scale\((\S+)\)", layer.attrib["transform"])
    assert move is not None
    right, down, scale = map(float, move.groups())
    found: dict[str, list[tuple[float, float]]] = {}
    for path in layer.iter("path"):
        x = y = 0
        for step in re.findall(r"m(-?\d+),?(-?\d+)h0", path.attrib["d"]):
            x, y = x + int(step[0]), y + int(step[1])
            place = cosines(svg, right + scale * x, down + scale * y)
            found.setdefault(path.attrib["stroke"], []).append(place)
        assert re.sub(r"m-?\d+,?-?\d+h0", "", path.attrib["d"]) == ""
    return found


def io_class(x: float, y: float) -> str:
    """The class by the table of definitions, from approx(cos(in,out)) and |approx(cos(gate,out))|."""
    rows = {(1, 1): "enrichment", (1, 0): "conditional enrichment", (-1, 1): "depletion",
            (-1, 0): "conditional depletion", (0, 1): "proportional change", (0, 0): "orthogonal output"}  # fmt: skip
    return rows[(y > 0.5) - (y < -0.5), abs((x > 0.5) - (x < -0.5))]


def rings(svg: Element) -> list[Element]:
    return [c for c in svg.iter("circle") if c.get("stroke-dasharray") is None]


@pytest.mark.parametrize("place", [(-0.719, -0.8523), (0.0, 0.0), (1.0, 1.0), (-1.0, 0.5), (0.3, -1.0)])
def test_the_neuron_is_where_its_cosines_are(place: tuple[float, float]) -> None:
    content = sample()
    assert content["geometry"] is not None
    content["geometry"] |= {"cos_gate_out": place[0], "cos_in_out": place[1]}
    svg = drawn(content)
    found = {cosines(svg, number(c, "cx"), number(c, "cy")) for c in rings(svg)}
    assert len(rings(svg)) == 3
    assert all(pair == pytest.approx(place, abs=1e-3) for pair in found)


def test_every_neuron_of_the_layer_is_a_dot_where_it_belongs_in_the_colour_of_its_third_cosine() -> None:
    content = sample()
    assert content["plane"] is not None
    layer = content["plane"]["layer"]
    by_colour: dict[str, list[tuple[float, float]]] = {}
    for x, y, third in layer:
        level = sum(abs(third) >= edge for edge in (0.1, 0.3, 0.5, 0.7))
        by_colour.setdefault(shade(level, third >= 0), []).append((x, y))
    found = dots(drawn(content))
    assert found.keys() == by_colour.keys()
    assert len(found) > 5
    for colour, places in found.items():
        apart = np.abs(np.array(places)[:, None] - np.array(by_colour[colour])[None]).max(axis=-1)
        assert apart.min(axis=0).max() <= STEP / 2 + 1e-6
        assert apart.min(axis=1).max() <= STEP / 2 + 1e-6


def test_the_squares_are_the_io_classes() -> None:
    svg = drawn(sample())
    squares = [e for e in svg.iter("rect") if re.fullmatch(r"var\(--[a-z-]+\)", e.get("fill", ""))]
    assert len(squares) == 9
    counted: Counter[str] = Counter()
    for x in (-0.99, -0.75, -0.51, -0.49, 0.0, 0.49, 0.51, 0.99):
        for y in (-0.99, -0.51, -0.49, 0.2, 0.49, 0.51, 0.99):
            inside = [
                e
                for e in squares
                for low in [cosines(svg, number(e, "x"), number(e, "y") + number(e, "height"))]
                for high in [cosines(svg, number(e, "x") + number(e, "width"), number(e, "y"))]
                if low[0] < x < high[0] and low[1] < y < high[1]
            ]
            assert [e.get("fill") for e in inside] == [f"var(--{io_class(x, y).replace(' ', '-')})"]
            counted[io_class(x, y)] += 1
    assert len(counted) == 6


def test_the_circle_is_the_unit_disk() -> None:
    svg = drawn(sample())
    (disk,) = [c for c in svg.iter("circle") if c.get("stroke-dasharray")]
    r = number(disk, "r")
    assert cosines(svg, number(disk, "cx"), number(disk, "cy")) == pytest.approx((0, 0))
    assert cosines(svg, number(disk, "cx") + r, number(disk, "cy") - r) == pytest.approx((1, 1))


def test_the_grey_cross_is_where_unrelated_vectors_are() -> None:
    content = sample()
    assert content["baselines"] is not None
    content["baselines"]["cos_gate_out"] = {"lo": -0.2, "hi": 0.2}
    content["baselines"]["cos_in_out"] = {"lo": -0.1, "hi": 0.3}
    svg = drawn(content)
    (bands,) = [g for g in svg.iter("g") if g.get("fill") == "currentColor" and g.get("fill-opacity") == "0.1"]
    across, up = bands.iter("rect")
    x, width = number(across, "x"), number(across, "width")
    assert cosines(svg, x, 0)[0] == pytest.approx(-0.2, abs=1e-3)
    assert cosines(svg, x + width, 0)[0] == pytest.approx(0.2, abs=1e-3)
    y, height = number(up, "y"), number(up, "height")
    assert cosines(svg, 0, y)[1] == pytest.approx(0.3, abs=1e-3)
    assert cosines(svg, 0, y + height)[1] == pytest.approx(-0.1, abs=1e-3)


@pytest.mark.parametrize(("convention", "share"), [("normalised", 0.72), ("raw", 0.86)])
def test_the_third_cosine_is_marked_on_the_scale_of_the_colours(convention: str, share: float) -> None:
    content = sample()
    content["provenance"]["sign_convention"] = convention
    assert content["geometry"] is not None
    content["geometry"]["cos_gate_in"] = 0.72
    svg = drawn(content)
    left, top, side = frame(svg)
    (mark,) = [e for e in svg.iter("line") if number(e, "y1") > top + side and e.get("stroke-width") == "2"]
    assert (number(mark, "x1") - left) / side == pytest.approx(share, abs=1e-3)
    cells = [e for e in svg.iter("rect") if "color-mix" in e.get("fill", "")]
    assert sum(number(e, "width") for e in cells) == pytest.approx(side, abs=0.1)
    (under,) = [e for e in cells if number(e, "x") <= number(mark, "x1") < number(e, "x") + number(e, "width")]
    assert under.get("fill") == shade(4, positive=True)


def test_who_cannot_see_it_is_told() -> None:
    svg = drawn(sample())
    assert svg.get("role") == "img"
    said = svg.findtext("desc") or ""
    assert "31.9634, depletion: cos(gate,out) −0.72, cos(in,out) −0.85, cos(gate,in) +0.72" in said
    assert "1,500 of the layer's 11,008 neurons" in said
    assert svg.findtext("title") == "Where 31.9634 lies among the IO classes"


def test_its_class_stands_out_where_it_lies_and_nowhere_else() -> None:
    bold = [e for e in drawn(sample()).iter("text") if e.get("font-weight") == "700"]
    assert [e.text for e in bold].count("depletion") == 1


@pytest.mark.parametrize("key", ["cos_gate_in", "cos_gate_out", "cos_in_out"])
@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_cosine_that_does_not_exist_is_not_drawn(key: str, value: float | None) -> None:
    content = sample()
    assert content["geometry"] is not None
    content["geometry"][key] = value  # pyright: ignore[reportArgumentType]
    assert plane(content) == ""


def test_without_geometry_there_is_no_drawing() -> None:
    assert plane(imported_sample()) == ""


def test_what_the_layer_lacks_is_left_out() -> None:
    content = sample()
    content["plane"] = {"neurons": 4, "layer": [(math.nan, 0.1, 0.2), (0.1, 0.2, 0.3), (1.0000001, -1.2, 0.0)]}
    content["baselines"] = {"cos_gate_out": {"lo": math.nan, "hi": math.nan}}
    found = [place for places in dots(drawn(content)).values() for place in places]
    assert sorted(found) == [pytest.approx((0.1, 0.2), abs=2e-3), pytest.approx((1, -1), abs=2e-3)]
    content["plane"], content["baselines"] = None, None
    assert dots(drawn(content)) == {}
    assert len(rings(drawn(content))) == 3


def test_fewer_dots_are_spread_over_the_layer_and_the_drawing_is_small() -> None:
    content = sample()
    assert sum(map(len, dots(drawn(content, dots=100)).values())) in range(60, 101)
    assert dots(drawn(content, dots=0)) == {}
    assert len(str(plane(content))) < 20_000
    assert len(str(plane(content, dots=100))) < 9_000


def test_no_text_of_others_becomes_a_mark() -> None:
    assert [e.tag for e in drawn(hostile()).iter()] == [e.tag for e in drawn(sample()).iter()]
