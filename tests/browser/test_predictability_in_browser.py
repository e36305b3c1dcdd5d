"""The report on predictability in a real browser, opened from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronagent.report.figures import PREDICT_FIGURES
from neuronagent.service.lookup import Index
from neuronagent.service.predict.report import PAGE, write_predictability
from tests.browser.chromium import NARROW, WIDE, Scheme, misplaced_labels, opened, sideways
from tests.report.predictability_sample import add_functional, add_substitution, fill, make_db

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all its parts."""
    folder = tmp_path_factory.mktemp("predict")
    db = make_db(folder / "made.db", model="made/a-model-with-a-very-long-name-" + "x" * 60)
    ids = fill(db)
    add_functional(db, ids["default"])
    add_substitution(db, ids["default"], texts=("", "/texts/" + "books" * 20))
    with Index(str(db)) as index:
        write_predictability(index, folder / "out")
    return folder / "out" / PAGE


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_loaded_reported_or_wider_than_the_window(
    page_file: Path, size: tuple[int, int], scheme: Scheme
) -> None:
    with opened(page_file, size=size, scheme=scheme) as (page, noted):
        assert sideways(page) == 0
        assert page.locator("svg.drawn").count() == len(PREDICT_FIGURES)
        for summary in page.locator("summary").all():
            summary.click()
        assert sideways(page) == 0
        noted.check()


def test_text_of_figures_is_within_them_and_labels_do_not_meet(page_file: Path) -> None:
    with opened(page_file, size=WIDE) as (page, _):
        found = misplaced_labels(page)
    assert found == [[[], []]] * len(PREDICT_FIGURES)


def test_links_lead_somewhere_and_the_keyboard_reaches_figures(page_file: Path) -> None:
    with opened(page_file) as (page, noted):
        links = page.eval_on_selector_all("a[href]", "nodes => nodes.map(node => node.getAttribute('href'))")
        for link in set(links):
            if link.startswith("#"):
                assert page.locator(link).count() == 1
            else:
                assert (page_file.parent / link).is_file()
        assert page.locator("[tabindex='0'][aria-label^='figure:']").count() == len(PREDICT_FIGURES)
        noted.check()


def test_figures_follow_the_scheme_of_the_page(page_file: Path) -> None:
    fills: list[str] = []
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        with opened(page_file, scheme=scheme) as (page, _):
            text = page.get_by_role("img", name="R² by layer").locator("text").first
            fills.append(text.evaluate("node => getComputedStyle(node).fill"))
            assert fills[-1] == page.evaluate("getComputedStyle(document.body).color")
    assert fills[0] != fills[1]
