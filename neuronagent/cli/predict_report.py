"""`neuronagent predict report`: the paper's tables and figures for the model of an index, in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli.options import Db
from neuronagent.cli.output import page, print_json, say
from neuronagent.cli.progress import duration, terminal_progress
from neuronagent.cli.report import size
from neuronagent.cli.text import visible
from neuronagent.errors import UsageError
from neuronagent.report.figures import PREDICT_FIGURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neuronagent.service.lookup import Index
    from neuronagent.service.predict.report import Written

NAME = "report"


def command(
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The folder: new, empty, or with a report of the same index. With --figure: an .svg or .png.",
        ),
    ] = None,
    fits: Annotated[
        list[str] | None,
        typer.Option(
            "--fit",
            metavar="NAME",
            help="Only these fits, the main one first; may be given several times (default: all).",
        ),
    ] = None,
    figure: Annotated[
        str | None,
        typer.Option("--figure", metavar="NAME", help=f"One figure alone: {', '.join(PREDICT_FIGURES)}."),
    ] = None,
    db: Db = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print all numbers as one JSON object; with --out what was written."),
    ] = False,
) -> None:
    """Write the paper's tables and figures for this model, and which of its findings hold: DIR/predictability.html.

    From fits, scores and results in the index: no model is run. What is not there yet is said with the command that
    makes it. Figures need the extra [plot].
    """
    if out is None and not json:
        raise UsageError("there is nowhere to write to", remedy="name a folder: --out DIR (or --json for the numbers)")
    names = [name.strip() for name in fits or ()]

    from neuronagent.service.lookup import open_index

    with open_index(db) as index, terminal_progress() as progress:
        if figure is not None:
            _figure(index, figure.strip().lower(), out, names, json)
            return
        from neuronagent.service.predict.report import predictability, write_predictability

        if out is None:
            print_json(predictability(index, names, progress)[0])
            return
        done = write_predictability(index, out, names, progress)
    if json:
        print_json(done.to_dict())
    else:
        _print_done(done, db)


def _figure(index: Index, name: str, out: str | None, fits: Sequence[str], json: bool) -> None:
    """Draw one figure into a file, if one is named, and print its numbers, if they are asked for."""
    from neuronagent.report.figures.saving import check_plot, save

    path = None if out is None else check_plot(out)

    from neuronagent.service.predict.report import chosen_figure, numbers_of, title

    content, points = chosen_figure(index, name, fits)
    if path is not None:
        from neuronagent.report.figures.looks import PRINTED
        from neuronagent.report.figures.predict_drawing import DRAW

        save(DRAW[name](content, points, PRINTED, title(content)), path)
        line = f"drawn: {visible(str(out))}"
        say(line) if json else typer.echo(line)
    if json:
        print_json(numbers_of(content, name))


def _print_done(done: Written, db: str | None) -> None:
    """What was written, what to open, and what would complete it."""
    from rich.text import Text

    from neuronagent.cli.card import next_commands
    from neuronagent.report.predictability_words import COMMANDS
    from neuronagent.service.predict.report import PAGE

    with page() as out:
        files = f"{len(done.files):,} files, {done.written:,} written, {size(done.bytes)}"
        fits = f"{len(done.fits):,} fit{'' if len(done.fits) == 1 else 's'}"
        line = f"{visible(str(done.folder))}: {fits} · {files} · {duration(done.seconds)}"
        out.print(Text(line), soft_wrap=True)
        out.print(Text(f"open {visible(str(done.folder / PAGE))}"), soft_wrap=True)
        if done.missing:
            out.print(Text(f"not there yet: {', '.join(done.missing)}", style="dim"), soft_wrap=True)
            steps = [step for name in done.missing[:3] for step in COMMANDS[name].split(" && ")]
            next_commands(out, *dict.fromkeys(steps), db=db)
