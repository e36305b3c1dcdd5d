"""Correlation of grades with the truth over tokens that are sampled by text, and the R² of a calibration.

Tokens of one text are not independent, so that texts are what is drawn. Tokens stand for strata of the corpus whose
sizes are exact (`strata`); every draw weights its own tokens anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics.common import Array, Interval
from neuronagent.explain.statistics.resampling import percentiles, resample_strata, text_numbers
from neuronagent.explain.statistics.strata import stratum_weights

_NO_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """`grades` and `truth` `[tokens]`, the `texts` that they are of, and of each whether its text was `chosen` for its
    strength and not at random. `strata` `[tokens]` are places in `totals`, the sizes of the strata in the corpus."""

    grades: Array
    truth: Array
    texts: NDArray[np.integer]
    chosen: NDArray[np.bool_]
    strata: NDArray[np.intp]
    totals: Array


@dataclass(frozen=True, kw_only=True)
class Line:
    """truth ≈ intercept + slope · grade."""

    slope: float
    intercept: float


def pearson(tokens: Tokens, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Pearson's r of grades and truth over the corpus that the strata make up.

    Raises:
        ValueError: no tokens, one text, or no variance, which says of what.
    """
    _check_variance(tokens.truth, "truth")
    _check_variance(tokens.grades, "grades")
    x, y = tokens.grades - tokens.grades.mean(), tokens.truth - tokens.truth.mean()
    sums = _TextSums(tokens, [np.ones_like(x), x, y, x * x, y * y, x * y])
    return _interval(sums, _correlation, draws, seed, level)


def r_squared(tokens: Tokens, line: Line, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """1 − Σ w(s − ŝ)²/Σ w(s − s̄)² with ŝ on the line; below 0 where the mean alone is nearer.

    Raises:
        ValueError: no tokens, one text, or a truth without variance.
    """
    _check_variance(tokens.truth, "truth")
    y = tokens.truth - tokens.truth.mean()
    errors = tokens.truth - line.intercept - line.slope * tokens.grades
    sums = _TextSums(tokens, [np.ones_like(y), y, y * y, errors * errors])
    return _interval(sums, _explained, draws, seed, level)


def fitted_line(tokens: Tokens) -> Line:
    """The weighted least-squares line.

    Raises:
        ValueError: no tokens, or grades without variance.
    """
    _check_variance(tokens.grades, "grades")
    means = float(tokens.grades.mean()), float(tokens.truth.mean())
    x, y = tokens.grades - means[0], tokens.truth - means[1]
    sums = _TextSums(tokens, [np.ones_like(x), x, y, x * x, x * y])
    total, sx, sy, sxx, sxy = (float(part) for part in sums.weighted(np.ones((1, sums.texts)))[0])
    variance = sxx - sx * sx / total
    if variance <= _NO_VARIANCE * sxx:
        raise ValueError("the grades have no variance")
    slope = (sxy - sx * sy / total) / variance
    return Line(slope=slope, intercept=sy / total + means[1] - slope * (sx / total + means[0]))


class _TextSums:
    """Sums of columns by text and stratum, from which the weighted sums of any draw of texts follow."""

    def __init__(self, tokens: Tokens, columns: list[Array]) -> None:
        numbers = text_numbers(tokens.texts.tolist())
        self.texts = int(numbers.max()) + 1
        self.chosen = np.zeros(self.texts, dtype=np.bool_)
        np.logical_or.at(self.chosen, numbers, tokens.chosen)
        # Strata that no token is of go to their neighbours at once: only the others can be empty in some draws alone.
        present, places = np.unique(tokens.strata, return_inverse=True)
        sampled = np.bincount(tokens.strata, minlength=len(tokens.totals)).astype(np.float64)
        self.totals = (stratum_weights(sampled, tokens.totals) * sampled)[present]
        cells, shape = numbers * len(present) + places, (self.texts, len(present))
        self.counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        sums = [np.bincount(cells, column, minlength=shape[0] * shape[1]).reshape(shape) for column in columns]
        self.sums = np.stack(sums, axis=2)  # (texts, strata, columns)

    def weighted(self, drawn: Array) -> Array:
        """`[draws, texts]` multiplicities → `[draws, columns]`."""
        weights = stratum_weights(drawn @ self.counts, self.totals)
        return np.stack(
            [((drawn @ self.sums[:, :, c]) * weights).sum(axis=1) for c in range(self.sums.shape[2])], axis=1
        )


def _check_variance(values: Array, what: str) -> None:
    if not values.size:
        raise ValueError("no tokens")
    if np.ptp(values) <= _NO_VARIANCE * np.abs(values).max(initial=0.0):
        raise ValueError(f"the {what} {'have' if what == 'grades' else 'has'} no variance")


def _correlation(sums: Array) -> Array:
    total, x, y, xx, yy, xy = sums.T
    vx, vy = xx - x * x / total, yy - y * y / total
    defined = (vx > _NO_VARIANCE * xx) & (vy > _NO_VARIANCE * yy)
    scale = np.sqrt(np.where(defined, vx * vy, 1.0))
    return np.where(defined, np.clip((xy - x * y / total) / scale, -1.0, 1.0), np.nan)


def _explained(sums: Array) -> Array:
    total, y, yy, errors = sums.T
    variance = yy - y * y / total
    defined = variance > _NO_VARIANCE * yy
    return np.where(defined, 1 - errors / np.where(defined, variance, 1.0), np.nan)


def _interval(sums: _TextSums, statistic: Callable[[Array], Array], draws: int, seed: int, level: float) -> Interval:
    if sums.texts < 2:
        raise ValueError("all tokens are of one text: there is nothing to resample")
    value = float(statistic(sums.weighted(np.ones((1, sums.texts))))[0])
    counts = resample_strata(range(sums.texts), sums.chosen, draws, seed)
    return percentiles(value, statistic(sums.weighted(counts)), level)
