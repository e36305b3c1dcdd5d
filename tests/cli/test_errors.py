"""Whatever goes wrong is one line on stderr, with the exit code of its kind, and never a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from neuronagent.cli import app
from neuronagent.errors import BudgetError, Interrupted, LLMError
from neuronagent.service import lookup
from neuronagent.store import engine
from tests.cli.conftest import Cli, Ran


def refused(ran: Ran, code: int, *words: str) -> None:
    """One line on stderr that begins with `error: ` and says `words`; nothing on stdout."""
    assert ran.code == code, ran.err
    assert ran.out == ""
    lines = ran.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "Traceback" not in ran.err
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("show", "99.1"), 3, "layers: 0–1"),
        (("show", "1.99"), 3, "indices 0–11"),
        (("show", "31"), 2, "such as 31.9634"),
        (("show", "abc"), 2, "such as 31.9634"),
        (("show", "\x1b[31m"), 2, "is not a neuron"),
        (("explain", "0.1", "abc"), 2, "'abc'"),
        (("explain", "@no-such-file"), 3, "no-such-file"),
        (("show", "0.1", "--combination", "gate*"), 2, "allowed: gate+_in+"),
        (("show", "0.1", "--quantity", "act"), 2, "allowed: post"),
        (("show", "0.1", "--split", "train"), 2, "explain"),
        (("show", "0.1", "--limit", "-1"), 2, "limit"),
        (("show",), 2, "neuronagent show --help"),
        (("show", "0.1", "--no-such-option"), 2, "--no-such-option"),
        (("nonsense",), 2, "nonsense"),
        (("search", "--layers", "9"), 3, "layers: 0–1"),
        (("search", "--layers", "5-2"), 2, "0,2,7-9"),
        (("search", "--layers", "x"), 2, "no layers"),
        (("search", "--io-class", "magic"), 2, "allowed: enrichment"),
        (("search", "--io-class", "atypical depletion", "--typical"), 2, "one after the other"),
        (("search", "--cos-in-out", "0.5"), 2, "LOW..HIGH"),
        (("search", "--cos-in-out", "1..0"), 2, "LOW..HIGH"),
        (("search", "--cos-in-out", "nan..1"), 2, "LOW..HIGH"),
        (("search", "--frequency", "0.1..0.2"), 2, "COMBINATION:RANGE"),
        (("search", "--mass", "+*:0..1"), 2, "sign combination"),
        (("search", "--token", "no such token"), 3, "no token"),
        (("search", "--in", "out"), 2, "--token"),
        (("search", "--token", "t7", "--in", "nowhere"), 2, "allowed: out"),
        (("search", "--sort", "beauty"), 2, "cos_gate_in"),
        (("search", "--token", "t7", "--in", "examples", "--sort", "norm_in"), 2, "allowed: neuron"),
        (("search", "--limit", "0"), 2, "limit"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    cli: Cli, made_db: Path, arguments: tuple[str, ...], code: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONAGENT_DB", str(made_db))
    refused(cli(*arguments), code, word)


def test_index_needs_a_model_that_is_there(cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("hello")
    refused_lines = cli("index", tmp_path / "no-model", "--text", text, "--db", tmp_path / "x.db")
    assert refused_lines.code == 7
    assert refused_lines.err.splitlines()[-1].startswith("error: ")
    refused(cli("index", "model", "--text", "no-such.txt", "--db", tmp_path / "x.db"), 7, "no-such.txt")
    refused(cli("index", "model"), 2, "--text")
    refused(cli("index", "model", "--text", "a", "--bos", "maybe"), 2, "--bos")


def test_a_database_that_is_not_there_or_none(cli: Cli, tmp_path: Path) -> None:
    refused(cli("info", "--db", tmp_path / "no.db"), 3, "does not exist")
    other = tmp_path / "other.db"
    other.write_text("hello")
    refused(cli("info", "--db", other), 4, "no SQLite file")
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    refused(cli("check", tmp_path / "theirs.db"), 4, "no neuronagent index")


def test_an_index_of_another_schema(cli: Cli, made_db: Path, tmp_path: Path) -> None:
    copy = shutil.copy(made_db, tmp_path / "old.db")
    for revision, word in (("0000", "upgrade"), ("9999", "newer")):
        with closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        refused(cli("show", "0.1", "--db", copy), 4, word)


def test_a_locked_index(cli: Cli, made_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    copy = shutil.copy(made_db, tmp_path / "locked.db")
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        refused(cli("show", "0.1", "--db", copy), 8, "locked")


def test_explaining_in_a_read_only_index(cli: Cli, planted_db: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(planted_db, tmp_path / "fixed.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DELETE FROM score_control")
        connection.execute("DELETE FROM score")
        connection.execute("DELETE FROM explanation")
    copy.chmod(0o444)
    with as_ordinary_user(tmp_path):
        refused(cli("explain", "0.4", "--db", copy), 8, "read-only")
        assert cli("show", "0.4", "--db", copy).code == 0


@contextmanager
def as_ordinary_user(folder: Path) -> Generator[None]:
    """Permissions count within the block, even if the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    for parent in (folder, *folder.parents):
        if parent in (Path(tempfile.gettempdir()), Path("/")):
            break
        parent.chmod(parent.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_which_index_is_meant(cli: Cli, made_db: Path, tmp_path: Path) -> None:
    refused(cli("info"), 3, "neuronagent demo", "--db")
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(made_db, data / "one.db")
    assert cli("info").code == 0
    shutil.copy(made_db, data / "two.db")
    refused(cli("info"), 2, "one.db, two.db", "--db")


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (LLMError("the server said no", remedy="ask again"), 5, "the server said no; ask again"),
        (BudgetError("the budget of 5 tokens is used up"), 6, "budget"),
        (Interrupted("stopped"), 130, "stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/full"), 8, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/closed"), 8, "/closed"),
        (OSError("strange"), 1, "NEURONAGENT_DEBUG=1"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines; run it again with NEURONAGENT_DEBUG=1"),
    ],
)
def test_every_failure_has_its_exit_code(
    cli: Cli, made_db: Path, error: BaseException, code: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(lookup, "open_index", fail)
    ran = cli("info", "--db", made_db)
    assert ran.code == code
    assert len([line for line in ran.err.splitlines() if line]) == 1
    assert word in ran.err


def test_debugging_shows_where_it_came_from(cli: Cli, made_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONAGENT_DEBUG", "1")
    ran = cli("show", "9.9", "--db", made_db)
    assert ran.code == 3
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")


def test_a_reader_that_leaves_is_no_error(cli: Cli, made_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(lookup, "open_index", leave)
    monkeypatch.setattr(app, "_reader_left", lambda: 0)
    ran = cli("info", "--db", made_db)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
