"""`neuronagent demo`: from nothing to explained neurons, with the small model that ships."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.options import Db
from neuronagent.cli.progress import terminal_progress
from neuronagent.settings import data_folder

NAME = "demo"


def command(
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, help="How many tokens of text to read (default: the demo's own).")
    ] = None,
    db: Db = None,
) -> None:
    """Index the model that ships over text that ships, then explain a few of its neurons."""
    target = db or str(data_folder() / "demo.db")

    from importlib import import_module

    from neuronagent.cli.explain import print_cards
    from neuronagent.domain import NeuronId
    from neuronagent.service.lookup import Index

    run_demo = import_module("neuronagent.service.demo").run_demo

    with terminal_progress() as progress:
        names = run_demo(target, progress) if tokens is None else run_demo(target, progress, tokens=tokens)
    with Index(target) as index:
        print_cards(index, [NeuronId.parse(name) for name in names], limit=2)
    typer.echo(f"\nThe index is {target}. Go on with:\n")
    for line in (f"info --db {target}", f"search --sort cos_in_out --limit 10 --db {target}", f"serve --db {target}"):
        typer.echo(f"  neuronagent {line}")
