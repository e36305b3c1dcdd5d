"""Drawings and the notebook fragment in a real browser: what is legible, and what host pages and fragments do to each
other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from neuronagent.report.environment import asset
from neuronagent.report.histogram import histogram, lift_distribution
from neuronagent.report.notebook import notebook
from neuronagent.report.plane import plane
from tests.browser.chromium import NARROW, WIDE, Scheme, opened, sideways
from tests.report.sample_content import bare, hostile, imported_sample, sample

pytestmark = pytest.mark.browser
PLACES = [
    (-0.72, -0.85, 0.72),
    (0.0, 0.0, 0.0),
    (1.0, 1.0, 1.0),
    (-1.0, -1.0, 0.03),
    (0.1, 0.95, 0.97),
    (0.52, -0.4, 0.5),
]
HOSTILE = """
* { color: red; margin: 11px; line-height: 3; float: right; opacity: .5; text-transform: uppercase }
table { border: 5px solid red; width: 3000px } td, th { padding: 40px; font-size: 30px; text-align: center }
.out table tbody tr:nth-child(even) td { background: lime } .out div.top p span.soft { display: none }
code, b, strong, span { display: block; background: black } ul li { list-style: square } svg { width: 20px }
"""
_OUTSIDE = """() => [...document.querySelectorAll("svg")].flatMap((svg) => {
  const all = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((t) => {
    const box = t.getBoundingClientRect();
    return box.left < all.left - 1 || box.right > all.right + 1 || box.top < all.top - 1 || box.bottom > all.bottom + 1;
  }).map((t) => t.textContent);
})"""
_OVERLAPS = """() => [...document.querySelectorAll("svg")].flatMap((svg) => {
  const all = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]), found = [];
  for (const [i, [a, one]] of all.entries())
    for (const [b, two] of all.slice(i + 1)) {
      const wide = Math.min(one.right, two.right) - Math.max(one.left, two.left);
      const high = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
      if (wide > 1 && high > 4) found.push([a, b]);
    }
  return found;
})"""
_LOOKS = """() => [...document.querySelectorAll(".neuronagent, .neuronagent *:not(svg, svg *)")].map((e) => {
  const s = getComputedStyle(e), b = e.getBoundingClientRect();
  return [e.tagName, s.display, s.color, s.backgroundColor, s.fontSize, s.fontWeight, s.textAlign, s.textTransform,
    s.padding, s.marginTop, s.marginLeft, s.float, s.lineHeight, s.borderTopWidth, Math.round(b.width)].join(" ");
})"""
_HOST = """() => [...document.querySelectorAll(".host, .host *")].map((e) => {
  const s = getComputedStyle(e);
  return [...s].map((name) => s.getPropertyValue(name)).join(" ");
})"""
_PALE = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parts = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const c of colours) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (e) => (e ? [...under(e.parentElement), getComputedStyle(e).backgroundColor] : ["#fff"]);
  const texts = [...document.querySelectorAll(".neuronagent *:not(svg, svg *, style)")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
  return texts.map((e) => {
    const layers = under(e), [a, b] = [light(parts(...layers)), light(parts(...layers, getComputedStyle(e).color))];
    return [e.textContent.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
}"""


def write(tmp_path: Path, body: str, style: str = "", attributes: str = "") -> Path:
    path = tmp_path / "page.html"
    text = f"<!DOCTYPE html><html><meta charset='utf-8'><style>{style}</style><body {attributes}>{body}"
    path.write_text(text, encoding="utf-8")
    return path


def drawings() -> str:
    """Planes with the neuron in every corner and in the middle, histograms, and a distribution of lifts."""
    content, found = sample(), list[str]()
    for convention in ("raw", "normalised"):
        content["provenance"]["sign_convention"] = convention
        for x, y, third in PLACES:
            assert content["geometry"] is not None
            content["geometry"] |= {"cos_gate_out": x, "cos_in_out": y, "cos_gate_in": third}
            found.append(plane(content))
    for tau in (None, 0.001, 2.0, 64.0):
        for counts in ([0] * 33 + [10**12], [9] * 34, [1] + [0] * 33):
            edges = [2 ** (k / 2) for k in range(-20, 13)]
            found.append(histogram({"edges": edges, "counts": counts, "tau": tau}, 0))
    edges = [round(-1 + step / 10, 1) for step in range(21)]
    for median in (-0.99, 0.0, 0.31, 0.99):
        lifts: dict[str, Any] = {"edges": edges, "counts": [0] * 5 + [1234567] * 15}
        quantiles = {"0.05": -1.0, "0.5": median, "0.95": 1.0}
        counted = {"n": 3, "above_zero": 2, "lower_limit_above_zero": 1}
        found.append(lift_distribution({"histogram": lifts, "quantiles": quantiles, **counted}))
    return "".join(f"<div style='max-width:480px'>{one}</div>" for one in found)


