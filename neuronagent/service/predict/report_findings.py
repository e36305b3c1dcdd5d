"""What the paper found, held against the numbers of a report: each finding with a criterion that is stated beside it.

A finding is `not clear` where the criterion for it fails, and so does that for its contrary. What is not measured has
no verdict, and is left out. Ranks of layers are Spearman's, over as many layers as there are; they have a verdict where
ρ is at least 0.5 and chance rarely gives as much, which of five layers takes a perfect order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from neuronagent import wording
from neuronagent.predictability.scores import FitKind
from neuronagent.report.predictability_content import (
    Finding,
    Matrix,
    PairRow,
    PredictabilityContent,
    Verdict,
)
from neuronagent.report.predictability_numbers import digits, fit_name, rho
from neuronagent.service.predict.report_global import global_findings
from neuronagent.service.predict.report_local import local_findings
from neuronagent.service.predict.report_numbers import mean, median_of, rank_is_clear, share_is_clear, spearman

_CLEAR = 0.5
_NEGLIGIBLE = 0.01
_LOPSIDED = "as lopsided by chance with at most 5 %"
_RARE = "as far from 0 by chance in at most 5 % of orders"


def findings(content: PredictabilityContent) -> list[Finding]:
    """Those that there are numbers for, in the order of the paper."""
    return [*_pair_findings(content), *_layer_findings(content), *global_findings(content), *local_findings(content),
            *_more_findings(content)]  # fmt: skip


def _pair_findings(content: PredictabilityContent) -> Iterator[Finding]:
    matrices = content["pairs"]["matrices"]
    exact = [one for one in matrices if one["kind"] == FitKind.LEAST_SQUARES.value]
    for one in sorted(exact or matrices, key=lambda one: -len(one["rows"]))[:1]:
        yield from _shallow(one)
        yield from _backward(one)
    yield from _selves(matrices)


def _shallow(one: Matrix) -> Iterator[Finding]:
    layers, errors = _by_target(one, lambda row: row["rmse"])
    _, skill = _by_target(one, lambda row: median_of(row["r2"]))
    for name, values, sign, said in (("L2", errors, 1, digits), ("R²", skill, -1, wording.score)):
        found = spearman(layers, values)
        if found is not None:
            yield {
                "paper": f"Shallow layers are better foretold than deep ones, by {name}."
                + ("" if name == "L2" else " (The paper has L2 alone, which grows with the neurons’ scale.)"),
                "where": "§ 3.2, Figure 2",
                "criterion": f"Spearman’s ρ of layer and mean {name} over sources "
                f"{'at least +0.5' if sign > 0 else 'at most −0.5'}, {_RARE}; the contrary if of the other sign",
                "verdict": _by_rank(sign * found, layers, values),
                "numbers": f"Fit {one['fit']}: {rho(found)} over {len(layers)} layers; first {said(values[0])}, last "
                f"{said(values[-1])}.",
                "section": "pairs",
            }


def _by_target(one: Matrix, value: Callable[[PairRow], float | None]) -> tuple[list[float], list[float]]:
    """The mean of a value over the other layers that foretell a layer, by target."""
    found = {
        target: mean(value(row) for row in one["rows"] if row["target"] == target != row["source"])
        for target in one["targets"]
    }
    known = {target: number for target, number in found.items() if number is not None}
    return [float(target) for target in known], list(known.values())


def _backward(one: Matrix) -> Iterator[Finding]:
    rows = {(row["source"], row["target"]): row for row in one["rows"] if row["rmse"] is not None}
    said = {own["name"]: own for own in one["directions"]}
    if not {"forward", "backward"} <= said.keys():
        return
    ways: tuple[tuple[str, Mapping[tuple[int, int], float]], ...] = (
        ("L2", {pair: -(row["rmse"] or 0) for pair, row in rows.items()}),
        ("R²", {pair: row["r2"]["median"] for pair, row in rows.items() if row["r2"] is not None}),
    )
    for name, skill in ways:
        both = [(skill[j, i], skill[i, j]) for i, j in skill if i < j and (j, i) in skill]
        key, shown = ("rmse", digits) if name == "L2" else ("r2", wording.score)
        if both:
            won, share = _won(both)
            yield {
                "paper": f"Shallower layers are better foretold from deeper ones than the reverse, by {name}.",
                "where": "§ 3.2: forward 0.037, backward 0.024",
                "criterion": "Backward is better on over 60 % of the pairs of layers that have both maps, "
                f"{_LOPSIDED}; the contrary under 40 %",
                "verdict": _by_share(share, len(both)),
                "numbers": f"Forward {shown(said['forward'][key])}, backward {shown(said['backward'][key])}; "
                f"backward is better on {won} pairs of layers.",
                "section": "pairs",
            }
    yield from _same_target(ways[0][1])


def _same_target(skill: Mapping[tuple[int, int], float]) -> Iterator[Finding]:
    """Sources as far before a layer as behind it: one target, so that scale plays no part."""
    both = [(skill[2 * j - i, j], skill[i, j]) for i, j in skill if i < j and (2 * j - i, j) in skill]
    if both:
        won, share = _won(both)
        yield {
            "paper": "The same, for one target and sources as far before it as behind it: its scale plays no part.",
            "where": "not in the paper",
            "criterion": f"The later source has the lower L2 in over 60 % of cases, {_LOPSIDED}; the contrary under "
            "40 %",
            "verdict": _by_share(share, len(both)),
            "numbers": f"In {won} cases.",
            "section": "pairs",
        }


def _won(pairs: Sequence[tuple[float, float]]) -> tuple[str, float]:
    """How often the first of two is larger, in words and as a share; equal ones count half."""
    won, equal = sum(a > b for a, b in pairs), sum(a == b for a, b in pairs)
    said = f"{won} of {len(pairs)}" + (f" ({equal} equal)" if equal else "")
    return said, (won + equal / 2) / len(pairs)


def _selves(matrices: Sequence[Matrix]) -> Iterator[Finding]:
    parts: list[str] = []
    worst = 0.0
    exact = False
    for one in matrices:
        own = [row for row in one["rows"] if row["source"] == row["target"] and row["rmse"] is not None and row["sd"]]
        if own:
            share = max((row["rmse"] or 0) / (row["sd"] or 1) for row in own)
            parts.append(
                f"{fit_name(one['fit'], one['kind'])}: mean L2 {digits(mean(row['rmse'] for row in own))}, largest "
                f"share of a layer’s mean standard deviation {wording.percent(share)}"
            )
            if one["kind"] == FitKind.LEAST_SQUARES.value:
                exact, worst = True, max(worst, share)
    if exact:
        yield {
            "paper": "A layer foretold from itself has an error left (0.020), next to that of other layers.",
            "where": "§ 3.2",
            "criterion": "The self-maps of the exact fit leave over 1 % of the mean standard deviation in some layer; "
            "the identity leaves nothing",
            "verdict": "holds" if worst > _NEGLIGIBLE else "does not hold",
            "numbers": f"{'; '.join(parts)}.",
            "section": "pairs",
        }


def _layer_findings(content: PredictabilityContent) -> Iterator[Finding]:
    rows = [row for row in content["layers"]["rows"] if row["source"] is not None]
    skill = [one["r2"] for row in rows for one in row["predictors"][:1] if one["r2"] is not None]
    if skill:
        low, high = min(one["median"] for one in skill), max(one["median"] for one in skill)
        yield {
            "paper": "Neurons can be foretold from another layer by a linear map.",
            "where": "§ 3.2",
            "criterion": "In every layer over half of the neurons have R² above 0.1 from the nearest layer below; the "
            "contrary if in none",
            "verdict": _share_verdict([one["median"] > 0.1 for one in skill]),
            "numbers": f"Median R² by layer {wording.score(low)} to {wording.score(high)}.",
            "section": "layers",
        }
    above = [row["above"] for row in rows if row["above"] is not None]
    if above:
        yield {
            "paper": "They are foretold beyond what the token at hand says.",
            "where": "not in the paper",
            "criterion": "In every layer the difference of R² is above 0, with its interval, for over half of the "
            "neurons; the contrary if in none",
            "verdict": _share_verdict([share > 0.5 for share in above]),
            "numbers": f"{wording.percent(min(above))} to {wording.percent(max(above))} of a layer’s neurons.",
            "section": "token",
        }
    ranks = [row["rmse_r2"] for row in rows if row["rmse_r2"] is not None]
    if ranks:
        yield {
            "paper": "L2 measures how predictable a neuron is.",
            "where": "§ 2",
            "criterion": "Within every layer Spearman’s ρ of L2 and R² is at most −0.5; the contrary if in none",
            "verdict": _share_verdict([found <= -_CLEAR for found in ranks]),
            "numbers": f"ρ {wording.signed(min(ranks))} to {wording.signed(max(ranks))}; of L2 and standard deviation "
            f"{_range([row['rmse_sd'] for row in rows if row['rmse_sd'] is not None])}.",
            "section": "scale",
        }


def _more_findings(content: PredictabilityContent) -> Iterator[Finding]:
    rows = content["optimisers"]["rows"]
    if rows:
        lower = sum(row["exact"] < row["adagrad"] for row in rows)
        curves = content["curves"]["by_target"] if content["curves"]["fit"] == content["optimisers"]["adagrad"] else []
        steps = f", after {curves[0]['steps'][-1]:,} steps; the paper takes about 1,000" if curves else ""
        yield {
            "paper": "Adagrad for one epoch has converged.",
            "where": "§ 3.1, “quick and consistent”",
            "criterion": "Its held-out error is within 1 % of least squares’ on every pair",
            "verdict": "holds" if all(row["adagrad"] <= 1.01 * row["exact"] for row in rows) else "does not hold",
            "numbers": f"Least squares is lower on {lower} of {len(rows)} pairs{steps}.",
            "section": "optimisers",
        }
    yield from _window_findings(content)
    yield from _model_findings(content)


def _window_findings(content: PredictabilityContent) -> Iterator[Finding]:
    found = content["windows"]
    known = sorted({row["window"] for row in found["rows"] if row["window"] is not None})
    if found["reason"] is not None or not known:
        return
    first = {(row["source"], row["target"]): row for row in found["rows"] if row["window"] == known[0]}
    last = {(row["source"], row["target"]): row for row in found["rows"] if row["window"] == found["base"]}
    pairs = sorted((pair for pair in first if pair in last), key=lambda pair: pair[1])
    whole = "whole texts" if found["base"] is None else f"w = {found['base']}"
    for name, gain in (
        ("L2", {pair: first[pair]["rmse"] - last[pair]["rmse"] for pair in pairs}),
        ("R²", {pair: _difference(last[pair]["r2"], first[pair]["r2"]) for pair in pairs}),
    ):
        # Pairs of one target are no evidence of their own.
        by_target = {
            own: mean(gain[pair] for pair in pairs if pair[1] == own) for own in sorted({pair[1] for pair in pairs})
        }
        layers = [float(target) for target, value in by_target.items() if value is not None]
        gains = [value for value in by_target.values() if value is not None]
        ranks = spearman(layers, gains)
        if ranks is not None:
            yield {
                "paper": f"More context makes shallow layers easier and deep layers harder to foretell, by {name}.",
                "where": "App. B.2, Figure 6",
                "criterion": f"Spearman’s ρ of target layer and what {name} gains from w = {known[0]} to {whole}, mean "
                f"over sources, is at most −0.5, {_RARE}; the contrary at least +0.5",
                "verdict": _by_rank(-ranks, layers, gains),
                "numbers": f"{rho(ranks)} over {len(layers)} target layers; gain of the shallowest {digits(gains[0])}, "
                f"of the deepest {digits(gains[-1])}.",
                "section": "windows",
            }


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _model_findings(content: PredictabilityContent) -> Iterator[Finding]:
    for one in content["models"]["matrices"][:1]:
        best: dict[int, PairRow] = {}
        for row in one["rows"]:
            if row["r2"] is not None and row["r2"]["median"] > _best_r2(best.get(row["target"])):
                best[row["target"]] = row
        options = {row["source"] for row in one["rows"]}
        targets, sources = [float(target) for target in best], [float(row["source"]) for row in best.values()]
        found = spearman(targets, sources)
        if found is not None and len(options) > 2:
            yield {
                "paper": "Across two models, layers of similar depth foretell each other best.",
                "where": "App. B.3, Figure 7",
                "criterion": "Spearman’s ρ of target layer and the source with the largest R² is at least +0.5, "
                f"{_RARE}; the contrary at most −0.5",
                "verdict": _by_rank(found, targets, sources),
                "numbers": f"{rho(found)} over {len(best)} target layers.",
                "section": "models",
            }


def _best_r2(row: PairRow | None) -> float:
    return row["r2"]["median"] if row is not None and row["r2"] is not None else float("-inf")


def _by_sign(value: float, clear: float) -> Verdict:
    """`holds` from `clear` on, `does not hold` from −`clear` down."""
    return "holds" if value >= clear else "does not hold" if value <= -clear else "not clear"


def _by_share(share: float, count: int) -> Verdict:
    """Of `count` comparisons; few of them are no evidence."""
    return _by_sign(share - 0.5, 0.1) if share_is_clear(share, count) else "not clear"


def _by_rank(value: float, first: Sequence[float], second: Sequence[float]) -> Verdict:
    """Of ρ of `first` and `second`, or its negative."""
    return _by_sign(value, _CLEAR) if rank_is_clear(first, second) else "not clear"


def _share_verdict(met: Sequence[bool]) -> Verdict:
    return "holds" if all(met) else "not clear" if any(met) else "does not hold"


def _range(values: Sequence[float]) -> str:
    return f"{wording.signed(min(values))} to {wording.signed(max(values))}" if values else "–"
