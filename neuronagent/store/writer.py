"""Writes a whole index: all of it or nothing.

SQLite: into `.<name>.partial` beside the target, which is then flushed to the disk and moved into place, so that a
kill at any moment leaves the old file or none. PostgreSQL: in one transaction. Either way the explanations and scores
of an index with the same identity are kept, since people and servers worked for them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, Table, bindparam, func, select

from neuronagent.domain import clip
from neuronagent.errors import IndexMismatchError, NotAnIndexError, StorageError
from neuronagent.layout import LayerActivations, LayerNeighbours, LayerWeights, TextTable, TokenTable, WholeModel
from neuronagent.published import IMPORTED
from neuronagent.store import engine as engines
from neuronagent.store import rows, schema
from neuronagent.store.failures import storage_errors
from neuronagent.store.inverted import Inverter

IDENTITY_KEY = "fingerprint"
"""The entry of `info` that names what an index was built from; equal fingerprints are the same index."""

PROTOCOL_KEY = "protocol"
"""The entry of `info` that says, in an index of imported numbers, by which protocol they are scored."""

NEIGHBOURS_KEY = "neighbours"
"""The entry of `info` that says how neighbours were made, or why there are none."""

Layers = Iterable[tuple[int, LayerWeights, LayerActivations | None]]
Insert = Callable[[Connection], None]

_BATCH = 2000  # rows handed to the driver at a time


def write_index(
    target: str | Path,
    *,
    info: Mapping[str, object],
    token_table: TokenTable,
    texts: TextTable,
    layers: Layers,
    whole: Callable[[], WholeModel] | None = None,
) -> None:
    """Write an index to the file or `postgresql://…` database `target`; `info` must be JSON and name a fingerprint.

    Layers are taken one at a time; `whole` is called after the last, for what needs all of them. An index that is there
    already is replaced if it has the same identity, or if it is a file without explanations.

    Raises:
        IndexMismatchError: what is there is another index that must not be lost, or (NotAnIndexError) no index at all.
        StorageError: no room, locked, or read-only.
    """
    write_whole(target, info, lambda connection: _insert_all(connection, token_table, texts, layers, whole))


def write_whole(target: str | Path, info: Mapping[str, object], insert: Insert) -> None:
    """Write an index whose rows, but for those of `info`, `insert` puts into the connection that it is given.

    `info` is written last, so that `insert` may add what is known only then.

    Raises:
        IndexMismatchError, StorageError: as `write_index`.
    """
    if IDENTITY_KEY not in info:
        raise ValueError(f"info needs {IDENTITY_KEY!r}")
    with storage_errors(engines.display_name(target)):
        if engines.is_url(target):
            _write_postgresql(str(target), info, insert)
        else:
            _write_sqlite(Path(target).expanduser().absolute(), info, insert)


def add_neighbours(
    target: str | Path, layers: Iterable[tuple[int, LayerNeighbours]], info: Mapping[str, object]
) -> None:
    """Give an existing index neighbours, all or none, and `info`, what it says of them.

    Raises:
        NotFoundError, NotAnIndexError, SchemaError, StorageError: it cannot be opened or written.
    """
    engine = engines.open_writer(target)
    try:
        with storage_errors(engines.display_name(target)), engine.begin() as connection:
            connection.execute(schema.neighbour.delete())
            layer_rows = connection.execute(select(schema.layer.c.layer, schema.layer.c.first_ordinal))
            first_ordinals = {row.layer: row.first_ordinal for row in layer_rows}
            for layer, found in layers:
                insert_columns(connection, schema.neighbour, rows.neighbour_columns(first_ordinals[layer], found))
            connection.execute(schema.index_info.delete().where(schema.index_info.c.key == NEIGHBOURS_KEY))
            _insert_info(connection, {NEIGHBOURS_KEY: info})
    finally:
        engine.dispose()


def _write_sqlite(path: Path, info: Mapping[str, object], insert: Insert) -> None:
    _check_replaceable(path, info)  # before the work, and again after it
    partial = path.with_name(f".{path.name}.partial")
    _remove_leftover(partial)
    try:
        engine = engines.create(partial)
        try:
            with engine.begin() as connection:
                with _indexes_last(connection):
                    insert(connection)
                _insert_info(connection, info)
                if _check_replaceable(path, info):
                    _copy_kept(path, connection)
        finally:
            engine.dispose()
        _sync(partial)
        _release(path)
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _write_postgresql(url: str, info: Mapping[str, object], insert: Insert) -> None:
    engine = engines.open_unchecked(url)
    try:
        with engine.begin() as connection:
            if engines.is_empty(connection):
                engines.create_schema(connection)
            else:
                engines.check_schema(connection, url)
                _check_protocol(connection, info, engines.display_name(url))
                if _fact(connection, IDENTITY_KEY) != info[IDENTITY_KEY]:
                    raise _other_index(engines.display_name(url))
                for table in reversed(schema.metadata.sorted_tables):
                    if table not in (*schema.KEPT_TABLES, schema.alembic_version):
                        connection.execute(table.delete())
            insert(connection)
            _insert_info(connection, info)
    finally:
        engine.dispose()


@contextmanager
def _indexes_last(connection: Connection) -> Generator[None]:
    """Build the indexes of a new file when its rows are there: sorted once, they are quicker to make and smaller."""
    indexes = [index for table in schema.metadata.sorted_tables for index in table.indexes]
    for index in indexes:
        index.drop(connection)
    yield
    for index in sorted(indexes, key=lambda index: str(index.name)):
        index.create(connection)


def _insert_info(connection: Connection, info: Mapping[str, object]) -> None:
    facts = ({"key": key, "value": json.dumps(value)} for key, value in info.items())
    insert_rows(connection, schema.index_info, facts)


def _insert_all(
    connection: Connection,
    token_table: TokenTable,
    texts: TextTable,
    layers: Layers,
    whole: Callable[[], WholeModel] | None,
) -> None:
    insert_rows(connection, schema.token, rows.token_rows(token_table))
    documents, document_ids = rows.document_rows(texts)
    insert_rows(connection, schema.document, documents)
    insert_rows(connection, schema.text, rows.text_rows(texts, document_ids))
    inverter = Inverter(texts.tokens)
    ordinal, first_ordinals = 0, dict[int, int]()
    for layer, weights, activations in layers:
        first_ordinals[layer] = ordinal
        insert_rows(connection, schema.layer, [rows.layer_row(layer, ordinal, weights)])
        insert_columns(connection, schema.neuron, [rows.neuron_columns(layer, ordinal, weights, activations)])
        insert_columns(connection, schema.projection, rows.projection_columns(layer, weights))
        if activations is not None:
            insert_columns(connection, schema.combination, rows.combination_columns(layer, activations))
        insert_rows(connection, schema.token_neuron, inverter.add(ordinal, weights, activations))
        ordinal += len(weights.sign)
    insert_rows(connection, schema.token_neuron, inverter.flush())
    if whole is not None:
        _insert_whole(connection, whole(), first_ordinals)


def _insert_whole(connection: Connection, whole: WholeModel, first_ordinals: Mapping[int, int]) -> None:
    """Functional roles, neighbours, and what the index says of both."""
    neuron = schema.neuron
    named = (neuron.c.layer == bindparam("in_layer"), neuron.c.neuron == bindparam("of_neuron"))
    change = neuron.update().where(*named).values(role=bindparam("new_role"))
    for layer, roles in whole.roles.items():
        if changes := rows.role_changes(layer, roles):
            connection.execute(change, changes)
    for layer, found in whole.neighbours:
        insert_columns(connection, schema.neighbour, rows.neighbour_columns(first_ordinals[layer], found))
    _insert_info(connection, whole.info)


def insert_rows(connection: Connection, table: Table, values: Iterable[rows.Row]) -> None:
    """Insert `values` as they come, `_BATCH` at a time."""
    source = iter(values)
    statement = table.insert()
    while batch := list(islice(source, _BATCH)):
        connection.execute(statement, batch)


def insert_columns(connection: Connection, table: Table, parts: Iterable[rows.Columns]) -> None:
    """Insert `parts`, as fast as the driver can: values must be what it takes, which `tolist` makes of arrays."""
    for columns in parts:
        compiled = table.insert().compile(dialect=connection.dialect, column_keys=list(columns))
        order = list(columns) if compiled.positiontup is None else compiled.positiontup  # pyright: ignore
        values = zip(*(columns[name] for name in order), strict=True)
        if compiled.positional:
            connection.exec_driver_sql(str(compiled), list(values))
        else:
            connection.exec_driver_sql(str(compiled), [dict(zip(order, row, strict=True)) for row in values])


def _fact(connection: Connection, key: str) -> object:
    column = schema.index_info.c
    value = connection.execute(select(column.value).where(column.key == key)).scalar()
    return None if value is None else json.loads(value)


def _check_protocol(connection: Connection, info: Mapping[str, object], where: str) -> None:
    """Imported numbers never take the place of computed ones, nor the other way round, explained or not."""
    there, new = (value == IMPORTED for value in (_fact(connection, PROTOCOL_KEY), info.get(PROTOCOL_KEY)))
    if there != new:
        kinds = {True: "imported numbers", False: "numbers computed by a model"}
        raise IndexMismatchError(
            f"{clip(where, 200)} holds {kinds[there]}, which {kinds[new]} must not replace",
            remedy="choose another name, or remove it first",
        )


def _check_replaceable(path: Path, info: Mapping[str, object]) -> bool:
    """Whether `path` holds the same index, whose `KEPT_TABLES` are to be kept.

    Raises:
        IndexMismatchError, NotAnIndexError, StorageError: it holds something that must not be replaced.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise StorageError(f"the folder {path.parent} does not exist", remedy="create it first")
        return False
    try:
        engine = engines.open_reader(path)
    except NotAnIndexError as error:
        raise NotAnIndexError(
            f"{path} is there already and is no neuronagent index", remedy="choose another name"
        ) from error
    try:
        with engine.connect() as connection:
            explanations = connection.execute(select(func.count()).select_from(schema.explanation)).scalar() or 0
            _check_protocol(connection, info, str(path))
            same = _fact(connection, IDENTITY_KEY) == info[IDENTITY_KEY]
            if explanations and not same:
                raise _other_index(f"{path} with its {explanations} explanations")
            return same
    finally:
        engine.dispose()


