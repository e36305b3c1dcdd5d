"""The part of `show` that says whether the neuron can be foretold: a sentence, and the few predictors that it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuronagent.cli import card, text
from neuronagent.predictability.view import PredictabilityView, PredictorView, chosen
from neuronagent.report.predictability_numbers import digits

if TYPE_CHECKING:
    from rich.console import Console


def predictability(out: Console, view: PredictabilityView, *, asked: bool = False) -> bool:
    """Print it; nothing, and False, where nothing was fitted or scored, unless it was asked for."""
    from rich.text import Text

    if not view["available"]:
        if asked:
            out.print(Text(f"No predictability: {view.get('reason')}."))
        return asked
    said = view.get("sentence")
    out.print(Text(said if said else f"No predictability: {view.get('reason') or 'nothing is scored'}."))
    if said:
        table = card.plain_table(
            [
                ("foretold from", "left"),
                ("R² [95 %]", "wrap"),
                ("r", "left"),
                ("RMSE", "left"),
                ("over token [95 %]", "wrap"),
            ]
        )
        for each in chosen(view):
            table.add_row(*card.cells(*_cells(each)))
        out.print(table)
    out.print(Text(_source(view), style="dim"))
    return True


def _cells(each: PredictorView) -> tuple[str, str, str, str, str]:
    notes = {"previous": ", the one before", "other model": " of the other model"}
    name = each["predictor"] + notes.get(each["direction"], "")
    r2 = f"{text.score(each['r2'])} {text.interval(each['r2_lo'], each['r2_hi'])}".rstrip()
    if each["r2"] is None:
        r2 = f"– {each['reason'] or ''}".rstrip()
    lift = "" if each["direction"] == "token" else text.lift(each["lift"])
    if lift and each["lift_lo"] is not None and each["lift_hi"] is not None:
        lift += f" [{text.lift(each['lift_lo'])}, {text.lift(each['lift_hi'])}]"
    return name, r2, text.score(each["pearson"]), digits(each["rmse"]), lift


def _source(view: PredictabilityView) -> str:
    """Which fit, on what, how much was held out, and where the neuron stands in its layer."""
    tokens, documents, rank = view.get("tokens"), view.get("documents"), view.get("rank")
    parts = [f"fit {text.visible(str(view.get('fit')))} ({view.get('kind')})"]
    scored = str(view.get("scored_on"))
    if tokens is not None:
        scored += f": {tokens:,} tokens" + ("" if documents is None else f" of {documents} documents")
    parts.append(scored)
    if rank is not None:
        parts.append(f"R² above {100 * rank['above']:.0f} % of the layer")
    others = [text.visible(name) for name in view.get("fits", []) if name != view.get("fit")]
    return " · ".join([*parts, *([f"other fits: {text.clipped(', '.join(others), 60)}"] if others else [])])
