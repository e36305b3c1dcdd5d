"""What all scorers score: something that gives a window a number, higher where it should fire."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.evidence import Window
from neuronagent.explain.features import TextFeatures, TokenShapes

Predictor = Callable[[Sequence[Window]], NDArray[np.float64]]
"""Scores `[windows]`, one for each."""


def from_text(shapes: TokenShapes, score: Callable[[TextFeatures], NDArray[np.float64]]) -> Predictor:
    """A predictor from a function that scores every position of a text."""
    cache: dict[int, NDArray[np.float64]] = {}

    def predict(windows: Sequence[Window]) -> NDArray[np.float64]:
        scores = np.empty(len(windows))
        for place, window in enumerate(windows):
            text = window.text
            if text.text_id not in cache:
                cache[text.text_id] = score(TextFeatures(np.array(text.token_ids), shapes))
            scores[place] = cache[text.text_id][window.position]
        return scores

    return predict


def empty(windows: Sequence[Window]) -> NDArray[np.float64]:
    """The control that says nothing: the same score for every window."""
    return np.full(len(windows), 0.5)
