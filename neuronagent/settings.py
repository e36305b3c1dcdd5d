"""Where indexes live, and which one a command means. `NEURONAGENT_*` variables mirror the options of the CLI."""

from __future__ import annotations

import os
import re
from pathlib import Path

from neuronagent.errors import NotFoundError, UsageError

DB_VARIABLE = "NEURONAGENT_DB"
DATA_VARIABLE = "NEURONAGENT_DATA"


def data_folder() -> Path:
    """The folder of indexes: `NEURONAGENT_DATA`, else the platform's place for a user's data."""
    chosen = os.environ.get(DATA_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("neuronagent", appauthor=False)


def default_db(model: str, source: str) -> Path:
    """Where the index of a model over a source goes if nobody says otherwise."""
    return data_folder() / f"{_slug(model)}.{_slug(source)}.db"


def _slug(name: str) -> str:
    """The last two parts of a path or hub name, in letters that every file system takes."""
    tail = "-".join(part for part in re.split(r"[/\\]+", name.strip("/\\")) if part not in ("", ".", ".."))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", tail)[-60:].strip("-.") or "index"


def chosen_db(option: str | None) -> str:
    """The index that a command reads: the option, else `NEURONAGENT_DB`, else the only one in the data folder.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    if option or os.environ.get(DB_VARIABLE):
        return option or os.environ[DB_VARIABLE]
    found = sorted(data_folder().glob("*.db"))
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise NotFoundError(
            f"there is no index in {data_folder()}",
            remedy="make one (neuronagent demo, or neuronagent index MODEL --text SOURCE) or name one with --db",
        )
    names = ", ".join(path.name for path in found[:8])
    raise UsageError(f"there are {len(found)} indexes in {data_folder()}: {names}", remedy="choose one with --db PATH")
