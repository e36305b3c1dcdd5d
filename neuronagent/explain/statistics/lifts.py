"""How far a score lies above those of its controls, paired over the same items and resamples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuronagent.explain.statistics.common import Array, Interval, Texts, Values, column
from neuronagent.explain.statistics.ranking import auroc, auroc_interval
from neuronagent.explain.statistics.resampling import check_draws, percentiles, resample


@dataclass(frozen=True, kw_only=True)
class Lift:
    """How far an AUROC lies above those of its controls; `strongest` names the best one on the items themselves."""

    auroc: float
    control_auroc: Mapping[str, float]
    over: Mapping[str, Interval]
    strongest: str
    over_strongest: Interval


def lift(
    positive: Values,
    negative: Values,
    controls: Mapping[str, tuple[Values, Values]],
    positive_texts: Texts,
    negative_texts: Texts,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Lift:
    """AUROC minus each control's AUROC and minus the strongest's, paired: all see the same items and resamples.

    `controls` has (positive scores, negative scores) by name, item for item as those of the explanation. Texts are
    drawn within positives and within negatives. The AUROC of a draw is p'Cn/(Σp·Σn), with multiplicities p and n and
    C the matrix of pairwise comparisons (1, ½, 0). *Over the strongest*: each draw subtracts its own best control, as
    choosing the best is part of what is uncertain. An AUROC that no draw moves (perfect separation) is no certainty:
    the margin of its `auroc_interval` is then added in quadrature (MOVER), unless the scores are constant, when the
    AUROC is ½ by construction.

    Raises:
        ValueError: no positives, negatives, controls or draws, NaN, or not as many scores or texts as items.
    """
    if not controls:
        raise ValueError("no controls to lift over")
    check_draws(draws)
    scores = [(column(p, "positives"), column(n, "negatives")) for p, n in [(positive, negative), *controls.values()]]
    shape = (len(positive_texts), len(negative_texts))
    if any((p.size, n.size) != shape for p, n in scores):
        raise ValueError("the explanation, its controls and the texts do not have the same items")
    generator = np.random.default_rng(seed)
    p_counts = resample(positive_texts, draws, generator)
    n_counts = resample(negative_texts, draws, generator)
    drawn = np.stack([_resampled_auroc(p, n, p_counts, n_counts) for p, n in scores])
    values = [auroc(p, n) for p, n in scores]
    margins = [_unmoved_margin(p, n, row, level) for (p, n), row in zip(scores, drawn, strict=True)]
    best = 1 + int(np.argmax(values[1:]))

    def over(other: int, other_drawn: Array) -> Interval:
        seen = percentiles(values[0] - values[other], drawn[0] - other_drawn, level)
        same = all(np.array_equal(a, b) for a, b in zip(scores[0], scores[other], strict=True))
        return seen if same else _widened(seen, margins[0], margins[other])

    return Lift(
        auroc=values[0],
        control_auroc=dict(zip(controls, values[1:], strict=True)),
        over={name: over(i, drawn[i]) for i, name in enumerate(controls, start=1)},
        strongest=list(controls)[best - 1],
        over_strongest=over(best, drawn[1:].max(axis=0)),
    )


def _resampled_auroc(positive: Array, negative: Array, p_counts: Array, n_counts: Array) -> Array:
    difference = positive[:, None] - negative[None, :]
    compared = (difference > 0) + 0.5 * (difference == 0)
    return ((p_counts @ compared) * n_counts).sum(axis=1) / (p_counts.sum(axis=1) * n_counts.sum(axis=1))


def _unmoved_margin(positive: Array, negative: Array, drawn: Array, level: float) -> tuple[float, float]:
    """How far the AUROC may lie below and above where resampling cannot tell, else nothing."""
    constant = np.ptp(np.concatenate([positive, negative])) == 0
    if constant or np.ptp(drawn) > 1e-12:
        return 0.0, 0.0
    alone = auroc_interval(positive, negative, level)
    return alone.value - alone.lo, alone.hi - alone.value


def _widened(seen: Interval, own: tuple[float, float], other: tuple[float, float]) -> Interval:
    lo = seen.value - math.hypot(seen.value - seen.lo, own[0], other[1])
    hi = seen.value + math.hypot(seen.hi - seen.value, own[1], other[0])
    return Interval(seen.value, max(-1.0, lo), min(1.0, hi))
