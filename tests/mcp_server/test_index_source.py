"""The index that a server has open while others write to it, visit it, and copy other files over it."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from neuronagent.domain import NeuronId
from neuronagent.errors import IndexMismatchError, NotAnIndexError
from neuronagent.mcp_server.source import IndexSource
from neuronagent.service.live import process
from neuronagent.store.engine import open_writer
from tests.known_index import world
from tests.mcp_server.pipe import Pipe
from tests.mcp_server.sample import write_sample

NEURON = NeuronId(0, 1)
VISIT = (
    "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
    "connection.execute('SELECT count(*) FROM explanation').fetchone(); connection.close()"
)


def visit(db: Path) -> None:
    """Another program opens the file, reads and closes it, as a browser of databases does."""
    subprocess.run([sys.executable, "-c", VISIT, str(db)], check=True)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample.db")


@pytest.fixture
def source(db: Path) -> Iterator[IndexSource]:
    found = IndexSource(str(db))
    yield found
    found.close()


def test_an_index_copied_over_the_open_one_is_refused_until_the_first_is_back(
    source: IndexSource, db: Path, tmp_path: Path
) -> None:
    first = source.view().neuron(NEURON).record
    kept = Path(shutil.copyfile(db, tmp_path / "kept.db"))
    inode = db.stat().st_ino
    shutil.copyfile(write_sample(tmp_path / "other.db", fingerprint="another"), db)
    assert db.stat().st_ino == inode
    for _ in range(2):
        with pytest.raises(IndexMismatchError, match=r"was replaced by another index \(another\)"):
            source.view()
    shutil.copyfile(kept, db)
    assert source.view().neuron(NEURON).record == first


def test_what_is_remembered_goes_with_the_file_that_it_was_read_from(
    source: IndexSource, db: Path, tmp_path: Path
) -> None:
    """A copy with the same fingerprint and other numbers, as a repaired build would be."""
    first = source.view().neuron(NEURON).record
    shutil.copyfile(write_sample(tmp_path / "other.db", neurons=13), db)
    assert source.view().neuron(NEURON).record != first
    assert source.view().reader.layers() == {0: 13, 1: 13}


def test_an_index_that_is_written_to_is_opened_once(source: IndexSource, db: Path) -> None:
    source.view()
    open_writer(db).dispose()  # the first writer changes the file's mode, and with it the file
    reader = source.view().reader
    for text in ("fires", "fires again"):
        engine = open_writer(db)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE explanation SET text = ?", (text,))
        engine.dispose()
        visit(db)
        assert source.view().reader is reader
        assert {stored.explanation.text for stored, _ in source.view().explanations(NEURON)} == {text}


def test_helper_files_deleted_under_the_open_index_make_it_open_again(source: IndexSource, db: Path) -> None:
    open_writer(db).dispose()
    source.view().reader.info()
    for name in ("wal", "shm"):
        db.with_name(f"{db.name}-{name}").unlink()
    source.view()
    engine = open_writer(db)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE explanation SET text = 'fires'")
    engine.dispose()
    assert {stored.explanation.text for stored, _ in source.view().explanations(NEURON)} == {"fires"}


def submission(neuron: str) -> dict[str, Any]:
    said = {"combination": "++", "label": "digits", "trigger": "One of ` 0`, ` 1`, ` 5`, ` 7`"}
    return {"name": "submit_explanation", "arguments": {"neuron": neuron, **said}}


@pytest.mark.slow
def test_a_server_goes_on_reading_and_writing_when_another_program_has_visited_its_index(tmp_path: Path) -> None:
    db = Path(shutil.copy(world().db, tmp_path / "planted.db"))
    with Pipe(db, "--no-live") as pipe:
        pipe.initialize()
        for neuron in ("0.0", "0.1", "0.2", "0.3"):
            found = pipe.ask("tools/call", submission(neuron))["result"]
            assert not found.get("isError"), found
            assert found["structuredContent"]["new"]
            asked = {"name": "neuron_explanations", "arguments": {"neuron": neuron}}
            read = pipe.ask("tools/call", asked)["result"]["structuredContent"]
            assert (read["available"], read["total"]) == (True, 1)
            visit(db)
        assert pipe.end()[0] == 0


def test_the_process_of_the_model_keeps_it_while_the_index_is_the_same(tmp_path: Path) -> None:
    db = Path(shutil.copy(world().db, tmp_path / "planted.db"))
    loaded = process._Loaded(process.Load(str(db), None, "cpu"))  # pyright: ignore[reportPrivateUsage]
    asked = process.Question("activate", {"text": "not 3 Anna cold", "neurons": ["0.0"]})
    first, live = loaded.ask(asked), loaded.live()
    open_writer(db).dispose()  # changes the file
    for _ in range(2):
        shutil.copyfile(world().db, db)
        assert loaded.ask(asked) == first
        assert loaded.live() is live
        index = live.index
        assert loaded.live().index is index
    with closing(sqlite3.connect(shutil.copyfile(world().db, tmp_path / "other.db"))) as connection, connection:
        connection.execute("UPDATE index_info SET value = '\"another\"' WHERE key = 'fingerprint'")
    shutil.copyfile(tmp_path / "other.db", db)
    assert loaded.live().index.info["fingerprint"] == "another"
    assert loaded.live() is not live
    db.write_bytes(b"no index any more" * 100)
    for _ in range(2):
        with pytest.raises(NotAnIndexError):
            loaded.ask(asked)
    shutil.copyfile(world().db, db)
    assert loaded.ask(asked) == first
    loaded.live().index.close()
