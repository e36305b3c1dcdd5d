"""What the model itself did at tokens that scoring asks about, beyond those that the index sampled.

An index knows a neuron at its strongest and its sampled tokens. Harder negatives (the same peak token elsewhere, the
closest texts, other tokens of the same texts) and every token of a window that is simulated need a forward pass. It is
made once for many neurons (`service.tracing`) and stored; from then on no model is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, QUANTITIES, Quantity, SignCombination, Split

PLAN_VERSION = "trace-v1"
"""Changes whenever the same index would have other tokens traced (`trace_plan`); older ones are then not used."""

_POST, _X_IN, _X_GATE = (QUANTITIES.index(q) for q in (Quantity.POST, Quantity.X_IN, Quantity.X_GATE))

Sets = Mapping[Split, Mapping[SignCombination, Mapping[str, tuple[int, ...]]]]
"""Corpus token numbers of the marked tokens, by split, combination and item set (`items.N2`, `items.N3`, …), in the
order in which they are to be used."""


@dataclass(frozen=True, kw_only=True)
class TracedTokens:
    """One neuron at chosen tokens: their corpus token `numbers` `[n]`, ascending, and `values` `[n, 4]`, quantities in
    the order of `domain.QUANTITIES` and in the index's sign convention. `sets` names those that are items."""

    numbers: NDArray[np.int64]
    values: NDArray[np.float32]
    sets: Sets

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each of `numbers` is, −1 for one that was not traced."""
        if not len(self.numbers):
            return np.full(len(numbers), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        return np.where(self.numbers[found] == numbers, found, -1)

    def at(self, number: int) -> tuple[SignCombination | None, float] | None:
        """The combination and `post` at a token, the combination None for an exact zero; None if it was not traced."""
        place = int(self.places(np.array([number]))[0])
        if place < 0:
            return None
        return combination_of(self.values[place]), float(self.values[place, _POST])

    def strengths(self, start: int, end: int, combination: SignCombination) -> NDArray[np.float64] | None:
        """|post|·1[in `combination`] at the tokens `[start, end)`; None unless all of them were traced."""
        places = self.places(np.arange(start, end, dtype=np.int64))
        if (places < 0).any():
            return None
        values = self.values[places]
        member = (values[:, _X_GATE] * combination.gate_sign > 0) & (values[:, _X_IN] * combination.in_sign > 0)
        return np.where(member, np.abs(values[:, _POST]), 0.0).astype(np.float64)


def combination_of(values: NDArray[np.float32]) -> SignCombination | None:
    """The combination of one token's four values; None where gate or in is exactly 0."""
    gate, linear = float(values[_X_GATE]), float(values[_X_IN])
    if gate == 0 or linear == 0:
        return None
    return next(c for c in COMBINATIONS if c.gate_sign * gate > 0 and c.in_sign * linear > 0)
