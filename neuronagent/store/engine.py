"""Opening an index: a path is a SQLite file, `postgresql://…` a PostgreSQL database (psycopg 3).

SQLite files say what they are in their header (`application_id`, so that `file` and we can tell) and every index says
its schema in `alembic_version`. Readers cannot write: SQLite is opened with `mode=ro`, PostgreSQL with read-only
transactions. A SQLite file in WAL mode needs two helper files beside it, which a read-only folder does not allow; it is
then opened as `immutable`, which is right because nobody can be writing to it.

Only SQLite may open an index file. Whoever closes a file drops all locks that its process has on it (POSIX), those of
open connections too; the next program to close the index would then believe to be the last one, and delete its log.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from neuronagent.domain import clip
from neuronagent.errors import NotAnIndexError, NotFoundError, SchemaError, StorageError, UsageError
from neuronagent.store.failures import sqlite_code, storage_errors
from neuronagent.store.schema import SCHEMA_REVISION, alembic_version, index_info, metadata

APPLICATION_ID = 0x4E41474E  # "NAGN"
BUSY_SECONDS = 10.0
_PAGE_SIZE = 16384  # rows of 2 kB leave a tenth of SQLite's default page of 4 kB empty
_BULK_CACHE_KB = 65536
_SMALLEST_PAGE = 512  # https://www.sqlite.org/fileformat.html
_URL_SCHEMES = ("postgresql://", "postgresql+psycopg://")


def is_url(target: str | Path) -> bool:
    """Whether `target` names a PostgreSQL database; everything else is a path.

    Raises:
        UsageError: a URL of a database that is not supported.
    """
    if isinstance(target, Path) or "://" not in target:
        return False
    if target.startswith(_URL_SCHEMES):
        return True
    raise UsageError(f"{clip(target.split('://')[0])}:// is not supported", remedy="use a path or postgresql://…")


def display_name(target: str | Path) -> str:
    """`target` as an error line may print it: without the password."""
    if not is_url(target):
        return str(target)
    try:
        return make_url(str(target)).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "the PostgreSQL address"


def engine_name(engine: Engine) -> str:
    """What an error line calls the index that `engine` belongs to."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    return engine.url.render_as_string(hide_password=True)


def create(target: str | Path) -> Engine:
    """An empty index in a new SQLite file or in an empty PostgreSQL schema.

    A SQLite file is written without journal and without waiting for the disk: a crash leaves it useless, so write it
    under another name and move it into place, as `writer.write_index` does.

    Raises:
        StorageError: the file exists already, or cannot be written.
    """
    if is_url(target):
        engine = _postgresql(str(target), read_only=False)
    else:
        if Path(target).exists():
            raise StorageError(f"{target} exists already", remedy="choose another name")
        engine = _sqlite(Path(target), lambda: _connect_bulk(Path(target)), writing=True, pooled=False)
    with storage_errors(display_name(target)), engine.begin() as connection:
        create_schema(connection)
    return engine


def create_schema(connection: Connection) -> None:
    """Create all tables, and note the schema's revision, in the transaction of `connection`."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(alembic_version.insert().values(version_num=SCHEMA_REVISION))
    mark_file(connection)


def mark_file(connection: Connection) -> None:
    """Note in a SQLite file's header that it is an index, and its schema; PostgreSQL has no such place."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {int(SCHEMA_REVISION)}")


def open_reader(target: str | Path) -> Engine:
    """An engine that can only read.

    Raises:
        NotFoundError: no such file or database.
        NotAnIndexError: something else than an index.
        SchemaError: an index of an older or newer schema.
        StorageError: it is locked, unreachable or damaged.
    """
    if is_url(target):
        engine = _postgresql(str(target), read_only=True)
    else:
        path = _existing(target)
        with storage_errors(str(target)):
            options = "mode=ro" if _readable(path) else "mode=ro&immutable=1"
        engine = _sqlite(path, lambda: _connect(path, options), writing=False)
    return _checked(engine, target)


