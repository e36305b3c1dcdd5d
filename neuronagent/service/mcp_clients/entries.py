"""What a client is told of this server: an interpreter and its arguments, all of them absolute.

A client starts the server from a folder of its own and with few of the user's variables, so nothing may depend on them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from neuronagent.errors import UsageError

NAME = "neuronagent"
_ALLOWED_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class ServerEntry:
    """A command and its arguments."""

    command: str
    arguments: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """The two keys that all clients know."""
        return {"command": self.command, "args": list(self.arguments)}


def server_entry(db: str, options: Sequence[str] = ()) -> ServerEntry:
    """The command that serves the index `db` over stdio, with further options of `neuronagent serve`.

    Raises:
        UsageError: a file with it would hold a password, or text that is no Unicode.
    """
    if not sys.executable:
        raise UsageError("this Python does not know where it lies", remedy="run neuronagent with an installed Python")
    target = db if "://" in db else _absolute(db)
    arguments = ("-m", "neuronagent", "serve", "--db", target, *options)
    if any(map(has_password, arguments)):
        raise UsageError(
            "the entry would put a password into the client's file",
            remedy="leave it out of the address; PostgreSQL's may lie in ~/.pgpass, which the server's process reads",
        )
    for part in (sys.executable, *arguments):
        if not part.isprintable():
            raise UsageError(f"{part!r} holds characters that no configuration file should", remedy="rename it")
    return ServerEntry(command=sys.executable, arguments=arguments)


def _absolute(db: str) -> str:
    """The path from the root; a link stays one, since what it points to may change."""
    path = Path(db).expanduser()
    return str(path.parent.resolve() / path.name)


def has_password(argument: str) -> bool:
    """Whether an argument is an address with a password in it."""
    if "://" not in argument:
        return False
    try:
        address = urlsplit(argument)
        return bool(address.password) or "password" in parse_qs(address.query)
    except ValueError:
        return "@" in argument


def checked_name(name: str) -> str:
    """`name`, if every client takes it as the name of a server.

    Raises:
        UsageError: it is none.
    """
    if not _ALLOWED_NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} cannot name a server", remedy="use at most 64 letters, digits, - and _")
    return name
