"""`neuronagent predict fit`: maps between the activations of layers, exact or as in the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.cli.predict_options import DEFAULT_FIT, Device, Model, Source
from neuronagent.cli.progress import terminal_progress
from neuronagent.domain import clip
from neuronagent.errors import UsageError
from neuronagent.predictability.scores import FitKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neuronagent.service.predict.fit import FitOptions
    from neuronagent.service.progress import Progress

NAME = "fit"
_KINDS = {kind.value.replace(" ", "-"): kind for kind in FitKind}


def command(
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs",
            metavar="PAIRS",
            help="adjacent (each layer from the one before it), even (all ordered pairs of every other layer, as in "
            "the paper), all, or pairs such as 0:1,3:2 (source:target).",
        ),
    ] = "adjacent",
    kind: Annotated[
        str,
        typer.Option(
            "--fit",
            metavar="KIND",
            help="least-squares: exact, with a ridge chosen on held-out texts. adagrad: the paper's optimiser, to "
            "compare with. (What a fit is called is --name.)",
        ),
    ] = "least-squares",
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="NAME", help="What the fit is called; other commands choose it with --fit NAME."
        ),
    ] = DEFAULT_FIT,
    source: Source = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", min=1, help="About so many tokens are read, of all splits together (default: all)."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="W[,W…]",
            help="Every token sees its last W tokens only, itself included: a fit NAME-wW for each W.",
        ),
    ] = None,
    intercept: Annotated[
        bool, typer.Option("--intercept", help="Maps with an intercept (the paper's have none).")
    ] = False,
    rank: Annotated[
        int | None, typer.Option("--rank", min=1, metavar="R", help="Keep the best maps of rank R: smaller files.")
    ] = None,
    source_model: Annotated[
        str | None,
        typer.Option(
            "--source-model",
            metavar="FOLDER",
            help="Foretell from the layers of another model, which has the same tokenizer (a folder, or a hub name).",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="What sums may take beside the model, such as 8GB; with less the text is read more often (default: "
            "half of what is free).",
        ),
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", min=1, help="Tokens of a forward pass (default: 4,096).")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of another fit of this name.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and write nothing.")] = False,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:
    """Fit linear maps from the activations of one layer to those of another, and keep them beside the index.

    Fitted on the documents of the split explain; the ridge is chosen on select, and test is left for `predict scores`.
    Ctrl-C keeps what is done, and the same command continues.
    """
    chosen = _kind(kind)
    windows = _windows(context)

    from dataclasses import replace as changed

    from neuronagent.service.predict.fit import FitOptions
    from neuronagent.service.predict.plan import parse_memory

    options = FitOptions(
        db=db,
        name=name,
        pairs=pairs,
        kind=chosen,
        text=source,
        tokens=tokens,
        intercept=intercept,
        rank=rank,
        source_model=source_model,
        model=model,
        device=device,
        memory=None if memory is None else parse_memory(memory),
        replace=replace,
    )
    if batch_tokens is not None:
        options = changed(options, batch_tokens=batch_tokens)
    wanted = [changed(options, context=w, name=f"{name}-w{w}") for w in windows] or [options]
    with terminal_progress() as progress:
        if dry_run:
            _preview(wanted, progress, json)
        else:
            _fit(wanted, progress, json, db)


def _kind(said: str) -> FitKind:
    """How maps are found.

    Raises:
        UsageError: anything else.
    """
    found = _KINDS.get(said.strip().lower().replace("_", "-").replace(" ", "-"))
    if found is None:
        raise UsageError(
            f"{clip(said)!r} is no way to fit maps", remedy=f"allowed: {', '.join(_KINDS)}; a fit is named by --name"
        )
    return found


def _windows(said: str | None) -> list[int]:
    """`3,7` as numbers, each once.

    Raises:
        UsageError: anything else.
    """
    parts = [] if said is None else said.split(",")
    for part in parts:
        if not (part.strip().isdecimal() and len(part) < 8 and int(part)):
            raise UsageError(f"{clip(part)!r} is no number of tokens", remedy="write --context 7, or 3,7,15")
    return list(dict.fromkeys(int(part) for part in parts))


def _fit(wanted: Sequence[FitOptions], progress: Progress, json: bool, db: str | None) -> None:
    from neuronagent.service.predict.fit import fit

    for options in wanted:
        if len(wanted) > 1:
            progress.note(f"fit {options.name}")
        found = fit(options, progress)
        if json:
            print_json(found.info)
            continue
        from neuronagent.cli.predict_fit_card import print_fit

        with page() as out:
            print_fit(out, found, db)


def _preview(wanted: Sequence[FitOptions], progress: Progress, json: bool) -> None:
    from neuronagent.service.predict.fit import preview

    for options in wanted:
        found = preview(options, progress)
        if json:
            from dataclasses import asdict

            print_json(asdict(found))
            continue
        from neuronagent.cli.predict_fit_card import print_preview

        with page() as out:
            print_preview(out, found)
