"""An index as a data set: every number of it, all or nothing, and back again through the importer of data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from neuronagent.cli import run
from neuronagent.domain import COMBINATIONS, LISTED, QUANTITIES, SPLITS, Explanation, NeuronId, Quantity
from neuronagent.errors import StorageError, UsageError
from neuronagent.published import HOOKS
from neuronagent.service.check import check_index
from neuronagent.service.exporting.parquet import export_parquet
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.service.importing.hf_activations import import_activations
from neuronagent.service.lookup import Index
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation
from neuronagent.store.reader import IndexReader
from tests import known_index
from tests.cli.conftest import INFO
from tests.importing import made_pages
from tests.store.made_index import make_index


@pytest.fixture
def made_db(tmp_path: Path) -> Path:
    made = make_index()
    made.info.update(INFO)
    path = tmp_path / "made.db"
    made.write(path)
    return path


def exported(db: Path, folder: Path) -> Path:
    with Index(str(db)) as index:
        return export_parquet(index, str(folder)).folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_neuron_of_an_index_is_a_row_with_all_of_its_record(made_db: Path, tmp_path: Path) -> None:
    folder = exported(made_db, tmp_path / "out")
    rows = rows_of(folder / "neurons")
    with IndexReader.open(made_db) as reader:
        assert len(rows) == sum(reader.layers().values()) == 24
        for row in rows:
            record = reader.neuron(NeuronId(row["layer"], row["neuron"]))
            assert {key: row[key] for key in vars(record.geometry)} == vars(record.geometry)
            assert row["io_class"] == str(record.io_class)
            assert (row["sign"], row["tokens"], row["zeros"]) == (record.sign, record.tokens, record.zeros)
            nested = {c["combination"]: c for c in row["combinations"]}
            for c in COMBINATIONS:
                own, said = record.combinations[c], nested[c.value]
                assert row[f"{c.value}_freq"] == record.frequency(c)
                assert (said["count"], said["mass"], said["tau"]) == (own.count, own.mass, own.tau)
                assert [said[f"histogram_{s.value}"] for s in SPLITS] == [list(own.histogram[s]) for s in SPLITS]
                for quantity in QUANTITIES:
                    assert said[quantity.value] == vars(own.statistics[quantity])
                lists = {(one["list"], one["split"]): one["entries"] for one in said["lists"]}
                assert len(lists) == 11
                for split in SPLITS:
                    for name, found in (
                        ("post", own.post_by_split[split]),
                        ("uniform", own.uniform[split]),
                        ("weighted", own.weighted[split]),
                    ):
                        expected = [(e.value, *reader.locate(e.token_number)) for e in found]
                        assert [tuple(e.values()) for e in lists[name, split.value]] == expected
            for matrix, vectors in record.vocabulary.items():
                for vector, projection in vectors.items():
                    said = next(
                        v for v in row["vocabulary"] if (v["matrix"], v["vector"]) == (matrix.value, vector.value)
                    )
                    assert [e["token_id"] for e in said["top"]] == [e.token_id for e in projection.top]
                    assert said["kurtosis"] == projection.kurtosis


def test_texts_and_vocabulary_are_exported_whole(made_db: Path, tmp_path: Path) -> None:
    folder = exported(made_db, tmp_path / "out")
    with IndexReader.open(made_db) as reader:
        for row in rows_of(folder / "texts"):
            text = reader.text(row["text_id"])
            found = (row["document"], row["split"], row["first_token"], tuple(row["token_ids"]))
            assert found == (text.document, text.split.value, text.first_token, text.token_ids)
        vocabulary = rows_of(folder / "vocabulary")
        assert [row["bytes"] for row in vocabulary] == reader.token_bytes(range(60))
    assert len(rows_of(folder / "texts")) == 9


def test_what_is_exported_and_imported_again_is_the_same(tmp_path: Path) -> None:
    """A recorded index, not a made one: signs and order are real, so the importer's checks must all hold."""
    known_index.world()
    folder = exported(known_index.world().db, tmp_path / "out")
    db = tmp_path / "again.db"
    found = import_activations(str(folder), str(db), corpus_texts=len(known_index.world().texts))
    assert list(found.problems) == []
    assert found.repaired == 0
    with IndexReader.open(known_index.world().db) as reader, Index(str(db)) as again:
        assert [(f.name, f.examples) for f in check_index(again) if not f.ok] == []
        assert again.reader.published.layers() == reader.layers()
        for neuron in again.reader.published.neurons():
            record = reader.neuron(neuron.neuron)
            for c in COMBINATIONS:
                own, theirs = record.combinations[c], neuron.combinations[c]
                assert theirs.frequency == record.frequency(c)
                for quantity in QUANTITIES:
                    assert theirs.statistics[quantity].mean == own.statistics[quantity].mean
                for quantity in LISTED:
                    expected = [(e.value, *reader.locate(e.token_number)) for e in own.top[quantity]]
                    assert [(e.value, e.text, e.position) for e in theirs.lists[quantity]] == expected
                assert theirs.lists[Quantity.ACT] == ()


