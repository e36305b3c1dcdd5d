"""What one layer's sums by key come to: functional neurons by family, background neurons, the strongest of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neuronagent.index.predictability.functional import SumsByKey, Totals, functional_scores
from neuronagent.predictability.functional import (
    NGRAMS,
    TOTAL_VARIANCE,
    WEIGHTINGS,
    BackgroundOfLayer,
    FamilyResult,
    FunctionalLayer,
    OutlierNeuron,
    Quartiles,
    SensitiveFamily,
    SensitiveNeurons,
    Strongest,
)
from neuronagent.service.predict.properties import Family, Properties
from neuronagent.service.predict.selection import (
    Baseline,
    Errors,
    Selected,
    family_result,
    mean,
    random_baselines,
    random_tokens,
    select,
    sensitive_family,
)

Floats = NDArray[np.float64]
_STRONGEST = 5


def analyse_layer(
    layer: int,
    totals: Totals,
    by_key: SumsByKey,
    found: Properties,
    errors: Errors,
    predictor: str | None,
    reason: str | None,
    outliers: list[OutlierNeuron],
    ratio: float | None,
    identity: str,
) -> tuple[FunctionalLayer, SensitiveNeurons]:
    """`predictor`: whose errors these are, None where there is none, for the `reason`; `ratio`: the largest."""
    baselines = random_baselines(totals, by_key, found, errors)
    families: dict[str, dict[str, FamilyResult]] = {name: {} for name in WEIGHTINGS}
    sensitive: dict[str, SensitiveFamily] = {}
    strongest: list[Strongest] = []
    unigram = np.full(len(totals.mean), np.nan)
    for family in found.families:
        scores = functional_scores(totals, family.sums(by_key))
        for weighting, own in scores.items():
            selected = select(family, own, baselines[weighting], found)
            families[weighting][family.name] = family_result(family, selected, baselines[weighting], found, errors)
            if weighting == TOTAL_VARIANCE:
                sensitive[family.name] = sensitive_family(family, selected)
                strongest += _strongest(family, selected)
                if family.name == NGRAMS[0] and len(family):
                    unigram = np.where(totals.constant, np.nan, np.nan_to_num(selected.mu).max(0))
    result: FunctionalLayer = {
        "layer": layer,
        "neurons": len(totals.mean),
        "constant": int(totals.constant.sum()),
        "predictor": predictor,
        "reason": reason,
        "all_l2": mean(errors.l2),
        "all_r2": mean(errors.floored),
        "random": random_tokens(baselines, found),
        "families": families,
        "background": background(baselines[TOTAL_VARIANCE], errors, totals, unigram, reason),
        "strongest": strongest,
        "outliers": outliers,
        "largest_ratio": ratio,
        "identity": identity,
    }
    constant = np.flatnonzero(totals.constant).tolist()
    return result, {"layer": layer, "never_vary": constant, "families": sensitive, "identity": identity}


def _strongest(family: Family, own: Selected) -> list[Strongest]:
    """The neurons with the highest μ for any property of the family, one property each."""
    if not len(family) or not own.mu.shape[1]:
        return []
    scores = np.where(own.chosen, own.mu, -np.inf)
    best = scores.argmax(0)
    highest = scores[best, np.arange(len(best))]
    order = np.argsort(-highest, kind="stable")[:_STRONGEST]
    return [
        {
            "neuron": index,
            "family": family.name,
            "property": family.names[best[index]],
            "mu": float(highest[index]),
            "count": int(family.counts[best[index]]),
        }
        for index in order.tolist()
        if np.isfinite(highest[index])
    ]


def background(
    baseline: Baseline, errors: Errors, totals: Totals, unigram: Floats, reason: str | None
) -> BackgroundOfLayer:
    """The neurons whose error is below that of those that random tokens select."""
    by_size = np.array([each for each in map(mean, baseline.l2) if each is not None])
    known = np.isfinite(errors.l2)
    if not len(by_size) or not known.any():
        return _no_background(reason or "random tokens select no neuron with an error")
    threshold = float(by_size.mean())
    inside = known & (errors.l2 < threshold)

    def share(limit: float) -> float:
        return float((errors.l2[known] < limit).mean())

    of_r2 = [each for each in map(mean, baseline.r2) if each is not None]
    threshold_r2 = float(np.mean(of_r2)) if of_r2 else None
    has_r2 = np.isfinite(errors.r2)
    above = None if threshold_r2 is None else int((errors.r2[has_r2] > threshold_r2).sum())
    columns: Mapping[str, Floats] = {
        "l2": errors.l2, "r2": errors.r2, "sd": np.sqrt(totals.variance), "mean": totals.mean, "ngram": unigram,
    }  # fmt: skip
    return {
        "threshold": threshold,
        "threshold_lo": float(by_size.min()),
        "threshold_hi": float(by_size.max()),
        "neurons": int(known.sum()),
        "count": int(inside.sum()),
        "share": share(threshold),
        "share_lo": share(float(by_size.min())),
        "share_hi": share(float(by_size.max())),
        "threshold_r2": threshold_r2,
        "count_r2": above,
        "share_r2": None if above is None else above / int(has_r2.sum()),
        "inside": {name: quartiles(values[inside]) for name, values in columns.items()},
        "outside": {name: quartiles(values[known & ~inside]) for name, values in columns.items()},
        "reason": None,
    }


def _no_background(reason: str) -> BackgroundOfLayer:
    return {
        "threshold": None, "threshold_lo": None, "threshold_hi": None, "neurons": 0, "count": None, "share": None,
        "share_lo": None, "share_hi": None, "threshold_r2": None, "count_r2": None, "share_r2": None, "inside": {},
        "outside": {}, "reason": reason,
    }  # fmt: skip


def quartiles(values: Floats) -> Quartiles | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    q1, median, q3 = np.quantile(known, [0.25, 0.5, 0.75])
    return {"n": len(known), "q1": float(q1), "median": float(median), "q3": float(q3)}
