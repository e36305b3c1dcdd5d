"""`neuronagent evolution`: how a model's IO classes come about in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli import card, text
from neuronagent.cli.options import Json
from neuronagent.cli.output import page, print_json, say
from neuronagent.domain import IO_CLASS_NAMES, IOClass

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.evolution import Evolution, Moment

NAME = "evolution"
_SHORT = {
    "enrichment": "enrich.",
    "conditional enrichment": "cond. enrich.",
    "proportional change": "proport.",
    "orthogonal output": "orthogonal",
    "conditional depletion": "cond. deplet.",
    "depletion": "deplet.",
}
_LONGEST_NAME = 32
_NUMBER_WIDTH = 7


def command(
    indexes: Annotated[
        list[str],
        typer.Argument(metavar="INDEX|FOLDER", help="Indexes of checkpoints of one model, or folders of such indexes."),
    ],
    order: Annotated[
        str,
        typer.Option(
            "--order",
            metavar="NAME,NAME,…",
            help="All checkpoints in order of training (default: by the steps in their names, such as "
            "step1000-tokens4B, stage1-step2000-tokens9B or checkpoint-500).",
        ),
    ] = "",
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Also draw it: an .svg or .png; needs the extra [plot]."),
    ] = None,
    json: Json = False,
) -> None:
    """Table IO-class shares and the median cos(in,out) of each layer over training.

    The indexes come from `neuronagent index MODEL --revision R1 --revision R2 …`, with --weights-only or a text.
    """
    from neuronagent.service.evolution import evolution_view, read_evolution

    if plot:
        from neuronagent.report.figures.saving import check_plot

        check_plot(plot)
    evolution = read_evolution(indexes, [name.strip() for name in order.split(",") if name.strip()])
    if plot:
        from neuronagent.service.evolution_plot import plot_evolution

        plot_evolution(evolution, plot)
        say(f"drawn: {plot}")
    if json:
        print_json(evolution_view(evolution))
        return
    with page() as out:
        _print_shares(out, evolution)
        out.print()
        _print_medians(out, evolution)


def _print_shares(out: Console, evolution: Evolution) -> None:
    """A row per checkpoint, a column per IO class; atypical neurons in brackets."""
    from rich.text import Text

    out.print(Text(f"{text.visible(evolution.model)}: {evolution.neurons:,} neurons", style="bold"))
    table = card.plain_table([("checkpoint", "left"), *((_SHORT[name], "right") for name in IO_CLASS_NAMES)])
    for moment in evolution.moments:
        table.add_row(*card.cells(_name(moment), *(_shares(moment, name) for name in IO_CLASS_NAMES)))
    out.print(table)
    out.print("Share of all neurons by IO class; those of its atypical form, in brackets, come on top.", style="dim")


def _shares(moment: Moment, name: str) -> str:
    """`12.1 % (0.3)`."""
    typical = text.percent(moment.share(IOClass(name)))
    if name == "orthogonal output":
        return typical
    atypical = text.percent(moment.share(IOClass(name, atypical=True))).removesuffix(" %")
    return f"{typical} ({atypical})" if atypical != "0" else typical


def _print_medians(out: Console, evolution: Evolution) -> None:
    """A row per checkpoint, a column per layer; as many layers as fit, the first and the last among them."""
    names = [_name(moment) for moment in evolution.moments]
    room = (out.width - max(len("checkpoint"), *map(len, names)) - 2) // _NUMBER_WIDTH
    layers = _spread(evolution.layers, max(2, room))
    table = card.plain_table([("checkpoint", "left"), *((f"L{layer}", "right") for layer in layers)])
    for name, moment in zip(names, evolution.moments, strict=True):
        table.add_row(*card.cells(name, *(text.signed(moment.medians[layer]) for layer in layers)))
    out.print(table)
    left_out = len(evolution.layers) - len(layers)
    rest = f"; {left_out} layers are not shown, --json has all" if left_out else ""
    out.print(f"Median cos(in,out) of each layer{rest}.", style="dim")


def _name(moment: Moment) -> str:
    return text.clipped(text.visible(moment.name), _LONGEST_NAME)


def _spread(layers: Sequence[int], count: int) -> list[int]:
    """At most `count` (2 or more) of `layers`, evenly spread from the first to the last."""
    if len(layers) <= count:
        return list(layers)
    return [layers[round(place * (len(layers) - 1) / (count - 1))] for place in range(count)]
