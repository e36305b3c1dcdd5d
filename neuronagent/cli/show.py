"""`neuronagent show`: what an index holds of one neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli import card, predictability_card, roles_card, text
from neuronagent.cli.options import Db, Json, NeuronArgument
from neuronagent.cli.output import page, print_json
from neuronagent.domain import LISTED, QUANTITIES, NeuronId, Quantity, SignCombination, Split
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.lookup import Index

NAME = "show"
CARD_EXAMPLES = 3


def command(
    neuron: NeuronArgument,
    combination: Annotated[
        str | None, typer.Option("--combination", "-c", help="Only this sign combination: gate+_in-, or +-.")
    ] = None,
    quantity: Annotated[
        str | None, typer.Option("--quantity", "-q", help="Examples by post, x_in or x_gate (card: post, JSON: all).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, help="Examples per list (card: 3, JSON: all that are stored).")
    ] = None,
    split: Annotated[
        Split | None, typer.Option("--split", help="Only examples of this split of the documents.")
    ] = None,
    fit: Annotated[
        str | None, typer.Option("--fit", help="Predictability by the maps of this fit (predict fit).")
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="In the JSON of an imported neuron, the values at every token of each text.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Show a neuron: geometry, IO class, nearest tokens, statistics and strongest examples per sign combination."""
    wanted = [SignCombination.parse(combination)] if combination else list(SignCombination)
    quantities = [parse_quantity(quantity)] if quantity else list(LISTED if json else LISTED[:1])

    from neuronagent.service import views
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        if index.is_imported:
            _show_imported(index, neuron, wanted, quantity, limit, split, trace, json, db)
            return
        shown = limit if json else None  # a card also tells how many there are
        view = views.neuron_view(
            index.neuron(neuron), limit=shown, combinations=wanted, quantities=quantities, split=split, fit=fit
        )
    if json:
        print_json(view)
    else:
        with page() as out:
            _print_card(out, view, quantities[0], CARD_EXAMPLES if limit is None else limit, db, fit)


def _show_imported(
    index: Index,
    neuron: str,
    combinations: list[SignCombination],
    quantity: str | None,
    limit: int | None,
    split: Split | None,
    trace: bool,
    json: bool,
    db: str | None,
) -> None:
    """The same of a neuron whose numbers were published by others."""
    from neuronagent.cli.imported_card import print_show
    from neuronagent.service.imported_views import show_view

    wanted = [parse_quantity(quantity)] if quantity else list(QUANTITIES if json else LISTED[:1])
    view = show_view(
        index, NeuronId.parse(neuron), limit=limit if json else None, combinations=combinations, quantities=wanted,
        split=split, traces=trace and json,
    )  # fmt: skip
    if json:
        print_json(view)
        return
    with page() as out:
        print_show(out, view, wanted[0], CARD_EXAMPLES if limit is None else limit, db)


def parse_quantity(given: str) -> Quantity:
    """A quantity that has example lists.

    Raises:
        UsageError: another one.
    """
    for quantity in LISTED:
        if given.strip().lower().replace("-", "_") == quantity.value:
            return quantity
    allowed = ", ".join(q.value for q in LISTED)
    raise UsageError(f"{text.clipped(text.visible(given), 40)!r} has no example lists", remedy=f"allowed: {allowed}")


