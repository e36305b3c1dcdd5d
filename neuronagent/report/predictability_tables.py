"""The numbers of each part of a report on predictability as tables, to be read and quoted."""

from __future__ import annotations

from neuronagent import wording
from neuronagent.report.figures.predict_windows import differences
from neuronagent.report.predictability_content import Matrix, PairRow, PredictabilityContent
from neuronagent.report.predictability_functional_tables import FUNCTIONAL_TABLES
from neuronagent.report.predictability_numbers import change, digits, quartiles, text_name
from neuronagent.report.predictability_shown import MOST, Shown, Tables
from neuronagent.report.predictability_substitution_tables import SUBSTITUTION_TABLES


def tables(content: PredictabilityContent, name: str) -> list[Shown]:
    """The tables of the part `name`, which has something to show."""
    return (_TABLES | SUBSTITUTION_TABLES | FUNCTIONAL_TABLES)[name](content)


def fits(content: PredictabilityContent) -> Shown:
    """All fits of the report."""
    columns = ("fit", "by", "pairs", "text", "tokens", "documents", "context", "rank", "sources", "scored on")
    rows = tuple(
        (
            one["name"],
            one["kind"] + (", intercept" if one["intercept"] else ""),
            f"{one['pairs']:,} ({one['spec']})" if one["spec"] in ("adjacent", "even", "all") else f"{one['pairs']:,}",
            one["text"],
            "–" if "explain" not in one["tokens"] else f"{one['tokens']['explain']:,}",
            "–" if "explain" not in one["documents"] else f"{one['documents']['explain']:,}",
            "whole texts" if one["context"] is None else f"{one['context']} tokens",
            "full" if one["rank"] is None else f"{one['rank']}",
            "same model" if one["source_model"] is None else one["source_model"],
            ", ".join(map(text_name, one["texts"])) or "not scored",
        )
        for one in content["fits"]
    )
    return Shown(columns=columns, rows=rows, open=True)


def _pairs(content: PredictabilityContent) -> list[Shown]:
    return _directions(content["pairs"]["matrices"]) + [
        _matrix(one) for one in content["pairs"]["matrices"] if any(row["rmse"] is not None for row in one["rows"])
    ]


def _directions(matrices: list[Matrix]) -> list[Shown]:
    rows = [
        (one["fit"], own["name"], f"{own['pairs']}", digits(own["rmse"]), wording.score(own["r2"]),
         wording.score(own["pearson"]))
        for one in matrices
        for own in one["directions"]
    ]  # fmt: skip
    columns = ("fit", "direction", "pairs", "mean L2", "R²", "Pearson")
    note = "Means over pairs of the mean L2, the median R² and the median Pearson of each."
    return [Shown(columns=columns, rows=tuple(rows), note=note, open=True)] if rows else []


def _matrix(one: Matrix) -> Shown:
    rows = [
        (f"{row['source']} → {row['target']}", digits(row["rmse"]), digits(row["sd"]), *_skill(row),
         f"{row['neurons']:,}", digits(row["ridge"]))
        for row in one["rows"][:MOST]
    ]  # fmt: skip
    columns = (
        f"{one['fit']}, pair",
        "mean L2",
        "mean SD",
        "R² (middle half)",
        "Pearson (middle half)",
        "neurons",
        "ridge",
    )
    left = len(one["rows"]) - len(rows)
    return Shown(columns=columns, rows=tuple(rows), note=f"{left:,} more pairs are in the JSON." if left > 0 else "")


def _skill(row: PairRow) -> tuple[str, str]:
    return quartiles(row["r2"]), quartiles(row["pearson"])


def _layers(content: PredictabilityContent) -> list[Shown]:
    rows = [
        (
            f"{row['layer']}", one["predictor"], digits(one["rmse"]), quartiles(one["r2"]), quartiles(one["pearson"]),
            f"{one['r2']['n']:,}" if one["r2"] else "0",
        )
        for row in content["layers"]["rows"]
        for one in row["predictors"]
    ]  # fmt: skip
    columns = ("layer", "foretold from", "mean L2", "R² (middle half)", "Pearson (middle half)", "neurons")
    return [Shown(columns=columns, rows=tuple(rows))]


