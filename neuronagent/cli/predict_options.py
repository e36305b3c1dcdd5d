"""Options that the commands of `neuronagent predict` share."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.live_options import Device, Model
from neuronagent.predictability.scores import DEFAULT_FIT

__all__ = ["DEFAULT_FIT", "Device", "FitName", "Model", "Source", "Tokens"]

FitName = Annotated[
    str, typer.Option("--fit", metavar="NAME", help="Which fit of this index, as `predict fit --name` called it.")
]
Source = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="SOURCE",
        help="Another text than the index's own corpus: a folder, file or data set as for `index`.",
    ),
]
Tokens = Annotated[int | None, typer.Option("--tokens", min=1, help="About so many tokens are read (default: all).")]
