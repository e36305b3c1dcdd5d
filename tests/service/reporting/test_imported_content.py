"""The page of an imported neuron says what was published, number by number, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, Quantity, SignCombination, Split
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.published import HOOKS
from neuronagent.report.content import NeuronContent
from neuronagent.report.neuron_page import Links, neuron_page
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.service.importing.hf_activations import import_activations
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.content import neuron_content
from neuronagent.service.reporting.example_values import ensure_values, values_possible
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.passages import AFTER, BEFORE
from tests.importing.made_pages import make_site, trigger
from tests.importing.test_activations_import import K, make_columns, write
from tests.service.damages import array

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[4] / "shared"))
PAGES = SHARED / "gluscope" / "docs"
PUBLISHED = SHARED / "reference" / "gluscope_pages.json"

pytestmark = pytest.mark.slow
real = pytest.mark.skipif(not (PAGES.is_dir() and PUBLISHED.is_file()), reason="the published pages are not here")

NEURON, OTHER = NeuronId(3, 7), NeuronId(3, 8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of pages made up for tests; 3.7 is explained, 3.8 is not."""
    folder = tmp_path_factory.mktemp("made")
    import_gluscope(str(make_site(folder / "site", [NEURON, OTHER])), str(folder / "made.db"))
    with Index(str(folder / "made.db")) as index:
        index.explain(NEURON)
    return folder / "made.db"


@pytest.fixture(scope="module")
def index(made: Path) -> Iterator[Index]:
    with Index(str(made)) as opened:
        yield opened


def examples(content: NeuronContent) -> list[Any]:
    return [example for own in content["combinations"] for example in own["examples"]]


def drawn(content: NeuronContent) -> str:
    return neuron_page(content, Links())


# The real pages


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    db = tmp_path_factory.mktemp("published") / "pages.db"
    import_gluscope(str(PAGES), str(db))
    with Index(str(db)) as opened:
        yield opened