def test_the_columns_have_the_names_that_are_published(made_db: Path, tmp_path: Path) -> None:
    names = pq.read_schema(exported(made_db, tmp_path / "out") / "neurons" / "layer-000.parquet").names
    for c in COMBINATIONS:
        assert f"{c.value}_freq" in names
        for hook in HOOKS:
            assert f"{c.value}_{hook}_mean" in names
        for hook in ("hook_post", "hook_pre_linear", "hook_pre"):
            assert {f"{c.value}_{hook}_max_values", f"{c.value}_{hook}_max_indices"} <= set(names)


def test_an_index_of_weights_alone_is_exported_without_activations(tmp_path: Path) -> None:
    made = make_index()
    made.info.update(INFO)
    made.write(tmp_path / "weights.db", layers=[(layer, weights, None) for layer, weights, _ in made.layers])
    rows = rows_of(exported(tmp_path / "weights.db", tmp_path / "out") / "neurons")
    assert {row["gate+_in+_freq"] for row in rows} == {None}
    assert all(row["combinations"] == [] and row["tokens"] is None for row in rows)


def test_explanations_go_along(made_db: Path, tmp_path: Path) -> None:
    engine = open_writer(made_db)
    said = Explanation(
        neuron=NeuronId(0, 1), combination=COMBINATIONS[0], source="human", text="dates", claims={}, evidence_hash="x"
    )
    add_explanation(engine, said, author="somebody")
    engine.dispose()
    folder = exported(made_db, tmp_path / "out")
    assert [row["text"] for row in rows_of(folder / "explanations")] == ["dates"]
    assert not (folder / "scores").exists()


def test_a_folder_that_holds_something_is_left_alone(made_db: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(StorageError, match="there already"):
        exported(made_db, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / ".new.partial").mkdir()
    (tmp_path / ".new.partial" / "mine.txt").write_text("keep")
    with pytest.raises(StorageError, match="in the way"):
        exported(made_db, tmp_path / "new")
    assert (tmp_path / ".new.partial" / "mine.txt").exists()


def test_a_failed_export_leaves_nothing(made_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuronagent.service.exporting import parquet

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "_write_flat", full)
    monkeypatch.setattr(parquet, "card", full)
    with pytest.raises(OSError, match="No space"):
        exported(made_db, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["made.db"]


def test_what_a_killed_export_left_is_removed(made_db: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.partial" / "neurons").mkdir(parents=True)
    (tmp_path / ".out.partial" / ".neuronagent-export").touch()
    folder = exported(made_db, tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "index_info.json", "neurons", "texts", "vocabulary",
    ]  # fmt: skip
    assert not (tmp_path / ".out.partial").exists()


def test_the_card_quotes_names_that_others_chose(tmp_path: Path) -> None:
    made = make_index()
    made.info.update(json.loads(json.dumps(INFO)))
    hostile = "evil`\n---\n| <script>alert(1)</script> |"
    made.info["model"] = {**INFO["model"], "name": hostile}
    made.write(tmp_path / "made.db")
    card = (exported(tmp_path / "made.db", tmp_path / "out") / "README.md").read_text()
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert "evil" not in head
    assert "\n---\n" not in body
    assert "`evil'" in body


def test_imported_numbers_are_not_exported(tmp_path: Path) -> None:
    made_pages.make_site(tmp_path / "docs", [NeuronId(1, 2)], examples=2)
    import_gluscope(str(tmp_path / "docs"), str(tmp_path / "theirs.db"))
    with Index(str(tmp_path / "theirs.db")) as index, pytest.raises(UsageError, match="imported"):
        export_parquet(index, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote(made_db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--parquet", str(tmp_path / "out"), "--db", str(made_db), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["neurons"], found["texts"]) == (24, 9)
    assert found["bytes"] == sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_float32_values_survive_exactly(made_db: Path, tmp_path: Path) -> None:
    rows = rows_of(exported(made_db, tmp_path / "out") / "neurons")
    values = np.array(rows[1]["gate+_in+_hook_post_max_values"])
    assert (values == values.astype(np.float32)).all()
