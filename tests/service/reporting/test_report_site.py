"""A report is a folder of pages that point to each other, drawn once, and finished by writing it again."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neuronagent.domain import NeuronId, Split
from neuronagent.errors import IndexMismatchError, NotFoundError, StorageError, UsageError
from neuronagent.report.markdown import markdown
from neuronagent.service.demo import run_demo
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.content import neuron_content
from neuronagent.service.reporting.manifest import MANIFEST
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.site import Report, write_report
from tests.importing.made_pages import make_site
from tests.known_index import world

SOME = [NeuronId(0, 0), NeuronId(0, 1), NeuronId(1, 9), NeuronId(1, 10)]
BESIDE = ["index.html", "neurons.csv", "neurons.jsonl", "neurons.parquet", "summary.json"]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A copy of the planted index in which nothing is explained and no value is stored."""
    return Path(shutil.copy(world().db, tmp_path / "planted.db"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"


def written(db: Path, folder: Path, neurons: list[NeuronId], **options: Any) -> Report:
    """A report by this process alone, without running the model."""
    with Index(str(db)) as index:
        given: dict[str, Any] = {"values": False, "workers": 1, **options}
        return write_report(index, folder, neurons, **given)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of each file but the list."""
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir() if path.name != MANIFEST
    }


def links(folder: Path) -> dict[str, set[str]]:
    """By page, what it points to that is no place within it."""
    return {
        path.name: {
            address
            for address in re.findall(r'(?:href|src)="([^"]*)"', path.read_text())
            if not address.startswith("#")
        }
        for path in folder.glob("*.html")
    }


# What is written


def test_a_neuron_is_a_page_with_its_json_and_markdown(db: Path, folder: Path) -> None:
    found = written(db, folder, [SOME[0]])
    assert sorted(files(folder)) == ["0.0.html", "0.0.json", "0.0.md"] == sorted(found.files)
    with Index(str(db)) as index:
        content = neuron_content(index, SOME[0])
    assert json.loads((folder / "0.0.json").read_text()) == json.loads(json.dumps(content))
    assert (folder / "0.0.md").read_text() == markdown(content)
    assert "0.0.json" in links(folder)["0.0.html"]
    assert (found.pages, found.written, found.unchanged, found.others) == (1, 1, 0, 0)
    assert found.bytes == sum(len(data) for _, data in files(folder).values())
    assert found.overview is None


def test_several_neurons_also_have_an_overview_tables_and_a_summary(db: Path, folder: Path) -> None:
    found = written(db, folder, SOME, selection="what I chose")
    assert sorted(files(folder)) == sorted([f"{n}.{kind}" for n in SOME for kind in ("html", "json", "md")] + BESIDE)
    assert found.overview == folder / "index.html"
    assert list(pd.read_json(folder / "neurons.jsonl", lines=True)["page"]) == [f"{n}.html" for n in SOME]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["summary"]["neurons"] == 4
    assert (summary["selection"], summary["failures"]) == ("what I chose", [])
    assert "rows" not in summary


def test_pages_point_to_pages_that_are_there_and_to_nothing_else(db: Path, folder: Path) -> None:
    written(db, folder, SOME)
    found = links(folder)
    assert all((folder / address).is_file() for addresses in found.values() for address in addresses)
    assert all("index.html" in found[f"{neuron}.html"] for neuron in SOME)
    neighbours = {address for neuron in SOME for address in found[f"{neuron}.html"] if address[0].isdigit()}
    assert len(neighbours & {f"{neuron}.html" for neuron in SOME}) > 1


@pytest.mark.slow
def test_the_same_index_gives_the_same_bytes(db: Path, tmp_path: Path) -> None:
    written(db, tmp_path / "a", SOME)
    written(db, tmp_path / "b", SOME)
    assert {name: data for name, (_, data) in files(tmp_path / "a").items()} == {
        name: data for name, (_, data) in files(tmp_path / "b").items()
    }


def test_options_choose_the_examples(db: Path, folder: Path) -> None:
    written(db, folder, [SOME[0]], options=PageOptions(examples=2, split=Split.EXPLAIN))
    content = json.loads((folder / "0.0.json").read_text())
    examples = [example for own in content["combinations"] for example in own["examples"]]
    assert {example["split"] for example in examples} == {"explain"}
    assert max(len(own["examples"]) for own in content["combinations"]) == 2
    again = written(db, folder, [SOME[0]], options=PageOptions(examples=1, split=Split.EXPLAIN))
    assert again.written == 1


def test_an_imported_neuron_has_a_page_too(folder: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "imported.db")
    import_gluscope(str(make_site(tmp_path / "docs", [NeuronId(3, 1)])), target)
    with Index(target) as index:
        found = write_report(index, folder, ["3.1"], overview=True)
        assert write_report(index, folder, ["3.1"], overview=True).unchanged == 1
    assert (found.pages, found.valued) == (1, 0)
    assert json.loads((folder / "3.1.json").read_text())["imported"]


# Writing again


def test_what_still_holds_is_neither_drawn_nor_written(db: Path, folder: Path) -> None:
    written(db, folder, SOME)
    before, listed = files(folder), (folder / MANIFEST).read_bytes()
    again = written(db, folder, SOME)
    assert (again.written, again.unchanged) == (0, 4)
    assert files(folder) == before
    assert (folder / MANIFEST).read_bytes() == listed


@pytest.mark.slow
def test_a_neuron_that_was_explained_meanwhile_is_drawn_again_and_no_other(db: Path, folder: Path) -> None:
    written(db, folder, SOME)
    before = files(folder)
    with Index(str(db)) as index:
        index.explain(SOME[1])
    again = written(db, folder, SOME)
    assert (again.written, again.unchanged) == (1, 3)
    after = files(folder)
    assert {name for name in after if after[name] != before[name]} == {"0.1.html", "0.1.json", "0.1.md", *BESIDE}


@pytest.mark.slow
def test_pages_of_other_neurons_stay_and_a_page_that_came_is_pointed_to(db: Path, folder: Path) -> None:
    written(db, folder, SOME[:2])
    before = {name: set(found) for name, found in links(folder).items()}
    second = written(db, folder, SOME[2:])
    assert (second.pages, second.others) == (2, 2)
    written(db, folder, SOME)
    after = links(folder)
    assert set(after) == {"index.html", *(f"{neuron}.html" for neuron in SOME)}
    assert any(after[name] - before[name] for name in before if name != "index.html")
    assert all((folder / address).is_file() for addresses in after.values() for address in addresses)


@pytest.mark.slow
def test_a_file_that_was_deleted_comes_back(db: Path, folder: Path) -> None:
    written(db, folder, SOME)
    (folder / "0.1.json").unlink()
    again = written(db, folder, SOME)
    assert (again.written, again.unchanged) == (1, 3)
    assert (folder / "0.1.json").is_file()


# Values


@pytest.mark.slow
def test_the_model_is_run_once_for_the_values_that_pages_show(db: Path, folder: Path) -> None:
    plain = written(db, folder, SOME[:1])
    assert plain.valued == 0
    first = written(db, folder, SOME[:2], values=True)
    assert (first.valued, first.written) == (2, 2)
    content = json.loads((folder / "0.0.json").read_text())
    examples = [example for own in content["combinations"] for example in own["examples"]]
    assert examples
    for example in examples:
        assert None not in example["values"]
        assert example["values"][example["marked"]][3] == pytest.approx(example["value"], rel=1e-4)
    again = written(db, folder, SOME[:2], values=True)
    assert (again.valued, again.unchanged) == (0, 2)


class Said:
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, stage: str, total: int, unit: str) -> None: ...
    def advance(self, done: int) -> None: ...
    def note(self, line: str) -> None:
        self.notes.append(line)


@pytest.mark.slow
def test_without_the_model_tokens_have_no_values_which_is_said_once(db: Path, folder: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        (text,) = connection.execute("SELECT value FROM index_info WHERE key = 'model'").fetchone()
        moved = json.dumps(json.loads(text) | {"source": "/nowhere/model"})
        connection.execute("UPDATE index_info SET value = ? WHERE key = 'model'", (moved,))
    said = Said()
    found = written(db, folder, SOME[:2], values=True, progress=said)
    assert (found.pages, found.valued) == (2, 0)
    (note,) = said.notes
    assert "the model is not at hand" in note
    assert "--model-folder FOLDER" in note
    brought = written(db, folder, SOME[:2], values=True, model=str(world().model.folder))
    assert (brought.valued, brought.written) == (2, 2)


@pytest.mark.slow
def test_the_model_is_run_for_the_others_where_a_neuron_is_not_there(db: Path, folder: Path) -> None:
    found = written(db, folder, [SOME[0], NeuronId(7, 7)], values=True)
    assert (found.valued, found.pages, len(found.failures)) == (1, 1, 1)


# What goes wrong


def damage(db: Path, neuron: NeuronId) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(
            "UPDATE combination SET lists = x'00ff' WHERE layer = ? AND neuron = ?", (neuron.layer, neuron.index)
        )


@pytest.mark.slow
def test_a_neuron_that_fails_is_said_and_no_page_points_to_it(db: Path, folder: Path) -> None:
    damage(db, SOME[1])
    said = Said()
    found = written(db, folder, [*SOME, NeuronId(7, 7)], values=True, progress=said)
    assert (found.pages, found.valued) == (3, 0)
    assert "the model was not run: " in said.notes[0]
    reasons = {str(neuron): reason for reason, those in found.failures.items() for neuron in those}
    assert set(reasons) == {"0.1", "7.7"}
    assert "damaged" in reasons["0.1"]
    assert "not in this index" in reasons["7.7"]
    failures = json.loads((folder / "summary.json").read_text())["failures"]
    assert {name for row in failures for name in row["neurons"]} == {"0.1", "7.7"}
    assert not (folder / "0.1.html").exists()
    assert all((folder / address).is_file() for addresses in links(folder).values() for address in addresses)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["pages"] == 3


def test_a_few_named_neurons_are_all_written_or_none(db: Path, folder: Path) -> None:
    for neurons in ([SOME[0], NeuronId(7, 7)], [NeuronId(0, 99)]):
        with pytest.raises(NotFoundError, match="is not in this index"):
            written(db, folder, neurons, overview=False)
        assert not folder.exists()


def test_a_batch_of_which_nothing_is_left_writes_nothing(db: Path, folder: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none of 2 neurons has a page: neuron 7\.7 is not in this index"):
        written(db, folder, [NeuronId(7, 7), NeuronId(7, 8)])
    assert not folder.exists()


def test_nothing_to_write_is_said_before_a_folder_is_made(db: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report on"):
        written(db, folder, [])
    with pytest.raises(UsageError, match="worker"):
        written(db, folder, SOME, workers=0)
    with pytest.raises(UsageError, match="neuron"), Index(str(db)) as index:
        write_report(index, folder, ["x"])
    assert not folder.exists()


def test_a_name_that_is_taken_refuses_the_report_before_anything_is_written(db: Path, folder: Path) -> None:
    written(db, folder, [SOME[0]])
    (folder / "index.html").write_text("mine")
    before = files(folder)
    with pytest.raises(StorageError, match=r"index\.html was not written by a report"):
        written(db, folder, SOME)
    assert files(folder) == before


@pytest.mark.slow
def test_the_folder_of_another_index_is_refused(db: Path, folder: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "imported.db")
    import_gluscope(str(make_site(tmp_path / "docs", [NeuronId(3, 1)])), target)
    with Index(target) as index:
        write_report(index, folder, ["3.1"])
    before = files(folder)
    with pytest.raises(IndexMismatchError, match="report of another index"):
        written(db, folder, SOME)
    assert files(folder) == before


# Many


@pytest.mark.slow
def test_a_thousand_pages_are_a_site_of_small_files_that_is_not_drawn_twice(tmp_path: Path, folder: Path) -> None:
    """The model that ships, over a part of its corpus."""
    target = str(tmp_path / "demo.db")
    run_demo(target, tokens=12_000)
    neurons = [NeuronId(layer, index) for layer in (2, 3) for index in range(500)]
    with Index(target) as index:
        found = write_report(index, folder, neurons, workers=2)
        assert (found.pages, found.written, found.valued, found.failures) == (1000, 1000, 1000, {})
        before = files(folder)
        again = write_report(index, folder, neurons, workers=2)
    assert (again.written, again.unchanged, again.files_written, again.valued) == (0, 1000, 0, 0)
    assert files(folder) == before
    assert max(len(before[f"{neuron}.html"][1]) for neuron in neurons) <= 300_000
    assert all((folder / address).is_file() for addresses in links(folder).values() for address in addresses)
