"""An index is written whole or not at all, and never over something that must not be lost."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, ScoreControl, Split
from neuronagent.errors import IndexMismatchError, ModelError, NotAnIndexError, StorageError
from neuronagent.store import engine as engines
from neuronagent.store import schema
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation, add_scores
from neuronagent.store.reader import IndexReader
from neuronagent.store.writer import Layers
from tests.store.made_index import Made, make_index

NEURON = NeuronId(0, 1)
EXPLANATION = Explanation(
    neuron=NEURON, combination=COMBINATIONS[0], source="llm", text="fires", claims={}, evidence_hash="e"
)


def failing(made: Made) -> Layers:
    yield made.layers[0]
    raise ModelError("the activations are not finite")


def test_a_failure_half_way_leaves_no_file(tmp_path: Path, made: Made) -> None:
    with pytest.raises(ModelError):
        made.write(tmp_path / "made.db", failing(made))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_the_old_file(index_file: Path, made: Made) -> None:
    before = index_file.read_bytes()
    with pytest.raises(ModelError):
        made.write(index_file, failing(made))
    assert index_file.read_bytes() == before
    assert list(index_file.parent.iterdir()) == [index_file]


def test_a_failure_half_way_leaves_an_empty_database_empty(postgresql: str, made: Made) -> None:
    with pytest.raises(ModelError):
        made.write(postgresql, failing(made))
    engine = create_engine(postgresql)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_failure_half_way_leaves_an_old_database_as_it_was(postgresql: str, made: Made) -> None:
    made.write(postgresql)
    with pytest.raises(ModelError):
        made.write(postgresql, failing(made))
    with IndexReader.open(postgresql) as reader:
        assert reader.layers() == {0: 12, 1: 12}


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from tests.store.made_index import make_index
made = make_index(layers=3)
def layers():
    yield from made.layers[:2]
    os.kill(os.getpid(), signal.SIGKILL)
made.write(sys.argv[1], layers())
"""


def test_a_kill_leaves_the_old_file_and_what_it_left_is_cleared_away(index_file: Path, made: Made) -> None:
    before = index_file.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(index_file), str(Path(__file__).parent)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert index_file.read_bytes() == before
    assert len(list(index_file.parent.iterdir())) == 2
    made.write(index_file)
    assert list(index_file.parent.iterdir()) == [index_file]


def test_two_builds_of_one_file_do_not_meet(tmp_path: Path, made: Made) -> None:
    path = tmp_path / "made.db"

    def layers() -> Layers:
        yield made.layers[0]
        with pytest.raises(StorageError, match="being written by another process"):
            make_index(seed=1).write(path)
        yield made.layers[1]

    made.write(path, layers())
    with IndexReader.open(path) as reader:
        assert reader.info() == made.info


FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from tests.store.made_index import make_index
from neuronagent.errors import StorageError
made = make_index(neurons=200)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    made.write(sys.argv[1])
except StorageError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_leaves_no_file(tmp_path: Path) -> None:
    program = [sys.executable, "-c", FULL, str(tmp_path / "made.db"), str(Path(__file__).parent)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "make room" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"my notes", b""])
def test_a_file_that_is_not_ours_is_not_replaced(tmp_path: Path, made: Made, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotAnIndexError, match="there already and is no neuronagent index; choose another name"):
        made.write(path)
    assert path.read_bytes() == content


def test_a_database_with_other_tables_is_left_alone(postgresql: str, made: Made) -> None:
    engine = create_engine(postgresql)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (id int)")
    with pytest.raises(NotAnIndexError):
        made.write(postgresql)
    assert inspect(engine).get_table_names() == ["customers"]
    engine.dispose()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, made: Made) -> None:
    with pytest.raises(StorageError, match="nowhere does not exist; create it first"):
        made.write(tmp_path / "nowhere" / "made.db")


