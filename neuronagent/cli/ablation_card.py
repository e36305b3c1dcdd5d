"""The card of an ablation on a text: predictions before and after, each number beside that of random neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from neuronagent.service.live.ablate import Ablation, Beside, Ranged
    from neuronagent.service.live.matching import Matching

_LISTED = 5
_NAMED = 4
_WIDE = 110


def print_ablation(out: Console, found: Ablation, model: dict[str, Any], db: str | None) -> None:
    from rich.text import Text

    first = f" · {card.model_name(model)} · {found.mode} ablation"
    where = f" at tokens in {text.combination(found.combination)}" if found.combination else ""
    out.print(Text(names(found.neurons), style="bold").append(first + where, style="default not bold"))
    out.print(Text(_sentence(found)))
    out.print()
    out.print(_table(found))
    out.print(Text(matching_line(found.matching, "random neurons"), style="dim"))
    if found.rounding is not None:
        out.print(Text(f"{found.rounding.told()} (--device cpu: float32)", style="dim"))
    if found.largest:
        out.print()
        out.print(_losses(found, wide=out.width >= _WIDE))
    if found.next_tokens:
        out.print()
        out.print(_next_tokens(found))
    out.print()
    card.provenance(out, model, f"run in {found.dtype}")
    card.next_commands(out, f"neuronagent show {found.neurons[0]}", db=db)


def names(neurons: tuple[str, ...]) -> str:
    """`5.480, 5.481 and 3 more`."""
    shown = ", ".join(neurons[:_NAMED])
    return shown if len(neurons) <= _NAMED else f"{shown} and {len(neurons) - _NAMED} more"


def matching_line(matching: Matching, what: str) -> str:
    """How like the controls are."""
    if not matching.draws:
        return f"no {what}: {matching.reason}"
    line = f"{what}: same layer, like frequency (it differs by {text.percent(matching.mean_difference)} of the tokens "
    line += f"on average, {text.percent(matching.largest_difference)} at most; band {matching.band:.2g}"
    line += f"; theirs − its own {100 * (matching.shift or 0.0):+.1f} points)".replace("-", "−")
    return line + (f"; {matching.reason}" if matching.reason else "")


def _sentence(found: Ablation) -> str:
    if found.note:
        return found.note[0].upper() + found.note[1:] + "."
    line = f"Changed at {found.effect.tokens_changed:,} of {found.predictions:,} tokens."
    if found.beyond_tokens is None:
        return line
    draws = found.matching.draws
    share, chance = found.beyond_tokens / found.predictions, found.beyond_share_by_chance
    return (
        f"{line} At {text.percent(share)} of the tokens the prediction moved more than in each of {draws} draws of "
        f"random neurons (by chance {text.percent(chance)})."
    )


def _table(found: Ablation) -> Table:
    titles = [("", "left"), ("before", "right"), ("after", "right"), ("change", "right")]
    titles += [("random", "right"), ("range", "right"), ("", "left")]
    table = card.plain_table(titles)
    effect = found.effect

    def row(title: str, name: str, before: float | None = None, after: float | None = None) -> None:
        beside = found.compared[name]
        ends = ("–" if before is None else f"{before:.3f}", "–" if after is None else f"{after:.3f}")
        table.add_row(*card.cells(title, *ends, text.number(beside.value), *_control(beside)))

    row("loss", "loss", found.loss_before, found.loss_after)
    row("entropy", "entropy", found.entropy_before, found.entropy_after)
    for title, name in (("KL, mean", "kl_mean"), ("KL, largest", "kl_max"), ("size", "moved")):
        beside = found.compared[name]
        table.add_row(*card.cells(title, "", "", _size(beside.value), *_control(beside, _size)))
    for title, name, value in (
        ("next token differs", "next_changed", effect.next_changed),
        ("tokens changed", "tokens_changed", effect.tokens_changed),
    ):
        table.add_row(*card.cells(title, "", "", f"{value:,}", *_control(found.compared[name], _count)))
    table.caption = (
        "Nats per token; size is Σ |change of post| · ‖w_out‖ per token. Beyond: outside of the range of all draws."
    )
    table.caption_justify = "left"
    return table


def _size(value: float | None) -> str:
    """A number without a sign."""
    if value is None:
        return "–"
    return f"{value:.2g}" if value < 0.095 or value >= 1000 else f"{value:.3f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0")


def _control(beside: Beside, shown: Any = text.number) -> tuple[str, str, str]:
    return *_range(beside, shown), "beyond" if beside.beyond else ""


def _range(ranged: Ranged, shown: Any = text.number) -> tuple[str, str]:
    if ranged.control is None:
        return "–", ""
    return shown(ranged.control), f"{shown(ranged.control_min)} … {shown(ranged.control_max)}"


def _losses(found: Ablation, *, wide: bool) -> Table:
    """The tokens whose loss changed most; without loss afterwards and the mean of the controls if there is no room."""
    shown = (0, 1, 2, 3, 4, 5, 6, 7) if wide else (0, 1, 2, 3, 5, 7)
    titles = [("at", "right"), ("token", "left"), ("next", "left"), ("loss", "right"), ("after", "right")]
    titles += [("change", "right"), ("random", "right"), ("range of random", "right")]
    table = card.plain_table([titles[column] for column in shown])
    table.caption = "The tokens whose loss changed most: many of them are outside of the range for random neurons too."
    table.caption_justify = "left"
    for token in found.largest[:_LISTED]:
        cells = card.cells(
            str(token.position),
            _short(token.token, wide),
            _short(token.target, wide),
            f"{token.loss_before:.2f}",
            f"{token.loss_after:.2f}",
            text.number(token.change.value),
            *_range(token.change),
        )
        table.add_row(*(cells[column] for column in shown))
    return table


def _next_tokens(found: Ablation) -> Table:
    titles = [("at", "right"), ("token", "left"), ("most likely next", "left"), ("p", "right")]
    table = card.plain_table([*titles, ("after", "left"), ("p", "right"), ("random", "right")])
    for token in found.next_tokens[:_LISTED]:
        table.add_row(
            *card.cells(
                str(token.position),
                _short(token.token),
                _short(token.before),
                text.score(token.before_p),
                _short(token.after),
                text.score(token.after_p),
                f"{token.control} of {found.matching.draws}" if found.matching.draws else "–",
            )
        )
    more = len(found.next_tokens) - _LISTED
    if more > 0:
        table.caption, table.caption_justify = f"{more} more positions with --json", "left"
    return table


def _short(token: str, wide: bool = False) -> str:
    return text.clipped(text.quoted(token), 18 if wide else 13)
