"""A report on disk, read as somebody reads it who was sent the folder: from the overview to a page and on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from neuronagent.domain import NeuronId
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.site import write_report
from tests.browser.chromium import opened
from tests.known_index import world

pytestmark = pytest.mark.browser
SOME = [NeuronId(layer, index) for layer in range(2) for index in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = Path(shutil.copy(world().db, tmp_path_factory.mktemp("report") / "planted.db"))
    with Index(str(db)) as index:
        index.explain(SOME[0])
        return write_report(index, db.parent / "a folder", SOME, values=False, workers=1).folder


@pytest.mark.parametrize("script", [True, False])
def test_links_lead_from_the_overview_through_the_pages_and_back(folder: Path, script: bool) -> None:
    with opened(folder / "index.html", script=script) as (page, noted):
        page.get_by_role("link", name="0.2", exact=True).first.click()
        page.wait_for_url("**/0.2.html")
        neighbour = page.locator("a[href$='.html']:not([href='index.html'])").first
        name = neighbour.get_attribute("href")
        assert name in {f"{neuron}.html" for neuron in SOME}
        neighbour.evaluate(
            "link => { for (let d = link.closest('details'); d; d = d.parentElement.closest('details')) d.open = true }"
        )
        neighbour.click()
        page.wait_for_url(f"**/{name}")
        page.locator("a[href='index.html']").first.click()
        page.wait_for_url("**/index.html")
        noted.check(*(path.as_uri() for path in folder.glob("*.html")))


def test_every_page_and_table_that_is_linked_is_there(folder: Path) -> None:
    for path in sorted(folder.glob("*.html")):
        with opened(path) as (page, noted):
            addresses = page.eval_on_selector_all("a[href]", "all => all.map(link => link.getAttribute('href'))")
            assert addresses
            for address in addresses:
                assert address.startswith("#") or (folder / address).is_file(), f"{path.name}: {address}"
            noted.check()