def test_an_index_without_explanations_is_replaced_by_another(index_file: Path) -> None:
    other = make_index(seed=7, layers=3)
    other.write(index_file)
    with IndexReader.open(index_file) as reader:
        assert reader.info() == other.info
        assert reader.layers() == {0: 12, 1: 12, 2: 12}


def test_a_database_is_not_replaced_by_another_index(postgresql: str, made: Made) -> None:
    made.write(postgresql)
    with pytest.raises(IndexMismatchError, match="another fingerprint"):
        make_index(seed=7).write(postgresql)


def explain(target: str | Path) -> list[int]:
    """Two explanations, the first superseded, the second with a score and its control."""
    engine = open_writer(target)
    first = add_explanation(engine, EXPLANATION)
    second = add_explanation(engine, replace(EXPLANATION, text="fires on dates"), parent_id=first)
    control = ScoreControl(kind="empty", value=0.5, lift=0.2, lift_lo=0.1, lift_hi=0.3)
    score = Score(
        metric="detection", negative_set="N0", split=Split.TEST, value=0.7, lo=0.6, hi=0.8, n_pos=20, n_neg=20,
        controls=(control,),
    )  # fmt: skip
    add_scores(engine, second, [score], protocol_version="1")
    engine.dispose()
    return [first, second]


def test_building_the_same_index_again_keeps_explanations_and_scores(target: str, made: Made) -> None:
    made.write(target)
    first, second = explain(target)
    with IndexReader.open(target) as reader:
        before = reader.explanations(NEURON, superseded=True), reader.scores(second)
    made.write(target)
    with IndexReader.open(target) as reader:
        after = reader.explanations(NEURON, superseded=True), reader.scores(second)
    assert after == before
    assert [stored.id for stored in after[0]] == [first, second]
    assert after[0][0].superseded_by == second


def test_an_index_with_explanations_is_not_replaced_by_another(index_file: Path) -> None:
    explain(index_file)
    with pytest.raises(IndexMismatchError, match="2 explanations"):
        make_index(seed=7).write(index_file)


def test_what_a_crashed_writer_left_in_the_log_does_not_get_into_the_new_file(index_file: Path, made: Made) -> None:
    crash = (
        "import os, sys; from neuronagent.store.engine import open_writer\n"
        "connection = open_writer(sys.argv[1]).connect()\n"
        "connection.exec_driver_sql('UPDATE neuron SET io_class = 9'); connection.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", crash, str(index_file)], check=True)
    assert index_file.with_name("made.db-wal").stat().st_size
    made.write(index_file)
    assert list(index_file.parent.iterdir()) == [index_file]
    with closing(sqlite3.connect(index_file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM neuron WHERE io_class = '9'").fetchone() == (0,)


def test_a_file_that_a_writer_has_open_is_not_replaced(
    index_file: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.1)
    writer = open_writer(index_file)
    add_explanation(writer, EXPLANATION)
    with pytest.raises(StorageError, match=r"locked|in use"):
        made.write(index_file)
    writer.dispose()
    made.write(index_file)


def test_a_reader_goes_on_with_the_file_that_it_opened(index_file: Path) -> None:
    with IndexReader.open(index_file) as reader:
        before = reader.neuron(NEURON)
        make_index(seed=7).write(index_file)
        assert reader.neuron(NEURON) == before


def test_the_same_index_is_the_same_file_bit_for_bit(tmp_path: Path) -> None:
    for name in ("one.db", "two.db"):
        make_index().write(tmp_path / name)
    assert (tmp_path / "one.db").read_bytes() == (tmp_path / "two.db").read_bytes()


def test_an_index_needs_a_fingerprint(tmp_path: Path, made: Made) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        replace(made, info={}).write(tmp_path / "made.db")


def test_indexes_that_are_built_last_are_all_there(tmp_path: Path, made: Made) -> None:
    made.write(tmp_path / "made.db")
    with closing(sqlite3.connect(tmp_path / "made.db")) as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    wanted = {str(index.name) for table in schema.metadata.sorted_tables for index in table.indexes}
    assert len(wanted) > 8
    assert wanted <= found