def _print_card(
    out: Console, view: dict[str, Any], quantity: Quantity, limit: int, db: str | None, fit: str | None
) -> None:
    from rich.text import Text

    from neuronagent.service.saying import WEIGHTS_ALONE

    card.heading(out, view["model"], view["neuron"], view["io_class"], view["meaning"])
    if sentence := _where_it_writes(view, quantity):
        out.print(Text(sentence))
    _chance(out, view)
    roles_card.role_line(out, view)
    out.print()
    if predictability_card.predictability(out, view["predictability"], asked=fit is not None):
        out.print()
    _vocabulary(out, view)
    out.print()
    roles_card.neighbours(out, view)
    if view["combinations"]:
        out.print()
        _combinations(out, view, quantity)
        for name, own in view["combinations"].items():
            out.print()
            found = own["examples"][quantity.value]
            card.examples(out, SignCombination(name), quantity.value, found[:limit], len(found))
    else:
        out.print(WEIGHTS_ALONE)
    out.print()
    more = (f"{view['zeros']} exact zeros",) if view["zeros"] else ()
    card.provenance(out, view["model"], *more)
    others = [view["vocabulary"]["out"]["top"][0]["token"]] if view["vocabulary"]["out"]["top"] else []
    card.next_commands(
        out,
        *([f"neuronagent explain {view['neuron']}"] if view["combinations"] else []),
        *(f"neuronagent search --token {_shell(token)} --in out" for token in others),
        db=db,
    )


def _where_it_writes(view: dict[str, Any], quantity: Quantity) -> str | None:
    """Which combination carries most of the output, in words."""
    from neuronagent.service.saying import where_it_writes

    out = view["vocabulary"]["out"]
    combinations = {
        name: {
            "mass_share": own["mass_share"],
            "writes": [entry["token"] for entry in out["top" if own["write_sign"] > 0 else "bottom"]],
            "strongest": next((e["token"] for e in own["examples"][quantity.value]), None),
        }
        for name, own in view["combinations"].items()
    }
    return where_it_writes(combinations)


def _chance(out: Console, view: dict[str, Any]) -> None:
    """What the cosines of unrelated vectors of this layer look like."""
    from rich.text import Text

    shown = {"gate·in": "cos_gate_in", "gate·out": "cos_gate_out", "in·out": "cos_in_out"}
    absolute = {name: view["baselines"][key]["mismatched_absolute"] for name, key in shown.items()}
    parts = (f"{name} {view['geometry'][shown[name]]:+.2f} (±{limit:.2f})" for name, limit in absolute.items())
    line = "cosines, and in brackets what 95 % of unrelated pairs of this layer stay below: " + " · ".join(parts)
    out.print(Text(line.replace("-", "−"), style="dim"))


def _shell(token: str) -> str:
    from shlex import quote

    return quote(text.visible(token))


def _vocabulary(out: Console, view: dict[str, Any]) -> None:
    table = card.plain_table([("", "left"), ("norm", "right"), ("nearest tokens", "wrap"), ("farthest tokens", "wrap")])
    for vector in ("gate", "in", "out"):
        own = view["vocabulary"][vector]
        sides = (" ".join(text.quoted(entry["token"]) for entry in own[side][:6]) for side in ("top", "bottom"))
        table.add_row(
            *card.cells(vector, f"{view['geometry'][f'norm_{vector}']:.2f}", *(side or "–" for side in sides))
        )
    out.print(table)


def _combinations(out: Console, view: dict[str, Any], quantity: Quantity) -> None:
    titles = [("", "left"), ("tokens", "right"), ("mass", "right"), ("writes", "wrap")]
    titles += [(f"mean {quantity.value}", "right"), ("strongest", "right"), ("at", "wrap")]
    table = card.plain_table(titles)
    promoted = {+1: view["vocabulary"]["out"]["top"], -1: view["vocabulary"]["out"]["bottom"]}
    for name, own in view["combinations"].items():
        values = own[quantity.value]
        peaks = dict.fromkeys(e["token"] for e in own["examples"][quantity.value])
        small = " small" if 0 < own["mass_share"] < card.SMALL_MASS else ""
        table.add_row(
            *card.cells(
                text.combination(name),
                text.percent(own["frequency"]),
                text.percent(own["mass_share"]) + small,
                " ".join(text.quoted(entry["token"]) for entry in promoted[own["write_sign"]][:2]) or "–",
                text.number(values["mean"]),
                text.number(max((values["min"], values["max"]), key=lambda value: abs(value or 0.0))),
                " ".join(text.quoted(token) for token in list(peaks)[:4]) or "–",
            )
        )
    out.print(table)
