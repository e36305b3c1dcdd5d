"""Functional, background and outlier neurons as tables."""

from __future__ import annotations

from neuronagent import wording
from neuronagent.predictability.functional import WEIGHTINGS, Against, FamilyResult, OutlierNeuron, Quartiles
from neuronagent.report.predictability_content import PredictabilityContent
from neuronagent.report.predictability_numbers import digits
from neuronagent.report.predictability_shown import MOST, Shown, Tables


def _functional(content: PredictabilityContent) -> list[Shown]:
    made: list[Shown] = []
    for weighting in WEIGHTINGS:
        rows = [
            row
            for one in content["functional"]["layers"]
            for family, found in one["families"].get(weighting, {}).items()
            for row in (_family(family, one["layer"], found),)
        ]
        columns = (
            f"{weighting}: sensitive to", "layer", "properties", "neurons", "L2 [95 %]", "random [95 %]", "",
            "R² [95 %]", "random [95 %]", "",
        )  # fmt: skip
        made.append(Shown(columns=columns, rows=tuple(rows)))
    return [table for table in made if table.rows]


def _family(family: str, layer: int, found: FamilyResult) -> tuple[str, ...]:
    return (
        family, f"{layer}", f"{found['properties']:,}", f"{found['any']:,}", *_against(found["l2"]),
        *_against(found["r2"]),
    )  # fmt: skip


def _against(one: Against) -> tuple[str, str, str]:
    own = _span(one["score"], one["lo"], one["hi"])
    return own, _span(one["random"], one["random_lo"], one["random_hi"]), one["verdict"] or "–"


def _span(value: float | None, lo: float | None, hi: float | None) -> str:
    return digits(value) if lo is None or hi is None else f"{digits(value)} [{digits(lo)}, {digits(hi)}]"


def _background(content: PredictabilityContent) -> list[Shown]:
    layers = content["functional"]["layers"]
    rows = [
        (f"{one['layer']}", "–" if own["count"] is None else f"{own['count']:,} of {own['neurons']:,}",
         wording.percent(own["share"]), digits(own["threshold"]),
         f"{wording.percent(own['share_lo'])} to {wording.percent(own['share_hi'])}", wording.percent(own["share_r2"]))
        for one in layers
        for own in (one["background"],)
    ]  # fmt: skip
    columns = ("layer", "background", "share", "L2 below", "share at other β", "share by R²")
    statistics = list(dict.fromkeys(key for one in layers for key in one["background"]["inside"]))
    both = [
        (f"{one['layer']}", said, *(_quartiles(side.get(key)) for key in statistics))
        for one in layers
        for said, side in (("background", one["background"]["inside"]), ("others", one["background"]["outside"]))
    ]
    names = {"l2": "L2", "r2": "R²", "sd": "SD of post", "mean": "mean post", "ngram": "highest μ of a 1-gram"}
    second = ("layer", "neurons", *(names.get(key, key) for key in statistics))
    return [
        Shown(columns=columns, rows=tuple(rows)),
        Shown(columns=second, rows=tuple(both), note="Medians, with the middle half."),
    ]


def _quartiles(found: Quartiles | None) -> str:
    if found is None:
        return "–"
    return f"{digits(found['median'])} ({digits(found['q1'])} to {digits(found['q3'])})"


def _classes(content: PredictabilityContent) -> list[Shown]:
    summary = content["functional"]["summary"]
    if summary is None:
        return []
    rows = [
        (cell["group"], cell["other"], f"{cell['neurons']:,}", f"{cell['count']:,}", f"{cell['expected']:,.1f}",
         "–" if cell["odds"] is None else _span(cell["odds"], cell["lo"], cell["hi"]), digits(cell["p"]),
         digits(cell["q"]))
        for cell in summary["contingency"]
    ]  # fmt: skip
    columns = ("neurons", "and", "neurons of that", "both", "expected", "odds ratio [95 %]", "p", "q")
    made = [Shown(columns=columns, rows=tuple(rows))]
    if summary["classes"]:
        medians = [
            (one["name"], f"{one['r2']['n']:,}" if one["r2"] else "0", _quartiles(one["r2"]),
             _span(one["rank"], one["rank_lo"], one["rank_hi"]))
            for one in summary["classes"]
        ]  # fmt: skip
        second = ("class or role", "neurons", "R² (middle half)", "mean rank in its layer [chance]")
        made.append(Shown(columns=second, rows=tuple(medians), note="A rank of 0.5 says nothing."))
    return made


def _outliers(content: PredictabilityContent) -> list[Shown]:
    summary = content["functional"]["summary"]
    if summary is None:
        return []
    rows = [
        (one["neuron"], f"{one['ratio']:,.0f}", f"{one['others']:,.0f}", digits(one["value"]), _where(one),
         digits(one["l2"]), wording.score(one["r2"]), wording.percent(one["l2_rank"]))
        for one in summary["outliers"][:MOST]
    ]  # fmt: skip
    columns = (
        "neuron",
        "times the layer’s RMS",
        "at other tokens",
        "post",
        "where",
        "L2",
        "R²",
        "lower L2 in its layer",
    )
    return [Shown(columns=columns, rows=tuple(rows), open=True)] if rows else []


def _where(one: OutlierNeuron) -> str:
    if one["place"] == "BOS":
        return "BOS"
    document = "" if one["document"] is None else f" of document {one['document']}"
    return f"{wording.token(one['token'])} at {one['position']}{document}"


FUNCTIONAL_TABLES: dict[str, Tables] = {
    "functional": _functional,
    "background": _background,
    "classes": _classes,
    "outliers": _outliers,
}
