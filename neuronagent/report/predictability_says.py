"""What each part of a report on predictability says, in words with its key numbers: beside a figure for everyone, and
as its name for who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neuronagent import wording
from neuronagent.predictability.functional import FAMILIES, TOTAL_VARIANCE
from neuronagent.predictability.scores import POSITION, PREVIOUS_TOKEN, TOKEN, source_layer
from neuronagent.predictability.substitution import CLEAN, COMPLETE, PREDICTED, ZERO
from neuronagent.report.figures.predict_classes import LEVEL, odds
from neuronagent.report.predictability_content import LayerRow, PredictabilityContent, PredictorRow
from neuronagent.report.predictability_numbers import (
    change,
    digits,
    fit_name,
    measured,
    perplexity,
    text_name,
    times,
)
from neuronagent.report.predictability_rows import rows, text_of


def says(content: PredictabilityContent, name: str) -> str:
    """A sentence or two about the part `name`, which has something to show."""
    return _SAYS[name](content)


def lead(content: PredictabilityContent) -> str:
    """The report in a sentence, where the main fit is scored."""
    known = [row for row in content["layers"]["rows"] if _from_layer(row) is not None]
    if not known:
        return ""
    best = max(known, key=lambda row: _median(_from_layer(row)))
    worst = min(known, key=lambda row: _median(_from_layer(row)))
    said = (
        f"From the nearest layer below, the median neuron of a layer has R² {_score(_from_layer(worst))} (layer "
        f"{worst['layer']}) to {_score(_from_layer(best))} (layer {best['layer']})"
    )
    neurons = sum(row["neurons"] for row in known)
    above = sum((row["above"] or 0) * row["neurons"] for row in known) / max(1, neurons)
    return f"{said}; {wording.percent(above)} of their neurons are foretold beyond what their token says."


def predictor(row: LayerRow, name: str) -> PredictorRow | None:
    return next((one for one in row["predictors"] if one["predictor"] == name), None)


def _from_layer(row: LayerRow) -> PredictorRow | None:
    found = next((one for one in row["predictors"] if source_layer(one["predictor"]) is not None), None)
    return found if found is not None and found["r2"] is not None else None


def _median(one: PredictorRow | None) -> float:
    return one["r2"]["median"] if one is not None and one["r2"] is not None else float("-inf")


def _score(one: PredictorRow | None) -> str:
    return wording.score(one["r2"]["median"] if one is not None and one["r2"] is not None else None)


def _pairs(content: PredictabilityContent) -> str:
    said: list[str] = []
    for one in content["pairs"]["matrices"]:
        parts = [
            f"{own['name']} {digits(own['rmse'])} (R² {wording.score(own['r2'])}, {own['pairs']} "
            f"pair{'' if own['pairs'] == 1 else 's'})"
            for own in one["directions"]
        ]
        if parts:
            said.append(f"Mean L2 of {fit_name(one['fit'], one['kind'])}: {', '.join(parts)}.")
    return f"{' '.join(said)} The paper has forward 0.037, backward 0.024, self 0.020 for LLaMA-2-7b."


def _layers(content: PredictabilityContent) -> str:
    found = content["layers"]
    tokens = f" on {found['tokens']:,} tokens" if found["tokens"] else ""
    documents = f" of {found['documents']:,} documents" if found["documents"] else ""
    said: list[str] = []
    for name in (TOKEN, PREVIOUS_TOKEN, POSITION):
        values = [_median(predictor(row, name)) for row in found["rows"] if _median(predictor(row, name)) > -1e9]
        if values:
            said.append(f"the {name} {_span(values)}")
    own = [_median(_from_layer(row)) for row in found["rows"] if _from_layer(row) is not None]
    if own:
        said.insert(0, f"the nearest layer below {_span(own)}")
    constant = sum(row["constant"] for row in found["rows"])
    never = f" {constant:,} neurons never vary on these tokens and have no R²." if constant else ""
    return f"Median R² by layer{tokens}{documents}: {', '.join(said)}.{never}"


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return wording.score(low) if len(values) == 1 else f"{wording.score(low)} to {wording.score(high)}"


def _token(content: PredictabilityContent) -> str:
    rows = [row for row in content["layers"]["rows"] if row["lift"] is not None]
    if not rows:
        return "There are no scores of the token alone."
    parts = [f"layer {row['layer']}: {wording.percent(row['above'])}" for row in _few(rows)]
    lifts = [row["lift"]["median"] for row in rows if row["lift"] is not None]
    return (
        f"Neurons of which the layer below says more than the token (95 % interval of the difference above 0): "
        f"{', '.join(parts)}. Median difference of R² by layer {wording.lift(min(lifts))} to "
        f"{wording.lift(max(lifts))}."
    )


def _few(rows: list[LayerRow], most: int = 6) -> list[LayerRow]:
    return [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)] if len(rows) > most else rows


def _scale(content: PredictabilityContent) -> str:
    rows = [row for row in content["layers"]["rows"] if row["rmse_sd"] is not None]
    parts = [f"layer {row['layer']} {wording.signed(row['rmse_sd'] or 0)}" for row in _few(rows)]
    other = [
        f"layer {row['layer']} {wording.signed(row['rmse_r2'])}" for row in _few(rows) if row["rmse_r2"] is not None
    ]
    return (
        f"Spearman’s ρ of L2 and standard deviation within layers: {', '.join(parts)}. Of L2 and R²: "
        f"{', '.join(other)}; a measure of predictability alone would have −1."
    )


def _curves(content: PredictabilityContent) -> str:
    curves = content["curves"]["by_target"]
    ends = [(one["layer"], one["mse"][0], one["mse"][-1]) for one in curves]
    parts = [f"layer {layer} from {digits(first)} to {digits(last)}" for layer, first, last in (ends[0], ends[-1])]
    return f"Fit {content['curves']['fit']}, {curves[0]['steps'][-1]:,} steps: {', '.join(parts)} (by target)."


def _optimisers(content: PredictabilityContent) -> str:
    found = content["optimisers"]
    lower = sum(row["exact"] < row["adagrad"] for row in found["rows"])
    ratios = sorted(row["adagrad"] / row["exact"] for row in found["rows"] if row["exact"] > 0)
    middle = f"; Adagrad’s is {times(ratios[len(ratios) // 2])} as large at the median" if ratios else ""
    said = f"Least squares has the lower error on {lower} of {len(found['rows'])} pairs{middle}."
    if found["exact_seconds"] is not None and found["adagrad_seconds"] is not None:
        exact, adagrad = digits(found["exact_seconds"]), digits(found["adagrad_seconds"])
        said += f" Least squares took {exact} s in all, Adagrad {adagrad} s."
    return said


def _texts(content: PredictabilityContent) -> str:
    own, *others = content["texts"]["rows"]
    parts = [f"{text_name(one['text'])}: R² {wording.score(one['r2'])}, L2 {digits(one['rmse'])}" for one in others]
    first = f"{text_name(own['text']).capitalize()}: R² {wording.score(own['r2'])}, L2 {digits(own['rmse'])}"
    return "; ".join([first, *parts]) + "."


def _substitution(content: PredictabilityContent) -> str:
    view = content["substitution"]["views"][0]
    text = view["text"]
    where = text_name(text_of(view))
    where = where if text_of(view) else where.capitalize()
    said = [f"{where}, unmodified: perplexity {perplexity(text['original']['perplexity'])}."]
    said += [
        f"{row.mapping.capitalize()}, {row.setting}, by chunk: {', '.join(measured(cell) for cell in row.cells)}."
        for row in rows(view)
        if row.mapping in (PREDICTED, ZERO) and row.sources == CLEAN and row.setting == COMPLETE
    ]
    if text["stays"]:
        many, layers = len(text["stays"]) > 1, ", ".join(map(str, text["stays"]))
        said.append(
            f"Layers {layers} stay as they are: no layer below has a map onto them."
            if many
            else f"Layer {layers} stays as it is: no layer below has a map onto it."
        )
    return " ".join(said)


def _domains(content: PredictabilityContent) -> str:
    parts = [
        f"{text_name(text_of(view))} {perplexity(view['text']['original']['perplexity'])}"
        for view in content["substitution"]["views"]
    ]
    return f"Perplexity of the unmodified model: {', '.join(parts)}."


def _halves(content: PredictabilityContent) -> str:
    view = content["halves"]["view"]
    if view is None:
        return ""
    said = f"Perplexity, unmodified {perplexity(view['text']['original']['perplexity'])}"
    every = [cell for cell in view["all"] if cell is not None]
    return f"{said}; all neurons predicted, by chunk: {', '.join(map(measured, every))}." if every else f"{said}."


def _functional(content: PredictabilityContent) -> str:
    parts: list[str] = []
    for family in FAMILIES:
        found = [one["families"][TOTAL_VARIANCE][family] for one in content["functional"]["layers"]
                 if family in one["families"].get(TOTAL_VARIANCE, {})]  # fmt: skip
        known = [one for one in found if one["l2"]["verdict"] is not None]
        if known:
            higher = sum(one["l2"]["verdict"] == "higher" for one in known)
            lower = sum(one["l2"]["verdict"] == "lower" for one in known)
            parts.append(f"{family} {higher} higher, {lower} lower of {len(known)}")
    return f"Layers in which the L2 of sensitive neurons differs from that of random ones: {'; '.join(parts)}."


def _background(content: PredictabilityContent) -> str:
    found = [one["background"] for one in content["functional"]["layers"]]
    shares = [one["share"] for one in found if one["share"] is not None]
    by_r2 = [one["share_r2"] for one in found if one["share_r2"] is not None]
    said = f"By L2 {wording.percent(min(shares))} to {wording.percent(max(shares))} of a layer’s neurons"
    if by_r2:
        said += f", by R² {wording.percent(min(by_r2))} to {wording.percent(max(by_r2))}"
    return f"{said}; the paper has 40 to 80 %."


def _classes(content: PredictabilityContent) -> str:
    summary = content["functional"]["summary"]
    found = [] if summary is None else [cell for cell in summary["contingency"] if cell["q"] is not None]
    out = sorted((cell for cell in found if (cell["q"] or 0) < LEVEL), key=lambda cell: cell["q"] or 0)
    parts = [f"{cell['group']} × {cell['other']} ({odds(cell)})" for cell in out[:4]]
    if not parts:
        return f"None of {len(found)} cells stands out."
    return f"{len(out)} of {len(found)} cells stand out, first of all {', '.join(parts)}."


def _outliers(content: PredictabilityContent) -> str:
    summary = content["functional"]["summary"]
    if summary is None:
        return ""
    count = len(summary["outliers"])
    rule = f"at least {summary['outlier_ratio']:g} times the root mean square of their layer"
    ratios = [one["largest_ratio"] for one in content["functional"]["layers"] if one["largest_ratio"] is not None]
    largest = f" The largest such ratio of a layer is {min(ratios):,.0f} to {max(ratios):,.0f}." if ratios else ""
    return f"{count or 'No'} neuron{'' if count == 1 else 's'} with a value of {rule}.{largest}"


def _windows(content: PredictabilityContent) -> str:
    found = content["windows"]
    windows = sorted({row["window"] for row in found["rows"] if row["window"] is not None})
    parts: list[str] = []
    for window in windows:
        own = [row for row in found["rows"] if row["window"] == window]
        base = {(row["source"], row["target"]): row["rmse"] for row in found["rows"] if row["window"] == found["base"]}
        some = [row["rmse"] - base[row["source"], row["target"]] for row in own]
        parts.append(f"{window}: {change(sum(some) / len(some))}")
    return f"Mean difference of L2 by window: {', '.join(parts)}."


def _models(content: PredictabilityContent) -> str:
    parts: list[str] = []
    for one, name in zip(content["models"]["matrices"], content["models"]["names"], strict=True):
        best = {
            target: min(
                (row for row in one["rows"] if row["target"] == target and row["rmse"] is not None),
                key=lambda row: row["rmse"] or 0.0,
                default=None,
            )
            for target in one["targets"]
        }
        listed = [f"{row['source']} → {target}" for target, row in best.items() if row is not None]
        parts.append(f"From {name} ({one['fit']}), best source → target: {', '.join(listed[:12])}.")
    return " ".join(parts)


_SAYS: Mapping[str, Callable[[PredictabilityContent], str]] = {
    "pairs": _pairs,
    "layers": _layers,
    "token": _token,
    "scale": _scale,
    "curves": _curves,
    "optimisers": _optimisers,
    "texts": _texts,
    "substitution": _substitution,
    "domains": _domains,
    "halves": _halves,
    "functional": _functional,
    "background": _background,
    "classes": _classes,
    "outliers": _outliers,
    "windows": _windows,
    "models": _models,
}
