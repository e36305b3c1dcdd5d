"""The card of a steering: what the model writes as it is, steered, and steered by a random neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text
from neuronagent.cli.ablation_card import matching_line, names

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from neuronagent.service.live.steer import Steered, Steering, TokenShift

_LISTED = 6
_DOES = {"set": "post set to {}", "add": "{} added to post", "scale": "post times {}"}


def print_steering(out: Console, found: Steering, model: dict[str, Any], db: str | None) -> None:
    from rich.text import Text

    line = Text(names(found.steered.neurons), style="bold")
    line.append(f" · {card.model_name(model)} · {_does(found, found.steered)}", style="default not bold")
    out.print(line)
    where = f", where in {text.combination(found.combination)}" if found.within and found.combination else ""
    out.print(f"Changed at {found.steered.tokens_changed:,} of {found.steered.tokens_read:,} tokens read{where}.")
    out.print()
    _continuations(out, found)
    out.print()
    out.print(_shifts(found))
    out.print()
    out.print(Text(matching_line(found.matching, "random neuron"), style="dim"))
    card.provenance(out, model, f"run in {found.dtype}")
    card.next_commands(out, f"neuronagent show {found.steered.neurons[0]}", db=db)


def _does(found: Steering, steered: Steered) -> str:
    """`post set to +0.97, what a strong token of gate− in− writes`."""
    values = dict.fromkeys(
        f"{value:.3g}".replace("-", "−") if found.mode == "scale" else text.number(value) for value in steered.values
    )
    line = _DOES[found.mode].format(", ".join(list(values)[:4]))
    origins = dict.fromkeys(text.combination(c) for c in steered.combinations if c)
    return line + (f", what a strong token of {' or '.join(origins)} writes" if origins else "")


def _continuations(out: Console, found: Steering) -> None:
    from rich.text import Text

    def written(title: str, content: str) -> None:
        out.print(Text(title, style="bold"))
        out.print(Text("  " + text.visible(content)))

    written("as it is", found.base)
    written("steered" + (", the same" if found.same else ""), found.steered.continuation)
    if found.control is not None:
        title = f"random neuron {names(found.control.neurons)}, {_does(found, found.control)}"
        same = ", the same" if found.control.tokens == found.base_tokens else ""
        written(title + same, found.control.continuation)


def _shifts(found: Steering) -> Table:
    titles = [("first new token", "left"), ("KL", "right"), ("log-probability up", "wrap"), ("down", "wrap")]
    table = card.plain_table(titles)
    for title, own in (("steered", found.steered), ("random", found.control)):
        if own is not None:
            table.add_row(
                *card.cells(title, f"{own.kl:.2g}", _tokens(own.promoted) or "–", _tokens(own.suppressed) or "–")
            )
    return table


def _tokens(shifts: tuple[TokenShift, ...]) -> str:
    return "  ".join(f"{text.quoted(each.token)} {text.number(each.shift)}" for each in shifts[:_LISTED])
