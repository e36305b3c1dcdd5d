"""The part of a Markdown page that says whether the neuron can be foretold. All words are ours, but for names."""

from __future__ import annotations

from collections.abc import Iterator

from neuronagent.predictability.view import PredictabilityView, PredictorView, chosen
from neuronagent.report import markdown_parts as parts


def foretold_lines(view: PredictabilityView) -> Iterator[str]:
    """The sentence, the table of the few predictors that the page shows, and where the numbers come from."""
    said = view.get("sentence")
    if not said:
        yield f"No: {parts.code(view.get('reason') or 'nothing is scored', 200)}."
        return
    yield parts.code(said, 600)
    yield from (
        "",
        "| foretold from | R² [95 %] | r | RMSE | over the token alone [95 %] |",
        "|---|---:|---:|---:|---:|",
    )
    yield from map(_row, chosen(view))
    yield ""
    rank, headline = view.get("rank"), view.get("headline")
    if rank is not None and headline is not None:
        name = parts.code(headline["predictor"], 40)
        yield f"R² from {name} is above that of {parts.share(rank['above'])} of the other neurons of its layer."
    for other in view.get("other_texts", []):
        value = _interval(other["r2"], other["r2_lo"], other["r2_hi"])
        yield f"On {parts.code(other['text'], 60)}, of which no map has seen anything: R² {value}."
    if sensitive := view.get("sensitive"):
        yield f"Sensitive to: {', '.join(parts.code(each, 40) for each in sensitive[:8])}."
    yield _source(view)


def _row(each: PredictorView) -> str:
    lift = "" if each["direction"] == "token" else _interval(each["lift"], each["lift_lo"], each["lift_hi"])
    r2 = _interval(each["r2"], each["r2_lo"], each["r2_hi"])
    if each["r2"] is None and each["reason"]:
        r2 = parts.cell(each["reason"], 60)
    name = parts.cell(each["predictor"], 40)
    return parts.row(name, r2, parts.score(each["pearson"]), parts.digits(each["rmse"]), lift)


def _interval(value: float | None, lo: float | None, hi: float | None) -> str:
    if value is None or lo is None or hi is None:
        return parts.score(value)
    return f"{parts.score(value)} [{parts.score(lo)}, {parts.score(hi)}]"


def _source(view: PredictabilityView) -> str:
    held_out = f"{parts.count(view.get('tokens'))} tokens of {parts.count(view.get('documents'))} documents"
    return (
        f"Fit {parts.code(str(view.get('fit')), 64)} ({parts.code(str(view.get('kind')), 40)}) on "
        f"{parts.code(str(view.get('text')), 60)}; scored on {held_out} that no map has seen."
    )
