"""`neuronagent compare`: whether a model's index has the numbers that were published of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli import card, text
from neuronagent.cli.options import Json
from neuronagent.cli.output import page, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from neuronagent.service.compare import Comparison

NAME = "compare"


def command(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="The index of a model: --weights-only is enough.")],
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="REFERENCE",
            help="A JSON file with `models` (NAME: columns, per_layer), `median_cos_in_out_by_layer` (NAME: "
            "medians) or both (default: the published tables of 12 models that come with neuronagent).",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Whose tables (default: those of the index's model).")
    ] = None,
    neurons: Annotated[
        int | None,
        typer.Option("--tolerance", min=0, help="By how many neurons a class may differ (default: 5, float noise)."),
    ] = None,
    cosine: Annotated[
        float | None, typer.Option("--median-tolerance", min=0, help="By how much a median may differ (default: 1e-4).")
    ] = None,
    json: Json = False,
) -> None:
    """Hold IO-class counts and median cos(in,out) against published tables; exit code 1 if they disagree.

    Tables of Gemma hold for an index made with --post-norm raw.
    """
    from neuronagent.service.compare import COSINE, NEURONS, compare_index, comparison_view
    from neuronagent.service.lookup import Index

    allowed = NEURONS if neurons is None else neurons, COSINE if cosine is None else cosine
    with Index(index) as opened:
        found = compare_index(opened, reference, model, neurons=allowed[0], cosine=allowed[1])
        view = comparison_view(opened, found)
    if json:
        print_json(view)
    else:
        with page() as out:
            _print(out, found, str(view["fingerprint"]), *allowed)
    if not found.agrees:
        raise typer.Exit(1)


def _print(out: Console, found: Comparison, fingerprint: str, neurons: int, cosine: float) -> None:
    from rich.text import Text

    out.print(Text(f"{text.visible(found.published.name)}: {text.visible(found.published.source)}", style="bold"))
    if found.classes:
        _print_classes(out, found)
    if found.medians:
        _print_medians(out, found)
    for note in found.notes:
        out.print(Text(f"{note}."))
    rows = (*found.classes, *found.medians)
    wrong = sum(not row.within for row in rows)
    verdict = "all agree" if not wrong else f"{wrong} of them do not agree"
    said = f"{len(rows)} numbers within {neurons} neurons and {cosine:g}, index {fingerprint}: {verdict}"
    out.print(Text(said, style="bold"))


def _print_classes(out: Console, found: Comparison) -> None:
    table = card.plain_table(
        [("IO class", "left"), *((title, "right") for title in ("ours", "published", "difference", "worst layer", ""))]
    )
    for row in found.classes:
        worst = f"{_signed(row.worst_difference)} in L{row.worst_layer}" if row.worst_difference else "·"
        numbers = (f"{row.ours:,}", f"{row.published:,}", _signed(row.difference) if row.difference else "·", worst)
        table.add_row(*_cells(row.within, str(row.label), *numbers))
    out.print(table)
    out.print()


def _print_medians(out: Console, found: Comparison) -> None:
    table = card.plain_table(
        [("median cos(in,out)", "left"), *((title, "right") for title in ("ours", "published", "difference", ""))]
    )
    for row in found.medians:
        numbers = (f"{value:+.5f}".replace("-", "−") for value in (row.ours, row.published, row.difference))
        table.add_row(*_cells(row.within, f"layer {row.layer}", *numbers))
    out.print(table)
    out.print()


def _cells(within: bool, *values: str) -> list[Text]:
    from rich.text import Text

    style = "" if within else "red"
    return [Text(value, style=style) for value in (*values, "" if within else "differs")]


def _signed(value: int) -> str:
    return f"{value:+,}".replace("-", "−")
