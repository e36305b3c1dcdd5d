"""A folder of pages that holds what this program wrote, and is never written over otherwise.

Only an empty folder, or one with the list of a report of the same index (`manifest.py`), is written into. Within it
files of others are left alone; a file of the report that somebody changed, or a name that is taken, refuses the run
before anything is written. Each file is whole or not there: it is written under another name and moved. A file whose
content is what it was is not touched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronagent.domain import clip
from neuronagent.errors import StorageError
from neuronagent.service.reporting.manifest import MANIFEST, PARTIAL, Entry, Manifest, is_name

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ELSEWHERE = "move it away, or name another folder"


class ReportFolder:
    """An open folder, locked for this process; `opened` makes it. `written` and `unchanged` count files of this run."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self._manifest = path, manifest
        self.written, self.unchanged = 0, 0
        self._there: dict[str, Entry] = {}
        self._clear()
        for name, entries in manifest.entries.items():
            own = self._own(name, entries)
            if own is not None:
                self._there[name] = own

    @property
    def names(self) -> Collection[str]:
        """The files of the report that are there."""
        return self._there.keys()

    @property
    def bytes(self) -> int:
        """The size of these files."""
        return sum(entry.size for entry in self._there.values())

    def note(self, name: str) -> Mapping[str, Any]:
        """What was noted when the file was put; nothing for a file that is not there."""
        return self._there[name].note if name in self._there else {}

    def size(self, name: str) -> int:
        return self._there[name].size

    def check(self, names: Iterable[str]) -> None:
        """Raises `StorageError` where somebody else's file has one of these names."""
        for name in names:
            self._free(name)

    def put(self, name: str, data: bytes, note: Mapping[str, Any] | None = None) -> bool:
        """Put a file in place; whether it was written, which one of the same content is not.

        Raises:
            StorageError: the name is somebody else's, or there is no room, or the folder is gone.
        """
        path, digest, note = self._free(name), hashlib.sha256(data).hexdigest(), dict(note or {})
        own = self._there.get(name)
        if own is not None and own.sha256 == digest:
            self.unchanged += 1
            if own.note != note:
                self._list(replace(own, note=note))
            return False
        try:
            if path.parent != self.path:
                path.parent.mkdir(exist_ok=True)
            size, time = self._write(data)
            self._list(Entry(name=name, sha256=digest, size=size, time=time, note=note))
            os.replace(self.path / PARTIAL, path)
        except BaseException as error:
            self._clear()
            if isinstance(error, OSError):
                raise cannot_write(path, error) from error
            raise
        self.written += 1
        return True

    def close(self) -> None:
        """Settle the list; a folder in which nothing was ever written is left as it was found."""
        self._clear()
        try:
            if self._manifest.begun and not self._manifest.entries:
                self._manifest.discard()
            else:
                self._manifest.settle(self._there.values())
        except OSError as error:
            raise cannot_write(self.path / MANIFEST, error) from error
        finally:
            self._manifest.close()

    def _write(self, data: bytes) -> tuple[int, int]:
        """Write the file under its other name; its size and time."""
        descriptor = os.open(self.path / PARTIAL, _NEW, 0o666)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            made = os.fstat(descriptor)
        return made.st_size, made.st_mtime_ns

    def _clear(self) -> None:
        """Remove what was being written, by this run or one that was killed."""
        with suppress(OSError):
            (self.path / PARTIAL).unlink(missing_ok=True)

    def _list(self, entry: Entry) -> None:
        try:
            self._manifest.add(entry)
        except OSError as error:
            raise cannot_write(self.path / MANIFEST, error) from error
        self._there[entry.name] = entry

    def _free(self, name: str) -> Path:
        """Where a file of this name goes: nothing may be there but the report's own."""
        if not is_name(name):
            raise ValueError(f"{name!r} is no name of a report's file")
        path = self.path / name
        if path.parent != self.path and _kind(path.parent) not in (None, stat.S_IFDIR):
            raise StorageError(f"{path.parent} is no folder", remedy=_ELSEWHERE)
        found, own = _status(path), self._there.get(name)
        if found is None:
            self._there.pop(name, None)
        elif own is not None and not _same(own, found):
            raise StorageError(f"{path} was changed by somebody else", remedy=_ELSEWHERE)
        elif own is None and not (name in self._manifest.entries and _lost(found)):
            raise StorageError(f"{path} was not written by a report, and is not overwritten", remedy=_ELSEWHERE)
        return path

    def _own(self, name: str, entries: list[Entry]) -> Entry | None:
        """The entry of the file that is there, None where there is none; one that was moved or copied has a new time,
        and the same content.

        Raises:
            StorageError: it is none of those that were listed.
        """
        path = self.path / name
        found = _status(path)
        if found is None or _lost(found):
            return None
        own = next((entry for entry in reversed(entries) if _same(entry, found)), None)
        if own is None and stat.S_ISREG(found.st_mode) and _kind(path.parent) == stat.S_IFDIR:
            digest = _digest(path)
            own = next((entry for entry in reversed(entries) if entry.sha256 == digest), None)
            if own is not None:
                own = replace(own, time=found.st_mtime_ns)
                self._manifest.add(own)
        if own is None:
            raise StorageError(f"{path} was changed since it was written", remedy=_ELSEWHERE)
        return own


@contextmanager
def opened(folder: str | Path, about: Mapping[str, str]) -> Generator[ReportFolder]:
    """The folder of a report, made if it is not there yet; `about` is what the report is of: `fingerprint` and `model`.

    Raises:
        StorageError: it is a file, cannot be written, holds something else or files of the report that were changed,
            or another process writes it.
        IndexMismatchError: it holds the report of another index.
    """
    path = Path(os.path.expanduser(folder)).absolute()  # as a shell does, ~ of nobody stays as it is
    made = _made(path)
    try:
        try:
            manifest = Manifest(path, about)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            found = ReportFolder(path, manifest)
        except BaseException:
            manifest.close()
            raise
        try:
            yield found
        finally:
            found.close()
    finally:
        for parent in made:
            with suppress(OSError):  # what is in use is not empty
                parent.rmdir()


def cannot_write(path: Path, error: OSError) -> StorageError:
    """What to say of a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"the disk is full: {path} was not written", remedy="make room and run it again")
    why = (error.strerror or type(error).__name__).lower()
    return StorageError(f"{path} cannot be written: {why}", remedy="check its folder, or name another one")


def _made(path: Path) -> list[Path]:
    """Make the folder; those that were made for it, the innermost first."""
    missing = [parent for parent in (path, *path.parents) if not os.path.lexists(parent)]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise StorageError(f"{clip(str(path), 200)} is no folder", remedy="name a new or an empty folder") from error
    except NotADirectoryError as error:
        above = next(parent for parent in path.parents if parent.exists())
        raise StorageError(f"{above} is no folder", remedy="name a new or an empty folder") from error
    except OSError as error:
        raise cannot_write(path, error) from error
    return missing


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kind(path: Path) -> int | None:
    found = _status(path)
    return None if found is None else stat.S_IFMT(found.st_mode)


def _same(entry: Entry, found: os.stat_result) -> bool:
    """Whether a file is as it was put: as git does, by its size and time."""
    return stat.S_ISREG(found.st_mode) and (entry.size, entry.time) == (found.st_size, found.st_mtime_ns)


def _lost(found: os.stat_result) -> bool:
    """An empty file: a machine that failed may leave one of what was moved into place. It holds nobody's work."""
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _digest(path: Path) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
