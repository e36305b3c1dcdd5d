"""What the page of a neuron says, that it stays small, and that no text of others becomes part of its markup."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from neuronagent import wording
from neuronagent.domain import COMBINATIONS
from neuronagent.report import example, filters, visible
from neuronagent.report.content import NeuronContent, PageExample, ScoreRow
from neuronagent.report.environment import asset, style
from neuronagent.report.neuron_page import Links, neuron_page
from tests.report import sample_content
from tests.report.sample_content import STRANGE, big, hostile, of_tokens, sample

LINKS = Links(
    neuron=lambda neuron: f"{neuron}.html" if neuron.startswith("31.") else None,
    home="index.html",
    files={"JSON": "31.9634.json"},
)
_SCHEMES = ("light", "dark")


class Outline(HTMLParser):
    """The elements of a page with the names of their attributes, its text, and the tokens of its examples."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.words: list[str] = []
        self.tokens: list[dict[str, str | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("u", "code"):  # marks of what cannot be seen, and what stands in backquotes: they may be more
            self.elements.append((tag, tuple(name for name, _ in attrs)))
        if tag in ("i", "b"):
            self.tokens.append(dict(attrs))
        if tag in ("td", "th", "li", "p", "dt", "dd", "span"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def outline(content: NeuronContent) -> Outline:
    return Outline(neuron_page(content, LINKS))


def test_a_page_says_what_its_content_says() -> None:
    content = sample()
    said = outline(content).text
    for words in (
        "31.9634", "allenai/OLMo-7B-0424-hf", "depletion", "suppression neuron", "what it detects, it takes away.",
        "In gate+ in− (68.2 % of its output) it fires at clause ends", "gate · in +0.72 −0.061 to +0.061",
        "14.7 %", "2,942,000", "68.2 %", "trigger right, sign not distinguished", "vs random .91 [.71–.98] 20:20",
        "over the strongest control: +.41 [+.21, +.48] (the text of gate− in+, .50)",
        "recall in the corpus .27 to .98 14:0", "precision in the corpus .0034 [.0011–.0089] 400:19,000",
        "by human Ada, who may have seen the texts that scores are from",
        "ends of sentences – human Ada, who may have seen the texts that scores are from, not judged",
        "where its peak tokens occur in other texts, it is never weak",
        "No explanation: fewer than 8 strong tokens", "None: no token of the corpus is in this combination",
        "2 near-duplicates left out", "87.5 % [71.0 % to 96.5 %] of a combination’s windows",
        "Not told apart: gate+ in+ and gate+ in−.",
        "2 confirmed, 1 rejected, 1 open", "index 01070c60dbf48619", "gate −1.25, in +3.5, act −0.279, post −0.975",
        "Judged also by gemma-2-9b: supported.", "promoted where post > 0: in gate+ in+ and gate− in−",
    ):  # fmt: skip
        assert words in said, words


def test_what_is_to_say_of_several_scores_is_said_once_below_them() -> None:
    content = sample()
    explanation = next(own["explanation"] for own in content["combinations"] if own["explanation"])
    plain: ScoreRow = {**explanation["scores"][0], "note": ""}
    limits: ScoreRow = {**plain, "note": "bounds alone"}
    last: ScoreRow = {**limits, "name": "last"}
    explanation["scores"] = [plain, limits, last, plain]
    said = outline(content).text
    assert said.count("bounds alone") == said.count("both: bounds alone") == 1
    assert said.index("both: bounds alone") > said.index("last")
    explanation["scores"] = [plain, limits, plain, limits]
    said = outline(content).text
    assert said.count("bounds alone") == 2
    assert "both:" not in said


def test_a_command_is_copied_as_it_is_typed_and_a_token_shows_its_spaces() -> None:
    content = sample()
    content["summary"] = ["It fires on ` a b`: `neuronagent explain 31.9634 --llm NAME` says more."]
    page = neuron_page(content, LINKS)
    assert "<code>␣a␣b</code>: <code>neuronagent explain 31.9634 --llm NAME</code> says more." in page


def test_at_a_glance_every_number_has_a_name_and_no_column_is_empty() -> None:
    def glance(content: NeuronContent) -> str:
        page = neuron_page(content, LINKS)
        return page[page.index('<table class="glance') : page.index('<section id="combinations"')]

    scored = Outline(glance(sample())).text
    for words in ("AUROC vs random", "promotes", "strong tokens : others", "never occurs"):
        assert words in scored, words
    unexplained = sample()
    for own in unexplained["combinations"]:
        own["explanation"], own["mass_share"], own["promotes"] = None, None, []
    found = glance(unexplained)
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', found) == ["combination", "tokens"]


def test_what_a_published_neuron_does_comes_before_who_published_it() -> None:
    said = outline(sample_content.imported_sample()).text
    assert said.index("In gate+ in−") < said.index("published by others")


def test_neighbours_are_links_only_where_there_is_a_page() -> None:
    page = neuron_page(sample(), LINKS)
    assert '<a href="31.1.html">31.1</a>' in page
    assert "30.1" in page
    assert "30.1.html" not in page
    assert 'href="index.html"' in page
    assert 'href="31.9634.json"' in page


def test_without_a_place_to_point_to_nothing_is_a_link() -> None:
    page = neuron_page(sample(), Links())
    assert set(re.findall(r'href="([^#][^"]*)"', page)) == set()


@pytest.mark.parametrize("made", ["imported_sample", "bare"])
def test_what_does_not_exist_is_left_out_and_not_shown_as_nothing(made: str) -> None:
    content: NeuronContent = getattr(sample_content, made)()
    said = outline(content).text
    assert not re.search(r"\bnan\b|\bNone\b(?!:)|\binf\b", said)
    assert ("https://example.org/neurons" in said) == content["imported"]
    assert ('id="vocabulary"' in neuron_page(content, LINKS)) == (content["vocabulary"] is not None)


def test_missing_values_are_counted_and_the_command_for_them_given() -> None:
    said = outline(sample()).text
    assert "1 of 9 examples have no values for each token: neuronagent report 31.9634 --out DIR computes them" in said
    assert "have no values" not in outline(big()).text


def test_every_token_carries_its_values_and_its_combination() -> None:
    content = big()
    tokens = [token for token in outline(content).tokens if "data-v" in token]
    expected = [
        (values, combination, own["value"])
        for combination in content["combinations"]
        for own in combination["examples"]
        for values in own["values"]
    ]
    assert len(tokens) == len(expected) == 4 * 8 * 48
    largest = {c["name"]: max(abs(e["value"]) for e in c["examples"]) for c in content["combinations"]}
    for token, (values, combination, _) in zip(tokens, expected, strict=True):
        assert values is not None
        shown = [float(v.replace("−", "-")) for v in (token["data-v"] or "").split("\t")]
        assert shown == pytest.approx(list(values), rel=6e-3)
        signs = next(c for c in COMBINATIONS if (c.gate_sign * values[0] > 0) and (c.in_sign * values[1] > 0))
        level = min(9, round(9 * abs(values[3]) / largest[combination["name"]]))
        assert token["class"] == f"{'abcd'[signs.position]}{level}"


def test_an_exact_zero_has_no_sign() -> None:
    assert 'class=z0 data-v="−1.5\t0\t−0.27\t0"' in example.run("a", (-1.5, 0.0, -0.27, 0.0), 2.0)


def test_the_marked_token_stands_in_the_middle_of_a_line_that_loses_nothing() -> None:
    content = sample()
    for combination in content["combinations"]:
        for own in example.drawn([combination])[0]:
            window = str(own.window)
            line = re.search(r"<p class=m><span>(.*?)</span><b[^>]*>(.*?)</b><span>(.*?)</span></p>", window)
            assert line
            sides = [len(re.sub("<[^>]*>", "", side)) for side in (line[1], line[3])]
            assert max(sides) <= 38
            tokens = own.example["tokens"]
            assert len(re.findall("<[ib][ >]", window)) == len(tokens)
            if own.example["marked"] > 8 and len(tokens) - own.example["marked"] > 8:
                assert abs(sides[0] - sides[1]) <= 12


def test_no_text_of_others_becomes_markup() -> None:
    """The page of a content full of attacks has the elements of one with harmless texts, but for the lines that a long
    token takes."""

    def elements(content: NeuronContent) -> Counter[tuple[str, tuple[str, ...]]]:
        return Counter(element for element in outline(content).elements if element != ("p", ()))

    assert elements(hostile()) == elements(hostile(suffix=" zzz"))
    page = neuron_page(hostile(), LINKS)
    assert "<script>document" not in page
    assert "{{ 7*7 }}" in page
    assert page.count("<script") == 1


def test_what_cannot_be_seen_or_turns_the_direction_of_writing_is_spelled_out() -> None:
    page = neuron_page(hostile(), LINKS)
    page.encode("utf-8")
    hidden = {c for c in page if not c.isprintable()} - {"\n", "\t", "\u200d"}
    assert hidden == set()
    assert "⟨U+202E⟩" in page


@pytest.mark.parametrize("token", STRANGE)
def test_a_strange_token_is_seen(token: str) -> None:
    shown = visible.token(token)
    plain = re.sub("<[^>]*>", "", shown)
    assert plain.strip() or token == ""
    assert all(c.isprintable() or c == "\u200d" for c in plain)


def test_joiners_stay_in_emoji_and_are_seen_alone() -> None:
    assert visible.token("👩‍👩‍👧") == "👩‍👩‍👧"
    assert "U+200D" in visible.token("\u200d")
    assert "U+200D" in visible.token("a\u200db")


def test_a_long_token_says_how_long_it_is() -> None:
    shown = visible.token("x" * 10_240, 200)
    assert shown.count("x") == 200
    assert "10,240 characters" in shown


def test_the_whole_text_has_its_lines_and_marks_them() -> None:
    own = of_tokens(COMBINATIONS[0], ["a", "\n", " b", " <i>", "!"], 2, before="x\n", after="\ty")
    whole = str(example.drawn([_only(own)])[0][0].whole)
    assert whole == "… x⏎\na⏎\n<mark> b</mark> &lt;i&gt;!→\ty"


@pytest.mark.parametrize("text", ["It rained for days. ", "漢字かな交じり文。", "<&>\"'", "שלום\u200bעולם\n"])
def test_a_page_stays_below_300_kB_whatever_the_script(text: str) -> None:
    assert len(neuron_page(big(text), LINKS).encode()) <= 300_000


def test_the_policy_allows_the_script_of_the_page_and_no_other() -> None:
    page = neuron_page(sample(), LINKS)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;;" in page
    assert "default-src &#39;none&#39;" in page


# Colours


@pytest.mark.parametrize("scheme", _SCHEMES)
def test_text_is_legible_on_every_colour_of_the_scale(scheme: str) -> None:
    colours, most = _colours(scheme), {"light": 1.0, "dark": 0.8}[scheme]
    assert re.search(rf"--most: {100 * most:.0f}%", asset("neuron.css"))
    for end in ("plus", "minus"):
        for level in range(example.LEVELS + 1):
            share = most * level / example.LEVELS
            ground = [share * a + (1 - share) * b for a, b in zip(colours[end], colours["paper"], strict=True)]
            assert _contrast(colours["ink"], ground) >= 4.5, (end, level)


@pytest.mark.parametrize("scheme", _SCHEMES)
@pytest.mark.parametrize("name", ["ink", "soft", "link", "good", "doubt", "bad"])
def test_text_is_legible_on_paper_and_panel(scheme: str, name: str) -> None:
    colours = _colours(scheme)
    assert _contrast(colours[name], colours["paper"]) >= 4.5
    assert _contrast(colours[name], colours["panel"]) >= 4.5


def _colours(scheme: str) -> dict[str, list[float]]:
    """The variables of the base style sheet, the dark ones over the light ones."""
    light, dark = asset("base.css").split("prefers-color-scheme: dark", 1)
    dark = dark.split("@media print")[0]
    found = re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light + (dark if scheme == "dark" else ""))
    return {name: [int(value[i : i + 2], 16) / 255 for i in (1, 3, 5)] for name, value in found}


def _contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: list[float]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
        return math.fsum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _only(own: PageExample) -> sample_content.PageCombination:
    combination = sample()["combinations"][0]
    combination["examples"] = [own]
    return combination


@pytest.mark.parametrize(
    ("value", "shown"),
    [(19.34, "+19.3"), (-0.08, "−0.08"), (0.0, "0"), (-1.2e-5, "−1.2e−05"), (12345.6, "+1.23e+04"), (None, "–"),
     (math.nan, "–"), (-math.inf, "–")],
)  # fmt: skip
def test_numbers_have_three_digits_and_none_that_is_invented(value: float | None, shown: str) -> None:
    assert filters.digits(value) == shown


def test_the_names_of_the_combinations_are_those_of_the_cards() -> None:
    said = outline(sample()).text
    assert all(wording.combination(c) in said for c in COMBINATIONS)


@pytest.mark.parametrize("name", ["base.css", "neuron.css"])
def test_a_style_sheet_loses_its_comments_and_spaces_and_nothing_else(name: str) -> None:
    whole, short = str(asset(name)), str(style(name))
    without = re.sub(r"/\*.*?\*/", "", whole, flags=re.DOTALL)
    assert len(short) < 0.95 * len(whole)
    assert "".join(short.split()) == "".join(without.split())
    assert re.findall('"[^"]*"', short) == re.findall('"[^"]*"', without)
