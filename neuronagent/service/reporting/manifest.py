"""The list of a report folder's own files, `neuronagent-report.jsonl`.

Its first line says of what the report is. Every further line is a file as it is about to be put in place, and is there
before the file is: after a kill at any point, what stands under a name was listed, or is somebody else's. A later line
of the same name does not take back an earlier one, since the later file may never have come. Who writes holds a lock
on the list; the system releases it when the process dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neuronagent.domain import clip
from neuronagent.errors import IndexMismatchError, StorageError

MANIFEST = "neuronagent-report.jsonl"
PARTIAL = ".neuronagent-report.partial"
"""What is being written, before it is moved into place; who holds the lock may remove one that was left."""
_SCHEMA = 1
_HEAD = b'{"neuronagent_report"'
_NAME = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_-][A-Za-z0-9._-]*")
_SLACK = 200
"""Lines that no longer matter, before the list is written anew."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file as it was put in place; `time` is its modification in nanoseconds, `note` is for who writes the files."""

    name: str
    sha256: str
    size: int
    time: int
    note: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Manifest:
    """The list of a folder, locked and open for appending. Close it."""

    def __init__(self, folder: Path, about: Mapping[str, str]) -> None:
        """Open the list of `folder`, or begin it where there is nothing in the folder yet.

        Raises:
            StorageError: the folder holds something else, or another process writes, or it cannot be written.
            IndexMismatchError: the list is about another index than `about["fingerprint"]`.
        """
        self.folder, self.path, self.about = folder, folder / MANIFEST, about
        self.entries: dict[str, list[Entry]] = {}
        self._lines = 0
        _refuse_strange(folder)
        self._descriptor = _locked(self.path)
        try:
            self.begun = not self._read()
        except BaseException:
            os.close(self._descriptor)
            raise

    def add(self, entry: Entry) -> None:
        """List a file that is about to be put in place."""
        self._append([asdict(entry)])
        self.entries.setdefault(entry.name, []).append(entry)
        self._lines += 1

    def settle(self, entries: Iterable[Entry]) -> None:
        """The run is over and the files are these: where too much else was listed, the list is written anew."""
        kept = list(entries)
        if self._lines <= 2 * len(kept) + _SLACK:
            os.fsync(self._descriptor)
            return
        partial = self.folder / PARTIAL
        old, self._descriptor = self._descriptor, os.open(partial, _CREATE | os.O_APPEND, 0o666)
        try:
            _lock(self._descriptor, self.path)
            self._append([self._header(), *map(asdict, kept)])
            os.fsync(self._descriptor)
            os.replace(partial, self.path)
        finally:
            os.close(old)

    def close(self) -> None:
        os.close(self._descriptor)

    def discard(self) -> None:
        """The list of a folder in which nothing was written."""
        self.path.unlink()

    def _read(self) -> bool:
        """Read what is listed, begin the list where nothing is; whether there was a list."""
        content = _content(self._descriptor)
        whole = content[: content.rfind(b"\n") + 1]  # the last line may be torn
        if not whole and (_HEAD.startswith(content) or content.startswith(_HEAD)):
            _refuse_others(self.folder)
            os.ftruncate(self._descriptor, 0)
            self._append([self._header()])
            return False
        head, *lines = whole.splitlines() or [b""]
        self._check(_parsed(head))
        for line in lines:
            entry = _entry(_parsed(line))
            if entry is not None:
                self.entries.setdefault(entry.name, []).append(entry)
        self._lines = len(lines)
        if len(whole) < len(content):
            os.ftruncate(self._descriptor, len(whole))
        return True

    def _header(self) -> dict[str, Any]:
        return {"neuronagent_report": _SCHEMA, **self.about}

    def _check(self, head: Mapping[str, Any]) -> None:
        schema = head.get("neuronagent_report")
        if schema != _SCHEMA:
            raise StorageError(
                f"{self.path} is not a list that this version writes", remedy="name a new folder for the report"
            )
        if head.get("fingerprint") != self.about["fingerprint"]:
            model, fingerprint = (clip(str(head.get(key, "")), 80) for key in ("model", "fingerprint"))
            raise IndexMismatchError(
                f"{self.folder} holds the report of another index, {fingerprint} of {model}",
                remedy="name a new folder for the report",
            )

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        rest, before = memoryview(text.encode()), os.fstat(self._descriptor).st_size
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BaseException:
            os.ftruncate(self._descriptor, before)  # what follows must not continue half a line
            raise


_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def _refuse_strange(folder: Path) -> None:
    """Before anything is made: a folder without a list must be empty, and a list must be a file."""
    try:
        kind = (folder / MANIFEST).lstat().st_mode
    except FileNotFoundError:
        _refuse_others(folder)
        return
    if not stat.S_ISREG(kind):
        raise StorageError(f"{folder / MANIFEST} is no file", remedy="name a new folder for the report")


def _refuse_others(folder: Path) -> None:
    other = next((name for name in sorted(os.listdir(folder)) if name != MANIFEST), None)
    if other is not None:
        raise StorageError(
            f"{folder} holds something else than a report ({clip(other, 80)})",
            remedy="name a new or an empty folder: nothing there is overwritten",
        )


def _locked(path: Path) -> int:
    """The list, open and locked; another process may be replacing it meanwhile."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor, path)
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(
            f"another process is writing a report into {path.parent}", remedy="wait for it, or name another folder"
        ) from error
    except OSError:
        pass  # a file system without locks: files are still moved into place whole


def _content(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _entry(said: Mapping[str, Any]) -> Entry | None:
    """A listed file; None for a line that is no such thing, so that its file counts as somebody else's."""
    kinds = {"name": str, "sha256": str, "size": int, "time": int, "note": dict}
    if said.keys() != kinds.keys() or not all(isinstance(said[key], kind) for key, kind in kinds.items()):
        return None
    return Entry(**said) if is_name(said["name"]) else None


def is_name(name: str) -> bool:
    """Whether a report may hold a file of this name: in the folder itself or one level below, never beginning with a
    dot."""
    return _NAME.fullmatch(name) is not None and name != MANIFEST
