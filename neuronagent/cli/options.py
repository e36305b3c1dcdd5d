"""Options that several commands share."""

from __future__ import annotations

import os
from shlex import quote
from typing import Annotated

import typer

from neuronagent.settings import DB_VARIABLE

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH",
        envvar=DB_VARIABLE,
        help="The index: a file or postgresql://… (default: the only one in the data folder; for `index` a new one).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a card.")]
NeuronArgument = Annotated[
    str, typer.Argument(metavar="NEURON", help="layer.index, both from zero, such as 31.9634 (also L31.N9634).")
]


def db_option(db: str | None) -> str:
    """` --db PATH` for a command that is suggested, where it would not find the same index without; no passwords."""
    if db is None or db == os.environ.get(DB_VARIABLE) or "@" in db:
        return ""
    return f" --db {quote(db)}"
