"""`neuronagent export`: a whole index as a data set."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import print_json
from neuronagent.cli.progress import terminal_progress
from neuronagent.settings import chosen_db

NAME = "export"


def command(
    parquet: Annotated[
        str, typer.Option("--parquet", metavar="DIR", help="The new folder: parquet files and a data set card.")
    ],
    licence: Annotated[
        str | None, typer.Option("--licence", help="Written on the card, as the hub spells it, such as odc-by.")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Export an index as parquet files, ready to be uploaded: GLUScope's columns and ours, texts and vocabulary."""
    target = chosen_db(db)

    from neuronagent.service.exporting.parquet import export_parquet
    from neuronagent.service.lookup import Index

    with Index(target) as index, terminal_progress() as progress:
        found = export_parquet(index, parquet, licence=licence, progress=progress)
    if json:
        counts = {"neurons": found.neurons, "texts": found.texts, "bytes": found.bytes}
        print_json({"schema_version": 1, "folder": str(found.folder), **counts})
        return
    typer.echo(f"{found.folder}: {found.neurons:,} neurons, {found.texts:,} texts, {found.bytes / 1e6:,.1f} MB")
    typer.echo("README.md is its card: read it before you upload")
