"""`neuronagent attribute`: which neurons raise or lower the logit of a token directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli import card
from neuronagent.cli import text as shown
from neuronagent.cli.criteria import parse_layers
from neuronagent.cli.live_options import Combination, Device, Model, TextArgument, live_model, read_text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.domain import SignCombination

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.live.attribute import Attribution

NAME = "attribute"


def command(
    text: TextArgument,
    target: Annotated[str, typer.Option("--target", help="The next token, its space included: ' again'.")],
    position: Annotated[
        int | None, typer.Option("--position", "-p", help="The token after which it may come; BOS is 0, −1 the last.")
    ] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Only these layers: 3, 0-5 or 0,2,7-9.")] = None,
    combination: Combination = None,
    limit: Annotated[int, typer.Option("--limit", help="Neurons per list.")] = 10,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:
    """Rank neurons by their direct effect on a token's logit, and say what every part of the model adds to it.

    Effects are on the logit less the mean logit of the vocabulary, the norms' scales frozen; what goes by way of later
    layers is not in them.
    """
    c = SignCombination.parse(combination).value if combination else None
    chosen = None if layers is None else parse_layers(layers)
    content = read_text(text)
    with live_model(db, model, device) as live:
        from neuronagent.service.live.attribute import attribute
        from neuronagent.service.views import model_view

        found = attribute(live, content, target, position=position, limit=limit, layers=chosen, combination=c)
        about = model_view(live.index)
    if json:
        from dataclasses import asdict

        print_json({"model": about, **asdict(found)})
        return
    with page() as out:
        _print(out, found, about, db)


def _print(out: Console, found: Attribution, about: card.View, db: str | None) -> None:
    from rich.text import Text

    from neuronagent.cli.activations_card import EFFECT_SAID, STRONG_SAID, neuron_table, passage

    passage(out, found.tokens, found.first, found.position)
    line = Text(shown.quoted(found.target), style="bold")
    probability, best = shown.percent(found.probability), shown.quoted(found.predicted)
    said = (
        f" next: logit {shown.number(found.logit)}, probability {probability}, rank {found.rank:,}; most likely {best}"
    )
    out.print(line.append(f"{said} ({shown.percent(found.predicted_probability)})", style="default not bold"))
    parts = {"embedding": found.from_embedding, "attention": found.from_attention, "neurons": found.from_neurons}
    parts |= {"biases": found.from_bias} if found.from_bias else {}
    added = " + ".join(f"{name} {shown.number(value)}" for name, value in parts.items())
    residual = f"{found.residual:+.1e}".replace("-", "−")
    out.print(Text(f"logit less the mean logit: {shown.number(found.centred_logit)} = {added} (left over: {residual})"))
    out.print()
    _totals(out, found)
    for title, rows in (("for it", found.promoting), ("against it", found.suppressing)):
        out.print()
        out.print(Text(f"{title}: {len(rows)} of {found.ranked:,} neurons", style="bold"))
        neuron_table(out, rows, effect=True)
    out.print()
    out.print(Text(EFFECT_SAID, style="dim"))
    out.print(Text(STRONG_SAID, style="dim"))
    card.provenance(out, about, f"run in {found.dtype}")
    card.next_commands(out, *(f"neuronagent show {row.neuron}" for row in found.neurons[:1]), db=db)


def _totals(out: Console, found: Attribution) -> None:
    """What all neurons of a combination, and all of a layer, add."""
    from rich.text import Text

    from neuronagent.cli.activations_card import STYLES

    table = card.plain_table([("", "left"), ("neurons", "right"), ("effect", "right"), ("Σ|effect|", "right")])
    for row in found.by_combination:
        name = "exactly 0" if row.combination is None else shown.combination(SignCombination.parse(row.combination))
        cells = (f"{row.neurons:,}", shown.number(row.effect), f"{row.magnitude:.2f}")
        table.add_row(Text(name, style=STYLES.get(row.combination or "", "")), *(Text(cell) for cell in cells))
    out.print(table)
    layers = " · ".join(f"{row.layer}: {shown.number(row.neurons)}" for row in found.by_layer)
    out.print(Text(f"neurons by layer: {layers}"))
