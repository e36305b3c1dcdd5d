"""What `predict functional` prints: families beside random tokens by layer, background neurons, outliers, classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuronagent.cli import card, text
from neuronagent.predictability.functional import (
    FAMILIES,
    NAMED,
    POSITIONS,
    Against,
    ContingencyCell,
    FunctionalLayer,
    Quartiles,
)
from neuronagent.predictability.scores import fit_option
from neuronagent.report.predictability_numbers import digits

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.predictability.functional import FunctionalSummary, FunctionalView

_MOST_OUTLIERS, _MOST_CELLS = 10, 12
_LEVEL = 0.05
_TITLES = {**{name: name for name in FAMILIES}, **dict(zip(POSITIONS, ("arb.", "succ.", "osc."), strict=True))}
_MARKS = {"higher": "↑", "lower": "↓", "no different": "", None: ""}


def print_functional(console: Console, view: FunctionalView, weighting: str, db: str | None) -> None:
    """Families and background neurons by layer, then what is over all layers."""
    summary, layers = view["summary"], view["layers"]
    count = summary["documents"]
    read = f"{summary['tokens']:,} tokens of {text.short(summary['source'])} ({count:,} document{'s' * (count != 1)})"
    _title(console, f"{text.visible(view['fit'])}, looked at on {read}")
    for line in summary["warnings"]:
        _note(console, line)
    console.print()
    _families(console, layers, weighting)
    _background(console, layers)
    _strongest(console, layers)
    _outliers(console, layers, summary)
    _contingency(console, summary["contingency"])
    console.print()
    chosen = fit_option(view["fit"])
    other = "total" if weighting == "paper" else "paper"
    card.next_commands(console, f"neuronagent predict functional{chosen} --weighting {other}", db=db)


def _families(console: Console, layers: Sequence[FunctionalLayer], weighting: str) -> None:
    _title(console, f"L2 of the neurons that properties select, weighting: {weighting}")
    shown = [layer for layer in layers if layer["predictor"] is not None]
    table = card.plain_table(
        [("layer", "left"), ("all", "right"), ("random", "right"), *((_TITLES[name], "left") for name in FAMILIES)]
    )
    for layer in shown:
        families = layer["families"][weighting]
        random = families["hard"]["l2"]
        table.add_row(
            *card.cells(
                str(layer["layer"]), _length(layer["all_l2"]), _length(random["random"]),
                *(_score(families[name]["l2"]) for name in FAMILIES),
            )
        )  # fmt: skip
    console.print(table)
    _note(
        console, "↑ harder, ↓ easier to foretell than what random tokens of equal share select (95 %); L2 is in units"
    )
    _note(
        console, "of the activation; random: for a tenth of all tokens; positions: arbitrary, successive, oscillatory"
    )
    _title(console, "R² of the same neurons")
    table = card.plain_table([("layer", "left"), ("all", "right"), *((_TITLES[name], "left") for name in FAMILIES)])
    for layer in shown:
        families = layer["families"][weighting]
        table.add_row(
            *card.cells(
                str(layer["layer"]), text.score(layer["all_r2"]), *(_r2(families[name]["r2"]) for name in FAMILIES)
            )
        )
    console.print(table)
    _selected(console, layers, weighting)


def _selected(console: Console, layers: Sequence[FunctionalLayer], weighting: str) -> None:
    _title(console, "share of neurons that a property selects, 1 % by chance")
    table = card.plain_table([("layer", "left"), *((_TITLES[name], "left") for name in FAMILIES)])
    for layer in layers:
        families = layer["families"][weighting]
        table.add_row(*card.cells(str(layer["layer"]), *(_percent(families[name]["selected"]) for name in FAMILIES)))
    console.print(table)
    console.print()


def _background(console: Console, layers: Sequence[FunctionalLayer]) -> None:
    _title(console, "background neurons: L2 below that of neurons that random tokens select")
    titles = ("below", "share", "least, most by β", "by R²", "their R²", "others' R²")
    table = card.plain_table([("layer", "left"), *((title, "right") for title in titles)])
    reasons: dict[str, list[str]] = {}
    for layer in layers:
        own = layer["background"]
        if own["threshold"] is None:
            reasons.setdefault(own["reason"] or "", []).append(str(layer["layer"]))
            continue
        medians = [_median(own[side].get("r2")) for side in ("inside", "outside")]
        table.add_row(
            *card.cells(
                str(layer["layer"]), _length(own["threshold"]), _percent(own["share"]),
                f"{_percent(own['share_lo'])}, {_percent(own['share_hi'])}", _percent(own["share_r2"]), *medians,
            )
        )  # fmt: skip
    console.print(table)
    for reason, which in reasons.items():
        _note(console, f"layer{'s' * (len(which) != 1)} {', '.join(which)} not shown: {text.visible(reason)}")
    console.print()


def _strongest(console: Console, layers: Sequence[FunctionalLayer]) -> None:
    found = [
        (each["mu"], f"{layer['layer']}.{each['neuron']}", each) for layer in layers for each in layer["strongest"]
    ]
    best: dict[str, tuple[str, str]] = {}
    for mu, neuron, each in sorted(found, key=lambda one: -one[0]):
        best.setdefault(each["family"], (neuron, f"{text.visible(each['property'])}  μ {mu:.2g}"))
    _title(console, "the neuron that each family says most of")
    table = card.plain_table([("family", "left"), ("neuron", "left"), ("property", "left")])
    for name in FAMILIES:
        if name in best:
            table.add_row(*card.cells(name, *best[name]))
    console.print(table)
    _note(console, f"μ: share of the neuron's variance that is gone once one knows the property; below {NAMED} little")
    console.print()


def _outliers(console: Console, layers: Sequence[FunctionalLayer], summary: FunctionalSummary) -> None:
    found, ratio = summary["outliers"], summary["outlier_ratio"]
    largest = max((layer["largest_ratio"] or 0.0 for layer in layers), default=0.0)
    if not found:
        _note(console, f"no outlier neuron: the largest value is {largest:.3g} × the root mean square of its layer, "
              f"an outlier {ratio:g} ×")  # fmt: skip
        console.print()
        return
    _title(console, f"outlier neurons: {len(found):,}, values of {ratio:g} × the root mean square of their layer")
    table = card.plain_table(
        [("neuron", "left"), ("ratio", "right"), ("value", "right"), ("at", "left"), ("elsewhere", "right"),
         ("L2", "right"), ("easier", "right"), ("R²", "left")]
    )  # fmt: skip
    for each in found[:_MOST_OUTLIERS]:
        at = "BOS" if each["place"] == "BOS" else f"{text.visible(each['token'])} at {each['position']}"
        r2 = text.score(each["r2"]) if each["r2"] is not None else text.visible(each["reason"] or "–")
        table.add_row(
            *card.cells(
                each["neuron"], f"{each['ratio']:,.0f}", f"{each['value']:+.3g}".replace("-", "−"), at,
                "" if each["place"] != "BOS" else f"{each['others']:,.0f}", _length(each["l2"]),
                _percent(each["l2_rank"]), r2,
            )
        )  # fmt: skip
    console.print(table)
    _note(console, "elsewhere: the ratio at all tokens but BOS; easier: share of its layer with a lower L2")
    console.print()


def _contingency(console: Console, cells: Sequence[ContingencyCell]) -> None:
    found = sorted((cell for cell in cells if _q(cell) < _LEVEL), key=_q)
    tested = sum(cell["q"] is not None for cell in cells)
    if not found:
        _note(console, f"no IO class or role has more or fewer of these neurons than chance: {tested:,} cells, q ≥ .05")
        return
    _title(console, f"IO classes and roles: {len(found)} of {tested:,} cells differ from chance within layers, q < .05")
    table = card.plain_table(
        [("neurons", "left"), ("of", "left"), ("count", "right"), ("expected", "right"), ("odds ratio [95 %]", "left"),
         ("q", "right")]
    )  # fmt: skip
    for cell in found[:_MOST_CELLS]:
        group = "background" if cell["group"] == "background" else f"most of {cell['group']}"
        odds = "–" if cell["odds"] is None else f"{cell['odds']:.2g} [{cell['lo']:.2g}–{cell['hi']:.2g}]"
        table.add_row(
            *card.cells(
                group, f"{cell['other']} ({cell['neurons']:,})", f"{cell['count']:,}", f"{cell['expected']:,.1f}", odds,
                f"{_q(cell):.1g}",
            )
        )  # fmt: skip
    console.print(table)
    if len(found) > _MOST_CELLS:
        _note(console, f"{len(found) - _MOST_CELLS} more with --json")


def _q(cell: ContingencyCell) -> float:
    return 1.0 if cell["q"] is None else cell["q"]


def _score(own: Against) -> str:
    return f"{_length(own['score'])}{_MARKS[own['verdict']]}"


def _r2(own: Against) -> str:
    mark = {"higher": "↓", "lower": "↑"}.get(own["verdict"] or "", "")  # higher R² is easier
    return f"{text.score(own['score'])}{mark}"


def _median(found: Quartiles | None) -> str:
    return text.score(None if found is None else found["median"])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"


def _length(value: float | None) -> str:
    return digits(value)


def _title(console: Console, said: str) -> None:
    from rich.text import Text

    console.print(Text(said, style="bold"))


def _note(console: Console, said: str) -> None:
    from rich.text import Text

    console.print(Text(said, style="dim"))