def open_writer(target: str | Path) -> Engine:
    """An engine for the one writer of an existing index; readers go on reading meanwhile (WAL).

    Raises:
        NotFoundError, NotAnIndexError, SchemaError, StorageError: as `open_reader`, and if it is read-only.
    """
    engine = open_unchecked(target)
    _checked(engine, target)
    if not is_url(target):
        # The mode stays with the file; it cannot be changed inside a transaction, and an engine always begins one.
        with storage_errors(str(target)), closing(_connect(_existing(target), "mode=rw")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    return engine


@contextmanager
def writing(target: str | Path) -> Generator[Engine]:
    """An engine of `open_writer` for one piece of work."""
    engine = open_writer(target)
    try:
        yield engine
    finally:
        engine.dispose()


def open_unchecked(target: str | Path) -> Engine:
    """As `open_writer`, whatever the schema: for upgrades and for a PostgreSQL database that may still be empty."""
    if is_url(target):
        return _postgresql(str(target), read_only=False)
    path = _existing(target)
    return _sqlite(path, lambda: _connect(path, "mode=rw"), writing=True)


def identity(target: str | Path) -> tuple[int | None, ...] | None:
    """What changes when other contents take the place of an index file, whether moved or copied there.

    A commit to the write-ahead log does not change it; writing that back does, and so does deleting its helper files,
    after which connections that are open are of no use. None for a database server.

    Raises:
        StorageError: the file is gone.
    """
    if is_url(target):
        return None
    path = Path(target).expanduser().absolute()
    try:
        found = path.stat()
    except OSError as error:
        remedy = "put it back where it was; it is looked for again at the next call"
        raise StorageError(f"the index {path.name} is not there any more", remedy=remedy) from error
    try:
        helper = path.with_name(path.name + "-shm").stat().st_ino
    except OSError:
        helper = None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, helper


def _checked(engine: Engine, target: str | Path) -> Engine:
    try:
        with storage_errors(display_name(target)), engine.connect() as connection:
            check_schema(connection, target)
    except BaseException:
        engine.dispose()
        raise
    return engine


def check_schema(connection: Connection, target: str | Path) -> None:
    """Refuse anything but an index of the newest schema.

    Raises:
        NotAnIndexError, SchemaError: as they say.
    """
    where = display_name(target)
    if not has_index(connection):
        raise NotAnIndexError(f"{where} is no neuronagent index", remedy="name one that `neuronagent index` wrote")
    found = revision(connection)
    if found != SCHEMA_REVISION:
        newer = found is not None and found > SCHEMA_REVISION
        remedy = "install a newer neuronagent" if newer else f"run `neuronagent upgrade {where}`"
        which = f"schema {clip(found)}" if found else "an unknown schema"
        raise SchemaError(f"{where} has {which}, this neuronagent reads {SCHEMA_REVISION}", remedy=remedy)


def has_index(connection: Connection) -> bool:
    """Whether this database holds an index of any schema."""
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql("PRAGMA application_id").scalar() == APPLICATION_ID
    return inspect(connection).has_table(index_info.name)


def is_empty(connection: Connection) -> bool:
    """Whether this database holds no table at all."""
    return not inspect(connection).get_table_names()


def revision(connection: Connection) -> str | None:
    """The schema revision that the database states; None where it states none."""
    if not inspect(connection).has_table(alembic_version.name):
        return None
    return connection.execute(select(func.max(alembic_version.c.version_num))).scalar()


def _existing(target: str | Path) -> Path:
    path = Path(target).expanduser().absolute()
    if not path.is_file():
        what = "is a folder, not an index" if path.is_dir() else "does not exist"
        raise NotFoundError(f"{target} {what}", remedy="name an index file, or run `neuronagent index`")
    with storage_errors(str(target)):
        if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, "may not be read")  # SQLite does not say why it cannot open a file
        # To SQLite an empty file is a database without tables, one byte too; it refuses everything else itself.
        if path.stat().st_size < _SMALLEST_PAGE:
            raise NotAnIndexError(f"{target} is no SQLite file", remedy="name one that `neuronagent index` wrote")
    return path


def _readable(path: Path) -> bool:
    """Whether SQLite can read `path` the usual way; False where it would need to create files it is not allowed to.

    Raises:
        StorageError: reading past the helper files would miss what a writer left in them.
    """
    try:
        with closing(_connect(path, "mode=ro")) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return True
    except sqlite3.OperationalError as error:
        if sqlite_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise StorageError(
            f"{path} has changes that were not written back and lies in a read-only folder",
            remedy="copy it together with its -wal file to a folder that is writable and open it there",
        )
    return False


def _connect(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?{options}", uri=True, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _connect_bulk(path: Path) -> sqlite3.Connection:
    connection = _connect(path.absolute(), "mode=rwc")
    for pragma in (
        f"page_size = {_PAGE_SIZE}",
        "journal_mode = OFF",
        "synchronous = OFF",
        "locking_mode = EXCLUSIVE",
        f"cache_size = -{_BULK_CACHE_KB}",
        "temp_store = MEMORY",  # what an index is sorted in: 352,256 entries of at most some 40 bytes
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _sqlite(path: Path, connect: Callable[[], sqlite3.Connection], *, writing: bool, pooled: bool = True) -> Engine:
    # The URL only names the file for error lines (`engine_name`): URLs of this kind cannot say `immutable`.
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, creator=connect, poolclass=QueuePool if pooled else StaticPool)

    # The driver would begin transactions of its own, late and never for reading. A writer takes its lock at once:
    # what it read inside a transaction is then still true when it writes.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgresql(url: str, *, read_only: bool) -> Engine:
    try:
        address = make_url(url)
        given = address.query.get("options", "")
        options = [given if isinstance(given, str) else " ".join(given), f"-c lock_timeout={int(BUSY_SECONDS * 1000)}"]
        if read_only:
            options.append("-c default_transaction_read_only=on")
        arguments = {"options": " ".join(options), "connect_timeout": int(BUSY_SECONDS)}
        return create_engine(address.difference_update_query(["options"]), connect_args=arguments)
    except ImportError as error:
        raise UsageError(
            "PostgreSQL needs the package psycopg", remedy="pip install 'neuronagent[postgres]'"
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        raise UsageError(
            "the PostgreSQL address cannot be understood", remedy="write postgresql://user:password@host:5432/database"
        ) from error
