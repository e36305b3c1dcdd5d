"""Turns what SQLite and PostgreSQL raise into the program's own errors: one line, with what to do next.

This is the one home of that mapping; every opening, reading and writing of an index runs inside `storage_errors`.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from neuronagent.domain import clip
from neuronagent.errors import NeuronagentError, NotAnIndexError, NotFoundError, StorageError

_FULL = "make room or choose another place, then run it again"
_LOCKED = "wait until the other neuronagent has finished, or stop it"
_READ_ONLY = "make the file and its folder writable, or copy the index elsewhere"
_DAMAGED = "restore it from a copy, or build the index again"

# Primary SQLite result codes, https://www.sqlite.org/rescode.html
_SQLITE: dict[int, tuple[type[NeuronagentError], str, str]] = {
    sqlite3.SQLITE_BUSY: (StorageError, "is locked by another process", _LOCKED),
    sqlite3.SQLITE_LOCKED: (StorageError, "is locked by another process", _LOCKED),
    sqlite3.SQLITE_READONLY: (StorageError, "is read-only", _READ_ONLY),
    sqlite3.SQLITE_PERM: (StorageError, "may not be opened by this user", _READ_ONLY),
    sqlite3.SQLITE_AUTH: (StorageError, "may not be opened by this user", _READ_ONLY),
    sqlite3.SQLITE_FULL: (StorageError, "cannot grow: the disk or its quota is full", _FULL),
    sqlite3.SQLITE_TOOBIG: (StorageError, "cannot hold a value this large", "use a smaller k"),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "cannot be opened", "check that its folder exists and is writable"),
    sqlite3.SQLITE_IOERR: (StorageError, "cannot be read or written (input/output error)", _FULL),
    sqlite3.SQLITE_CORRUPT: (StorageError, "is damaged", _DAMAGED),
    sqlite3.SQLITE_NOTADB: (NotAnIndexError, "is no SQLite file", "name a file that `neuronagent index` wrote"),
}

# PostgreSQL error codes, or their two-letter classes, https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL: dict[str, tuple[type[NeuronagentError], str, str]] = {
    "53100": (StorageError, "cannot grow: the server's disk is full", _FULL),
    "53300": (StorageError, "has too many connections", "close some and try again"),
    "25006": (StorageError, "is read-only", "connect as a user and to a server that may write"),
    "42501": (StorageError, "may not be used like this by this user", "ask its owner for the missing privilege"),
    "55P03": (StorageError, "is locked by another session", _LOCKED),
    "57014": (StorageError, "took too long to answer", _LOCKED),
    "40P01": (StorageError, "is locked by another session", _LOCKED),
    "3D000": (NotFoundError, "does not exist", "create the database first, or correct its name"),
    "28": (StorageError, "refused the login", "check user and password"),
    "42P01": (NotAnIndexError, "holds no neuronagent index", "name a database that `neuronagent index` wrote"),
}

_OS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("cannot grow: the disk is full", _FULL),
    errno.EDQUOT: ("cannot grow: the disk's quota is used up", _FULL),
    errno.EFBIG: ("cannot grow: it has reached the largest size allowed", _FULL),
    errno.EROFS: ("is on a read-only disk", _READ_ONLY),
    errno.EACCES: ("may not be opened by this user", _READ_ONLY),
    errno.EPERM: ("may not be opened by this user", _READ_ONLY),
}


@contextmanager
def storage_errors(where: str) -> Generator[None]:
    """Map database and disk errors inside the block to `NeuronagentError`s about the index `where`.

    Raises:
        NotFoundError, NotAnIndexError, StorageError: as the tables above say; anything unforeseen is a StorageError
            that quotes the database. Errors of the program's own pass through.
    """
    try:
        yield
    except DBAPIError as error:
        raise _from_database(where, error.orig) from error
    except sqlite3.Error as error:
        raise _from_database(where, error) from error
    except SQLAlchemyError as error:
        raise StorageError(f"{where}: {first_line(error)}", remedy="check the name of the index") from error
    except OSError as error:
        what, remedy = _OS.get(error.errno or 0, (f"failed: {first_line(error)}", "check the disk"))
        raise StorageError(f"{where} {what}", remedy=remedy) from error


def sqlite_code(error: BaseException | None) -> int:
    """SQLite's primary result code, 0 where there is none."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF if isinstance(code, int) else 0


def first_line(error: BaseException | None) -> str:
    """The first line of a foreign error's message, fit for an error line."""
    return clip((str(error).strip().splitlines() or [type(error).__name__])[0], 160)


def _from_database(where: str, error: BaseException | None) -> NeuronagentError:
    if isinstance(error, sqlite3.Error):
        found = _SQLITE.get(sqlite_code(error))
        if found is None and isinstance(error, sqlite3.OperationalError) and "no such table" in str(error):
            found = _POSTGRESQL["42P01"]
    else:
        state = getattr(error, "sqlstate", None) or ""
        found = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
        if found is None and not state and type(error).__name__ == "OperationalError":
            # Before a session exists psycopg has only libpq's text to tell one failure from another.
            missing = "database" in str(error) and "does not exist" in str(error)
            if missing:
                found = _POSTGRESQL["3D000"]
            else:
                message = f"{where} cannot be reached: {first_line(error)}"
                return StorageError(message, remedy="check that the server runs and its address is right")
    if found is None:
        return StorageError(f"{where}: {first_line(error)}", remedy="this is unexpected, please report it")
    kind, what, remedy = found
    return kind(f"{where} {what}", remedy=remedy)
