"""`neuronagent search`: the neurons that meet every criterion given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli import criteria, text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.domain import COMBINATIONS, COSINES, Role
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.lookup import Index
    from neuronagent.store.search import SearchPage

NAME = "search"
_RANGE = "LOW..HIGH, either end may be left out"


def command(
    layers: Annotated[
        str | None, typer.Option("--layers", "-l", metavar="LAYERS", help="Layers such as 3, 0-5 or 0,2,7-9.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="A functional role: prediction, suppression, partition, entropy, attention-activation or "
            "attention-deactivation; may be given several times.",
        ),
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
            "(farthest), examples (peaks of examples), or one combination's examples, such as gate+_in-. Examples "
            "of all splits, the held-out ones by which explanations are judged too; MCP clients find explain only.",
        ),
    ] = None,
    explanation: Annotated[
        str | None,
        typer.Option("--explanation", "-e", metavar="TEXT", help="An explanation contains this text."),
    ] = None,
    concept: Annotated[
        str | None,
        typer.Option(
            "--concept",
            metavar="FILE",
            help='Rank neuron × combination by how well they tell your labels, one {"text": "…", "label": 1} or 0 per '
            "line, if wanted with a place (position, span or token) and a group; runs the model.",
        ),
    ] = None,
    combination: Annotated[
        str | None, typer.Option("--combination", "-c", metavar="COMBINATION", help="For --concept: only this one.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="FOLDER", help="For --concept: where the model is, if not where it was."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="DEVICE", help="For --concept: cpu, mps, cuda or cuda:1; else auto."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEY",
            help="neuron, match (strongest for --token), cos_gate_in, cos_gate_out, cos_in_out, norm_gate, norm_in, "
            "frequency_pm, mass_mm (p and m: plus and minus, gate first); and, largest first, kurtosis, skew and "
            "variance of cos(out, tokens), norm (of out), mass (Σ|post|), double_checking, entropy_share, "
            "attention_score.",
        ),
    ] = None,
    descending: Annotated[bool | None, typer.Option("--desc/--asc", help="Largest or smallest first.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Neurons per page.")] = 20,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Neurons to pass over.")] = 0,
    db: Db = None,
    json: Json = False,
) -> None:
    """Find neurons by layer, IO class, role, geometry, statistics, tokens and explanations; all criteria must hold.
    With --concept they say which neurons are tried on your own labelled texts.
    """
    if where is not None and token is None:
        raise UsageError("--in says where a token stands", remedy="give the token with --token")
    ranges = {"cos_gate_in": cos_gate_in, "cos_gate_out": cos_gate_out, "cos_in_out": cos_in_out}
    classes, only = criteria.parse_classes(io_class or [], atypical)
    order = criteria.parse_sort(sort, token)
    wanted = criteria.Criteria(
        layers=criteria.parse_layers(layers),
        roles=tuple(Role.parse(name) for name in role or ()),
        io_classes=classes,
        atypical=only,
        cosines={key: criteria.parse_range(given) for key, given in ranges.items() if given is not None},
        frequency=dict(criteria.parse_combination_range(given) for given in frequency or []),
        mass=dict(criteria.parse_combination_range(given) for given in mass or []),
        token=token,
        places=criteria.parse_place(where or "out"),
        explanation=explanation or "",
        sort=order,
        descending=descending if descending is not None else order in criteria.LARGEST_FIRST,
        limit=limit,
        offset=offset,
    )

    if concept is not None:
        if (sort, descending, offset) != (None, None, 0):
            raise UsageError("--concept has an order of its own", remedy="leave --sort, --desc, --asc and --offset out")
        from neuronagent.cli.concept import search_concept

        search_concept(concept, wanted, combination=combination, model=model, device=device or "auto", db=db, json=json)
        return
    if (combination, model, device) != (None, None, None):
        raise UsageError("--combination, --model and --device belong to --concept", remedy="give --concept FILE too")

    from neuronagent.cli.finding import find
    from neuronagent.service import views
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        if index.is_imported:
            _search_imported(index, wanted, json, db)
            return
        found = find(index, wanted)
        view = views.search_view(index, found) if json else None
    if view is not None:
        print_json(view)
        return
    with page() as out:
        _print_page(out, found, wanted, db)


def _search_imported(index: Index, wanted: criteria.Criteria, json: bool, db: str | None) -> None:
    """The same among numbers that others published, of which there are fewer kinds.

    Raises:
        UsageError: a criterion that needs what was not published.
    """
    from neuronagent.cli.imported_card import print_search
    from neuronagent.service.imported_views import search_view
    from neuronagent.store.published import PublishedQuery

    asked = (wanted.roles, wanted.io_classes, wanted.atypical is not None, wanted.cosines, wanted.mass, wanted.token)
    if any(asked):
        raise UsageError(
            "this index holds imported numbers: no geometry, mass or inverted tokens",
            remedy="search by --layers, --frequency or --explanation; sort by neuron or frequency_pm",
        )
    query = PublishedQuery(
        layers=wanted.layers, frequency=wanted.frequency, explanation=wanted.explanation, sort=wanted.sort,
        descending=wanted.descending, limit=wanted.limit, offset=wanted.offset,
    )  # fmt: skip
    view = search_view(index, query)
    if json:
        print_json(view)
        return
    with page() as out:
        print_search(out, view, wanted.limit, db)


def _print_page(out: Console, found: SearchPage, wanted: criteria.Criteria, db: str | None) -> None:
    from rich.text import Text

    from neuronagent.cli import card
    from neuronagent.store.search import NUMBERS

    if not found.rows:
        beyond = f"; {found.total} in all, the offset is behind them" if found.total else ""
        out.print(Text(f"no neuron meets all criteria{beyond}"))
        return
    titles = [("neuron", "left"), ("IO class", "wrap"), ("g·in", "right"), ("g·out", "right"), ("in·out", "right")]
    titles += [(text.combination(c).replace("gate", "g").replace("in", "i"), "right") for c in COMBINATIONS]
    matched, number = wanted.token is not None, wanted.sort if wanted.sort in NUMBERS else None
    titles[2:2] = [("role", "wrap")] if any(row.role for row in found.rows) else []
    titles += [(number, "right")] if number else []
    table = card.plain_table([*titles, *([("match", "right")] if matched else [])])
    for row in found.rows:
        shares = (_whole(row.mass_share[c]) for c in COMBINATIONS)
        cosines = (text.signed(row.cosines[key]) for key in COSINES)
        role = [row.role.value if row.role else "–"] if ("role", "wrap") in titles else []
        extra = [text.number(row.numbers[number])] if number else []
        extra += [text.number(row.match)] if matched else []
        table.add_row(*card.cells(str(row.neuron), str(row.io_class), *role, *cosines, *shares, *extra))
    out.print(table)
    first, last = found.offset + 1, found.offset + len(found.rows)
    said = f"{first:,}–{last:,} of {found.total:,} neurons; cosines, then the output mass by sign combination"
    out.print(Text(said, style="dim"))
    if found.next_offset is not None:
        out.print(Text(f"next page: the same with --offset {found.next_offset} --limit {wanted.limit}"))
    card.next_commands(out, f"neuronagent explain {found.rows[0].neuron}", db=db)


def _whole(share: float | None) -> str:
    """A share in whole percent, `<1` for what rounds to nothing and is not."""
    if share is None:
        return "–"
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
