"""How far a score lies above those of its controls, paired over the same items and resamples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from neuronagent.explain.statistics.common import Array, Interval, Texts, Values, column
from neuronagent.explain.statistics.ranking import auroc, auroc_interval
from neuronagent.explain.statistics.resampling import check_draws, percentiles_of_rows, resample, text_numbers

_EXACT_IN_FLOAT32 = 2**24


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
    counts = _counts(_numbers(positive_texts), _numbers(negative_texts), draws, seed)
    drawn = _resampled_aurocs(scores, *counts)
    values = [auroc(p, n) for p, n in scores]
    margins = [_unmoved_margin(p, n, row, level) for (p, n), row in zip(scores, drawn, strict=True)]
    best = 1 + int(np.argmax(values[1:]))
    compared = [*range(1, len(scores)), best]
    differences = drawn[0] - np.concatenate([drawn[1:], drawn[1:].max(axis=0, keepdims=True)])
    seen = percentiles_of_rows([values[0] - values[other] for other in compared], differences, level)

    def over(other: int, interval: Interval) -> Interval:
        same = all(np.array_equal(a, b) for a, b in zip(scores[0], scores[other], strict=True))
        return interval if same else _widened(interval, margins[0], margins[other])

    *over_each, over_strongest = [over(other, interval) for other, interval in zip(compared, seen, strict=True)]
    return Lift(
        auroc=values[0],
        control_auroc=dict(zip(controls, values[1:], strict=True)),
        over=dict(zip(controls, over_each, strict=True)),
        strongest=list(controls)[best - 1],
        over_strongest=over_strongest,
    )


def _numbers(texts: Texts) -> tuple[int, ...]:
    return tuple(text_numbers(texts).tolist())


@lru_cache(maxsize=4)
def _counts(positive: tuple[int, ...], negative: tuple[int, ...], draws: int, seed: int) -> tuple[Array, Array]:
    """Multiplicities of positives and of negatives `[draws, items]`, kept as the same items are compared again."""
    generator = np.random.default_rng(seed)
    return resample(positive, draws, generator), resample(negative, draws, generator)


def _resampled_aurocs(scores: Sequence[tuple[Array, Array]], p_counts: Array, n_counts: Array) -> Array:
    """`[scores, draws]`. Sums of halves are exact in any order and precision that can hold them."""
    pairs = p_counts.sum(axis=1) * n_counts.sum(axis=1)
    exact = np.float32 if 2 * pairs.max() < _EXACT_IN_FLOAT32 else np.float64
    p_rows, n_rows = p_counts.astype(exact), n_counts.astype(exact)
    drawn = np.empty((len(scores), len(pairs)))
    for row, (positive, negative) in enumerate(scores):
        difference = positive[:, None] - negative[None, :]
        compared = ((difference > 0) + 0.5 * (difference == 0)).astype(exact)
        drawn[row] = np.einsum("ij,ij->i", p_rows @ compared, n_rows)
    return drawn / pairs


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
