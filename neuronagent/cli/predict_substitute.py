"""`neuronagent predict substitute`: what the model loses when predictions take the place of its neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.cli.predict_options import DEFAULT_FIT, Device, FitName, Model
from neuronagent.cli.progress import terminal_progress
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.predictability.scores import fit_option
from neuronagent.predictability.substitution import SOURCES
from neuronagent.settings import chosen_db

if TYPE_CHECKING:
    from neuronagent.service.predict.substitute import Preview, Substituted, SubstituteOptions

NAME = "substitute"


def command(
    fit: FitName = DEFAULT_FIT,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="SOURCE",
            help="Measure on another text too, beside the test documents of what was fitted on; may be given several "
            "times.",
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", min=0, help="About so many tokens of each text, evenly spaced; 0: all.")
    ] = 20_000,
    window: Annotated[
        int | None,
        typer.Option("--window", min=2, help="Tokens that the model reads at once (default: as the index's texts)."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option("--stride", min=1, help="How far the next window begins (default: no token twice)."),
    ] = None,
    sources: Annotated[
        str,
        typer.Option(
            "--sources",
            metavar="WHICH",
            help="Sources of the unmodified model (clean), as they are in the modified one (chained), or both.",
        ),
    ] = "both",
    source: Annotated[
        int | None,
        typer.Option("--source", min=0, metavar="LAYER", help="Foretell from this layer, not from the nearest below."),
    ] = None,
    chunks: Annotated[int, typer.Option("--chunks", min=1, help="Cut the layers into so many chunks.")] = 4,
    draws: Annotated[int, typer.Option("--draws", min=1, help="So many random maps are averaged.")] = 5,
    halves: Annotated[
        bool,
        typer.Option("--halves", help="Also replace halves of the neurons, by L2, Pearson, mean and variance."),
    ] = False,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show also changes of the loss, with 95 % intervals over documents.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and run nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Compute also what is stored.")] = False,
    stored: Annotated[bool, typer.Option("--stored", help="Show what was measured last, and run nothing.")] = False,
    batch_tokens: Annotated[
        int | None, typer.Option("--batch-tokens", min=1, help="Tokens that are run together (default: 4096).")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", metavar="SIZE", help="What random maps may take together, such as 8GB (default: half of what "
            "is free)."
        ),
    ] = None,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Replace the neurons of a chunk of layers, and measure the perplexity of the whole model.

    In their place come predictions from the layer below, a random map of it, zero, or that layer's activations as they
    are: completely, or with the actual contribution to the output kept (partial). Every number is stored; Ctrl-C keeps
    the chunks that are done, and the same command continues.
    """
    if stored and (again or dry_run):
        raise UsageError("--stored goes with neither --again nor --dry-run", remedy="leave one out")
    target = chosen_db(db)
    done: Substituted | None = None
    if not stored:
        from neuronagent.service.predict.plan import parse_memory
        from neuronagent.service.predict.substitute import BATCH_TOKENS, SubstituteOptions, preview, substitute

        options = SubstituteOptions(
            db=target, name=fit, texts=tuple(texts or ()), tokens=tokens or None, window=window, stride=stride,
            source=source, sources=_sources(sources), chunks=chunks, draws=draws, halves=halves, again=again,
            memory=None if memory is None else parse_memory(memory), batch_tokens=batch_tokens or BATCH_TOKENS,
            model=model, device=device,
        )  # fmt: skip
        if dry_run:
            _show_preview(options, preview(options), json)
            return
        with terminal_progress() as progress:
            done = substitute(options, progress)
    _show(target, fit, done, halves or stored, intervals, json, db)


def _sources(said: str) -> tuple[str, ...]:
    """Raises `UsageError` for anything but clean, chained and both."""
    word = said.strip().lower()
    if word == "both":
        return SOURCES
    if word not in SOURCES:
        raise UsageError(f"{said[:40]!r} names no sources", remedy="allowed: clean, chained, both")
    return (word,)


def _show_preview(options: SubstituteOptions, found: Preview, json: bool) -> None:
    if json:
        from dataclasses import asdict

        print_json({"schema_version": 1, **asdict(found)})
        return
    from neuronagent.cli.predict_substitute_card import print_preview

    with page() as out:
        print_preview(out, found)


def _show(
    target: str, name: str, done: Substituted | None, halves: bool, intervals: bool, json: bool, db: str | None
) -> None:
    from neuronagent.service.lookup import open_index
    from neuronagent.service.predict.score_views import find_fit
    from neuronagent.service.predict.substitution_views import halves_view, substitution_views

    with open_index(target) as index:
        found = find_fit(index, name)
        views = substitution_views(index, found, None if done is None else done.settings)
        half = halves_view(index, found, None if done is None else done.settings[""]) if halves else None
    if not views:
        chosen = fit_option(name)
        raise NotFoundError(
            f"nothing was substituted with the fit {name} yet", remedy=f"run: neuronagent predict substitute{chosen}"
        )
    if json:
        view: dict[str, Any] = {"schema_version": 1, "fit": name, "texts": views, "halves": half}
        print_json(view if done is None else {**view, "computed": done.computed, "kept": done.kept})
        return
    from neuronagent.cli.predict_substitute_card import print_substitution

    with page() as out:
        print_substitution(out, name, views, intervals, db, half)
