"""The neurons that properties select, and whether these are easier or harder to foretell than chance (eq. 8).

A property selects the neurons whose μ is above θ, the 99th percentile of μ over all neurons of the layer and all seeds
under random tokens of equal β, interpolated between two sizes of the grid in log β. What random tokens select is the
baseline: one percent of the neurons, those whose variance lies in few tokens. R² counts as `LOWEST` where it is lower:
a mean of it would be that of a few neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.index.predictability.functional import SumsByKey, Totals, functional_scores, nested_sums, threshold
from neuronagent.predictability.functional import (
    NAMED,
    TENTH,
    TOTAL_VARIANCE,
    WEIGHTINGS,
    Against,
    FamilyResult,
    RandomTokens,
    SensitiveFamily,
    Verdict,
)
from neuronagent.service.predict.properties import Family, Properties, between

Floats = NDArray[np.float64]
LEVEL = 0.99
LOWEST = -1.0
_CHANCE = 0.01
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Of a layer's neurons `[N]`, NaN where one has none."""

    l2: Floats
    r2: Floats

    @property
    def floored(self) -> Floats:
        return np.where(np.isfinite(self.r2), np.maximum(self.r2, LOWEST), np.nan)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Random tokens by size: `theta` `[sizes]`, mean error and R² of the neurons selected by each seed `[sizes,
    seeds]`, NaN where it selects none."""

    theta: Floats
    l2: Floats
    r2: Floats


def random_baselines(totals: Totals, by_key: SumsByKey, found: Properties, errors: Errors) -> dict[str, Baseline]:
    """By weighting."""
    sizes, seeds = len(found.sizes), found.seeds
    nested = nested_sums(found.random_sums(by_key), seeds, sizes)
    rows = {name: Baseline(theta=np.full(sizes, np.nan), l2=np.full((sizes, seeds), np.nan),
                           r2=np.full((sizes, seeds), np.nan)) for name in WEIGHTINGS}  # fmt: skip
    for size in range(sizes):
        scores = functional_scores(totals, nested[slice(size * seeds, (size + 1) * seeds)])
        for name, own in rows.items():
            own.theta[size] = threshold(scores[name], LEVEL)
            selected = scores[name] > own.theta[size]
            own.l2[size], own.r2[size] = mean_over(selected, errors.l2), mean_over(selected, errors.floored)
    return rows


def mean_over(selected: NDArray[np.bool_], values: Floats) -> Floats:
    """The mean of `values` `[N]` over the neurons that each row of `selected` `[P, N]` has; NaN over none."""
    known = np.isfinite(values)
    chosen = (selected & known).astype(np.float64)
    counts = chosen.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return chosen @ np.where(known, values, 0.0) / np.where(counts > 0, counts, np.nan)


def random_tokens(baselines: dict[str, Baseline], found: Properties) -> list[RandomTokens]:
    """The baseline as it is stored."""
    own = baselines[TOTAL_VARIANCE]
    rows: list[RandomTokens] = []
    for place, size in enumerate(found.sizes.tolist()):
        low, high = spread(own.l2[place])
        rows.append(
            {
                "count": size,
                "beta": size / found.tokens,
                "theta": {name: float(each.theta[place]) for name, each in baselines.items()},
                "l2": mean(own.l2[place]),
                "l2_lo": low,
                "l2_hi": high,
                "r2": mean(own.r2[place]),
            }
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What a family's properties select in a layer: μ `[P, N]` and whether it is above θ `[P]`."""

    mu: Floats
    theta: Floats
    chosen: NDArray[np.bool_]


def select(family: Family, scores: Floats, baseline: Baseline, found: Properties) -> Selected:
    """By scores of one weighting."""
    below, far = between(found.sizes, family.counts, found.tokens)
    above = np.minimum(below + 1, len(found.sizes) - 1)
    theta = (1 - far) * baseline.theta[below] + far * baseline.theta[above]
    return Selected(mu=scores, theta=theta, chosen=scores > theta[:, None])


def family_result(family: Family, own: Selected, baseline: Baseline, found: Properties, errors: Errors) -> FamilyResult:
    """The family in this layer."""
    least = least_passed(len(family))
    some = bool(len(family))
    varying = int(np.isfinite(own.mu).any(0).sum()) if some else 0
    beta = family.counts / found.tokens
    passed = own.chosen.sum(0)
    return {
        "properties": len(family),
        "empty": int((~own.chosen.any(1)).sum()) if some else 0,
        "beta": three(beta),
        "threshold": three(own.theta),
        "selected": float(own.chosen.sum(1).mean() / varying) if some and varying else None,
        "any": int((passed > 0).sum()),
        "least": least,
        "sensitive": int(is_sensitive(own).sum()),
        "highest": quantiles_of(highest(own.mu)),
        "l2": against(family, mean_over(own.chosen, errors.l2), baseline.l2, found),
        "r2": against(family, mean_over(own.chosen, errors.floored), baseline.r2, found),
        "reason": None if some else "the text has no such property often enough",
    }


