"""`neuronagent predict functional`: which neurons properties of tokens select, and how predictable these are."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.cli.predict_options import DEFAULT_FIT, Device, FitName, Model
from neuronagent.cli.progress import terminal_progress
from neuronagent.settings import chosen_db

NAME = "functional"


def command(
    fit: FitName = DEFAULT_FIT,
    source_text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="SOURCE",
            help="Look at the tokens of another text (default: the test documents of what was fitted on).",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="About so many tokens are read.")] = 200_000,
    ngrams: Annotated[
        int, typer.Option("--ngrams", min=1, help="So many of the most frequent n-grams of each n.")
    ] = 1000,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Draws of random tokens for each share.")] = 100,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            metavar="WHICH",
            help="Whose errors count: nearest (the layer below that is nearest), or mean (over all sources).",
        ),
    ] = "nearest",
    ratio: Annotated[
        float,
        typer.Option(
            "--outlier", metavar="RATIO", help="An outlier is so many times the root mean square of its layer."
        ),
    ] = 100.0,
    weighting: Annotated[
        str,
        typer.Option(
            "--weighting",
            metavar="WHICH",
            help="Which of the two weightings of eq. 7 is printed: total (variance) or paper (as printed there).",
        ),
    ] = "total",
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="What sums may take, such as 8GB: fewer layers at once, and the text is read more often "
            "(default: half of what is free).",
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Compute also what is stored.")] = False,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:
    """Find neurons that n-grams, hard and easy tokens or positions matter to, background neurons and outliers.

    Says of each layer whether these neurons are easier or harder to foretell than ones that random tokens select, and
    which IO classes and roles they are of. Needs `predict scores`. Ctrl-C keeps the layers that are done.
    """
    from neuronagent.errors import UsageError
    from neuronagent.predictability.functional import PAPER, TOTAL_VARIANCE

    chosen = {"total": TOTAL_VARIANCE, TOTAL_VARIANCE: TOTAL_VARIANCE, PAPER: PAPER}.get(weighting.strip().lower())
    if chosen is None:
        raise UsageError("no such weighting", remedy="allowed: total, paper")
    from neuronagent.service.predict.functional import FunctionalOptions, functional, functional_view
    from neuronagent.service.predict.plan import parse_memory

    options = FunctionalOptions(
        db=chosen_db(db), name=fit, text=source_text, tokens=tokens, ngrams=ngrams, seeds=seeds, source=source,
        outlier_ratio=ratio, memory=None if memory is None else parse_memory(memory), model=model, device=device,
        again=again,
    )  # fmt: skip
    with terminal_progress() as progress:
        functional(options, progress)
    view = functional_view(options)
    if json:
        print_json(view)
        return
    from neuronagent.cli.predict_functional_card import print_functional

    with page() as out:
        print_functional(out, view, chosen, db)
