"""The corpus that rules are measured against, and the marked tokens of windows, both as positions of texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Text
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import NEARBY, Condition, Positions, TokenShapes

CORPUS_TOKENS = 60_000
"""About so many tokens of evenly spaced texts stand for a split of the corpus."""
_COLUMNS_KEPT = 4096
"""Columns of 7.5 kB each."""

Bits = NDArray[np.uint64]


class Background:
    """The corpus that rules are measured against: a fixed part of the explain split, and all of its token counts.

    Thousands of conjunctions are measured per neuron. Each condition is a column of bits, a token's one is kept for
    the next neuron, and a conjunction is the number of bits that its columns share.
    """

    def __init__(self, shapes: TokenShapes, texts: Sequence[Text], token_counts: NDArray[np.int64]) -> None:
        self.shapes = shapes
        self.counts = token_counts
        """How often each token id `[V]` occurs in the explain split."""
        self.share = token_counts / max(1, int(token_counts.sum()))
        """Share of each token id `[V]` among the tokens of the explain split."""
        self.positions = corpus_positions(texts, shapes)
        self._column = lru_cache(maxsize=_COLUMNS_KEPT)(self._packed)
        self._where = [_Places(self.positions.back(step)) for step in range(NEARBY + 1)]

    def rate(self, conditions: Sequence[Condition]) -> float:
        """Share of the background's tokens (position 0 left out) at which all `conditions` hold."""
        return self.share_of(np.bitwise_and.reduce([self.bits(condition) for condition in conditions]))

    def share_of(self, bits: Bits) -> float:
        """How many of the background's tokens a column has, as a share."""
        return int(np.bitwise_count(bits).sum()) / max(1, len(self.positions))

    def bits(self, condition: Condition) -> Bits:
        """Where a condition holds, as a column."""
        if not condition.tokens:
            return self._column(condition.kind, condition.name)
        columns = [self._column(condition.kind, tokens) for tokens in condition.tokens]
        return columns[0] if len(columns) == 1 else np.bitwise_or.reduce(columns)

    def _packed(self, kind: str, what: str | tuple[int, ...]) -> Bits:
        """One shape, place, token or pair as bits, in words of 64; those beyond the end are 0."""
        held = np.zeros(-(-len(self.positions) // 64) * 64, dtype=np.bool_)
        if isinstance(what, str):
            held[: len(self.positions)] = Condition(kind=kind, name=what).holds(self.positions)
        elif kind == "pair":
            there = self._where[0].of(what[1])
            held[there[self.positions.back(1)[there] == what[0]]] = True
        else:
            for step in {"token": (0,), "previous": (1,), "nearby": range(1, NEARBY + 1)}[kind]:
                held[self._where[step].of(what[0])] = True
        return np.packbits(held).view(np.uint64)


class _Places:
    """Where each token id is among the positions."""

    def __init__(self, ids: NDArray[np.int64]) -> None:
        self._order = np.argsort(ids, kind="stable").astype(np.int32)
        self._sorted = ids[self._order].astype(np.int32)

    def of(self, token: int) -> NDArray[np.int32]:
        first, end = self._sorted.searchsorted((token, token + 1))
        return self._order[first:end]


def corpus_positions(texts: Sequence[Text], shapes: TokenShapes) -> Positions:
    """Every position of `texts` but the first."""
    everywhere = Positions.of_texts([text.token_ids for text in texts], shapes)
    return everywhere.at(np.flatnonzero(everywhere.back(1) >= 0))


def positions_of(windows: Sequence[Window], shapes: TokenShapes) -> Positions:
    """The marked tokens of `windows`, as positions of their texts."""
    return Positions.chosen([(w.text.token_ids, w.position) for w in windows], shapes)