def is_sensitive(own: Selected) -> NDArray[np.bool_]:
    """The neurons `[N]` that more properties select than chance allows, or one that takes away `NAMED` of their
    variance: a detector of a single n-gram is one, too."""
    properties = len(own.mu)
    if not properties:
        return np.zeros(own.mu.shape[1], dtype=np.bool_)
    return (own.chosen.sum(0) >= least_passed(properties)) | (own.chosen & (own.mu >= NAMED)).any(0)


def sensitive_family(family: Family, own: Selected) -> SensitiveFamily:
    """The neurons that are sensitive to the family, and the strongest property of each."""
    passed, neurons = own.chosen.sum(0), np.flatnonzero(is_sensitive(own))
    scores = np.where(own.chosen, own.mu, -np.inf)[:, neurons]
    best = scores.argmax(0) if len(neurons) else np.zeros(0, dtype=np.int64)
    used, place = np.unique(best, return_inverse=True)
    return {
        "neurons": neurons.tolist(),
        "passed": passed[neurons].tolist(),
        "best": place.tolist(),
        "mu": [float(f"{value:.4g}") for value in scores[best, np.arange(len(neurons))]] if len(neurons) else [],
        "names": [family.names[each] for each in used.tolist()],
        "most": most(highest(own.mu)),
        "properties": len(family),
    }


def highest(mu: Floats) -> Floats:
    """The highest μ of each neuron over properties `[P, N]`; NaN where there is none."""
    found = np.where(np.isfinite(mu), mu, -np.inf).max(0, initial=-np.inf)
    return np.where(np.isfinite(found), found, np.nan)


def most(scores: Floats) -> list[int]:
    """The tenth of the neurons that have a score whose score is highest; of equal ones the first."""
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(-scores[known], kind="stable")]
    return np.sort(order[: round(TENTH * len(known))]).tolist()


def quantiles_of(values: Floats) -> list[float]:
    known = values[np.isfinite(values)]
    return np.quantile(known, [0.1, 0.5, 0.9]).tolist() if len(known) else []


def least_passed(properties: int) -> int:
    """The fewest properties that must select a neuron so that it is called sensitive: as many or more of `properties`
    independent ones do so with a chance of at most 1 % where each selects 1 % of the neurons."""
    tail, term = 1.0, (1 - _CHANCE) ** properties
    for count in range(properties + 1):
        if tail <= _CHANCE + 1e-12:
            return max(1, count)
        tail -= term
        term *= (properties - count) / (count + 1) * _CHANCE / (1 - _CHANCE)
    return max(1, properties)


def against(family: Family, scores: Floats, random: Floats, found: Properties) -> Against:
    """Means over selected neurons by property `[P]` beside those of random tokens `[sizes, seeds]`."""
    known = scores[np.isfinite(scores)]
    chance = at_equal_beta(family, random, found)
    chance = chance[np.isfinite(chance)]
    score, expected = mean(known), mean(chance)
    low, high = spread(chance)
    result: Against = {
        "score": score, "lo": None, "hi": None, "random": expected, "random_lo": low, "random_hi": high,
        "difference": None, "difference_lo": None, "difference_hi": None, "verdict": None, "reason": None,
    }  # fmt: skip
    if score is None or expected is None or low is None or high is None:
        result["reason"] = _no_score(family, score)
        return result
    result["difference"] = score - expected
    if len(known) == 1:
        limits = score - high, score - low
    else:
        generator = np.random.default_rng(0)
        own = known[generator.integers(0, len(known), (_RESAMPLES, len(known)))].mean(1)
        drawn = chance[generator.integers(0, len(chance), (_RESAMPLES, len(chance)))].mean(1)
        result["lo"], result["hi"] = (float(x) for x in np.quantile(own, [0.025, 0.975]))
        limits = tuple(float(x) for x in np.quantile(own - drawn, [0.025, 0.975]))
    result["difference_lo"], result["difference_hi"] = limits
    result["verdict"] = _verdict(*limits)
    return result


def _verdict(low: float, high: float) -> Verdict:
    return "higher" if low > 0 else "lower" if high < 0 else "no different"


def _no_score(family: Family, score: float | None) -> str:
    if not len(family):
        return "the text has no such property often enough"
    return "no neuron with an error is selected" if score is None else "random tokens select no neuron with an error"


def at_equal_beta(family: Family, random: Floats, found: Properties) -> Floats:
    """Of each seed `[seeds]`: the mean over the family's properties of what random tokens of equal β give."""
    if not len(family) or not len(found.sizes):
        return np.zeros(0)
    below, far = between(found.sizes, family.counts, found.tokens)
    weights = np.bincount(below, 1 - far, len(found.sizes))
    weights += np.bincount(np.minimum(below + 1, len(found.sizes) - 1), far, len(found.sizes))
    known = np.isfinite(random)
    total = weights @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights @ np.where(known, random, 0.0) / np.where(total > 0, total, np.nan)


def mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def spread(values: Floats) -> tuple[float | None, float | None]:
    """What has 95 % of the values; None of fewer than two."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def three(values: Floats) -> list[float]:
    """The lowest, the median and the highest."""
    known = values[np.isfinite(values)]
    return [float(known.min()), float(np.median(known)), float(known.max())] if len(known) else []
