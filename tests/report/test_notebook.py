"""The fragment for notebooks: what is left of it where hosts take things away, and that nothing in it acts."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from neuronagent.report.content import NeuronContent
from neuronagent.report.environment import asset
from neuronagent.report.notebook import notebook, notebook_index
from tests.report.sample_content import ATTACKS, bare, big, hostile, imported_sample, sample

Rgb = tuple[float, float, float]
VOID = {"br"}
KEPT = {
    "div",
    "span",
    "p",
    "h4",
    "h5",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "ul",
    "li",
    "code",
    "strong",
    "b",
    "u",
}


class Fragment(HTMLParser):
    """The elements of a fragment, and its text without that of its style and its drawing."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("td", "th", "br", "p", "li"):
            self.words.append(" ")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "svg"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def rgb(text: str) -> Rgb:
    digits = text.lstrip("#")
    whole = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    red, green, blue = (int(whole[i : i + 2], 16) for i in (0, 2, 4))
    return red, green, blue


def contrast(one: Rgb, other: Rgb) -> float:
    """WCAG's contrast of two colours."""

    def light(colour: Rgb) -> float:
        shares = [v / 255 for v in colour]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("made", [sample, imported_sample, bare, big])
@pytest.mark.parametrize("attacked", [False, True])
def test_nothing_in_it_runs_loads_or_reaches_the_host(made: Callable[[], NeuronContent], attacked: bool) -> None:
    found = Fragment(notebook(hostile(made()) if attacked else made()))
    outside = [(tag, attrs) for tag, attrs in found.elements]
    drawn = {"svg", "title", "desc", "g", "rect", "circle", "line", "path", "text"}
    assert {tag for tag, _ in outside} <= KEPT | drawn | VOID | {"style"}
    names = {name for _, attrs in outside for name in attrs}
    assert not [name for name in names if name.startswith("on") or name in ("id", "href", "src", "srcdoc", "name")]
    assert [tag for tag, _ in outside].count("style") == 1
    assert ("document.title" in found.text) == attacked
    assert "49" not in re.findall(r"\d+", found.text)
    assert not re.search("[\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", "".join(found.words))


def test_the_words_are_all_there_without_style_colour_or_drawing() -> None:
    text = Fragment(notebook(sample())).text
    for said in (
        "31.9634 depletion, suppression · allenai/OLMo-7B-0424-hf",
        "what it detects, it takes away.",
        "in · out −0.85 −0.044 to +0.049",
        "gate+ in− · 67.7 % of tokens, 68.2 % of output",
        "AUROC vs random .91 [.71–.98] n = 20 : 20",
        "lift over token list +.080 [−.040, +.19]",
        "trigger right, sign not distinguished by human Ada, its writer may have seen test items",
        "No explanation: fewer than 8 strong tokens",
        "No examples: no token of the corpus is in this combination",
        "Please⟦ try⟧ again later",
        "index 01070c60dbf48619",
    ):
        assert said in text


def test_each_combination_has_three_examples_at_most_and_it_is_small() -> None:
    found = Fragment(notebook(big()))
    assert sum(tag == "b" for tag, _ in found.elements) == 12
    assert len(notebook(sample()).encode()) < 40_000
    assert len(notebook(big()).encode()) < 60_000
    assert len(notebook(hostile(big())).encode()) < 120_000


def test_a_marked_token_says_its_values_and_one_that_was_not_run_says_that() -> None:
    content = sample()
    example = content["combinations"][0]["examples"][0]
    (gate, into, act, post) = example["values"][example["marked"]] or (0, 0, 0, 0)
    assert post == 5.12
    titles = [attrs.get("title") for tag, attrs in Fragment(notebook(content)).elements if tag == "b"]
    said = f"gate {gate:+.3g}, in {into:+.3g}, act {act:+.3g}, post {post:+.3g}".replace("-", "−")
    assert titles[0] == said
    assert titles.count("the model was not run here") == 1


