"""Files of a working folder that several processes and a failing machine may meet.

Locks are advisory, and the system releases them when a process dies. On a file system without locks (some cluster file
systems) nobody waits and nobody is refused; what they guard is written under a name of its own and moved into place
besides, so that this costs double work and never a mixed file.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from neuronagent.domain import clip
from neuronagent.errors import StorageError


@contextmanager
def alone(path: Path, *, wait: bool, doing: str) -> Generator[None]:
    """Hold the lock file `path` inside the block: wait for whoever has it, or refuse.

    Raises:
        StorageError: another process has it and `wait` is false (`doing` says what it does), or no file can be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(
            f"{path.parent} cannot be written: {error}", remedy="choose a folder that can be written"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            holder = clip(os.pread(descriptor, 100, 0).decode(errors="replace"))
            raise StorageError(f"another process is {doing} ({holder})", remedy="wait for it, or stop it") from error
        except OSError:
            pass  # no locks here
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def sync_names(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk: after this a file moved into place stays there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
