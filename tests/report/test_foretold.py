"""The drawing of R² by predictor: every predictor once, dots where the numbers are, words for those who see none."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from neuronagent.predictability.view import PredictabilityView, PredictorView
from neuronagent.report.foretold import foretold
from tests.report.sample_content import ATTACKS, predictor
from tests.report.sample_content import foretold as sample


def view_of(*rows: PredictorView) -> PredictabilityView:
    return {**sample(), "predictors": list(rows), "headline": rows[0] if rows else None}


def drawn(view: PredictabilityView) -> ElementTree.Element:
    found = foretold(view)
    assert found is not None
    return ElementTree.fromstring(found)


def dots(root: ElementTree.Element) -> dict[float, float]:
    """Where the dots are: x by y."""
    paths = [element.attrib["d"] for element in root.iter("path")]
    ends = [re.findall(r"M([\d.]+) ([\d.]+)h0(?![\d.])", path) for path in paths]
    return {float(y): float(x) for found in ends for x, y in found}


def test_baselines_come_first_then_layers_in_order_and_the_mean_not_at_all() -> None:
    root = drawn(sample())
    said = [element.text or "" for element in root.iter("text")]
    names = ["token", "previous token", "position", "layer 28", "layer 30"]
    assert [text for text in said if text in (*names, "mean")] == names
    assert [text for text in said if text in (".12", ".030", "−.070", ".41", ".62")] == [
        ".12", ".030", "−.070", ".41", ".62"
    ]  # fmt: skip
    bold = [element.text for element in root.iter("text") if element.get("font-weight")]
    assert bold == ["layer 30", ".62"]
    described = root.findtext("desc") or ""
    for words in ("token .12 [.080–.16]", "layer 30 .62 [.58–.66]"):
        assert words in described


def test_dots_stand_at_their_r2_on_an_even_scale() -> None:
    values = (0.0, 0.25, 0.5, 1.0, -0.4)
    places = dots(
        drawn(view_of(*(predictor(f"layer {i}", i, "earlier", r2, width=None) for i, r2 in enumerate(values))))
    )
    x = [places[y] for y in sorted(places)]
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.2)
    assert x[3] - x[2] == pytest.approx(2 * (x[1] - x[0]), abs=0.2)
    assert x[0] - x[4] == pytest.approx(0.4 * (x[3] - x[0]), abs=0.2)


def test_long_numbers_end_within_the_drawing() -> None:
    root = drawn(view_of(predictor("layer 1", 1, "previous", -0.00029), predictor("token", None, "token", 0.2)))
    (label,) = [element for element in root.iter("text") if element.text == "−.00029"]
    assert float(label.attrib["x"]) + 7 * len("−.00029") <= float(root.attrib["width"])


@pytest.mark.parametrize("r2", [-40.0, 1.5, -0.5000001, math.nextafter(1, 2), 0.0])
def test_no_value_is_drawn_outside(r2: float) -> None:
    root = drawn(view_of(predictor("layer 1", 1, "previous", r2, width=3.0), predictor("token", None, "token", 0.2)))
    width, height = (float(root.attrib[key]) for key in ("width", "height"))
    for y, x in dots(root).items():
        assert 0 <= x <= width
        assert 0 <= y <= height
    for start, length in re.findall(
        r"M([\d.]+) [\d.]+h([\d.]+)", " ".join(e.get("d") or "" for e in root.iter("path"))
    ):
        assert 0 <= float(start) <= float(start) + float(length) <= width


def test_without_a_value_there_is_no_drawing_and_names_are_never_markup() -> None:
    assert foretold(view_of()) is None
    assert foretold(view_of(predictor("layer 1", 1, "previous", None))) is None
    root = drawn(view_of(predictor(ATTACKS, 1, "previous", 0.5)))
    assert {element.tag for element in root.iter()} <= {"svg", "title", "desc", "g", "line", "path", "text"}


def test_many_layers_stand_closer_and_take_little() -> None:
    rows = [predictor(f"layer {i}", i, "earlier", i / 32) for i in range(32)]
    found = foretold(view_of(*rows))
    assert found is not None
    assert len(dots(ElementTree.fromstring(found))) == 32
    assert len(found.encode()) < 8_000
