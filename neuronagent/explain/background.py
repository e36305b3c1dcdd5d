"""The corpus that rules are measured against, and the marked tokens of windows, both as positions of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Text
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import Condition, Positions, TokenShapes

_CORPUS_TOKENS = 60_000


class Background:
    """The corpus that rules are measured against: a fixed part of the explain split, and all of its token counts."""

    def __init__(self, shapes: TokenShapes, texts: Sequence[Text], token_counts: NDArray[np.int64]) -> None:
        self.shapes = shapes
        self.positions = corpus_positions(texts, shapes)
        self.share = token_counts / max(1, int(token_counts.sum()))
        """Share of each token id `[V]` among the tokens of the explain split."""

    def rate(self, conditions: Sequence[Condition]) -> float:
        """Share of the background's tokens (position 0 left out) at which all `conditions` hold."""
        if not len(self.positions):
            return 0.0
        return float(np.logical_and.reduce([condition.holds(self.positions) for condition in conditions]).mean())


def corpus_positions(texts: Sequence[Text], shapes: TokenShapes) -> Positions:
    """Every position but the first of about `_CORPUS_TOKENS` tokens at most, of texts evenly spaced over all."""
    total = sum(len(text.token_ids) for text in texts)
    chosen = texts[:: max(1, math.ceil(total / _CORPUS_TOKENS))]
    everywhere = Positions.of_texts([text.token_ids for text in chosen], shapes)
    return everywhere.at(np.flatnonzero(everywhere.back(1) >= 0))


def positions_of(windows: Sequence[Window], shapes: TokenShapes) -> Positions:
    """The marked tokens of `windows`, as positions of their texts."""
    texts = {w.text.text_id: w.text.token_ids for w in windows}
    starts = dict(zip(texts, np.cumsum([0, *(len(ids) for ids in texts.values())]).tolist(), strict=False))
    chosen = np.array([starts[w.text.text_id] + w.position for w in windows], dtype=np.int64)
    return Positions.of_texts(list(texts.values()), shapes).at(chosen)
