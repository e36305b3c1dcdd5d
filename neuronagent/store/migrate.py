"""Brings an index of an older schema up to date (Alembic). Imported only when someone asks for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from neuronagent import resources
from neuronagent.domain import clip
from neuronagent.errors import NotAnIndexError, SchemaError
from neuronagent.store import engine as engines
from neuronagent.store import schema
from neuronagent.store.failures import storage_errors


def upgrade(target: str | Path) -> Path | None:
    """Migrate the index `target` to the newest schema, all of it or nothing.

    Returns the copy that was made of a SQLite file before, `NAME.schema-REVISION`; None if there was nothing to do,
    or for PostgreSQL, where the migration is one transaction.

    Raises:
        NotFoundError, NotAnIndexError, StorageError: as `engine.open_reader`.
        SchemaError: its schema is unknown here, or newer.
    """
    where = engines.display_name(target)
    engine = engines.open_unchecked(target)
    backup = None
    try:
        with storage_errors(where):
            with engine.connect() as connection:
                if not engines.has_index(connection):
                    raise NotAnIndexError(f"{where} is no neuronagent index", remedy="name one that is")
                found = engines.revision(connection)
            if found == schema.SCHEMA_REVISION:
                return None
            _check_known(where, found)
            if not engines.is_url(target):
                backup = _back_up(Path(target).expanduser().absolute(), str(found))
            with engine.begin() as connection:
                run_migrations(connection)
    finally:
        engine.dispose()
    return backup


def run_migrations(connection: Connection) -> None:
    """Run every migration that the database of `connection` lacks, in its transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    engines.mark_file(connection)


def _config() -> Config:
    config = Config()
    # A percent sign in the path would be taken for a placeholder of the configuration's own.
    folder = str(resources.folder("db") / "migrations").replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    return config


def _check_known(where: str, revision: str | None) -> None:
    known = False
    if revision is not None and revision < schema.SCHEMA_REVISION:
        try:
            ScriptDirectory.from_config(_config()).get_revision(revision)
            known = True
        except CommandError:
            pass
    if not known:
        which = f"schema {clip(revision)}" if revision else "no schema revision"
        raise SchemaError(
            f"{where} has {which}, which cannot be upgraded to {schema.SCHEMA_REVISION} here",
            remedy="use the neuronagent that wrote it, or build the index again",
        )


def _back_up(path: Path, revision: str) -> Path:
    """A copy as SQLite itself makes it: consistent, the write-ahead log included."""
    copy = path.with_name(f"{path.name}.schema-{revision}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as destination:
        source.backup(destination)
    return copy
