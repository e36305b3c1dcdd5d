"""`neuronagent report`: pages of neurons, a model's map, and of many neurons a site, in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli.choosing import FEW, IoClasses, Layers, LimitNeurons, Names, Roles, Selection, read_neurons
from neuronagent.cli.live_options import Device
from neuronagent.cli.options import Db
from neuronagent.cli.output import page, print_json, say
from neuronagent.cli.progress import duration, terminal_progress
from neuronagent.domain import NeuronId, Split
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index
    from neuronagent.service.reporting.page_options import PageOptions
    from neuronagent.service.reporting.site import Report

NAME = "report"
_NAMED = 5


def command(
    neurons: Names = None,
    io_class: IoClasses = None,
    layers: Layers = None,
    role: Roles = None,
    limit_neurons: LimitNeurons = None,
    model_map: Annotated[
        bool, typer.Option("--model", help="The map of the whole model, alone or beside neurons' pages.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="The folder: new, empty, or with a report of the same index."),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Examples per sign combination at most.")] = 8,
    split: Annotated[Split | None, typer.Option("--split", help="Only examples of this split of the texts.")] = None,
    values: Annotated[
        bool,
        typer.Option("--values/--no-values", help="Run the model for the values of every token that is shown, once."),
    ] = True,
    model: Annotated[
        str | None,
        typer.Option(
            "--model-folder",
            metavar="FOLDER",
            help="The model that was indexed, for --values, or its name on the hub (default: where it was indexed, if "
            "it is still there).",
        ),
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that draw (default: one per core).")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print one neuron as Markdown instead of writing a folder.")
    ] = False,
    db: Db = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Write pages that open in a browser without a network: DIR/31.9634.html, with JSON and Markdown beside it.

    More than 8 neurons, an @FILE, or neurons chosen by --io-class, --layer or --role also get DIR/index.html, which
    filters and sorts them, and tables (neurons.csv, .jsonl, .parquet). Run again it draws only what has changed; files
    that are not its own are never overwritten.
    """
    selection = Selection(io_classes=io_class or (), layers=layers, roles=role or (), limit=limit_neurons)
    named = read_neurons(neurons) if neurons else []
    if named and selection.given:
        raise UsageError(
            "neurons are named and chosen",
            remedy="name them (31.9634, @FILE) or choose them (--io-class, --layer, --role, --limit-neurons)",
        )
    if not (named or selection.given or model_map):
        raise UsageError(
            "no neuron is named", remedy="name some (31.9634, @FILE), choose them (--io-class, --layer), or use --model"
        )
    if model is not None and not values:
        raise UsageError("--no-values runs no model, and --model-folder names one", remedy="leave one of them out")
    _check_where(out, markdown, json, alone=len(named) == 1 and not model_map)

    from neuronagent.service.lookup import open_index
    from neuronagent.service.reporting.page_options import PageOptions

    options = PageOptions(examples=examples, split=split)
    with open_index(db) as index:
        if out is None:
            _print_markdown(index, named[0], options)
            return

        from neuronagent.service.reporting.site import write_report

        wanted = selection.neurons(index) if selection.given else named
        listed = any(name.startswith("@") for name in neurons or ())
        with terminal_progress() as progress:
            done = write_report(
                index, out, wanted, options=options, overview=selection.given or listed or len(wanted) > FEW,
                selection=_words(selection, wanted), model_map=model_map, values=values, model=model, device=device,
                workers=workers, progress=progress,
            )  # fmt: skip
        verb = "show" if index.info.get("weights_only") else "explain"
        mapped = model_map or index.is_imported
    if json:
        print_json(done.to_dict())
    else:
        _print_done(done, mapped, verb, db)


def _check_where(out: str | None, markdown: bool, json: bool, *, alone: bool) -> None:
    if not out and not markdown:
        raise UsageError("there is no folder to write to", remedy="name one: --out DIR (or one neuron and --markdown)")
    if out is not None and markdown:
        raise UsageError("--markdown prints, and --out writes", remedy="leave out one: DIR holds Markdown too")
    if markdown and json:
        raise UsageError("--markdown prints Markdown, and --json prints JSON", remedy="leave out one of them")
    if markdown and not alone:
        raise UsageError("--markdown prints one neuron", remedy="name one, or write a folder with --out")


def _print_markdown(index: Index, neuron: NeuronId, options: PageOptions) -> None:
    from neuronagent.report.markdown import markdown
    from neuronagent.service.reporting.content import neuron_content

    typer.echo(markdown(neuron_content(index, neuron, options)), nl=False)


def _words(selection: Selection, wanted: Sequence[NeuronId]) -> str:
    """How the neurons were chosen, for the overview."""
    if not selection.given:
        return f"{len(wanted):,} neurons by name"
    parts = (
        " or ".join(selection.io_classes),
        "layers " + selection.layers.replace("-", "–") if selection.layers is not None else "",
        " or ".join(selection.roles),
        f"the first {selection.limit:,}" if selection.limit is not None else "",
    )
    return ", ".join(part for part in parts if part)


def _print_done(done: Report, mapped: bool, verb: str, db: str | None) -> None:
    """What was written, what failed, what to open, and what to type next: of a neuron, and of the map unless it is
    there or cannot be (`mapped`)."""
    from rich.text import Text

    from neuronagent.cli.card import next_commands
    from neuronagent.cli.text import visible
    from neuronagent.service.reporting.names import MAP, neurons_with_pages, page_name

    same = f" ({done.unchanged:,} unchanged)" if done.unchanged else ""
    parts = [f"{done.pages:,} page{'' if done.pages == 1 else 's'}{same}"] if done.pages else []
    if MAP in done.files:
        parts.append("the model's map")
    if done.others:
        parts.append(f"{done.others:,} of other neurons stay")
    files = f"{len(done.files):,} files, {done.files_written:,} written, {size(done.bytes)}"
    for reason, those in done.failures.items():
        some = ", ".join(map(str, those[:_NAMED])) + (", …" if len(those) > _NAMED else "")
        say(f"failed: {len(those):,} neurons ({some}): {visible(reason)}")
    first = done.overview or done.folder / page_name(neurons_with_pages(done.files)[0])
    with page() as out:
        line = f"{visible(str(done.folder))}: {', '.join(parts)} · {files} · {duration(done.seconds)}"
        out.print(Text(line), soft_wrap=True)
        out.print(Text(f"open {visible(str(first))}"), soft_wrap=True)
        named = next(iter(neurons_with_pages(done.files)), None)
        where = str(done.folder)
        # A path that does not print as it is cannot be typed either.
        map_too = [f"neuronagent report --model --out {quote(where)}"] if where.isprintable() and not mapped else []
        next_commands(out, f"neuronagent {verb} {named}" if named else "neuronagent info", *map_too, db=db)


def size(count: int) -> str:
    """`310 kB`, `3.1 MB`."""
    return f"{count / 1e3:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"
