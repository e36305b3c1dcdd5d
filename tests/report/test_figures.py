"""The figures of a model's map: what is drawn is what was counted, in a page's colours and in nobody's way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from neuronagent.domain import IO_CLASSES, IOClass
from neuronagent.errors import StorageError, UsageError
from neuronagent.report import environment
from neuronagent.report.figures import FIGURES, drawing, inline, saving
from neuronagent.report.figures.looks import FAMILIES, PAGE, PRINTED, TINT, VARIABLES
from neuronagent.report.figures.roles import tint
from neuronagent.report.figures.scatter import MOST_PANELS
from neuronagent.report.model_content import ModelContent
from tests.report.model_sample import ORTHOGONAL, layer, sample

pytest.importorskip("matplotlib")

ONE_CLASS = (layer(0, only=ORTHOGONAL), layer(1, only=ORTHOGONAL))
ODD: dict[str, Any] = {
    "one layer": (layer(0),),
    "one neuron per layer": tuple(layer(number, neurons=1) for number in range(3)),
    "one class": ONE_CLASS,
    "layers that are not the first": (layer(7), layer(30)),
    "no numbers": (replace(layer(0), cosines=np.full((40, 3), np.nan)),),
}


def texts(figure: Any) -> list[str]:
    """All text in the axes of a figure that stands in a place of its own."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_made_of_one_neuron_and_takes_its_title_as_it_is(name: str) -> None:
    figure = drawing.DRAW[name](*sample(layer(0, neurons=1)), PRINTED, "$a_{b}$ <script>")
    assert figure.axes
    assert figure.get_suptitle() == "$a_{b}$ <script>"


def test_every_figure_that_is_named_has_a_drawing_in_the_same_order() -> None:
    assert tuple(drawing.DRAW) == FIGURES


@pytest.mark.slow
def test_bars_are_the_shares_of_the_classes_and_fill_a_layer() -> None:
    content, points = sample()
    (axes,) = drawing.DRAW["classes"](content, points, PRINTED, None).axes
    containers: Any = axes.containers
    filled = [bars for bars in containers if bars.patches[0].get_facecolor()[3] > 0]
    labels = [c for c in (*(c for c in IO_CLASSES if c.manipulates_input), ORTHOGONAL) if total(content, c)]
    for bars, label in zip(filled, labels, strict=True):
        heights = [bar.get_height() for bar in bars]
        assert heights == pytest.approx([100 * row["classes"][str(label)] / 40 for row in content["layers"]])
        assert (bars.patches[0].get_alpha() == 1) is not label.atypical
    assert [bar.get_y() + bar.get_height() for bar in filled[-1]] == pytest.approx([100, 100, 100])
    hatched = sum(bars.patches[0].get_hatch() is not None for bars in containers)
    assert hatched == sum(label.atypical for label in labels) > 0


def total(content: ModelContent, label: IOClass) -> int:
    return sum(row["classes"][str(label)] for row in content["layers"])


def test_an_axis_that_ends_early_says_so_and_a_full_one_does_not() -> None:
    few = {(None, ORTHOGONAL): 990, (None, IOClass("depletion")): 10}
    rare = replace(layer(0, neurons=1000), counts=few)
    for own, end in ((rare, 2), (ONE_CLASS[0], 100), (layer(0, neurons=4, only=IOClass("depletion")), 100)):
        (axes,) = drawing.DRAW["classes"](*sample(own), PRINTED, None).axes
        assert axes.get_ylim() == (0, end)
        assert ("the axis ends at 2 %" in axes.get_title("left")) is (end == 2)


@pytest.mark.slow
def test_dots_are_the_neurons_in_an_image_and_their_colour_is_cos_gate_in() -> None:
    content, points = sample(layer(0), layer(1))
    figure = drawing.DRAW["scatter"](content, points, PRINTED, None)
    for axes, cloud in zip(figure.axes, points.clouds.values(), strict=False):
        dots: Any = axes.collections[0]
        assert dots.get_rasterized()
        shown: Any = dots.get_offsets()
        assert np.array_equal(np.sort(shown, axis=0), np.sort(cloud[:, 1:], axis=0))
        order = np.argsort(np.abs(cloud[:, 0]), kind="stable")
        assert np.array_equal(shown, cloud[order][:, 1:])
        assert len({tuple(colour) for colour in dots.get_facecolors()}) > 20


def test_the_regions_of_a_scatter_are_where_the_rule_puts_the_classes() -> None:
    from neuronagent.index.io_class import classify
    from neuronagent.report.figures.scatter import _regions  # pyright: ignore[reportPrivateUsage]

    covered = 0.0
    for name, (x, y, width, height) in _regions(0.5):
        (place,) = classify(np.array([[0.0, x + width / 2, y + height / 2]]))
        assert IO_CLASSES[place].name == name
        covered += width * height
    assert covered == pytest.approx(4)


def test_a_layer_without_a_correlation_has_no_mark() -> None:
    still = replace(layer(1), gate_plus=np.full(40, 0.5))
    content, points = sample(layer(0), still, layer(2))
    assert [one["r"] is None for one in content["frequency"]["layers"]] == [False, True, False]
    right = drawing.DRAW["frequency"](content, points, PRINTED, None).axes[1]
    marks = [line for line in right.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in marks] == [0, 2]  # pyright: ignore[reportIndexIssue, reportArgumentType]


def test_every_cell_of_roles_and_classes_shows_its_number_and_what_was_expected() -> None:
    content, points = sample()
    said = texts(drawing.DRAW["roles"](content, points, PRINTED, None))
    cells = [cell for row in content["roles"]["cells"].values() for cell in row.values()]
    assert said[::2] == [f"{cell['count']:,}" for cell in cells]
    assert all(text.startswith("exp. ") for text in said[1::2])


