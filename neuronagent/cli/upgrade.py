"""`neuronagent upgrade`: brings an index of an older version up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.options import Db
from neuronagent.cli.output import say
from neuronagent.settings import chosen_db

NAME = "upgrade"


def command(
    index: Annotated[str | None, typer.Argument(metavar="[DB]", help="The index; the same as --db.")] = None,
    db: Db = None,
) -> None:
    """Bring an index of an older neuronagent up to date; a copy of the file is kept beside it."""
    target = chosen_db(index or db)

    from neuronagent.store.migrate import upgrade

    copy = upgrade(target)
    if copy is None:
        say("nothing to do: it is up to date")
    else:
        say(f"done; the index as it was is in {copy}")
