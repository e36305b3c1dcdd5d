"""neuronagent's own server as its users start it, for others to connect to."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def stdio_command(db: Path) -> list[str]:
    """What a client starts to talk over stdin and stdout."""
    return [sys.executable, "-m", "neuronagent", "serve", "--db", str(db)]


@contextmanager
def over_http(db: Path) -> Generator[str]:
    """The URL of a server over `db` on a free port, until the block ends."""
    command = [*stdio_command(db), "--http", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert process.stderr is not None
    try:
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"at (http://\S+)", line):
                break
        else:
            raise RuntimeError(f"the server did not start: {''.join(said)[-500:]}")
        rest = threading.Thread(target=process.stderr.read, daemon=True)  # so that it never waits for us
        rest.start()
        yield found[1]
    finally:
        process.terminate()
        process.wait(timeout=20)
