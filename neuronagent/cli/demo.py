"""`neuronagent demo`: from nothing to explained neurons, with the small model that ships."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.options import Db, db_option
from neuronagent.cli.progress import terminal_progress

NAME = "demo"


def command(
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, help="How many tokens of text to read (default: the demo's own).")
    ] = None,
    db: Db = None,
) -> None:
    """Index the model that ships over text that ships, then explain a few of its neurons."""
    from neuronagent.cli.explain import print_cards
    from neuronagent.domain import NeuronId
    from neuronagent.service import demo
    from neuronagent.service.lookup import Index

    target = db or str(demo.demo_db())

    with terminal_progress() as progress:
        names = demo.run_demo(target, progress, tokens=tokens or demo.TOKENS)
    with Index(target) as index:
        print_cards(index, [NeuronId.parse(name) for name in names], limit=2, db=target)
    typer.echo(f"\nThe index is {target}. Go on with:\n")
    for line in ("info", "search --sort cos_in_out --limit 10", "serve"):
        typer.echo(f"  neuronagent {line}{db_option(target)}")
