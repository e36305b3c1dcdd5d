"""Paired differences by token, after − before an ablation, beside those of random sets of neurons.

Of each measure: the mean change and its interval by a bootstrap over texts (tokens of one text are not independent);
the median; how many tokens went down, up, or nowhere: differences of zero are differences too and are counted. Beside
them the same of every random set, the excess over their mean with its interval, drawn from the same texts, and

    p = (1 + number of random sets at least as extreme) / (1 + number of sets)

where extreme means far from the median of all of them, the real one included: if the real set were one more random
set, each rank would be as likely. It cannot be below 1 / (1 + sets).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics import Interval, bootstrap_texts

MEASURES = ("loss", "entropy", "rank", "kl")
"""In nats; the rank of the true next token counts from 1, so that less is better."""
_DRAWS = 2000
_DRAWN_AT_ONCE = 20_000_000

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The mean changes under the random sets: their mean and range; `median`, `lower`, `higher`, `equal` are the means
    of what the sets have there; `values` one mean change per set."""

    mean: float
    lowest: float
    highest: float
    median: float
    lower: float
    higher: float
    equal: float
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class MeasureChange:
    """How one measure changed. `before` and `after` are means over tokens (None for KL, which is a difference itself);
    `lower`, `higher`, `equal` shares of the tokens. Limits are None where there is one text only."""

    before: float | None
    after: float | None
    mean: float
    mean_lo: float | None
    mean_hi: float | None
    median: float
    lower: float
    higher: float
    equal: float
    baseline: Baseline | None
    excess: float | None
    excess_lo: float | None
    excess_hi: float | None
    p: float | None


def changes(
    texts: NDArray[np.int64], before: Mapping[str, Values], after: Sequence[Mapping[str, Values]], *, seed: int
) -> dict[str, MeasureChange]:
    """What changed, by measure: `texts` `[T]` says which text a token is of, values are `[T]`; `after` has the real
    ablation first, then those of the random sets."""
    found: dict[str, MeasureChange] = {}
    for name in MEASURES:
        is_difference = name == "kl"
        differences = [own[name] if is_difference else own[name] - before[name] for own in after]
        found[name] = _change(texts, differences, None if is_difference else before[name], seed)
    return found


def rank_p(real: float, baselines: Sequence[float]) -> float | None:
    """The share of all sets that are at least as far from their median as the real one; None without random sets."""
    if not baselines:
        return None
    pooled = np.array([real, *baselines])
    distance = np.abs(pooled - np.median(pooled))
    return float((distance >= distance[0]).mean())


def _change(texts: NDArray[np.int64], differences: Sequence[Values], before: Values | None, seed: int) -> MeasureChange:
    real, others = differences[0], differences[1:]
    mean = float(real.mean())
    limits = _interval(texts, real, seed)
    means = [float(other.mean()) for other in others]
    excess = real - np.mean(others, axis=0) if others else None
    beyond = None if excess is None else _interval(texts, excess, seed)
    lower, higher, equal = _shares(real)
    return MeasureChange(
        before=None if before is None else float(before.mean()),
        after=None if before is None else float(before.mean()) + mean,
        mean=mean,
        mean_lo=limits.lo if limits else None,
        mean_hi=limits.hi if limits else None,
        median=float(np.median(real)),
        lower=lower,
        higher=higher,
        equal=equal,
        baseline=_baseline(others, means) if others else None,
        excess=None if excess is None else float(excess.mean()),
        excess_lo=beyond.lo if beyond else None,
        excess_hi=beyond.hi if beyond else None,
        p=rank_p(mean, means),
    )


def _baseline(others: Sequence[Values], means: Sequence[float]) -> Baseline:
    lower, higher, equal = np.mean([_shares(other) for other in others], axis=0).tolist()
    return Baseline(
        mean=float(np.mean(means)),
        lowest=min(means),
        highest=max(means),
        median=float(np.mean([np.median(other) for other in others])),
        lower=lower,
        higher=higher,
        equal=equal,
        values=tuple(means),
    )


def _shares(differences: Values) -> tuple[float, float, float]:
    return float((differences < 0).mean()), float((differences > 0).mean()), float((differences == 0).mean())


def _interval(texts: NDArray[np.int64], values: Values, seed: int) -> Interval | None:
    """Of the mean over tokens, texts being drawn whole; None for a single text."""
    _, numbers = np.unique(texts, return_inverse=True)
    sums = np.bincount(numbers, weights=values).astype(np.float64)
    sizes = np.bincount(numbers).astype(np.float64)
    if len(sums) < 2:
        return None
    draws = max(200, min(_DRAWS, _DRAWN_AT_ONCE // len(sums)))
    return bootstrap_texts(np.arange(len(sums)), _ratio(sums, sizes), draws, seed)


def _ratio(sums: Values, sizes: Values) -> Callable[[Values], Values]:
    return lambda counts: (counts @ sums) / (counts @ sizes)