def test_this_model_is_on_top_of_the_published_ones_and_named_by_no_text_of_its_own() -> None:
    content, points = sample(model="<b>$x$</b>")
    (axes,) = drawing.DRAW["medians"](content, points, PRINTED, None).axes
    own = next(line for line in axes.lines if line.get_label() == "this model")
    assert list(own.get_ydata()) == content["medians"]["lines"][0]["medians"]  # pyright: ignore[reportArgumentType]
    assert own.get_zorder() > max(line.get_zorder() for line in axes.lines if line is not own)
    assert sum(str(line.get_label()).startswith("_") for line in axes.lines) == 1  # the line at 0
    assert len(axes.lines) == 2 + 12
    assert {"gemma-2-2b, post-norm raw", "Yi-6B"} <= {str(line.get_label()) for line in axes.lines}


# Within a page


@pytest.fixture(scope="module")
def inlined() -> dict[str, str]:
    content, points = sample(layer(0, neurons=6), layer(1, neurons=6))
    content["medians"]["lines"] = content["medians"]["lines"][:2]
    content["medians"]["lines"][1]["model"] = "a/<script>&$x$"
    names = ("classes", "medians")
    return {name: str(inline.svg(drawing.DRAW[name](content, points, PAGE, None), name)) for name in names}


def test_figures_in_one_page_share_no_ids_and_refer_only_to_their_own(inlined: dict[str, str]) -> None:
    seen: set[str] = set()
    for name, svg in inlined.items():
        ids = re.findall(r'\bid="([^"]*)"', svg)
        assert len(ids) == len(set(ids)) > 0
        assert all(own.startswith(f"{name}-") for own in ids)
        referred = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg))
        assert {one or other for one, other in referred} == set(ids)
        assert not seen & set(ids)
        seen |= set(ids)


def test_a_figure_in_a_page_has_the_pages_colours_and_brings_nothing_along(inlined: dict[str, str]) -> None:
    style = str(environment.asset("base.css"))
    for svg in inlined.values():
        assert not re.search("|".join(VARIABLES), svg)
        used = set(re.findall(r"var\((--[\w-]+)\)", svg))
        assert {"--ink", "--soft", "--paper"} <= used
        assert all(f"{variable}:" in style for variable in used)
        assert not re.search(r"<style|<script|<metadata|<!--|http|DejaVu", svg)
        assert ElementTree.fromstring(svg).get("role") == "img"


def test_text_of_a_figure_stays_text(inlined: dict[str, str]) -> None:
    assert "&lt;script&gt;&amp;$x$" in inlined["medians"]


def test_text_can_be_read_on_every_tint_and_no_colour_is_lost_on_light_or_dark() -> None:
    for scheme in schemes():
        for side in ("plus", "minus"):
            assert contrast(scheme["ink"], mixed(scheme[side], scheme["paper"], TINT)) >= 4.5
        for colour in FAMILIES:
            assert contrast(rgb(colour), scheme["paper"]) >= 3
    assert tint(1e9, PRINTED) == (PRINTED.plus, TINT)
    assert tint(-5, PRINTED) == (PRINTED.minus, TINT / 2)
    assert tint(None, PRINTED)[1] == 0


Colour = tuple[float, float, float]


def schemes() -> Iterator[dict[str, Colour]]:
    """The colours of base.css in the light scheme and in the dark one."""
    style = str(environment.asset("base.css"))
    light, dark = style.split("(prefers-color-scheme: dark)")
    for part in (light, dark.split("@media print")[0]):
        yield {name: rgb(code) for name, code in re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)}


def rgb(code: str) -> Colour:
    return int(code[1:3], 16) / 255, int(code[3:5], 16) / 255, int(code[5:7], 16) / 255


def mixed(colour: Colour, paper: Colour, alpha: float) -> Colour:
    a, b, c = (alpha * own + (1 - alpha) * below for own, below in zip(colour, paper, strict=True))
    return a, b, c


def contrast(one: Colour, other: Colour) -> float:
    """As WCAG has it."""

    def luminance(colour: Colour) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# As files


@pytest.mark.slow
def test_the_same_figure_is_the_same_file_and_replaces_the_one_before(tmp_path: Path) -> None:
    content, points = sample(layer(0, neurons=6))
    for name in ("one.svg", "two.SVG", "two.SVG"):
        saving.save(drawing.DRAW["classes"](content, points, PRINTED, "x"), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.SVG").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.svg", "two.SVG"]


@pytest.mark.parametrize(
    ("file", "said"),
    [("x.pdf", "is no picture"), ("x", "is no picture"), ("no/x.svg", "there is no folder"), ("d.svg", "is a folder")],
)
def test_what_cannot_become_a_picture_is_refused_before_any_work(tmp_path: Path, file: str, said: str) -> None:
    (tmp_path / "d.svg").mkdir()
    with pytest.raises(UsageError, match=said):
        saving.check_plot(str(tmp_path / file))


def test_a_file_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    content, points = sample(layer(0, neurons=6))
    figure = drawing.DRAW["classes"](content, points, PRINTED, None)
    with pytest.raises(StorageError, match="cannot be written"):
        saving.save(figure, tmp_path / "gone" / "x.svg")
    assert MOST_PANELS >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("odd", ODD)
def test_every_figure_becomes_files_and_part_of_a_page_whatever_the_model(name: str, odd: str) -> None:
    content, points = sample(*ODD[odd])
    figure = drawing.DRAW[name](content, points, PRINTED, "日本 $x_{1}$ <b>")
    assert saving.image(figure, ".png").startswith(b"\x89PNG")
    ElementTree.fromstring(saving.image(figure, ".svg"))
    ElementTree.fromstring(str(inline.svg(drawing.DRAW[name](content, points, PAGE, None), name)))