class Statistics(HTMLParser):
    """The numbers of every table of statistics of a page, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = self._cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._inside = "statistics" in str(dict(attrs).get("class"))
        if tag == "tr" and self._inside:
            self.rows.append([])
        self._cell = self._inside and tag == "td"

    def handle_data(self, data: str) -> None:
        if self._cell and data.strip():
            self.rows[-1].append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "table"


@real
def test_every_published_frequency_and_statistic_is_on_the_page(published: Index) -> None:
    said, checked = json.loads(PUBLISHED.read_text())["neurons"], 0
    for name, neuron in said.items():
        content = neuron_content(published, NeuronId.parse(name))
        parser = Statistics()
        parser.feed(drawn(content))
        shown = iter([[float(cell.replace("−", "-")) for cell in row] for row in parser.rows if row])
        for own in content["combinations"]:
            numbers = neuron["page"][own["name"]]
            assert own["frequency"] is not None
            assert round(100 * own["frequency"], 2) == numbers["freq_pct"]
            checked += 1
            for hook, quantity in HOOKS.items():
                expected = [numbers[hook][key] for key in ("avg", "min", "max")]
                found = own["statistics"][quantity.value]
                assert [found["mean"], found["min"], found["max"]] == expected
                assert next(shown) == [float(f"{number:.3g}") for number in expected]
                checked += 3
        assert next(shown, None) is None
    assert checked == 12 + 144


@real
@pytest.mark.slow
def test_every_token_of_every_example_has_the_published_values(published: Index) -> None:
    """Each example of the three pages against its own file, read here once more."""
    seen = 0
    for name in ("31.9634", "28.4737", "28.9766"):
        neuron = NeuronId.parse(name)
        folder = PAGES / "OLMo-7B-0424" / f"L{neuron.layer}" / f"N{neuron.index}"
        content = neuron_content(published, neuron, PageOptions(examples=16))
        page = drawn(content)
        for own in content["combinations"]:
            files = [
                json.loads((folder / f"{own['name']}_hook_post_example_{rank}.json").read_text()) for rank in range(16)
            ]
            assert len(own["examples"]) + sum(example["copies"] for example in own["examples"]) == 16
            for example in own["examples"]:
                seen += is_published(example, files)
                for values in filter(None, example["values"]):
                    assert "\t".join(f"{value:+.3g}".replace("-", "−") for value in values) in page
    assert seen > 3 * 4 * 12


def is_published(example: Any, files: list[Any]) -> bool:
    """Whether an example is one of `files`, token by token and value by value."""
    start = example["position"] - example["marked"]
    span = slice(start, start + len(example["tokens"]))
    for file in files:
        columns = [file["labels"].index(hook) for hook in ("hook_pre", "hook_pre_linear", "swish", "hook_post")]
        values = [[row[column] for column in columns] for row in file["values"]]
        if abs(values[example["position"] if example["position"] < len(values) else 0][3] - example["value"]) < 1e-6:
            assert example["tokens"] == file["tokens"][span]
            assert ("".join(file["tokens"][1:start])).endswith(example["before"])
            assert example["after"] == "".join(file["tokens"][span.stop :])
            for found, expected in zip(example["values"], values[span], strict=True):
                assert found == pytest.approx(expected, rel=1e-5, abs=1e-30)
            return True
    return False


@real
def test_the_paper_s_neuron_is_explained_on_its_page(published: Index) -> None:
    before = neuron_content(published, NeuronId(31, 9634))
    assert [own["reason"] for own in before["combinations"]] == ["not explained yet"] * 4
    published.explain("31.9634")
    content = neuron_content(published, NeuronId(31, 9634))
    assert all(own["explanation"] and own["explanation"]["scores"] for own in content["combinations"])
    assert content["provenance"]["protocols"] == ["imported-v1"]
    page = drawn(content)
    assert "MIT License" in page
    assert "OLMo-7B-0424" in page
    for own in content["combinations"]:
        assert own["explanation"] is not None
        assert own["explanation"]["verdict"] in page


# What is always there


def test_what_was_not_published_is_none_and_says_why(index: Index) -> None:
    content = neuron_content(index, NEURON)
    nothing = ("io_class", "role", "meaning", "geometry", "baselines", "plane", "vocabulary", "vocabulary_embedding",
               "neighbours", "tokens", "zeros", "first_values")  # fmt: skip
    assert {key: content[key] for key in nothing} == dict.fromkeys(nothing)
    assert content["imported"]
    assert content["no_neighbours"] == "the weights were not published"
    for own in content["combinations"]:
        assert (own["count"], own["mass_share"], own["histogram"], own["promotes"]) == (None, None, None, [])
    said = content["provenance"]["published"]
    assert said is not None
    assert {*said} >= {"kind", "source", "licence", "published", "absent"}


def test_an_example_is_a_window_of_its_text_with_all_values(index: Index) -> None:
    content = neuron_content(index, NEURON)
    assert len(examples(content)) == 32
    assert content["values"] == {
        "examples": 32, "complete": 32, "command": None, "note": "Values at single tokens are the publisher's",
    }  # fmt: skip
    for own in content["combinations"]:
        c = SignCombination(own["name"])
        for example in own["examples"]:
            marked = example["marked"]
            assert example["tokens"][marked] == trigger(NEURON, c)
            assert "<|endoftext|>" not in "".join([example["before"], *example["tokens"], example["after"]])
            assert marked <= BEFORE
            assert len(example["tokens"]) - marked - 1 <= AFTER
            values = example["values"][marked]
            assert values is not None
            gate, linear, act, post = values
            assert (gate > 0, linear > 0) == (c.gate_sign > 0, c.in_sign > 0)
            assert post == pytest.approx(act * linear, rel=1e-4)
            assert post == pytest.approx(example["value"], rel=1e-5)


def test_what_is_stored_of_a_neuron_is_said_and_nothing_is_written(made: Path, index: Index) -> None:
    before = made.read_bytes()
    explained, other = neuron_content(index, NEURON), neuron_content(index, OTHER)
    assert made.read_bytes() == before
    with Index(str(made)) as opened:
        assert opened.reader.explanations(OTHER) == []
    view = index.explain(NEURON)
    for own in explained["combinations"]:
        said = own["explanation"]
        assert said is not None
        assert said["text"] == view["combinations"][own["name"]]["explanation"]["text"]
        assert said["verdict"] == view["combinations"][own["name"]]["verdict"]
    assert len(explained["summary"]) == 4
    assert [own["reason"] for own in other["combinations"]] == ["not explained yet"] * 4
    assert "neuronagent explain 3.8" in other["summary"][0]


def test_with_a_split_only_what_explanations_are_written_from_is_shown(index: Index) -> None:
    evidence = index.imported_explainer.evidence(NEURON)
    held = {
        w.text.text_id for own in evidence.strong.values() for side in (Split.TEST, Split.SELECT)
        for w in own.get(side, ())
    }  # fmt: skip
    content = neuron_content(index, NEURON, PageOptions(split=Split.EXPLAIN, examples=16))
    assert {example["split"] for example in examples(content)} == {"explain"}
    assert held
    assert not held & {example["text_id"] for example in examples(content)}
    assert {example["split"] for example in examples(neuron_content(index, NEURON))} == {"explain", "test"}


def test_near_duplicates_are_left_out_and_counted(made: Path, tmp_path: Path) -> None:
    db = Path(shutil.copy(made, tmp_path / "alike.db"))
    with Index(str(db)) as opened:
        first, *rest = opened.reader.published.neuron(NEURON).combinations[COMBINATIONS[0]].lists[Quantity.POST]
        text = opened.reader.published.text
        same = next(entry for entry in rest if entry.position == first.position)
        assert len(text(same.text)) == len(text(first.text))
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(
            "UPDATE published_text SET tokens = (SELECT tokens FROM published_text WHERE id = ?) WHERE id = ?",
            (first.text, same.text),
        )
    with Index(str(db)) as opened:
        own = neuron_content(opened, NEURON, PageOptions(examples=16))["combinations"][0]["examples"]
    assert len(own) == 15
    assert [example["copies"] for example in own] == [1] + [0] * 14


def test_the_whole_content_is_json_and_a_page(index: Index) -> None:
    for neuron in (NEURON, OTHER):
        content = neuron_content(index, neuron)
        assert json.loads(json.dumps(content, allow_nan=False))["neuron"] == str(neuron)
        page = drawn(content)
        assert len(re.findall("<li>", page)) >= 32
        assert "not explained yet" in page or neuron == NEURON


# What is missing or damaged


def test_a_data_set_without_texts_has_its_numbers_and_says_why_there_is_no_example(tmp_path: Path) -> None:
    import_activations(str(write(make_columns(), tmp_path / "data")), str(tmp_path / "new.db"), corpus_texts=50)
    with Index(str(tmp_path / "new.db")) as opened:
        content = neuron_content(opened, NeuronId(1, 3))
        for own in content["combinations"]:
            assert own["examples"] == []
            assert str(own["no_examples"]).startswith(f"{K} examples were published without their texts")
            assert own["frequency"] is not None
            assert own["statistics"]["post"]["mean"] is not None
            assert own["statistics"]["post"]["min"] is None
            assert own["explanation"] is None
        assert content["values"] == {"examples": 0, "complete": 0, "command": None, "note": None}
        assert "published without their texts" in drawn(content)
        with pytest.raises(NotFoundError):
            neuron_content(opened, NeuronId(9, 9))


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM published_text", "DELETE FROM trace", "UPDATE published_text SET tokens = x'00'"],
)
def test_texts_and_values_that_are_gone_leave_what_there_is(made: Path, tmp_path: Path, damage: str) -> None:
    db = Path(shutil.copy(made, tmp_path / "damaged.db"))
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(damage)
    with Index(str(db)) as opened:
        content = neuron_content(opened, OTHER)
    if "trace" in damage:
        assert len(examples(content)) == 32
        assert {value for example in examples(content) for value in example["values"]} == {None}
        assert "not published" in str(content["values"]["note"])
    else:
        assert examples(content) == []
        assert all("without their texts" in str(own["no_examples"]) for own in content["combinations"])
    assert all(own["statistics"]["post"]["mean"] is not None for own in content["combinations"])
    drawn(content)


def test_half_a_character_in_a_published_token_can_be_written_to_a_file(made: Path, tmp_path: Path) -> None:
    db = Path(shutil.copy(made, tmp_path / "half.db"))
    with closing(sqlite3.connect(db)) as connection, connection:
        half = "\ud83d".encode(errors="surrogatepass")
        connection.execute("UPDATE published_token SET bytes = ? WHERE id > 0", (half,))
    with Index(str(db)) as opened:
        content = neuron_content(opened, OTHER)
    assert examples(content)[0]["tokens"][0] == "\\ud83d"
    json.dumps(content, ensure_ascii=False).encode()
    drawn(content).encode()


def test_no_example_is_shown_where_none_is_asked_for(index: Index) -> None:
    content = neuron_content(index, NEURON, PageOptions(examples=0))
    assert {own["no_examples"] for own in content["combinations"]} == {"no examples were asked for"}


def test_no_model_is_ever_run_for_imported_numbers(made: Path, index: Index) -> None:
    assert not values_possible(index.info)
    with pytest.raises(UsageError, match="not computed from texts"):
        ensure_values(str(made), [NEURON])


def changed_positions(made: Path, db: Path, position: int) -> NeuronContent:
    """The content where every example is said to be at `position`."""
    shutil.copy(made, db)

    def change(positions: Any) -> None:
        positions[positions >= 0] = position

    with closing(sqlite3.connect(db)) as connection, connection:
        array("published_neuron", "list_positions", np.int32, "neuron = 8", change)(connection)
    with Index(str(db)) as opened:
        return neuron_content(opened, OTHER)


def test_an_example_without_a_place_in_its_text_is_not_shown(made: Path, tmp_path: Path) -> None:
    for place, position in enumerate((-1, 10_000)):
        content = changed_positions(made, tmp_path / f"{place}.db", position)
        assert examples(content) == []
        assert all("without their texts" in str(own["no_examples"]) for own in content["combinations"])


def test_a_published_example_at_position_0_is_shown_as_it_was_published(made: Path, tmp_path: Path) -> None:
    content = changed_positions(made, tmp_path / "first.db", 0)
    assert {(example["position"], example["marked"]) for example in examples(content)} == {(0, 0)}
    assert {example["tokens"][0] for example in examples(content)} == {"<|endoftext|>"}
    assert {example["split"] for example in examples(content)} == {None}
    drawn(content)
