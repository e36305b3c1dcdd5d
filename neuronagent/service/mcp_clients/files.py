"""Reads and replaces a client's file: all of it or nothing, with what was there kept beside it."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from neuronagent.errors import InputError, StorageError

_MOST_BYTES = 64 << 20
_LEFT_BEHIND = 30.0
"""Seconds after which a half-written file is one of a process that was killed."""
_BOM = "\ufeff"


def read(file: Path) -> str | None:
    """What a file says, its line ends as they are; None where there is none.

    Raises:
        InputError: it is no file, too large, or no text in UTF-8.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{file} is no file", remedy="move it out of the way")
        if found.st_size > _MOST_BYTES:
            raise InputError(f"{file} is larger than any configuration", remedy="look what it is")
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text in UTF-8", remedy="save it as UTF-8 and run this again") from error


def split_mark(text: str) -> tuple[str, str]:
    """A byte order mark that a Windows editor may have left, and the text behind it."""
    return (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)


def replace(file: Path, before: str | None, after: str) -> Path | None:
    """Write `after` over `before`; returns where `before` was kept.

    Links are followed, permissions stay, and the file is at no time half written.

    Raises:
        StorageError: the file may not be written, or is not what it was when it was read.
    """
    target = Path(os.path.realpath(file))
    if before is not None and not os.access(target, os.W_OK):
        raise StorageError(f"{file} is read-only", remedy="whoever made it so has to change it")
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if before is not None else None
    new = _begin(target, after, mode)
    try:
        if read(target) != before:
            raise StorageError(f"{file} was changed by another program just now", remedy="run this again")
        backup = None if before is None else _keep(target, before, mode)
        os.replace(new, target)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    return backup


def _begin(target: Path, text: str, mode: int | None) -> Path:
    """The new file beside the old one; its name is always the same, so that two of us do not write at once.

    Raises:
        StorageError: another one is writing.
    """
    new = target.with_name(f".{target.name}.neuronagent-new")
    with suppress(OSError):
        if time.time() - new.stat().st_mtime > _LEFT_BEHIND:
            new.unlink()
    try:
        _write(new, text, mode)
    except FileExistsError as error:
        raise StorageError(f"another process is writing {target}", remedy="run this again") from error
    return new


def _keep(target: Path, text: str, mode: int | None) -> Path:
    """A copy under a name that no earlier copy has."""
    stem = f"{target.name}.backup-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 1_000):
        backup = target.with_name(stem if number == 1 else f"{stem}-{number}")
        try:
            _write(backup, text, mode)
        except FileExistsError:
            continue
        return backup
    raise StorageError(f"there is no free name for a copy of {target}", remedy="remove old copies beside it")


def _write(file: Path, text: str, mode: int | None) -> None:
    """A new file that nobody could read meanwhile who may not read it afterwards."""
    data = text.encode("utf-8")
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    with open(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    if mode is not None:
        file.chmod(mode)
