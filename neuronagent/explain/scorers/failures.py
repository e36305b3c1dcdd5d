"""Answers that failed: left out and counted; where too many did, there is no score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.statistics import Array

MOST_FAILED = 0.1
"""The share of answers that may fail in a set of items."""


def answered(*scores: Array) -> NDArray[np.bool_]:
    """Which items all of `scores` have a number for; each `[items]` or `[items, …]`."""
    held = [~np.isnan(values).any(axis=tuple(range(1, values.ndim))) for values in scores]
    return np.logical_and.reduce(held)


def too_many_failed(*sides: NDArray[np.bool_]) -> str | None:
    """Why there is no score, if in one of `sides` too many items have no answer; `True` is an item that has one."""
    for side in sides:
        failed = int((~side).sum())
        if failed > MOST_FAILED * len(side):
            return f"{failed} of {len(side)} answers failed"
    return None