def _token(content: PredictabilityContent) -> list[Shown]:
    rows = [
        (f"{row['layer']}", f"layer {row['source']}", quartiles(row["lift"]), wording.percent(row["above"]),
         wording.percent(row["below"]))
        for row in content["layers"]["rows"]
        if row["source"] is not None
    ]  # fmt: skip
    columns = ("layer", "source", "R² less that of the token", "interval above 0", "below 0")
    return [Shown(columns=columns, rows=tuple(rows))]


def _scale(content: PredictabilityContent) -> list[Shown]:
    rows = [
        (f"{row['layer']}", digits(row["sd"]["median"] if row["sd"] else None), _signed(row["rmse_sd"]),
         _signed(row["rmse_r2"]))
        for row in content["layers"]["rows"]
    ]  # fmt: skip
    columns = ("layer", "median SD of post", "ρ of L2 and SD", "ρ of L2 and R²")
    return [Shown(columns=columns, rows=tuple(rows))]


def _signed(value: float | None) -> str:
    return "–" if value is None else wording.signed(value)


def _curves(content: PredictabilityContent) -> list[Shown]:
    rows = [
        (said, f"{one['layer']}", digits(one["mse"][0]), digits(one["mse"][len(one["mse"]) // 2]),
         digits(one["mse"][-1]), f"{one['steps'][-1]:,}")
        for said, curves in (("to", content["curves"]["by_target"]), ("from", content["curves"]["by_source"]))
        for one in curves
    ]  # fmt: skip
    return [Shown(columns=("", "layer", "first error", "half way", "last", "steps"), rows=tuple(rows))]


def _optimisers(content: PredictabilityContent) -> list[Shown]:
    found = content["optimisers"]
    rows = [
        (f"{row['source']} → {row['target']}", digits(row["exact"]), digits(row["adagrad"]), digits(row["mean"]),
         f"{row['adagrad'] / row['exact']:,.4g}" if row["exact"] > 0 else "–")
        for row in found["rows"][:MOST]
    ]  # fmt: skip
    columns = ("pair", f"least squares ({found['exact']})", f"Adagrad ({found['adagrad']})", "variance", "ratio")
    note = f"Mean squared errors on tokens of the {found['split']} split."
    return [Shown(columns=columns, rows=tuple(rows), note=note)]


def _texts(content: PredictabilityContent) -> list[Shown]:
    rows = [
        (text_name(one["text"]), "–" if one["tokens"] is None else f"{one['tokens']:,}",
         "–" if one["documents"] is None else f"{one['documents']:,}", digits(one["rmse"]), wording.score(one["r2"]),
         wording.score(one["pearson"]), wording.score(one["token_r2"]))
        for one in content["texts"]["rows"]
    ]  # fmt: skip
    pairs = content["texts"]["rows"][0]["pairs"]
    columns = ("text", "tokens", "documents", "mean L2", "R²", "Pearson", "R² of the token alone")
    note = f"{pairs} layer pair{'' if pairs == 1 else 's'}."
    return [Shown(columns=columns, rows=tuple(rows), note=note, open=True)]


def _windows(content: PredictabilityContent) -> list[Shown]:
    found = content["windows"]
    windows = sorted({row["window"] for row in found["rows"] if row["window"] is not None})
    made: list[Shown] = []
    for place, name in enumerate(("L2", "R²")):
        rows = [
            (f"{source} → {target}", *(change(values.get(window, (None, None))[place]) for window in windows))
            for (source, target), values in differences(found).items()
        ]
        made.append(Shown(columns=(f"difference of {name}, pair", *(f"w = {w}" for w in windows)), rows=tuple(rows)))
    return made


def _models(content: PredictabilityContent) -> list[Shown]:
    return [_matrix(one) for one in content["models"]["matrices"]]


_TABLES: dict[str, Tables] = {
    "pairs": _pairs,
    "layers": _layers,
    "token": _token,
    "scale": _scale,
    "curves": _curves,
    "optimisers": _optimisers,
    "texts": _texts,
    "windows": _windows,
    "models": _models,
}
