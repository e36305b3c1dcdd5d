"""`neuronagent search`: the neurons that meet every criterion given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli import criteria, text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.domain import COMBINATIONS
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.store.search import SearchPage

NAME = "search"
_COSINES = ("cos_gate_in", "cos_gate_out", "cos_in_out")
_RANGE = "LOW..HIGH, either end may be left out"


def command(
    layers: Annotated[
        str | None, typer.Option("--layers", "-l", metavar="LAYERS", help="Layers such as 3, 0-5 or 0,2,7-9.")
    ] = None,
    io_class: Annotated[
        list[str] | None,
        typer.Option(
            "--io-class",
            metavar="CLASS",
            help="An IO class, may be given several times; `atypical depletion` means that label alone; "
            "strengthening and weakening are understood.",
        ),
    ] = None,
    atypical: Annotated[
        bool | None, typer.Option("--atypical/--typical", help="Only atypical, or only typical neurons.")
    ] = None,
    cos_gate_in: Annotated[
        str | None, typer.Option("--cos-gate-in", metavar="RANGE", help=f"cos(gate,in): {_RANGE}.")
    ] = None,
    cos_gate_out: Annotated[
        str | None, typer.Option("--cos-gate-out", metavar="RANGE", help=f"cos(gate,out): {_RANGE}.")
    ] = None,
    cos_in_out: Annotated[
        str | None, typer.Option("--cos-in-out", metavar="RANGE", help="cos(in,out), such as -1..-0.5.")
    ] = None,
    frequency: Annotated[
        list[str] | None,
        typer.Option(
            "--frequency",
            metavar="COMBINATION:RANGE",
            help="Share of tokens in a sign combination, such as gate+_in-:0.1..0.5; may be given several times.",
        ),
    ] = None,
    mass: Annotated[
        list[str] | None,
        typer.Option(
            "--mass",
            metavar="COMBINATION:RANGE",
            help="Share of the output mass in a sign combination, such as gate-_in-:0.2..; may be given several times.",
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", "-t", help="A token (with or without the space before it); see --in.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="PLACE",
            help="Where the token stands: out (promoted with +w_out; the default), gate, in, -out, -gate, -in "
            "(farthest), examples (peaks of examples), or one combination's examples, such as gate+_in-.",
        ),
    ] = None,
    explanation: Annotated[
        str | None,
        typer.Option("--explanation", "-e", metavar="TEXT", help="An explanation contains this text."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEY",
            help="neuron, match (strongest for --token), cos_gate_in, cos_gate_out, cos_in_out, norm_gate, norm_in, "
            "norm_out, frequency_pm, mass_mm (p and m: plus and minus, gate first).",
        ),
    ] = None,
    descending: Annotated[bool | None, typer.Option("--desc/--asc", help="Largest or smallest first.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Neurons per page.")] = 20,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Neurons to pass over.")] = 0,
    db: Db = None,
    json: Json = False,
) -> None:
    """Find neurons by layer, IO class, geometry, statistics, tokens and explanations; all criteria must hold."""
    if where is not None and token is None:
        raise UsageError("--in says where a token stands", remedy="give the token with --token")
    ranges = {"cos_gate_in": cos_gate_in, "cos_gate_out": cos_gate_out, "cos_in_out": cos_in_out}
    classes, only = criteria.parse_classes(io_class or [], atypical)
    wanted = criteria.Criteria(
        layers=criteria.parse_layers(layers),
        io_classes=classes,
        atypical=only,
        cosines={key: criteria.parse_range(given) for key, given in ranges.items() if given is not None},
        frequency=dict(criteria.parse_combination_range(given) for given in frequency or []),
        mass=dict(criteria.parse_combination_range(given) for given in mass or []),
        token=token,
        places=criteria.parse_place(where or "out"),
        explanation=explanation or "",
        sort=sort or ("match" if token is not None else "neuron"),
        descending=descending if descending is not None else sort in (None, "match") and token is not None,
        limit=limit,
        offset=offset,
    )

    from neuronagent.cli.finding import find
    from neuronagent.service import views
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        found = find(index, wanted)
        view = views.search_view(index, found) if json else None
    if view is not None:
        print_json(view)
        return
    with page() as out:
        _print_page(out, found, limit, token is not None, db)


def _print_page(out: Console, found: SearchPage, limit: int, matched: bool, db: str | None) -> None:
    from rich.text import Text

    from neuronagent.cli import card

    if not found.rows:
        beyond = f"; {found.total} in all, the offset is behind them" if found.total else ""
        out.print(Text(f"no neuron meets all criteria{beyond}"))
        return
    titles = [("neuron", "left"), ("IO class", "wrap"), ("g·in", "right"), ("g·out", "right"), ("in·out", "right")]
    titles += [(text.name(c).replace("gate", "g").replace("in", "i"), "right") for c in COMBINATIONS]
    table = card.plain_table([*titles, *([("match", "right")] if matched else [])])
    for row in found.rows:
        shares = (_whole(row.mass_share[c]) for c in COMBINATIONS)
        cosines = (
            f"{row.cosines[key]:+.2f}".replace("-", "−") for key in ("cos_gate_in", "cos_gate_out", "cos_in_out")
        )
        match = [text.number(row.match)] if matched else []
        table.add_row(*card.cells(str(row.neuron), str(row.io_class), *cosines, *shares, *match))
    out.print(table)
    first, last = found.offset + 1, found.offset + len(found.rows)
    said = f"{first:,}–{last:,} of {found.total:,} neurons; cosines, then the output mass by sign combination"
    out.print(Text(said, style="dim"))
    if found.next_offset is not None:
        out.print(Text(f"next page: the same with --offset {found.next_offset} --limit {limit}"))
    card.next_commands(out, f"neuronagent explain {found.rows[0].neuron}", db=db)


def _whole(share: float | None) -> str:
    """A share in whole percent, `<1` for what rounds to nothing and is not."""
    if share is None:
        return "–"
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
