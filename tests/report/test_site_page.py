"""The overview is one file that asks for nothing, and whatever stands in its rows stays text."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from typing import Any

import pytest

from neuronagent.report.site_data import embedded, site_data, text_length
from neuronagent.report.site_page import PLAIN_ROWS, site_page
from tests.report.sample_site import HOSTILE, content, explained, few, row, sample_site, unit

MB = 1_000_000


class Parsed(HTMLParser):
    """Start tags with their attributes, the text of each script, and of all else."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [value for _, found in self.tags if (value := found.get(name)) is not None]


def data_of(page: str) -> dict[str, Any]:
    return json.loads(Parsed(page).scripts[0])


# Safe and alone


def test_text_of_corpora_and_models_makes_no_element() -> None:
    page = site_page(few())
    found = Parsed(page)
    assert [tag for tag, _ in found.tags].count("script") == 2
    assert "made" not in found.attributes("id")
    assert not found.attributes("onmouseover")
    assert page.encode("utf-8")  # no half a character is left


def test_what_is_embedded_is_read_back_as_it_was() -> None:
    data = {"texts": [*HOSTILE, "</SCRIPT ", "<!--<script>", "]]>", "é"]}
    text = str(embedded(data))
    assert json.loads(text) == data
    assert not set(text) & set("<>&\u2028\u2029\ud800")


def test_nothing_is_loaded_and_only_the_pages_own_script_may_run() -> None:
    page = site_page(few())
    found = Parsed(page)
    assert not found.attributes("src")
    assert all("//" not in href and not href.startswith("javascript") for href in found.attributes("href"))
    allowed = next(attrs["content"] or "" for tag, attrs in found.tags if tag == "meta" and "http-equiv" in attrs)
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in allowed
    assert "connect-src 'none'" in allowed


# What is in it


def test_the_data_have_all_rows_in_columns_of_equal_length() -> None:
    sample = few()
    data = data_of(site_page(sample))
    rows = sample["rows"]
    assert {len(column) for column in data["columns"].values()} == {len(rows)}
    assert {len(column) for column in data["units"].values()} == {4 * len(rows)}
    first = {name: column[0] for name, column in data["units"].items()}
    assert (first["frequency"], first["auroc"], first["auroc_lo"], first["lift"]) == (50_000, 95_000, 85_000, 45_000)
    assert data["names"]["texts"][first["text"]] == "on `␣self.`"
    assert data["names"]["verdicts"][first["verdict"]] == "supported"
    assert data["columns"]["page"][:4] == [1, 1, 1, None]
    unexplained = 4 * 2
    assert data["units"]["verdict"][unexplained] == data["units"]["text"][unexplained] == -1
    assert data["units"]["frequency"][4 * 3] is None


def test_strings_are_made_visible_before_the_script_has_them() -> None:
    told = data_of(site_page(few()))["names"]
    texts = [text for name in ("texts", "tokens", "writers") for text in told[name]]
    assert all(text.isprintable() for text in texts)
    assert any("⟨U+202E⟩" in text for text in texts)


def test_long_explanations_are_cut_and_the_page_says_so() -> None:
    long = content([row(0, 0, [explained(c, f"{c} " + "long " * 60) for c in range(4)])])
    page = site_page(long)
    assert {len(text) for text in data_of(page)["names"]["texts"]} == {240}
    assert "cut after 240 characters" in Parsed(page).text
    assert "cut after" not in Parsed(site_page(few())).text


def test_the_more_explanations_there_are_the_shorter_they_are_until_all_fit() -> None:
    texts = [f"{i:04}" * 75 for i in range(100)]
    assert text_length(texts) == 240
    assert text_length([*texts, *texts], limit=24_000) == 240  # each counts once
    assert text_length(texts, limit=23_999) == 180
    assert text_length(texts, limit=11_000) == 110
    assert text_length([text[:20] for text in texts], limit=11_000) == 240
    assert text_length(texts, limit=1) == 50


def test_without_a_script_the_first_rows_stand_there_with_their_links() -> None:
    many = content([row(1, i, [unit(c) for c in range(4)]) for i in range(PLAIN_ROWS + 5)])
    found = Parsed(site_page(many))
    links = [href for href in found.attributes("href") if href.startswith("1.")]
    assert links == [f"1.{i}.html" for i in range(PLAIN_ROWS)]
    assert f"first {PLAIN_ROWS} of {PLAIN_ROWS + 5} neurons" in found.text


def test_the_summary_has_its_denominators() -> None:
    text = " ".join(Parsed(site_page(few())).text.split())
    assert "10 of 12 neurons are explained; their 40 combinations:" in text
    assert "2 neurons have no explanation, and are in none of these shares." in text


def test_of_neurons_none_of_which_is_explained_no_share_is_given() -> None:
    text = " ".join(Parsed(site_page(content([row(0, 0, [unit(c) for c in range(4)])]))).text.split())
    assert "None of the 1 neurons is explained yet" in text
    assert "Benjamini" not in text


def test_of_weights_alone_nobody_is_sent_to_explain_what_cannot_be() -> None:
    alone = content([row(0, 0, [unit(c) for c in range(4)])])
    alone["provenance"]["corpus"] = None
    text = " ".join(Parsed(site_page(alone)).text.split())
    assert "this index holds weights alone" in text
    assert "neuronagent explain" not in text


def test_the_page_says_what_strong_tokens_were_told_from() -> None:
    computed = site_page(few())
    assert computed.count("from random tokens") == 2
    assert "against random tokens" in computed
    lists = [explained(place, "on again", against="vs weak, same texts") for place in range(4)]
    published = site_page(content([row(31, 9634, lists)], imported=True))
    assert published.count("from weak tokens of the same texts") == 2
    assert "random" not in published.partition("<script")[0]


def test_an_overview_can_be_cited_and_says_who_published_what_is_not_its_own() -> None:
    found = few()
    found["provenance"]["published"] = {"source": "https://example.org", "absent": ["in", "out"]}
    text = " ".join(Parsed(site_page(found)).text.split())
    assert "12 neurons of sample, 1,000 tokens of texts.jsonl, signs normalised, neuronagent 0.1" in text
    assert "source: https://example.org; absent: in, out" in text


@pytest.mark.parametrize(("share", "whole"), [(0.0, 0), (1e-7, 1), (0.5, 50_000), (1 - 1e-7, 99_999), (1.0, 100_000)])
def test_what_the_script_has_is_nothing_or_everything_only_where_it_is(share: float, whole: int) -> None:
    shown = site_data([row(0, 0, [unit(place, frequency=share) for place in range(4)])])
    assert shown["units"]["frequency"] == [whole] * 4


def test_an_overview_of_no_neurons_says_so() -> None:
    found = Parsed(site_page(content([])))
    assert "No neuron was chosen." in found.text
    assert found.scripts == []


def test_published_neurons_have_no_columns_for_what_was_not_published() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("io_class", "cos_gate_in", "cos_gate_out", "cos_in_out", "norm_out"))
    rows = [row(3, 1, [unit(c, mass_share=None, promotes=[]) for c in range(4)], **nothing)]
    found = Parsed(site_page(content(rows, imported=True)))
    assert set(found.attributes("data-sort")) == {"neuron", "frequency", "text", "auroc", "lift", "verdict"}
    assert "IO class" not in found.text


@pytest.mark.slow
def test_ten_thousand_neurons_fit_into_five_megabytes() -> None:
    page = site_page(sample_site(10_000))
    assert len(page.encode()) <= 5 * MB
    assert len(data_of(page)["columns"]["layer"]) == 10_000