def test_a_colour_says_the_sign_of_post_and_its_strength() -> None:
    content = sample()
    own = content["combinations"][0]
    own["examples"] = own["examples"][:1]
    example = own["examples"][0]
    example["value"], example["tokens"], example["marked"] = 4.0, ["a", "b", "c", "d"], 1
    example["values"] = [(1, -2, 1, -2), (2, 2, 2, 4.0), (1, 0.1, 1, 0.1), None]
    elements = Fragment(notebook(content)).elements
    styles = [attrs["style"] for tag, attrs in elements if tag in ("b", "span") and "style" in attrs]
    assert styles[:2] == ["background-color:rgba(74,144,226,0.2)", "background-color:rgba(240,138,36,0.5)"]


def test_without_values_only_the_marked_token_has_a_colour() -> None:
    content = sample()
    for own in content["combinations"]:
        for shown in own["examples"]:
            shown["values"] = [None] * len(shown["tokens"])
    elements = Fragment(notebook(content)).elements
    assert not [tag for tag, attrs in elements if tag == "span" and "style" in attrs]
    assert [tag for tag, attrs in elements if tag == "b" and "style" in attrs]


def test_text_on_the_strongest_colours_can_be_read_in_light_and_in_dark() -> None:
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", part)) for part in str(asset("notebook.css")).split("html[theme", 1)
    )
    strongest = set(re.findall(r"rgba\(([\d,]+),0\.5\)", notebook(big()) + notebook(sample())))
    assert len(strongest) == 2
    for scheme in (light, dark):
        paper = rgb(scheme["paper"])
        for colour in strongest:
            over = [(float(v) + p) / 2 for v, p in zip(colour.split(","), paper, strict=True)]
            assert contrast(rgb(scheme["ink"]), (over[0], over[1], over[2])) >= 4.5
        for name in ("ink", "soft", "good", "doubt", "bad"):
            assert contrast(rgb(scheme[name]), paper) >= 4.5
        for name in ("ink", "soft"):
            assert contrast(rgb(scheme[name]), rgb(scheme["panel"])) >= 4.5


def test_every_rule_of_its_style_stands_under_its_own_element() -> None:
    css = re.sub(r"/\*.*?\*/", "", str(asset("notebook.css")), flags=re.DOTALL)
    depth, selector, found = 0, "", list[str]()
    for character in css:
        if character == "{":
            found += [selector.strip()] if depth == 0 else []
            depth, selector = depth + 1, ""
        elif character == "}":
            depth, selector = depth - 1, ""
        elif depth == 0:
            selector += character
    assert depth == 0
    assert len(found) == 2
    assert all(each.endswith(":is(.neuronagent, #neuronagent-none)") for each in found)
    nested = re.findall(r"[{};]\s*([^{};]+)\{", css)
    assert all(
        part.strip().startswith("&") for rule in nested if "neuronagent" not in rule for part in _selectors(rule)
    )


def _selectors(rule: str) -> list[str]:
    """The parts of a list of selectors, those within brackets not taken apart."""
    return re.split(r",(?![^(]*\))", rule)


def test_an_index_shows_what_it_is_of() -> None:
    rows = {"corpus": ATTACKS, "tokens": "300,000", "revision": None}
    found = Fragment(notebook_index("stdlib-4m", "an index", rows, {"depletion": 1234}))
    assert "tokens 300,000" in found.text
    assert "depletion 1,234" in found.text
    assert "revision" not in found.text
    assert {tag for tag, _ in found.elements} <= KEPT | {"style"}


@pytest.mark.parametrize(("here", "there"), [("html[theme", "prefers-color-scheme: dark")])
def test_its_colours_are_those_of_pages(here: str, there: str) -> None:
    own, pages = (
        str(asset("notebook.css")).split(here, 1),
        str(asset("base.css")).split("@media print")[0].split(there, 1),
    )
    for mine, theirs in zip(own, pages, strict=True):
        found = {name: rgb(value) for name, value in re.findall(r"--([\w-]+): (#\w+)", mine)}
        expected = {name: rgb(value) for name, value in re.findall(r"--([\w-]+): (#\w+)", theirs)}
        assert len(found) >= 14
        assert {name: expected[name] for name in found} == found
