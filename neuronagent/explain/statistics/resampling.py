"""The bootstrap over texts, for statistics that have no formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics.common import Array, Interval, Labels, Texts


def check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError("no draws")


def text_numbers(texts: Iterable[Hashable]) -> NDArray[np.intp]:
    """Texts as numbers from zero, in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.intp)


def resample(texts: Texts, draws: int, generator: np.random.Generator) -> Array:
    """How often each item occurs when as many texts as there are get drawn with replacement: (draws, items)."""
    numbers = text_numbers(texts)
    n_texts = int(numbers.max()) + 1
    chosen = generator.integers(n_texts, size=(draws, n_texts)) + n_texts * np.arange(draws)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=draws * n_texts).reshape(draws, n_texts)
    return counts[:, numbers].astype(np.float64)


def resample_strata(groups: Texts, strata: Labels | None, draws: int, seed: int) -> Array:
    """`_resample` within each stratum, so that every draw has as many texts of each: (draws, items)."""
    check_draws(draws)
    generator = np.random.default_rng(seed)
    if strata is None:
        return resample(groups, draws, generator)
    labels, counts = np.asarray(strata, dtype=bool), np.zeros((draws, len(groups)))
    for label in (True, False):
        members = np.flatnonzero(labels == label)
        if members.size:
            counts[:, members] = resample([groups[int(i)] for i in members], draws, generator)
    return counts


def percentiles(value: float, drawn: Array, level: float) -> Interval:
    """The percentile interval of the defined draws, stretched to hold the estimate itself."""
    defined = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or 2 * defined.size < drawn.size:
        raise ValueError("the statistic is undefined on these items or on most of their resamples")
    lo, hi = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, min(float(lo), value), max(float(hi), value))


def percentiles_of_rows(values: Sequence[float], drawn: Array, level: float) -> list[Interval]:
    """`percentiles` of each row of `drawn` `[values, draws]`, all of it finite."""
    lo, hi = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1).tolist()
    return [Interval(value, min(low, value), max(high, value)) for value, low, high in zip(values, lo, hi, strict=True)]


def bootstrap_texts(
    groups: Texts,
    statistic: Callable[[Array], Array],
    draws: int = 2000,
    seed: int = 0,
    *,
    strata: Labels | None = None,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of Efron (1979) with texts as the units that are drawn (Field and Welsh 2007).

    `groups` names the text of each item. `statistic` takes multiplicities (rows, items), how often each item occurs,
    and returns one number per row, NaN where it is undefined: all draws are one call. With `strata`, one label per
    item, texts are drawn within each label. At n = 10 this covers far less than `level` for a plain rate: use
    `wilson` for those.

    Raises:
        ValueError: no items, no draws, one text, or a statistic undefined on the items or on most draws.
    """
    if not len(groups) or (strata is not None and len(strata) != len(groups)):
        raise ValueError("no items, or not one stratum for each")
    counts = resample_strata(groups, strata, draws, seed)
    if (counts == 1).all():
        raise ValueError("all items are of one text: there is nothing to resample")
    value = float(statistic(np.ones((1, len(groups))))[0])
    return percentiles(value, statistic(counts), level)
