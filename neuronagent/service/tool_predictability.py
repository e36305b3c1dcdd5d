"""The tool that says whether a neuron can be foretold: from other layers, from its token, from its position."""

from __future__ import annotations

from collections.abc import Sequence

from neuronagent.predictability.view import OtherText, PredictabilityView, PredictorView, chosen
from neuronagent.service.bounded import Format, budget, fit, number
from neuronagent.service.lookup import Index
from neuronagent.service.predict.views import neuron_predictability as view_of
from neuronagent.service.tool_more_results import ForetoldOn, Predictability, PredictorRow
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean, clean_tail

_TEXT = 60
_MEANING = (
    "Held-out text. r2: share of the variance foretold, below 0 worse than the mean; rmse in units of post; lift: r2 "
    "less that of the token alone; lo, hi: 95 % intervals over documents."
)


def neuron_predictability(
    index: Index, neuron: str, *, maps: str | None = None, response_format: Format = "concise"
) -> Predictability:
    """How well a neuron is foretold by the maps of a fit (`maps`: its name); `detailed`: by every predictor.

    Raises:
        UsageError: no neuron's name.
        NotFoundError: no such neuron, or no such fit.
    """
    name = str(index.neuron(neuron).id)
    view = view_of(index, name, maps)
    if not view["available"]:
        missing = Predictability(
            available=False,
            neuron=name,
            reason=clean(str(view.get("reason")), 200),
            provenance=provenance(index),
            note="What relates neurons by weights: similar_neurons.",
        )
        if view.get("command"):
            missing["command"] = str(view.get("command"))
        if view.get("fits"):
            missing["fits"] = [clean(each, 64) for each in view.get("fits", [])][:8]
        return missing
    shown = chosen(view)
    everything = view.get("predictors", [])
    sizes = [everything, shown] if response_format == "detailed" else [shown]
    sizes += [shown[:count] for count in range(len(shown) - 1, 0, -1)]
    return fit(lambda rows: _rendered(index, name, view, rows), sizes, budget(response_format))


def _rendered(index: Index, name: str, view: PredictabilityView, rows: Sequence[PredictorView]) -> Predictability:
    result = Predictability(
        available=True,
        neuron=name,
        sentence=clean(said, 600) if (said := view.get("sentence")) else None,
        fit=clean(str(view.get("fit")), 64),
        fits=[clean(each, 64) for each in view.get("fits", [])][:8],
        scored_on=clean_tail(str(view.get("scored_on")), _TEXT),
        tokens=view.get("tokens"),
        documents=view.get("documents"),
        mean=number(view.get("mean")),
        variance=number(view.get("variance")),
        predictors=[_row(each) for each in rows],
        provenance=provenance(index),
    )
    if reason := view.get("reason") or view.get("no_headline"):
        result["reason"] = clean(reason, 200)
    if rank := view.get("rank"):
        result["above_share_of_layer"] = number(rank["above"])
    if background := view.get("background"):
        result["background"] = background["is_background"]
    if sensitive := view.get("sensitive"):
        result["sensitive_to"] = [clean(each, 40) for each in sensitive[:6]]
    if others := view.get("other_texts"):
        result["other_texts"] = [_elsewhere(each) for each in others[:3]]
    left = len(view.get("predictors", [])) - len(rows)
    more = f"{left} more predictors: response_format=detailed. " if left else ""
    result["note"] = more + _MEANING
    return result


def _elsewhere(each: OtherText) -> ForetoldOn:
    r2, lo, hi = map(number, (each["r2"], each["r2_lo"], each["r2_hi"]))
    return ForetoldOn(text=clean_tail(each["text"], 30), r2=r2, lo=lo, hi=hi)


def _row(each: PredictorView) -> PredictorRow:
    row = PredictorRow(
        predictor=clean(each["predictor"], 32),
        r2=number(each["r2"]),
        lo=number(each["r2_lo"]),
        hi=number(each["r2_hi"]),
        pearson=number(each["pearson"]),
        rmse=number(each["rmse"]),
    )
    if each["source"] is not None or each["direction"] not in ("token", "mean"):
        row["lift"], row["lift_lo"], row["lift_hi"] = map(number, (each["lift"], each["lift_lo"], each["lift_hi"]))
    if each["reason"]:
        row["reason"] = each["reason"]
    return row
