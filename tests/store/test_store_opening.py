"""An index opens for reading and for writing, and everything else is refused by name and with a remedy."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId
from neuronagent.errors import NeuronagentError, NotAnIndexError, NotFoundError, SchemaError, StorageError, UsageError
from neuronagent.store import engine as engines
from neuronagent.store.engine import APPLICATION_ID, open_reader, open_writer
from neuronagent.store.explanations import add_explanation
from neuronagent.store.failures import storage_errors
from neuronagent.store.reader import IndexReader
from neuronagent.store.schema import SCHEMA_REVISION
from tests.store.made_index import Made, make_index

EXPLANATION = Explanation(
    neuron=NeuronId(0, 1), combination=COMBINATIONS[0], source="rule", text="fires", claims={}, evidence_hash="e"
)


def test_a_path_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"does not exist; .*neuronagent index"):
        open_reader(tmp_path / "nothing.db")
    assert not (tmp_path / "nothing.db").exists()


def test_a_folder_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is a folder"):
        open_reader(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello", b"SQLite format 3\x00", b"x" * 100, os.urandom(5000)])
def test_a_file_of_something_else_is_no_index(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.db"
    path.write_bytes(content)
    for opening in (open_reader, open_writer):
        with pytest.raises(NotAnIndexError, match=r"garbage\.db is no SQLite file"):
            opening(path)
    assert path.read_bytes() == content


def test_somebody_elses_sqlite_file_is_no_index(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE index_info (key, value)")
    with pytest.raises(NotAnIndexError, match="no neuronagent index"):
        open_reader(path)


def test_a_sqlite_header_before_garbage_is_no_index_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "header.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    with pytest.raises((NotAnIndexError, StorageError)):
        open_reader(path)


def test_a_truncated_index_is_damaged_and_not_half_read(index_file: Path) -> None:
    content = index_file.read_bytes()
    index_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError, match="is damaged; restore"):
        read_everything(index_file)


def read_everything(path: Path) -> None:
    with IndexReader.open(path) as reader:
        for layer in range(2):
            for index in range(12):
                reader.neuron(NeuronId(layer, index))


def test_an_empty_database_is_no_index(postgresql: str) -> None:
    with pytest.raises(NotAnIndexError, match="no neuronagent index"):
        open_reader(postgresql)


def test_a_database_that_is_not_there_is_not_found(postgresql_server: str) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        open_reader(postgresql_server.replace("/postgres?", "/nowhere?"))


def test_a_server_that_does_not_run_cannot_be_reached_and_no_password_is_printed() -> None:
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        open_reader("postgresql://someone:secret@127.0.0.1:9/none")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://host/db", "postgresql://user@host:notaport/db"])
def test_an_address_that_cannot_be_understood_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        open_reader(url)


def set_revision(target: str, revision: str | None) -> None:
    engine = engines.open_unchecked(target)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        if revision is not None:
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{revision}')")
    engine.dispose()


@pytest.mark.parametrize("revision", [None, "0000"])
def test_an_older_schema_names_the_command_that_upgrades_it(target: str, made: Made, revision: str | None) -> None:
    made.write(target)
    set_revision(target, revision)
    for opening in (open_reader, open_writer):
        with pytest.raises(SchemaError, match=r"run `neuronagent upgrade "):
            opening(target)


def test_a_newer_schema_asks_for_a_newer_program(target: str, made: Made) -> None:
    made.write(target)
    set_revision(target, "9999")
    with pytest.raises(SchemaError, match=r"schema 9999.*newer neuronagent"):
        open_reader(target)


VISIT = (
    "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
    "connection.execute('SELECT count(*) FROM explanation').fetchone(); connection.close()"
)


@pytest.mark.parametrize("opening", [open_reader, open_writer])
def test_opening_a_file_again_leaves_the_locks_of_those_who_have_it_open(
    index_file: Path, opening: Callable[[Path], Engine]
) -> None:
    writer = open_writer(index_file)
    add_explanation(writer, EXPLANATION)
    opening(index_file).dispose()
    helpers = [index_file.with_name(f"made.db-{name}") for name in ("wal", "shm")]
    before = [path.stat().st_ino for path in helpers]
    subprocess.run([sys.executable, "-c", VISIT, str(index_file)], check=True)
    assert [path.stat().st_ino for path in helpers] == before
    add_explanation(writer, replace(EXPLANATION, text="fires again"))
    with IndexReader.open(index_file) as reader:
        assert len(reader.explanations(EXPLANATION.neuron, superseded=True)) == 2
    writer.dispose()


def test_the_identity_of_a_file_tells_a_copy_over_it_from_a_commit(index_file: Path, tmp_path: Path) -> None:
    writer = open_writer(index_file)
    add_explanation(writer, EXPLANATION)
    before = engines.identity(index_file)
    add_explanation(writer, replace(EXPLANATION, text="fires again"))
    open_reader(index_file).dispose()
    assert engines.identity(index_file) == before
    writer.dispose()
    before = engines.identity(index_file)
    other = tmp_path / "other.db"
    make_index(seed=7).write(other)
    shutil.copyfile(other, index_file)
    assert engines.identity(index_file) != before
    index_file.unlink()
    with pytest.raises(StorageError, match=r"made\.db is not there any more; put it back"):
        engines.identity(index_file)
    assert engines.identity("postgresql://127.0.0.1:9/none") is None


def test_a_file_says_in_its_header_what_it_is(index_file: Path) -> None:
    with closing(sqlite3.connect(index_file)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (int(SCHEMA_REVISION),)


def test_a_reader_cannot_write(target: str, made: Made) -> None:
    made.write(target)
    engine = open_reader(target)
    with pytest.raises(StorageError, match="is read-only"):
        add_explanation(engine, EXPLANATION)
    engine.dispose()


def test_reading_leaves_the_file_and_its_folder_as_they_were(index_file: Path) -> None:
    before = index_file.read_bytes()
    with IndexReader.open(index_file) as reader:
        reader.neuron(NeuronId(0, 1))
    assert index_file.read_bytes() == before
    assert list(index_file.parent.iterdir()) == [index_file]


def test_readers_go_on_while_a_writer_writes_and_see_only_what_is_committed(target: str, made: Made) -> None:
    made.write(target)
    writer = open_writer(target)
    with IndexReader.open(target) as reader:
        with writer.begin() as connection:
            connection.exec_driver_sql("DELETE FROM index_info")
            assert reader.info() == made.info
        assert reader.info() == {}
    writer.dispose()


def test_a_second_writer_waits_and_then_says_that_it_is_locked(
    index_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.1)
    first, second = open_writer(index_file), open_writer(index_file)
    with first.begin(), pytest.raises(StorageError, match="locked by another process; wait"):
        add_explanation(second, EXPLANATION)
    add_explanation(second, EXPLANATION)
    first.dispose()
    second.dispose()


@pytest.mark.slow
def test_a_second_writer_to_a_server_says_that_it_is_locked(
    postgresql: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write(postgresql)
    monkeypatch.setattr(engines, "BUSY_SECONDS", 1)
    first, second = open_writer(postgresql), open_writer(postgresql)
    with first.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE neuron")
        with pytest.raises(StorageError, match="locked by another session"):
            add_explanation(second, EXPLANATION)
    first.dispose()
    second.dispose()


def test_a_path_with_odd_characters_opens(tmp_path: Path, index_file: Path) -> None:
    odd = tmp_path / "a b?c#d%20é.db"
    shutil.copy(index_file, odd)
    with IndexReader.open(odd) as reader:
        assert reader.layers() == {0: 12, 1: 12}
    open_writer(odd).dispose()


def test_an_index_in_a_read_only_folder_is_read(index_file: Path, as_ordinary_user: Callable[[], None]) -> None:
    open_writer(index_file).dispose()  # leaves it in WAL mode, whose helper files cannot be created here
    index_file.chmod(0o444)
    index_file.parent.chmod(0o555)
    as_ordinary_user()
    with IndexReader.open(index_file) as reader:
        assert reader.neuron(NeuronId(0, 1)).neuron == NeuronId(0, 1)
    with pytest.raises(StorageError, match="read-only"):
        open_writer(index_file)


def test_changes_that_a_read_only_folder_hides_are_not_passed_over(
    tmp_path: Path, index_file: Path, as_ordinary_user: Callable[[], None]
) -> None:
    writer = open_writer(index_file)
    add_explanation(writer, EXPLANATION)
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("made.db", "made.db-wal"):
        shutil.copy(tmp_path / name, folder / name)
    writer.dispose()
    folder.chmod(0o555)
    as_ordinary_user()
    with pytest.raises(StorageError, match="-wal"):
        open_reader(folder / "made.db")


def test_a_file_that_may_not_be_read_says_so(index_file: Path, as_ordinary_user: Callable[[], None]) -> None:
    index_file.chmod(0)
    as_ordinary_user()
    with pytest.raises(StorageError, match="may not be opened"):
        open_reader(index_file)


def test_a_full_file_says_that_it_is_full_and_keeps_what_it_had(index_file: Path) -> None:
    engine = open_writer(index_file)
    add_explanation(engine, EXPLANATION)
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="full; make room"):
        add_explanation(engine, replace(EXPLANATION, text="very long " * 100_000))
    engine.dispose()
    with IndexReader.open(index_file) as reader:
        assert [stored.explanation for stored in reader.explanations(NeuronId(0, 1))] == [EXPLANATION]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageError),
        (sqlite3.SQLITE_IOERR, StorageError),
        (sqlite3.SQLITE_READONLY, StorageError),
        (sqlite3.SQLITE_NOTADB, NotAnIndexError),
        (sqlite3.SQLITE_MISUSE, StorageError),
    ],
)
def test_every_database_error_becomes_one_line_with_a_remedy(code: int, kind: type[NeuronagentError]) -> None:
    error = sqlite3.OperationalError("first line\nsecond line")
    error.sqlite_errorcode = code | 3 << 8  # an extended code
    with pytest.raises(kind) as caught, storage_errors("x.db"):
        raise error
    assert "\n" not in str(caught.value)
    assert caught.value.message.startswith("x.db")
    assert caught.value.remedy


def test_reading_loads_no_torch_no_orm_and_no_alembic(index_file: Path) -> None:
    program = (
        "import sys; from neuronagent.store.reader import IndexReader; from neuronagent.domain import NeuronId\n"
        f"IndexReader.open({str(index_file)!r}).neuron(NeuronId(0, 1))\n"
        "print({'torch', 'sqlalchemy.orm', 'alembic', 'psycopg'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_postgresql_reader_is_refused_by_the_server_not_only_by_us(postgresql: str, made: Made) -> None:
    made.write(postgresql)
    engine = open_reader(postgresql)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW default_transaction_read_only").scalar() == "on"
    engine.dispose()
