"""The pages of a running server in a real browser: search, layers, neurons, and a text that the planted model reads."""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from neuronagent.mcp_server.pages import Pages
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.questions import InProcess
from tests.browser.chromium import NARROW, WIDE, Scheme, opened, sideways
from tests.known_index import world
from tests.mcp_server.sample import write_sample
from tests.mcp_server.serving import TOKEN, Served, serving
from tests.service.live.live_world import live

pytestmark = pytest.mark.browser
TEXT = "not 3 Anna cold,\n5 river David not green!"
_CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (layers) => {
    for (const c of layers) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, style = getComputedStyle(e);
    if (!walker.currentNode.data.trim() || !e.checkVisibility()) continue;
    if (e.closest("script, style, option, .hidden")) continue;
    const under = [];
    for (let up = e; up; up = up.parentElement) under.unshift(getComputedStyle(up).backgroundColor);
    const [a, b] = [light([...under, style.color]), light(under)].sort((x, y) => x - y);
    if ((b + 0.05) / (a + 0.05) < 4.5) low.push([e.tagName, e.className, e.textContent.slice(0, 30), style.color]);
  }
  return low;
}"""


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with serving(pages=Pages(SharedSource(str(world().db)), InProcess(live()))) as running:
        yield running


def address(served: Served, path: str = "/") -> str:
    return f"http://127.0.0.1:{served.port}{path}"


def read(page: Page, text: str = TEXT) -> None:
    """Have the model read a text, from the live page."""
    page.get_by_label("text", exact=True).fill(text)
    page.get_by_role("button", name="read").click()
    page.wait_for_selector("#h-top")


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["/", "/?q=+river&in=out_top", "/layers", "/layer/1", "/neuron/0.1", "/live", "/nowhere"]
)
def test_a_page_fits_its_window_can_be_read_and_asks_for_nothing(
    served: Served, path: str, size: tuple[int, int], scheme: Scheme
) -> None:
    with opened(address(served, path), size=size, scheme=scheme) as (page, noted):
        assert sideways(page) == 0
        assert page.evaluate(_CONTRASTS) == []
        if path == "/nowhere":  # of which a browser tells its console
            noted.console.clear()
        noted.check()


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_the_model_did_on_a_text_fits_and_can_be_read(
    served: Served, size: tuple[int, int], scheme: Scheme
) -> None:
    with opened(address(served, "/live"), size=size, scheme=scheme) as (page, noted):
        read(page, TEXT + " </p><script>document.title = 'owned'</script>\t" + "x" * 300)
        page.locator(".tick input").first.check()
        page.get_by_role("button", name="follow the ticked neurons").click()
        page.locator(".follow .t i").first.wait_for()
        assert page.title().startswith("Live text")
        assert sideways(page) == 0
        assert page.evaluate(_CONTRASTS) == []
        noted.check(address(served, "/live"))


def test_a_name_in_the_box_leads_to_the_neuron_and_its_page_leads_back(served: Served) -> None:
    with opened(address(served)) as (page, noted):
        page.get_by_label("find").fill("0.1")
        page.keyboard.press("Enter")
        page.wait_for_url(address(served, "/neuron/0.1"))
        assert page.locator("h1").inner_text() == "0.1"
        page.locator("nav .home").click()
        page.wait_for_url(address(served))
        assert noted.errors == []


def test_the_list_is_narrowed_by_the_form_and_sorted_by_its_heads(served: Served) -> None:
    with opened(address(served), script=False) as (page, _):
        page.get_by_label("layer").fill("1")
        page.get_by_role("button", name="search").click()
        assert {cell.split(".")[0] for cell in page.locator(".hits tbody th").all_inner_texts()} == {"1"}
        page.get_by_role("link", name="in · out").click()
        page.wait_for_selector("th[aria-sort=descending]")
        shown = [float(c.replace("−", "-")) for c in page.locator('[data-l="in · out"]').all_inner_texts()]
        assert shown == sorted(shown, reverse=True)
        page.get_by_role("link", name="in · out").click()
        assert page.locator("th[aria-sort=ascending]").first.inner_text().startswith("in · out")
        assert page.get_by_label("layer").input_value() == "1"


def test_a_text_is_read_and_neurons_followed_without_a_script(served: Served) -> None:
    with opened(address(served, "/live"), script=False) as (page, noted):
        read(page)
        assert page.get_by_label("text", exact=True).input_value() == TEXT
        page.get_by_role("button", name="Anna").click()
        assert page.locator("#h-top code").inner_text().strip() == "Anna"
        first = page.locator(".hits tbody tr").first
        name, post = first.locator("th").inner_text(), first.locator("[data-l=post]").inner_text()
        first.locator("input").check()
        page.get_by_role("button", name="follow the ticked neurons").click()
        assert page.locator("#h-top code").inner_text().strip() == "Anna"
        assert page.get_by_label("follow neurons").input_value() == name
        place = int(page.locator("[aria-pressed]").get_attribute("value") or "")
        run = page.locator(f'[aria-label="values of {name}"] i').nth(place)
        assert run.inner_text().strip() == "Anna"
        assert (run.get_attribute("data-v") or "").split("\t")[3] == post
        noted.check(address(served, "/live"))


def test_the_values_along_a_text_are_had_by_keyboard(served: Served) -> None:
    with opened(address(served, "/live")) as (page, noted):
        page.get_by_label("follow neurons").fill("0.1")
        read(page)
        run = page.locator(".follow .t i")
        page.locator(".follow h3 a").focus()
        page.keyboard.press("Tab")
        said = run.evaluate_all("all => all.map(e => e.dataset.v)")
        posts = [float(values.split("\t")[3].replace("−", "-")) for values in said]
        strongest = max(range(len(posts)), key=lambda place: abs(posts[place]))
        assert run.nth(strongest).evaluate("e => e === document.activeElement")
        page.keyboard.press("Home")
        assert run.first.evaluate("e => e === document.activeElement")
        page.keyboard.press("ArrowRight")
        assert run.nth(1).evaluate("e => e === document.activeElement")
        values = (run.nth(1).get_attribute("data-v") or "").split("\t")
        shown = run.nth(1).evaluate('e => getComputedStyle(e, "::after").content')
        assert values[3] in shown
        assert f"post {values[3]}" in page.locator("#said").inner_text()
        page.keyboard.press("End")
        assert run.last.evaluate("e => e === document.activeElement")
        noted.check(address(served, "/live"))


def test_what_cannot_be_asked_is_said_and_the_text_is_kept(served: Served) -> None:
    with opened(address(served, "/live")) as (page, _):
        page.get_by_label("follow neurons").fill("9.9")
        page.get_by_label("text", exact=True).fill("\n Anna")
        page.get_by_role("button", name="read").click()
        assert "neuron 9.9 is not in this index" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("text", exact=True).input_value() == "\n Anna"


def test_with_a_token_forms_are_sent_with_it_too(served: Served) -> None:
    password = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    with (
        serving(pages=Pages(SharedSource(str(world().db)), InProcess(live())), token=TOKEN) as guarded,
        opened(address(guarded, "/live"), headers={"authorization": password}) as (page, noted),
    ):
        read(page)
        assert page.locator(".hits tbody tr").count() == 25
        noted.check(address(guarded, "/live"))


def test_tokens_that_mean_harm_do_none(tmp_path: Path) -> None:
    with serving(pages=Pages(SharedSource(str(write_sample(tmp_path / "nasty.db", nasty=True))), None)) as nasty:
        for path in ("/", "/layer/0", "/neuron/0.1"):
            with opened(address(nasty, path), size=NARROW) as (page, noted):
                assert sideways(page) == 0, path
                assert (
                    page.evaluate("document.querySelectorAll('img, iframe, object, script:not(:last-child)').length")
                    == 0
                )
                assert not re.search("[\u202a-\u202e\U000e0000-\U000e007f]", page.content())
                noted.check()
