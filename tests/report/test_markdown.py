"""A neuron's page as Markdown, read back by a real parser of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from neuronagent import wording
from neuronagent.report.content import NeuronContent
from neuronagent.report.markdown import markdown
from neuronagent.report.markdown_parts import cell, code, number, share, signed
from tests.report.sample_content import ATTACKS, bare, big, hostile, imported_sample, sample

PARSER = MarkdownIt("commonmark", {"linkify": False}).enable("table")
ELEMENTS = {"h1", "h2", "h3", "p", "ul", "li", "strong", "code", "table", "thead", "tbody", "tr", "th", "td"}


class Rendered(HTMLParser):
    """What the Markdown becomes: its elements, its text outside of code and within, and its tables by cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.plain: list[str] = []
        self.code: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(PARSER.render(text))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "code":
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if "code" in self._open:
            self.code[-1] += data
        else:
            self.plain.append(data)


def row(found: Rendered, *beginning: str) -> list[str]:
    """The rest of the first row that begins like this."""
    return next(cells[len(beginning) :] for cells in found.rows if cells[: len(beginning)] == list(beginning))


def test_one_near_copy_is_a_copy() -> None:
    content = sample()
    for own in content["combinations"]:
        for each in own["examples"]:
            each["copies"] = 1
    text = markdown(content)
    assert "and 1 near copy)" in text
    assert "near copies" not in text


def test_what_the_page_tells_is_told() -> None:
    text = markdown(sample())
    found = Rendered(text)
    assert "# Neuron 31.9634: depletion, role suppression" in text
    assert "Gate and in point the same way (cos +0.72)" in text
    assert row(found, "cos(in, out)") == ["-0.852", "-0.044 to +0.049"]
    assert row(found, "gate+ in−")[:7] == ["13,540,000", "67.70 %", "68.22 %", "−w_out", "2", "-0.316", "-19.34"]
    assert row(found, "AUROC vs random") == ["0.910 [0.710, 0.980]", "n 20 + 20", "0.5", ""]
    assert row(found, "AUROC same token")[0] == "no value"
    assert row(found, "precision in the corpus")[0] == "0.0034 [0.0011, 0.0089]"
    assert row(found, "token list") == ["0.830", "+0.080 [-0.040, +0.190]"]
    assert row(found, "index") == ["01070c60dbf48619"]
    for said in (
        "verdict **supported**:",
        "verdict **trigger right, sign not distinguished**",
        "its writer may have seen test items",
        "Also (`rule`, not better than the token list): `` on `.` ``",
        "Also (`human Ada`; its writer may have seen test items, not judged): `ends of sentences`",
        "+5.12 `…We are experiencing technical difficulties at the moment. Please⟦ try⟧ again later",
        "(test, position 118, and 2 near copies)",
        "87.50 % [71.00 % to 96.50 %] of a combination's windows go to it, on average over the combinations (chance "
        "50.00 %, n = 32, test split)",
        "Not told apart: gate+ in+ and gate+ in−.",
        "- similar_out: 31.1 (+0.580), 31.2 (+0.540), 31.3 (+0.500)",
        "- **out**: `otherwise`, `Otherwise`",
        "No examples: `no token of the corpus is in this combination`.",
        "Of 20,000,000 tokens; 12 with an exact zero belong to none.",
    ):
        assert said in text


@pytest.mark.parametrize("made", [sample, imported_sample, bare, big])
@pytest.mark.parametrize("attacked", [False, True])
def test_texts_of_others_stand_in_code_and_make_no_markup(made: Callable[[], NeuronContent], attacked: bool) -> None:
    text = markdown(hostile(made()) if attacked else made())
    found = Rendered(text)
    assert found.elements <= ELEMENTS
    assert found.attributes <= {"style"}  # the alignment of columns
    outside = "".join(found.plain)
    assert "<" not in outside
    assert "7*7" not in outside
    assert "`" not in outside
    assert re.search(r"@|://|www\.|#\d", outside) is None  # what GitHub makes a mention or a link of
    assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", text) is None
    assert ("onerror" in text) == attacked
    widths = {len(cells) for cells in found.rows}
    assert widths <= {2, 3, 5, 9}
    text.encode()


