"""The overview of a report in a browser: it filters, sorts and is found again by its address, all by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

from neuronagent import wording
from neuronagent.report.site_page import site_page
from tests.browser.chromium import NARROW, WIDE, Noted, Scheme, opened, sideways
from tests.report.sample_site import HOSTILE, content, explained, few, row, unit

pytestmark = pytest.mark.browser


def saved(page: str, folder: Path) -> Path:
    file = folder / "index.html"
    file.write_text(page, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(site_page(few()), tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(file: Path) -> Iterator[Page]:
    with opened(file) as (page, noted):
        yield page
        noted.check()


def shown(page: Page) -> list[str]:
    """The neurons in the table, from top to bottom."""
    return page.locator("#rows tbody .name").all_inner_texts()


def put(page: Page, name: str, value: str) -> None:
    field = page.locator(f"#filters [name={name}]")
    if field.evaluate("field => field.tagName") == "SELECT":
        field.select_option(value)
    else:
        field.fill(value)


def at(page: Page) -> str:
    return str(page.evaluate("location.hash"))


# Finding


def test_numbers_are_those_of_the_other_pages_to_the_last_digit(tmp_path: Path) -> None:
    """Half of a last digit is where numbers that are rounded twice come out as others."""
    awkward = (0.7353, 0.73453, 0.0143467, 0.0853, 0.05, 0.99449, 1.0)
    rows = [
        row(0, i, [explained(c, "on `x`", value, frequency=value, mass_share=value) for c in range(4)],
            cos_gate_in=value, cos_gate_out=-value, cos_in_out=value / 4)
        for i, value in enumerate(awkward)
    ]  # fmt: skip
    with opened(saved(site_page(content(rows)), tmp_path)) as (page, noted):
        for i, value in enumerate(awkward):
            cells = page.locator("#rows tbody").nth(i).locator("tr").first.locator("td").all_inner_texts()
            interval = wording.interval(max(0.0, value - 0.1), min(1.0, value + 0.1))
            assert cells[1:4] == [wording.number(one) for one in (value, -value, value / 4)]
            assert cells[5:7] == [wording.percent(value)] * 2
            assert cells[8] == f"{wording.score(value)} {interval} 14:20"
            assert cells[9].startswith(f"{wording.lift(value - 0.5)} [")
        noted.check()


def test_all_rows_stand_there_at_first_each_with_a_link_to_its_page(site: Page) -> None:
    assert len(shown(site)) == len(few()["rows"])
    assert site.locator("#status").inner_text() == "12 of 12 neurons"
    assert site.get_by_role("link", name="0.0", exact=True).get_attribute("href") == "0.0.html"
    assert site.locator("#rows tbody").nth(3).locator(".name a").count() == 0  # it has no page


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("self", ["0.0", "3.10"]),
        ("SELF capitals", ["3.10"]),
        ("law dates", ["0.0"]),
        ("dates self", []),  # of different combinations
        ("3.10", ["3.10"]),
        ("depletion word", ["0.1"]),
        ("qwen", ["0.0"]),
        ("down 0.2", ["0.2"]),
        (" on  self.", ["0.0"]),
    ],
)
def test_all_words_must_occur_in_what_is_said_of_one_combination(site: Page, words: str, found: list[str]) -> None:
    put(site, "q", words)
    assert shown(site) == found


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"class": "depletion,atypical depletion"}, ["0.1", "0.2"]),
        ({"class": "depletion"}, ["0.1"]),
        ({"role": "suppression"}, ["0.3"]),
        ({"role": "none", "layer": "3"}, ["3.10"]),
        ({"layer": "1-3"}, ["3.10"]),
        ({"verdict": "not supported"}, ["0.0"]),
        ({"verdict": "not supported", "c": "gate+_in+"}, []),  # it is that of another combination
        ({"verdict": "none"}, ["0.2", "0.3"]),
        ({"fmax": "2"}, ["0.0"]),
        ({"fmin": "30", "fmax": "50"}, ["0.0"]),
        ({"smin": "0.95"}, ["0.0", "3.10"]),
        ({"smin": "0,5", "smax": "0.65"}, ["0.1"]),
        ({"smax": "0.5", "fmin": "30"}, []),
    ],
)
def test_one_combination_must_meet_all_that_is_asked_for(site: Page, filters: dict[str, str], found: list[str]) -> None:
    for name, value in filters.items():
        put(site, name, value)
    assert shown(site) == found


def test_combinations_that_do_not_match_can_be_left_out(site: Page) -> None:
    put(site, "smin", "0.95")
    assert site.locator("#status").inner_text() == "2 of 12 neurons, 5 of their combinations match"
    assert site.locator("#rows tbody tr").count() == 8
    assert site.locator("#rows tbody tr.other").count() == 3
    site.get_by_label("only combinations that match").check()
    assert site.locator("#rows tbody tr").count() == 5
    assert site.locator("#rows tbody").first.get_by_text("gate+ in+").count() == 1


def test_nothing_found_says_so_and_clear_brings_all_back(site: Page) -> None:
    put(site, "q", "no such word")
    expect(site.locator("#status")).to_contain_text("No neuron meets all of this")
    expect(site.locator("#rows")).to_be_hidden()
    site.get_by_role("button", name="clear").click()
    assert len(shown(site)) == 12
    assert at(site) == ""


def test_a_bound_that_is_no_number_is_named_and_left_out(site: Page) -> None:
    put(site, "smin", "high")
    put(site, "layer", "three")
    assert len(shown(site)) == 12
    expect(site.locator("#status")).to_contain_text("Not understood, and left out: layer, least AUROC.")


# Sorting


def test_numbers_sort_both_ways_and_what_is_missing_comes_last(site: Page) -> None:
    head = site.locator("#rows th[data-sort=auroc]")
    head.get_by_role("button").click()
    best = shown(site)
    assert head.get_attribute("aria-sort") == "descending"
    assert best[:3] == ["3.10", "0.0", "0.1"]
    assert best[-2:] == ["0.2", "0.3"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert shown(site)[:2] == ["0.0", "0.1"]
    assert shown(site)[-2:] == ["0.2", "0.3"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    assert shown(site) == [line["neuron"] for line in few()["rows"]]


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("cos_in_out", "0.3"),
        ("frequency", "0.0"),
        ("lift", "3.10"),
        ("class", "0.3"),
        ("neuron", "0.0"),
        ("text", "0.9"),
    ],
)
def test_every_column_sorts(site: Page, key: str, first: str) -> None:
    site.locator(f"#rows th[data-sort={key}] button").click()
    assert shown(site)[0] == first


def test_a_combination_that_is_chosen_is_sorted_by(site: Page) -> None:
    put(site, "c", "gate+_in-")
    site.locator("#rows th[data-sort=auroc] button").click()
    assert shown(site)[0] == "3.10"
    assert shown(site)[-3:] == ["0.0", "0.2", "0.3"]


# The address


def test_a_view_is_found_again_by_its_address(site: Page, file: Path) -> None:
    put(site, "class", "depletion,atypical depletion")
    site.locator("#rows th[data-sort=cos_in_out] button").click()
    site.locator("#rows th[data-sort=cos_in_out] button").click()
    wanted, hash_of_it = shown(site), at(site)
    assert wanted == ["0.1", "0.2"]
    with opened(file.as_uri() + hash_of_it) as (page, noted):
        assert shown(page) == wanted
        assert page.locator("#filters [name=class]").input_value() == "depletion,atypical depletion"
        assert page.locator("th[aria-sort=ascending]").inner_text() == "in·out"
        noted.check()


def test_back_undoes_a_filter_and_forward_brings_it_again(site: Page) -> None:
    put(site, "verdict", "not supported")
    put(site, "c", "gate+_in+")
    assert shown(site) == []
    site.go_back()
    assert shown(site) == ["0.0"]
    assert site.locator("#filters [name=c]").input_value() == ""
    site.go_back()
    assert len(shown(site)) == 12
    site.go_forward()
    assert shown(site) == ["0.0"]


def test_typing_is_one_step_back_however_many_keys_it_takes(site: Page) -> None:
    site.locator("#filters [name=q]").press_sequentially("self capitals")
    expect(site).to_have_url(re.compile(r"#q=self\+capitals$"))
    site.go_back()
    assert len(shown(site)) == 12


def test_the_summary_leads_to_the_neurons_that_it_counts(site: Page) -> None:
    site.locator(".cards").get_by_role("link", name="not supported").click()
    assert shown(site) == ["0.0"]
    assert site.locator("#filters [name=verdict]").input_value() == "not supported"


def test_an_address_that_nobody_wrote_is_no_filter(file: Path) -> None:
    for odd in ("#neurons", "#sort=nothing&page=99&class=none%20such&c=x&fmin=a", "#q=%FF&=&&page=-3", "#__proto__=1"):
        with opened(file.as_uri() + odd) as (page, noted):
            assert page.locator("#rows").count() == 1
            noted.check()


# Many, and hostile ones


def test_many_rows_come_in_pages(tmp_path: Path) -> None:
    many = content([row(0, i, [explained(c, f"word {i}", i / 100) for c in range(4)]) for i in range(65)])
    with opened(saved(site_page(many), tmp_path)) as (page, noted):
        assert len(shown(page)) == 30
        page.get_by_role("button", name="next").click()
        page.get_by_role("button", name="next").click()
        assert shown(page) == [f"0.{i}" for i in range(60, 65)]
        expect(page.get_by_role("button", name="next")).to_be_disabled()
        assert page.locator("#pager span").inner_text() == "61–65 of 65"
        page.go_back()
        assert shown(page)[0] == "0.30"
        put(page, "q", "word 6")
        assert shown(page)[0] == "0.6"  # a filter begins at the first page again
        noted.check()


def test_hostile_text_is_shown_as_text(site: Page) -> None:
    assert site.title() == "12 neurons of sample"
    assert site.locator("#made").count() == 0
    assert site.locator("#rows script").count() == 0
    told = site.locator("#rows").inner_text()
    assert HOSTILE[0] in told
    assert HOSTILE[5] in told
    assert "⟨U+202E⟩" in told


# Hands


def test_the_table_is_worked_by_keys_alone(site: Page) -> None:
    site.keyboard.press("/")
    site.keyboard.type("word")
    assert shown(site) == ["0.1"]
    site.keyboard.press("Escape")
    assert len(shown(site)) == 12
    site.keyboard.press("ArrowDown")
    site.keyboard.press("ArrowDown")
    assert site.evaluate("document.activeElement.textContent") == "0.1"
    site.keyboard.press("ArrowUp")
    site.keyboard.press("ArrowUp")
    assert site.evaluate("document.activeElement.name") == "q"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_is_wider_than_the_window(file: Path, size: tuple[int, int], scheme: Scheme) -> None:
    for script in (True, False):
        with opened(file, size=size, scheme=scheme, script=script) as (page, noted):
            assert sideways(page) == 0
            noted.check()


@pytest.mark.parametrize("width", [320, 390, 850, 1280])
def test_the_words_of_a_drawing_are_never_larger_than_a_heading(file: Path, width: int) -> None:
    with opened(file, size=(width, 900)) as (page, _):
        drawn = page.locator(".drawing svg text").evaluate_all(
            """found => found.map(text => { const svg = text.ownerSVGElement;
               return parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width; })"""
        )
        assert drawn
        assert max(drawn) < 20


def test_narrow_windows_sort_by_a_list(file: Path) -> None:
    with opened(file, size=NARROW) as (page, noted):
        expect(page.locator("#rows thead")).to_be_hidden()
        page.locator("#filters [name=order]").select_option("-auroc")
        assert shown(page)[:2] == ["3.10", "0.0"]
        noted.check()


def test_without_a_script_the_neurons_can_be_read(file: Path) -> None:
    with opened(file, script=False) as (page, noted):
        assert page.locator(".rows tbody").count() == 12
        assert page.get_by_role("link", name="0.1", exact=True).is_visible()
        assert page.locator("noscript .note").is_visible()
        assert not page.locator("#filters").is_visible()
        noted.check()


def test_published_neurons_are_listed_too(tmp_path: Path) -> None:
    rows = [row(3, i, [unit(c, mass_share=None, promotes=[], frequency=i / 10) for c in range(4)], io_class=None,
                cos_gate_in=None, cos_gate_out=None, cos_in_out=None) for i in range(3)]  # fmt: skip
    with opened(saved(site_page(content(rows, imported=True)), tmp_path)) as (page, noted):
        page.locator("#rows th[data-sort=frequency] button").click()
        assert shown(page) == ["3.2", "3.1", "3.0"]
        check_narrow(page, noted)


def test_a_long_name_without_a_space_is_broken(tmp_path: Path) -> None:
    long = content([row(0, 1, [unit(c) for c in range(4)])], title="1 neuron of " + "very_long_instruct_" * 5)
    with opened(saved(site_page(long), tmp_path)) as (page, noted):
        check_narrow(page, noted)


def check_narrow(page: Page, noted: Noted) -> None:
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    assert sideways(page) == 0
    noted.check()
