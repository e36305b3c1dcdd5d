"""`neuronagent merge`: makes one index of shards."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.progress import terminal_progress

NAME = "merge"


def command(
    db: Annotated[str, typer.Argument(metavar="DB", help="The index to be written: a file or postgresql://….")],
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER]…", help="Folders with shards (default: DB.partial, where `index --shard` puts them)."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Where the model is, if not where the shards had it.")
    ] = None,
) -> None:
    """Merge the shards that `index --shard` recorded into one index, equal to that of a single run.

    The merged shards in DB.partial are removed; folders that are named are left alone.
    """
    from neuronagent.cli.index import report
    from neuronagent.service.merge import merge_index

    with terminal_progress() as progress:
        built = merge_index(db, folders or (), model=model, progress=progress)
    report(built)
