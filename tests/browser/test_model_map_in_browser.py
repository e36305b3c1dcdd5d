"""A model's map in a real browser, opened from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronagent.service.lookup import Index
from neuronagent.service.reporting.folder import opened as folder_opened
from neuronagent.service.reporting.model_map import write_model_map
from neuronagent.service.reporting.names import MAP
from tests.browser.chromium import NARROW, WIDE, Scheme, misplaced_labels, opened, sideways
from tests.cli.conftest import INFO
from tests.store.made_index import make_index, make_whole

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The map of a made model of 34 layers, in a folder of a report."""
    made = make_index(layers=34, neurons=40)
    made.info.update(INFO)
    folder = tmp_path_factory.mktemp("map")
    made.write(folder / "made.db", whole=make_whole(made))
    with Index(str(folder / "made.db")) as index, folder_opened(folder / "out", {"fingerprint": "made-0"}) as report:
        write_model_map(index, report)
    return folder / "out" / MAP


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_loaded_reported_or_wider_than_the_window(
    page_file: Path, size: tuple[int, int], scheme: Scheme
) -> None:
    with opened(page_file, size=size, scheme=scheme) as (page, noted):
        assert sideways(page) == 0
        assert page.locator("svg.drawn").count() == 6
        for summary in page.locator("summary").all():
            summary.click()
        assert sideways(page) == 0
        noted.check()


@pytest.mark.parametrize("script", [True, False])
def test_figures_have_names_numbers_and_stay_readable_on_a_phone(page_file: Path, script: bool) -> None:
    with opened(page_file, size=NARROW, script=script) as (page, noted):
        figure = page.get_by_role("img", name="Median cos(in,out), beside published models")
        assert figure.count() == 1
        assert (figure.bounding_box() or {"width": 0})["width"] >= 600
        label = figure.locator("text", has_text="this model").first
        assert (label.bounding_box() or {"height": 0})["height"] >= 8
        noted.check()


def test_figures_take_the_colours_of_the_scheme_and_the_type_of_the_page(page_file: Path) -> None:
    seen: list[tuple[str, str, str]] = []
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        with opened(page_file, scheme=scheme) as (page, _):
            text = page.locator("svg.drawn text").first
            seen.append(
                (
                    text.evaluate("node => getComputedStyle(node).fill"),
                    page.evaluate("getComputedStyle(document.body).color"),
                    page.locator("svg.drawn path").first.evaluate("node => getComputedStyle(node).fill"),
                )
            )
            assert text.evaluate("node => getComputedStyle(node).fontFamily") == page.evaluate(
                "getComputedStyle(document.body).fontFamily"
            )
    light, dark = seen
    assert light[0] == light[1] != dark[0] == dark[1]
    assert (light[2], dark[2]) == ("rgb(255, 255, 255)", "rgb(20, 23, 26)")


def test_text_of_figures_is_within_them_and_labels_do_not_meet(page_file: Path) -> None:
    with opened(page_file, size=WIDE) as (page, _):
        found = misplaced_labels(page)
    assert found == [[[], []]] * 6


def test_links_lead_to_files_that_are_there_and_the_keyboard_reaches_figures(page_file: Path) -> None:
    with opened(page_file) as (page, noted):
        links = page.eval_on_selector_all("a[href]", "nodes => nodes.map(node => node.getAttribute('href'))")
        for link in links:
            if link.startswith("#"):
                assert page.locator(link).count() == 1
            else:
                assert (page_file.parent / link).is_file()
        assert page.locator("[tabindex='0'][aria-label^='figure:']").count() == 6
        noted.check()
