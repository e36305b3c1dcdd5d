"""Locks between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neuronagent.errors import StorageError
from neuronagent.index.files import alone

HOLDING = """
import sys
from pathlib import Path
from neuronagent.index.files import alone
with alone(Path(sys.argv[1]), wait=False, doing="holding"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(lock: Path) -> subprocess.Popen[str]:
    """A process that holds `lock` until it is told to go on, or killed."""
    arguments = [sys.executable, "-c", HOLDING, str(lock)]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_lock_that_another_process_holds_is_refused_with_its_name_until_that_dies(tmp_path: Path) -> None:
    lock = tmp_path / "new folder" / "work.lock"
    with holder(lock) as child:
        wanted = f"another process is working .process {child.pid} on "
        with pytest.raises(StorageError, match=wanted), alone(lock, wait=False, doing="working"):
            raise AssertionError
        child.kill()
    with alone(lock, wait=False, doing="working"):
        pass


def test_whoever_waits_gets_the_lock_when_the_holder_is_done(tmp_path: Path) -> None:
    lock = tmp_path / "work.lock"
    with holder(lock) as child:
        waiting = holder_that_waits(lock)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.5)
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.close()
        assert waiting.wait(20) == 0


def holder_that_waits(lock: Path) -> subprocess.Popen[bytes]:
    code = HOLDING.replace("wait=False", "wait=True").replace("sys.stdin.readline()", "")
    return subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.DEVNULL)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    lock = tmp_path / "file" / "work.lock"
    with pytest.raises(StorageError, match="choose a folder that"), alone(lock, wait=True, doing="working"):
        raise AssertionError
