"""How surprising a count in a table of two properties is: the one-sided mid-p of Fisher's exact test, as a number of
standard deviations.

Most roles are of some dozens among hundreds of thousands of neurons, so that less than one neuron is expected in many
cells; residuals, which suppose a normal distribution, then say 10 standard deviations of a single neuron.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_LEAST_P = 1e-300


def deviation(count: int, row: int, column: int, total: int) -> float | None:
    """The z of which a normal variable exceeds as rarely as `count` neurons of both are reached if `row` and `column`
    of `total` neurons are drawn independently; negative where there are too few, between −37 and 37. None where either
    has no or all neurons, and the count could be no other."""
    low, high = max(0, row + column - total), min(row, column)
    if low == high:
        return None
    more = count * total >= row * column
    there = np.arange(count, high + 1) if more else np.arange(low, count + 1)
    logs = _log_factorials(total)
    chosen = (
        logs[row] - logs[there] - logs[row - there]
        + logs[total - row] - logs[column - there] - logs[total - row - column + there]
        - (logs[total] - logs[column] - logs[total - column])
    )  # fmt: skip
    own = 0 if more else -1
    chosen[own] -= math.log(2)  # mid-p: half of what is just reached
    most = float(chosen.max())
    p = math.exp(most) * float(np.exp(chosen - most).sum())
    z = -NormalDist().inv_cdf(min(0.5, max(_LEAST_P, p)))
    return (z if more else -z) + 0.0


@lru_cache(maxsize=4)
def _log_factorials(total: int) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
