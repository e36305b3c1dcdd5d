"""What `predict fit` prints: how well each map does on held-out texts, and what it cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neuronagent.cli import card, text
from neuronagent.cli.progress import duration
from neuronagent.predictability.scores import FitKind, Pair, fit_option

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.predict.fit import Preview
    from neuronagent.service.predict.fits import Fit, FitInfo, PairFacts

_MOST_ROWS = 40


def print_fit(console: Console, found: Fit, db: str | None) -> None:
    """A row per map, the best ones first where there are many."""
    from rich.text import Text

    info = found.info
    console.print(Text(f"{text.visible(info['name'])}: {_said(info)}", style="bold"))
    read = info["text"]
    used = {
        split: f"{read['tokens'][split]:,} tokens of {count:,} document{'s' * (count != 1)}"
        for split, count in read["documents"].items()
    }
    console.print(Text(f"{text.visible(text.short(read['source']))}: fitted on {used['explain']}, ridge chosen on "
                       f"{used['select']}; {used['test']} are left to score on"))  # fmt: skip
    console.print()
    rows = sorted(found.pairs, key=lambda pair: -_r2(_facts(info, pair)))
    shown = found.pairs if len(rows) <= _MOST_ROWS else rows[:_MOST_ROWS]
    table = card.plain_table([("map", "left"), ("R²", "right"), ("MSE", "right"), ("MSE of mean", "right"),
                              ("ridge", "right"), *([("kept", "right")] if info["rank"] else [])])  # fmt: skip
    for pair in shown:
        facts = _facts(info, pair)
        ridge, kept = facts.get("ridge"), facts.get("rank_kept")
        table.add_row(
            *card.cells(
                str(pair), text.score(_r2(facts)), _plain(facts["select_mse"]), _plain(facts["mean_mse"]),
                "" if ridge is None else _plain(ridge), *([text.percent(kept or 0.0)] if info["rank"] else []),
            )
        )  # fmt: skip
    console.print(table)
    if len(shown) < len(rows):
        console.print(Text(f"The best {len(shown)} of {len(rows)} maps; --json has all.", style="dim"))
    console.print(Text(_measured(info), style="dim"))
    for line in info["warnings"]:
        console.print(Text(f"warning: {text.visible(line)}", style="yellow"))
    spent = ", ".join(f"{name} {duration(seconds)}" for name, seconds in info["seconds"].items() if seconds >= 1)
    console.print(Text(f"{spent + ' · ' if spent else ''}maps in {found.folder}", style="dim"), soft_wrap=True)
    chosen = fit_option(info["name"])
    if info["source_model"] is None:
        following = [f"neuronagent predict scores{chosen}", f"neuronagent predict substitute{chosen}"]
    else:  # the other model does not run beside this one: its maps replace nothing
        following = [f"neuronagent predict scores{chosen} --source-model FOLDER"]
    card.next_commands(console, *following, db=db)


def print_preview(console: Console, found: Preview) -> None:
    """What a fit would take."""
    from rich.text import Text

    from neuronagent.service.predict.plan import size

    times = "once" if found.passes == 1 else f"{found.passes} times"
    console.print(Text(f"{found.name}: {len(found.pairs)} maps", style="bold"))
    table = card.plain_table([("", "left"), ("", "left")])
    for name, value in (
        ("text", f"{found.tokens:,} tokens, read {times}"),
        ("memory", f"{size(found.memory)} of {size(found.allowed)} that are allowed, beside the model"),
        ("disk", f"{size(found.disk)} of maps"),
    ):
        table.add_row(*card.cells(name, value))
    console.print(table)
    for line in found.warnings:
        console.print(Text(f"warning: {text.visible(line)}", style="yellow"))
    console.print(Text("nothing was written (--dry-run)", style="dim"))


def _said(info: FitInfo) -> str:
    """`15 maps by least squares, of rank 32, of the last 7 tokens, from layers of X`."""
    parts = [f"{len(info['pairs'])} map{'s' * (len(info['pairs']) != 1)} by {info['kind']}"]
    if info["rank"] is not None:
        parts.append(f"of rank {info['rank']}")
    if info["intercept"]:
        parts.append("with an intercept")
    if info["context"] is not None:
        parts.append(f"of the last {info['context']} tokens alone")
    if info["source_model"] is not None:
        parts.append(f"from layers of {text.visible(text.short(info['source_model']['name']))}")
    return ", ".join(parts)


def _measured(info: FitInfo) -> str:
    """What the columns are. Here R² counts from the mean of the fitted tokens, that of `predict scores` from the mean
    of the scored ones."""
    on = "select" if info["kind"] == FitKind.ADAGRAD.value else "select, which the ridge was chosen on"
    said = f"R² = 1 − MSE ÷ MSE of mean, of all neurons of a layer together, on {on}; means are of the fitted texts."
    if info["rank"] is None:
        return said
    what = "variance" if info["intercept"] else "squares"
    return f"{said} Kept: of the {what} of what the full map foretells there."


def _facts(info: FitInfo, pair: Pair) -> PairFacts:
    return info["by_pair"][pair.key]


def _r2(facts: PairFacts) -> float:
    mean, error = facts["mean_mse"], facts["select_mse"]
    return 1 - error / mean if mean else math.nan


def _plain(value: float) -> str:
    return text.minus(f"{value:.3g}")
