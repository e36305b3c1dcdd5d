"""What all scorers score: something that gives a window a number, higher where it should fire."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.evidence import Window

Predictor = Callable[[Sequence[Window]], NDArray[np.float64]]
"""Scores `[windows]`, one for each."""


def empty(windows: Sequence[Window]) -> NDArray[np.float64]:
    """The control that says nothing: the same score for every window."""
    return np.full(len(windows), 0.5)