def test_every_row_of_a_table_has_the_cells_of_its_head() -> None:
    content = sample()
    explanation = content["combinations"][0]["explanation"]
    assert explanation is not None
    explanation["scores"][0]["note"] = "a | b || c \\| d \\"
    explanation["controls"][0]["name"] = "x|y"
    found = Rendered(markdown(content))
    assert row(found, "AUROC vs random")[-1] == "a ¦ b ¦¦ c \\¦ d \\"
    assert row(found, "x¦y")[0] == "0.500"


def test_a_text_cannot_mark_a_token_of_its_own() -> None:
    content = sample()
    example = content["combinations"][0]["examples"][0]
    example["tokens"] = ["⟦fake⟧", " \ue000me\ue001", "real", " ⟦"]
    example["marked"] = 2
    (line,) = [line for line in markdown(content).splitlines() if line.startswith("- +5.12")]
    assert line.count("⟦") == line.count("⟧") == 1
    assert "⟦real⟧" in line


def test_words_of_rules_read_as_sentences_and_others_do_not() -> None:
    content = sample()
    content["summary"] = ["In gate+ in+ (48.5 % of its output) it fires on `␣self.`.", "<b>It</b> is `x`."]
    for own in content["combinations"]:
        if own["explanation"]:
            own["explanation"]["by"] = "rule"
    lines = markdown(content).splitlines()
    assert "- In gate+ in+ (48.5 % of its output) it fires on `␣self.`." in lines
    assert "- ``<b>It</b> is `x`.``" in lines
    content["combinations"][0]["explanation"] = sample()["combinations"][0]["explanation"]
    assert "- ``In gate+ in+ (48.5 % of its output) it fires on `␣self.`.``" in markdown(content).splitlines()


def test_an_index_of_weights_alone_says_so_and_imported_numbers_have_no_geometry() -> None:
    assert "weights only" in markdown(bare())
    assert "neuronagent explain" not in markdown(bare()).partition("## Sign combinations")[2]
    text = markdown(imported_sample())
    assert text.startswith("# Neuron 31.9634\n")
    assert "## Geometry" not in text
    assert "weights only" not in text
    assert row(Rendered(text), "published: source") == ["https://example.org/neurons"]


def test_nothing_is_rounded_to_nothing_or_to_everything() -> None:
    assert [signed(v) for v in (0.25, -0.0004, 0.0, -0.0)] == ["+0.250", "-0.0004", "0", "0"]
    assert [number(v) for v in (-0.5, 0.0, -0.0)] == ["-0.5", "0", "0"]
    shares = [0.0, 0.00001, 0.5, 0.99996, 1.0]
    assert [share(v) for v in shares] == ["0.00 %", "<0.01 %", "50.00 %", ">99.99 %", "100.00 %"]


def test_it_stays_short() -> None:
    assert len(markdown(sample())) < 10_000
    assert len(markdown(hostile(big()))) < 80_000


def test_a_note_stands_at_the_head() -> None:
    assert markdown(sample(), note="Quoted.").index("Quoted.") < 1_000


@given(st.text(), st.integers(1, 60))
@example("`", 9)
@example(" a ", 9)
@example("``a` ", 9)
@example("   ", 9)
@example("", 9)
@example("``` x", 9)
@example(ATTACKS, 400)
def test_a_code_span_holds_its_text_and_ends_nowhere_within(text: str, width: int) -> None:
    (block,) = [token for token in PARSER.parse(f"x {code(text, width)} y") if token.type == "inline"]
    assert [child.type for child in block.children or []] == ["text", "code_inline", "text"]
    found = (block.children or [])[1].content
    assert found == (wording.clipped(wording.visible(text[: width + 1]), width) or "∅")
    assert len(found) <= width


@given(st.text())
def test_a_cell_is_one_cell(text: str) -> None:
    found = Rendered(f"| a | b |\n|---|---|\n| {cell(text, 80)} | end |\n")
    assert found.rows[1][1:] == ["end"]
