"""The page of a neuron in a real browser: layout, colours, values on hover and focus, and that it does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

from neuronagent.report.content import NeuronContent
from neuronagent.report.neuron_page import Links, neuron_page
from tests.browser.chromium import NARROW, WIDE, Scheme, opened, sideways
from tests.report.sample_content import bare, big, hostile, imported_sample, sample

pytestmark = pytest.mark.browser
TOKENS = ".t[role] i, .t[role] b"
_TIP = """e => {
  const tip = getComputedStyle(e, "::after"), box = e.closest(".t").getBoundingClientRect();
  if (tip.display === "none" || tip.content === "none") return null;
  const left = box.left + parseFloat(tip.left);
  return { said: tip.content, left, right: left + parseFloat(tip.width), seen: tip.visibility };
}"""
_CONTRAST = """e => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parts = (colour, under) => {
    for (const c of [under, colour]) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const style = getComputedStyle(e), paper = getComputedStyle(document.body).backgroundColor;
  const both = [style.color, style.backgroundColor].map((colour) => light(parts(colour, paper)));
  const [low, high] = both.sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[[NeuronContent], Path]:
    """Writes the page of a content and returns where."""

    def write(content: NeuronContent) -> Path:
        links = Links(neuron=lambda neuron: f"{neuron}.html", home="index.html", files={"JSON": "31.9634.json"})
        path = tmp_path / "31.9634.html"
        path.write_text(neuron_page(content, links), encoding="utf-8")
        return path

    return write


PageOf = Callable[[NeuronContent], Path]


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("made", [sample, imported_sample, bare, big, hostile])
def test_a_page_fits_its_window_and_asks_for_nothing(
    page_of: PageOf, made: Callable[[], NeuronContent], size: tuple[int, int], scheme: Scheme
) -> None:
    with opened(page_of(made()), size=size, scheme=scheme) as (page, noted):
        assert sideways(page) == 0
        assert _cut_off(page) == []
        noted.check()


@pytest.mark.parametrize("made", [sample, imported_sample, bare, big, hostile])
def test_a_window_of_320_pixels_is_wide_enough(page_of: PageOf, made: Callable[[], NeuronContent]) -> None:
    """What a window of 1,280 pixels is at a zoom of 400 %."""
    with opened(page_of(made()), size=(320, 640)) as (page, noted):
        assert sideways(page) == 0
        noted.check()


def test_the_columns_stand_side_by_side_where_there_is_room_and_below_each_other_where_not(page_of: PageOf) -> None:
    path = page_of(sample())
    with opened(path, size=WIDE) as (page, _):
        boxes = [_box(one) for one in page.locator(".columns > article").all()]
        assert len({box["y"] for box in boxes}) == 1
        assert len({box["x"] for box in boxes}) == 4
        heads = [_box(one)["y"] for one in page.locator(".columns h4", has_text="Examples").all()]
        assert max(heads) - min(heads) <= 1  # their rows begin at the same height, whatever stands above
    with opened(path, size=NARROW) as (page, _):
        boxes = [_box(one) for one in page.locator(".columns > article").all()]
        assert len({box["x"] for box in boxes}) == 1
        assert [box["y"] for box in boxes] == sorted({box["y"] for box in boxes})


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_marked_token_is_in_the_middle_of_its_column(page_of: PageOf, size: tuple[int, int]) -> None:
    with opened(page_of(sample()), size=size) as (page, _):
        for example in page.locator(".t[role]").all():
            own, peak = _box(example), _box(example.locator("b"))
            assert abs(own["x"] + own["width"] / 2 - peak["x"] - peak["width"] / 2) <= 2


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_pointing_at_a_token_shows_its_values_within_the_window(
    page_of: PageOf, size: tuple[int, int], script: bool
) -> None:
    with opened(page_of(sample()), size=size, script=script) as (page, noted):
        for number in (0, 3, -1):
            token = page.locator(".t[role]").first.locator("i, b").nth(number)
            token.hover()
            shown = token.evaluate(_TIP)
            values = (token.get_attribute("data-v") or "").split("\t")
            assert all(value in shown["said"] for value in values)
            assert "gate" in shown["said"]
            assert "writes" in shown["said"]
            assert shown["left"] >= 0
            assert shown["right"] <= size[0]
        noted.check()


def test_an_example_is_one_tab_stop_and_arrow_keys_move_within_it(page_of: PageOf) -> None:
    with opened(page_of(sample())) as (page, noted):
        first = page.locator(".t[role]").first
        tokens = first.locator("i, b")
        peak = first.locator("b")
        peak.focus()
        assert peak.evaluate(_TIP) is not None
        at = peak.evaluate("e => [...e.closest('.t').querySelectorAll('i, b')].indexOf(e)")
        page.keyboard.press("ArrowRight")
        _focused(page, tokens.nth(at + 1))
        said = page.locator("#said").text_content() or ""
        assert all(value in said for value in (tokens.nth(at + 1).get_attribute("data-v") or "").split("\t"))
        page.keyboard.press("Home")
        _focused(page, tokens.first)
        page.keyboard.press("ArrowLeft")  # nothing lies before
        _focused(page, tokens.first)
        page.keyboard.press("End")
        _focused(page, tokens.last)
        assert tokens.last.evaluate(_TIP) is not None
        page.keyboard.press("Escape")
        assert tokens.last.evaluate(_TIP) is None
        page.keyboard.press("ArrowLeft")
        assert tokens.nth(-2).evaluate(_TIP) is not None
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        page.keyboard.press("Shift+Tab")
        _focused(page, tokens.nth(-2))
        noted.check()


def test_a_tap_shows_the_values_of_a_token(page_of: PageOf) -> None:
    with opened(page_of(sample()), size=NARROW) as (page, _):
        token = page.locator(".t[role]").first.locator("i").nth(2)
        token.click()
        _focused(page, token)
        assert token.evaluate(_TIP) is not None


def test_values_near_the_bottom_of_the_window_are_shown_above_their_token(page_of: PageOf) -> None:
    with opened(page_of(big()), size=WIDE) as (page, _):
        token = page.locator(".t[role]").nth(2).locator("b")
        token.evaluate("e => scrollTo(0, scrollY + e.getBoundingClientRect().bottom - innerHeight + 4)")
        token.hover()
        assert token.evaluate("e => e.closest('.t').classList.contains('up')")
        token.evaluate("e => scrollTo(0, scrollY + 300)")
        page.mouse.move(1, 1)
        token.hover()
        assert not token.evaluate("e => e.closest('.t').classList.contains('up')")


def test_without_a_script_everything_can_be_read(page_of: PageOf) -> None:
    with opened(page_of(sample()), script=False) as (page, noted):
        peak = page.locator(".t[role] b").first
        peak.focus()
        assert peak.evaluate(_TIP) is not None
        whole = page.locator(".examples pre").first
        assert not whole.is_visible()
        page.locator(".examples summary").first.click()
        assert whole.is_visible()
        assert whole.locator("mark").text_content() == " try"
        noted.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_coloured_tokens_is_legible(page_of: PageOf, scheme: Scheme) -> None:
    with opened(page_of(big()), scheme=scheme) as (page, _):
        seen: dict[str, float] = {}
        for column in range(4):
            for token in page.locator(f".k{column} .t[role] i[class^={'abcd'[column]}]").all()[:60]:
                name = f"{column}{token.get_attribute('class')}"
                if name not in seen:
                    seen[name] = token.evaluate(_CONTRAST)
        assert len(seen) >= 20
        assert min(seen.values()) >= 4.5, seen


def test_nothing_of_a_hostile_corpus_runs_or_becomes_an_element(page_of: PageOf) -> None:
    with opened(page_of(hostile())) as (page, noted):
        assert page.title().startswith("31.9634")
        assert page.locator("script").count() == 1
        assert page.locator("img").count() == 0
        assert page.evaluate("document.querySelectorAll('[onerror], iframe, object, embed').length") == 0
        noted.check()


def test_a_token_of_another_direction_stays_where_it_is(page_of: PageOf) -> None:
    """The tokens of each line lie from left to right in the order of the text, whatever their script."""
    with opened(page_of(sample())) as (page, _):
        strange = page.locator(".k2 .t[role]").first
        places: list[list[float]] = strange.evaluate(
            "t => [...t.querySelectorAll('i, b')].map(e => e.getClientRects()[0]).map(r => [r.top, r.left])"
        )
        lines: dict[int, list[float]] = {}
        for top, left in places:
            lines.setdefault(round(top / 12), []).append(left)
        assert len(lines) > 2
        assert all(line == sorted(line) for line in lines.values())


def test_on_paper_everything_that_matters_is_open_and_light(page_of: PageOf) -> None:
    with opened(page_of(sample()), scheme="dark") as (page, _):
        controls = page.locator("details.p table").first
        assert not controls.is_visible()
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert _box(controls)["height"] > 20
        assert not page.locator("nav").is_visible()
        assert page.locator(".t[role] b").first.evaluate(_CONTRAST) >= 4.5


def _focused(page: Page, expected: Locator) -> None:
    assert expected.evaluate("e => e === document.activeElement")
    assert page.locator(".t[role]").first.locator("[tabindex='0']").count() == 1


def _box(one: Locator) -> Any:
    box = one.bounding_box()
    assert box is not None
    return box


def _cut_off(page: Page) -> list[str]:
    """Texts of tables, figures and headings that reach beyond the window."""
    return page.evaluate(
        """() => [...document.querySelectorAll("main td, main th, main p, h1, h2, h3, svg text, dd")]
          .filter(e => !e.closest(".hidden, .scroll"))
          .map(e => [e, e.getBoundingClientRect()])
          .filter(([, r]) => r.width && (r.right > innerWidth + 1 || r.left < -1))
          .map(([e]) => e.textContent.slice(0, 60))"""
    )
