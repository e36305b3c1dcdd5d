"""How a client starts a command: from a folder of its own, with few of the user's variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from neuronagent.errors import UsageError
from neuronagent.service.mcp_clients.entries import ServerEntry
from neuronagent.service.untrusted import clean

_KEPT_VARIABLES = (
    "HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER",
    "APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATHEXT", "PROCESSOR_ARCHITECTURE", "SYSTEMDRIVE",
    "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE",
)  # fmt: skip
_SECONDS = 60.0


def client_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is left of the user's variables where a program with windows starts a server."""
    given = os.environ if variables is None else variables
    return {name: given[name] for name in _KEPT_VARIABLES if name in given}


def client_folder() -> Path:
    """A folder that has nothing to do with the user's."""
    return Path(Path.home().anchor)


def try_entry(entry: ServerEntry, variables: Mapping[str, str]) -> None:
    """Start the command of an entry, with the variables that the entry adds, and let it end at once.

    Raises:
        UsageError: it does not start.
    """
    environment = client_environment() | dict(variables)
    command = [entry.command, *entry.arguments]
    try:
        ran = subprocess.run(
            command, env=environment, cwd=client_folder(), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
        said = ran.stderr.decode("utf-8", "replace").strip()
        failed = ran.returncode != 0
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        said, failed = str(error), True
    if failed:
        last = clean(said.splitlines()[-1].removeprefix("error: ") if said else "it says nothing", 300)
        missing = "No module named" in last
        remedy = "install the package into that Python (pip install .)" if missing else "nothing was written"
        raise UsageError(f"a client could not start {entry.command} -m neuronagent serve: {last}", remedy=remedy)
