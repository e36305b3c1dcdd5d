"""Migrations give exactly the schema of the metadata, and an upgrade is safe."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine

from neuronagent import resources
from neuronagent.errors import NotAnIndexError, NotFoundError, SchemaError
from neuronagent.store import engine as engines
from neuronagent.store import migrate, schema
from neuronagent.store.migrate import upgrade
from neuronagent.store.reader import IndexReader
from tests.store.made_index import Made

SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"

def upgrade():
    with op.batch_alter_table("document") as batch:
        batch.add_column(sa.Column("licence", sa.Text()))
    FAIL
"""


def blank(target: str) -> Engine:
    engine = create_engine(target if engines.is_url(target) else f"sqlite:///{target}")
    with engine.begin() as connection:
        migrate.run_migrations(connection)
    return engine


def test_the_migrations_of_a_blank_database_leave_nothing_to_add(target: str) -> None:
    engine = blank(target)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        engines.check_schema(connection, target)
    engine.dispose()


def statements(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_a_migrated_file_and_a_created_one_are_the_same_to_the_letter(tmp_path: Path) -> None:
    blank(str(tmp_path / "migrated.db")).dispose()
    engines.create(tmp_path / "created.db").dispose()
    assert statements(tmp_path / "migrated.db") == statements(tmp_path / "created.db")


def test_the_golden_dump_is_the_newest_schema() -> None:
    golden = (resources.folder("db") / "schema.sql").read_text(encoding="utf-8")
    assert golden == schema.schema_sql(), "write neuronagent.store.schema.schema_sql() to db/schema.sql"


def test_the_newest_migration_is_the_schemas_revision() -> None:
    folder = resources.folder("db") / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [schema.SCHEMA_REVISION]


def test_an_index_of_the_newest_schema_is_left_alone(target: str, made: Made) -> None:
    made.write(target)
    assert upgrade(target) is None


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is one schema ahead; returns its migration."""
    folder = tmp_path / "100% db"
    shutil.copytree(resources.folder("db"), folder)
    script = folder / "migrations" / "versions" / "0005_second.py"
    script.write_text(SECOND.replace("FAIL", ""))

    def ahead(_name: str) -> Path:
        return folder

    monkeypatch.setattr(resources, "folder", ahead)
    monkeypatch.setattr(schema, "SCHEMA_REVISION", "0005")
    monkeypatch.setattr(engines, "SCHEMA_REVISION", "0005")
    return script


@pytest.fixture
def old(target: str, made: Made) -> str:
    made.write(target)
    return target


@pytest.mark.usefixtures("old", "next_version")
def test_an_upgrade_keeps_the_contents_and_a_copy_of_the_file(target: str, made: Made) -> None:
    with pytest.raises(SchemaError, match="neuronagent upgrade"):
        IndexReader.open(target)
    copy = upgrade(target)
    with IndexReader.open(target) as reader:
        assert reader.info() == made.info
        assert reader.text(3).document == "document-1"
    if engines.is_url(target):
        assert copy is None
    else:
        assert copy is not None
        assert copy == Path(f"{target}.schema-0004")
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0004",)
        with closing(sqlite3.connect(target)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (5,)
    assert upgrade(target) is None


def test_a_failed_upgrade_changes_nothing(old: str, next_version: Path) -> None:
    next_version.write_text(SECOND.replace("FAIL", "raise RuntimeError('half way')"))
    with pytest.raises(RuntimeError):
        upgrade(old)
    engine = engines.open_unchecked(old)
    with engine.connect() as connection:
        assert engines.revision(connection) == "0004"
        columns = connection.exec_driver_sql("SELECT * FROM document").keys()
        assert list(columns) == ["id", "name", "split"]
    engine.dispose()


@pytest.mark.parametrize("revision", [None, "0000", "9999"])
def test_a_schema_that_is_unknown_cannot_be_upgraded(target: str, made: Made, revision: str | None) -> None:
    made.write(target)
    engine = engines.open_unchecked(target)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        if revision:
            connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{revision}')")
    engine.dispose()
    with pytest.raises(SchemaError, match="cannot be upgraded"):
        upgrade(target)


def test_only_an_index_can_be_upgraded(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        upgrade(tmp_path / "nothing.db")
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE customers (id)")
    with pytest.raises(NotAnIndexError):
        upgrade(tmp_path / "theirs.db")


def test_a_folder_inside_the_package_comes_before_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "neuronagent"
    monkeypatch.setattr(resources, "_PACKAGE", package)
    with pytest.raises(NotFoundError, match="lacks its folder 'db'"):
        resources.folder("db")
    (tmp_path / "db").mkdir()
    package.mkdir()
    assert resources.folder("db") == tmp_path / "db"
    (package / "_resources" / "db").mkdir(parents=True)
    assert resources.folder("db") == package / "_resources" / "db"