def _other_index(what: str) -> IndexMismatchError:
    return IndexMismatchError(
        f"{clip(what, 200)} was built from something else (another fingerprint)",
        remedy="choose another name, or remove it first",
    )


def _copy_kept(path: Path, connection: Connection) -> None:
    """Copy explanations and scores from the index `path`; ids stay as they are."""
    engine = engines.open_reader(path)
    try:
        with engine.connect() as source:
            for table in schema.KEPT_TABLES:
                # A row may point to a later one (`superseded_by`): references are filled in when all rows are there.
                found = [dict(row) for row in source.execute(select(table)).mappings()]
                later = [row | {"superseded_by": None} if "superseded_by" in row else row for row in found]
                insert_rows(connection, table, later)
                for row in found:
                    if row.get("superseded_by") is not None:
                        change = table.update().where(table.c.id == row["id"])
                        connection.execute(change.values(superseded_by=row["superseded_by"]))
    finally:
        engine.dispose()


def _remove_leftover(partial: Path) -> None:
    """Remove what a killed writer left.

    Raises:
        StorageError: the writer is alive.
    """
    if not partial.exists():
        return
    with closing(sqlite3.connect(partial, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise StorageError(
                    f"{partial} is being written by another process", remedy="wait for it, or stop it"
                ) from error
    partial.unlink()


def _release(path: Path) -> None:
    """Fold the write-ahead log of the old file back into it.

    A log left beside the path would be replayed into the file that takes its place, and ruin it.
    """
    if not path.exists():
        return
    with closing(sqlite3.connect(path, timeout=engines.BUSY_SECONDS, isolation_level=None)) as connection:
        mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    if mode != "delete":
        raise StorageError(f"{path} is in use by another process", remedy="close it and run this again")


def _sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
