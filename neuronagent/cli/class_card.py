"""The card of the ablation of a class of neurons, beside random sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text
from neuronagent.cli.ablation_card import matching_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from neuronagent.service.live.class_ablation import ClassAblation, SetAblation

_TITLES = {"loss": "loss", "entropy": "entropy", "rank": "rank of next", "kl": "KL"}
_WIDE = 100


def print_class(out: Console, found: ClassAblation, model: dict[str, Any]) -> None:
    from rich.text import Text

    whole = found.whole
    count, where = sum(whole.neurons.values()), _layers(tuple(whole.neurons))
    line = Text(found.about, style="bold")
    what = f" · {card.model_name(model)} · {count:,} neurons of {where} · {found.mode} ablation"
    what += f" at tokens in {text.combination(found.combination)}" if found.combination else ""
    out.print(line.append(what, style="default not bold"))
    split = f", split {found.split}" if found.split else ""
    out.print(Text(f"{found.predictions:,} predictions in {found.texts:,} texts of {text.short(found.source)}{split}."))
    out.print()
    out.print(_table(whole))
    out.print(
        Text(
            "Nats per token; less, more and equal are shares of the tokens; 95 % by a bootstrap over texts.",
            style="dim",
        )
    )
    out.print()
    if whole.matching.draws:
        out.print(_against(whole))
        out.print(Text("Excess: over the mean of the random sets; 95 % for other texts and other sets.", style="dim"))
    out.print(Text(_told(found, whole), style="dim"))
    for name in ("loss", "entropy") if found.layers else ():
        out.print()
        out.print(_by_layer(found, name, wide=out.width >= _WIDE))
    tests = sum(own.changes["loss"].p is not None for own in found.layers)
    if tests > 1 and found.smallest_p is not None:
        line = f"p by layer is uncorrected: of {tests} layers {tests * found.smallest_p:.1f} are expected at "
        out.print(Text(f"{line}{text.score(found.smallest_p)} by chance alone, for each measure.", style="dim"))
    out.print()
    inexact = "" if found.indexed_dtype == found.dtype else f" (index: {found.indexed_dtype})"
    card.provenance(out, model, f"run in {found.dtype}{inexact}")


def _table(whole: SetAblation) -> Table:
    titles = [("", "left"), ("before", "right"), ("change", "right"), ("95 %", "left"), ("median", "right")]
    titles += [("less %", "right"), ("more %", "right"), ("equal %", "right")]
    table = card.plain_table(titles)
    for name, change in whole.changes.items():
        table.add_row(
            *card.cells(
                _TITLES[name],
                "–" if change.before is None else f"{change.before:.3f}",
                text.number(change.mean),
                _limits(change.mean_lo, change.mean_hi),
                text.number(change.median),
                *(f"{100 * share:.1f}" for share in (change.lower, change.higher, change.equal)),
            )
        )
    return table


def _against(whole: SetAblation) -> Table:
    """The same changes under random sets of neurons."""
    titles = [("random sets", "left"), ("mean", "right"), ("range", "left"), ("excess", "right"), ("95 %", "left")]
    table = card.plain_table([*titles, ("p", "right")])
    for name, change in whole.changes.items():
        baseline = change.baseline
        if baseline is not None:
            table.add_row(
                *card.cells(
                    _TITLES[name],
                    text.number(baseline.mean),
                    _limits(baseline.lowest, baseline.highest),
                    text.number(change.excess),
                    _limits(change.excess_lo, change.excess_hi),
                    text.score(change.p),
                )
            )
    return table


def _told(found: ClassAblation, whole: SetAblation) -> str:
    line = matching_line(
        whole.matching, f"{whole.matching.draws} random sets" if whole.matching.draws else "random sets"
    )
    if found.smallest_p is not None and not whole.reason:
        line += f"; with {found.draws} sets p cannot be below {text.score(found.smallest_p)}"
    if not whole.reason or not whole.matching.draws:
        return line
    without = "no excess and no p" if whole.changes["loss"].excess is None else "no interval and no p"
    return f"{line}; {without}: {whole.reason}"


def _by_layer(found: ClassAblation, name: str, *, wide: bool) -> Table:
    """One measure for the neurons of each layer alone; without the mean of the random sets if there is no room."""
    titles = [("layer", "right"), ("neurons", "right"), ("matched", "right"), (_TITLES[name], "right")]
    titles += [("random", "right"), ("excess", "right"), ("95 %", "left"), ("p", "right")]
    shown = [column for column in range(len(titles)) if wide or titles[column][0] != "random"]
    table = card.plain_table([titles[column] for column in shown])
    for own in found.layers:
        [(layer, count)] = own.neurons.items()
        change = own.changes[name]
        cells = card.cells(
            str(layer),
            f"{count:,}",
            text.percent(own.matching.share),
            text.number(change.mean),
            "–" if change.baseline is None else text.number(change.baseline.mean),
            text.number(change.excess),
            _limits(change.excess_lo, change.excess_hi),
            text.score(change.p),
        )
        table.add_row(*(cells[column] for column in shown))
    return table


def _limits(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{text.number(low)} … {text.number(high)}]"


def _layers(layers: tuple[int, ...]) -> str:
    """`layer 5`, `layers 25–31`, `layers 2, 5, 7`."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]}–{layers[-1]}"
    return "layers " + ", ".join(map(str, layers))
