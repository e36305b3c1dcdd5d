"""What `predict scores` prints: layers by what they are foretold from, neurons with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text
from neuronagent.predictability.scores import OWN_TEST, POSITION, PREVIOUS_TOKEN, TOKEN, fit_option
from neuronagent.report.predictability_numbers import digits

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.predict.score_views import RankedNeuron

View = Mapping[str, Any]
_MATRICES = (
    ("rmse_mean", "L2 (root mean squared error), mean over neurons"),
    ("r2_median", "R², median over neurons"),
    ("pearson_median", "Pearson's r, median over neurons"),
)
_BASELINES = ((TOKEN, "token"), (PREVIOUS_TOKEN, "previous"), (POSITION, "position"))
_CORNER, _GAP = "from ↓ to →", 2
_LIFT = "lift: R² less that of the token alone"


def print_layers(console: Console, view: View, db: str | None) -> None:
    """A row per layer where each has one source, else a matrix per score; then averages and baselines."""
    from rich.text import Text

    console.print(Text(f"{text.visible(view['fit'])}, scored on {_read(view)}", style="bold"))
    console.print()
    layers: Sequence[View] = view["layers"]
    if all(len(_sources(layer)) < 2 for layer in layers):
        _rows(console, layers)
    else:
        for of, title in _MATRICES:
            _matrix(console, layers, of, title)
        _baselines(console, layers)
    _averages(console, view["directions"])
    dead = {layer["layer"]: len(layer["never_vary"]) for layer in layers if layer["never_vary"]}
    if dead:
        said = ", ".join(f"{count:,} of layer {layer}" for layer, count in dead.items())
        console.print(Text(f"never vary on these tokens, so that no R² exists: {said}", style="dim"))
    chosen = fit_option(str(view["fit"]))
    chosen += "" if view["text"] == OWN_TEST else f" --text {quote(str(view['source']))} --stored"
    last = layers[-1]["layer"]
    card.next_commands(
        console, f"neuronagent predict scores{chosen} --layer {last}",
        f"neuronagent predict scores{chosen} --neuron {last}.0", db=db,
    )  # fmt: skip


def _read(view: View) -> str:
    source = text.short(str(view["source"]))
    which = f"the test documents of {source}" if view["text"] == OWN_TEST else source
    count = view["documents"]
    return f"{view['tokens']:,} tokens of {which} ({count:,} document{'s' * (count != 1)})"


def _sources(layer: View) -> list[View]:
    return [each for each in layer["predictors"] if each["source"] is not None]


def _of(layer: View, predictor: str) -> View:
    return next((each for each in layer["predictors"] if each["predictor"] == predictor), {})


def _rows(console: Console, layers: Sequence[View]) -> None:
    table = card.plain_table(
        [("layer", "left"), ("from", "left"), ("L2", "right"), ("R²", "right"), ("quartiles", "left"), ("r", "right"),
         ("lift", "right"), *((name, "right") for _, name in _BASELINES)]
    )  # fmt: skip
    for layer in layers:
        own = next(iter(_sources(layer)), {})
        quartiles = text.interval(own.get("r2_q1"), own.get("r2_q3"))
        table.add_row(
            *card.cells(
                str(layer["layer"]), "–" if not own else str(own["source"]), _length(own.get("rmse_mean")),
                text.score(own.get("r2_median")), quartiles, text.score(own.get("pearson_median")),
                text.lift(own.get("lift_median")),
                *(text.score(_of(layer, name).get("r2_median")) for name, _ in _BASELINES),
            )
        )  # fmt: skip
    card.print_whole(console, table)
    _note(console, "L2 is a mean over neurons, all else medians; token, previous (token), position: R² of these alone; "
          f"{_LIFT}")  # fmt: skip


def _matrix(console: Console, layers: Sequence[View], of: str, title: str) -> None:
    from rich.text import Text

    console.print(Text(title, style="bold"))
    sources = sorted({each["source"] for layer in layers for each in _sources(layer)})
    said = {
        (source, layer["layer"]): "·" if value is None else _length(value) if of == "rmse_mean" else text.score(value)
        for layer in layers
        for source in sources
        for value in (_of(layer, f"layer {source}").get(of),)
    }
    widest = max(map(len, said.values()), default=1) + _GAP
    columns = max(1, (console.width - len(_CORNER) - _GAP) // widest)
    for start in range(0, len(layers), columns):
        shown = layers[start : start + columns]
        table = card.plain_table([(_CORNER, "left"), *((str(layer["layer"]), "right") for layer in shown)])
        for source in sources:
            table.add_row(*card.cells(str(source), *(said[source, layer["layer"]] for layer in shown)))
        console.print(table)


def _baselines(console: Console, layers: Sequence[View]) -> None:
    from rich.text import Text

    console.print(Text("R² without another layer, median over neurons", style="bold"))
    table = card.plain_table([("layer", "left"), *((name, "right") for _, name in _BASELINES), ("mean sd", "right")])
    for layer in layers:
        values = (text.score(_of(layer, name).get("r2_median")) for name, _ in _BASELINES)
        table.add_row(*card.cells(str(layer["layer"]), *values, _length(layer["sd_mean"])))
    console.print(table)


def _averages(console: Console, directions: Sequence[View]) -> None:
    if not directions:
        return
    table = card.plain_table(
        [("mean over pairs", "left"), ("pairs", "right"), ("L2", "right"), ("R²", "right"), ("r", "right")]
    )
    for each in directions:
        table.add_row(
            *card.cells(
                each["direction"], str(each["pairs"]), _length(each["rmse_mean"]), text.score(each["r2_median"]),
                text.score(each["pearson_median"]),
            )
        )  # fmt: skip
    console.print(table)


def print_neurons(console: Console, rows: Sequence[RankedNeuron], total: int, without: int, order: str) -> None:
    """A row per neuron."""
    _table(console, rows, "neuron", [str(row.neuron) for row in rows], names=True)
    _note(console, f"{len(rows)} of {total:,} neurons, {order}; intervals over documents; {_LIFT}")
    if without:
        _note(console, f"{without:,} more have no such score: they, or what foretells them, never vary")
    reasons = {row.interval_reason for row in rows} - {None}
    for reason in reasons:
        _note(console, f"no intervals: {reason}")


def print_neuron(console: Console, rows: Sequence[RankedNeuron]) -> None:
    """A row per predictor of one neuron."""
    from rich.text import Text

    first = rows[0]
    scale = f"mean {text.number(first.scores['mean'])}, sd {_length(math.sqrt(max(0.0, first.scores['variance'])))}"
    console.print(Text(f"{first.neuron}: {scale}", style="bold"))
    _table(console, rows, "foretold from", [row.predictor for row in rows], names=False)
    _note(console, f"intervals over documents; {_LIFT}")
    if not first.scores["variance"] > 0:
        _note(console, f"no R², no r and no lift: {first.reason}")
    reasons = {row.interval_reason for row in rows} - {None}
    for reason in reasons:
        _note(console, f"no intervals: {reason}")


def _table(console: Console, rows: Sequence[RankedNeuron], title: str, firsts: Sequence[str], *, names: bool) -> None:
    table = card.plain_table(
        [(title, "left"), *([("from", "left")] if names else []), ("R² [95 %]", "wrap"), ("r [95 %]", "wrap"),
         ("L2", "right"), ("lift [95 %]", "wrap"), *([("token", "right")] if names else [])]
    )  # fmt: skip
    for first, row in zip(firsts, rows, strict=True):
        own = row.scores
        table.add_row(
            *card.cells(
                first, *([row.predictor] if names else []), _score(own, "r2"), _score(own, "pearson"),
_length(own["rmse"]),
                "" if row.predictor == TOKEN else _lift(own),
                *([text.score(_known(row.token_r2))] if names else []),
            )
        )  # fmt: skip
    console.print(table)


def _score(own: Mapping[str, float], name: str) -> str:
    lo, hi = _known(own[f"{name}_lo"]), _known(own[f"{name}_hi"])
    return f"{text.score(_known(own[name]))} {text.interval(lo, hi)}".rstrip()


def _lift(own: Mapping[str, float]) -> str:
    lo, hi = own["lift_lo"], own["lift_hi"]
    limits = f" [{text.lift(lo)}, {text.lift(hi)}]" if math.isfinite(lo) and math.isfinite(hi) else ""
    return text.lift(_known(own["lift"])) + limits


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _length(value: float | None) -> str:
    return digits(value)


def _note(console: Console, said: str) -> None:
    from rich.text import Text

    console.print(Text(said, style="dim"))