@pytest.mark.parametrize("size", [WIDE, NARROW, (336, 800)])
def test_no_words_of_a_drawing_are_cut_off_or_lie_on_others(tmp_path: Path, size: tuple[int, int]) -> None:
    with opened(write(tmp_path, drawings(), str(asset("base.css"))), size=size) as (page, noted):
        assert page.locator("svg").count() > 20
        assert page.evaluate(_OUTSIDE) == []
        assert page.evaluate(_OVERLAPS) == []
        assert sideways(page) == 0
        noted.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_drawing_has_a_name_and_dots_that_are_seen(tmp_path: Path, scheme: Scheme) -> None:
    with opened(write(tmp_path, plane(sample()), str(asset("base.css"))), scheme=scheme) as (page, noted):
        assert page.get_by_role("img", name="Where 31.9634 lies among the IO classes").count() == 1
        box = page.evaluate("document.querySelector('svg path[stroke]').getBoundingClientRect().toJSON()")
        assert box["width"] > 50
        assert box["height"] > 50
        colours = page.evaluate(
            "[...document.querySelectorAll('svg path[stroke]')].map(e => getComputedStyle(e).stroke)"
        )
        assert len(set(colours)) >= 5
        noted.check()


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_fragment_looks_the_same_in_a_host_that_styles_everything(tmp_path: Path, size: tuple[int, int]) -> None:
    body = f"<div style='margin:0;float:none;width:100%;opacity:1' class='out'>{notebook(sample())}</div>"
    with opened(write(tmp_path, body, "body { margin: 11px }"), size=size) as (page, _):
        alone = page.evaluate(_LOOKS)
    style = HOSTILE + "html, body { margin: 0; float: none } body { margin: 11px }"
    with opened(write(tmp_path, body, style), size=size) as (page, noted):
        among = page.evaluate(_LOOKS)
        noted.check()
    assert len(alone) > 200
    assert [pair for pair in zip(alone, among, strict=True) if pair[0] != pair[1]] == []


def test_a_fragment_does_nothing_to_its_host(tmp_path: Path) -> None:
    host = (
        "<div class='host top'><p class='soft fine good'>text <code>c</code> <b>b</b></p>"
        "<ul class='four'><li>x</ul><table><thead><tr><th>a<tbody><tr><td class='n'>1</table>"
        "<h4>h</h4><svg class='plane'><text>t</text></svg></div>"
    )
    with opened(write(tmp_path, host)) as (page, _):
        before = page.evaluate(_HOST)
    with opened(write(tmp_path, host + notebook(hostile()))) as (page, noted):
        assert page.evaluate(_HOST) == before
        assert page.title() == ""
        noted.check()
    assert len(before) > 10


DARK = ["data-jp-theme-light='false'", "class='vscode-dark'", "data-theme='dark'"]


@pytest.mark.parametrize("attributes", ["", *DARK])
def test_a_fragment_can_be_read_in_light_and_in_dark_hosts(tmp_path: Path, attributes: str) -> None:
    body = "".join(notebook(made()) for made in (sample, imported_sample, bare, hostile))
    style = "body { background: #111; color: #eee }" if attributes else ""
    for size in (WIDE, NARROW):
        with opened(write(tmp_path, body, style, attributes), size=size, scheme="dark") as (page, noted):
            assert page.evaluate(_PALE) == []
            assert sideways(page) == 0
            assert (_paper(page) != "rgb(255, 255, 255)") == bool(attributes)
            noted.check()


def _paper(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.querySelector('.neuronagent')).backgroundColor"))
