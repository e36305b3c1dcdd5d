"""The state of one layer's recording: counts, sums, extremes, histograms, top lists and samples of N neurons.

Its size depends on the model and k alone: 7.5 kB per neuron at k = 16, in the shapes of `layout.LayerActivations`. It
is a commutative monoid (`merge`), so that shards and restarts agree: lists and samples are kept under total orders,
everything else adds or takes extremes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from neuronagent.domain import COMBINATIONS, QUANTITIES, SPLITS
from neuronagent.hashing import uniform_bits
from neuronagent.index import lists
from neuronagent.index.lists import BoundedLists
from neuronagent.layout import HISTOGRAM_BINS, LayerActivations

_COMBINATIONS, _SPLITS, _QUANTITIES = len(COMBINATIONS), len(SPLITS), len(QUANTITIES)


class LayerState:
    """What was recorded of N neurons so far; `sign` `[N]` is s of the sign convention.

    Lists are groups of k entries: `post`, `uniform`, `weighted` by neuron, split and combination, `x_in` and `x_gate`
    by neuron and combination. The histogram wraps at 2³², more than a corpus may have tokens; with the tokens at
    position 0 (`first_counts`) it tells how many tokens a combination has, and so how many have an exact zero.
    """

    def __init__(self, sign: torch.Tensor, k: int, salt: str) -> None:
        n, device = len(sign), sign.device
        self.sign, self.k, self.salt = sign.float(), k, salt
        self.tokens = torch.zeros((), dtype=torch.int64, device=device)
        self.first_counts = torch.zeros(n, _COMBINATIONS, dtype=torch.int64, device=device)
        self.sums = torch.zeros(n, _COMBINATIONS, _QUANTITIES, dtype=torch.float64, device=device)
        self.minima = torch.full((n, _COMBINATIONS, _QUANTITIES), torch.inf, device=device)
        self.maxima = torch.full_like(self.minima, -torch.inf)
        self.mass = torch.zeros(n, _COMBINATIONS, dtype=torch.float64, device=device)
        self.histogram = torch.zeros(n, _SPLITS, _COMBINATIONS, HISTOGRAM_BINS, dtype=torch.int32, device=device)
        self.first_values = torch.full((n, _QUANTITIES), torch.nan, device=device)
        per_split = n * _SPLITS * _COMBINATIONS
        self.post = BoundedLists(per_split, k, lists.by_magnitude, device)
        self.x_in = BoundedLists(n * _COMBINATIONS, k, lists.by_magnitude, device)
        self.x_gate = BoundedLists(n * _COMBINATIONS, k, lists.by_magnitude, device)
        self.uniform = BoundedLists(per_split, k, self._order(lists.uniform_key), device)
        self.weighted = BoundedLists(per_split, k, self._order(lists.weighted_key), device)

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor], *, sign: torch.Tensor, k: int, salt: str) -> LayerState:
        """What `tensors` gave."""
        state = cls(sign, k, salt)
        state.load(tensors)
        return state

    _TENSORS = ("tokens", "first_counts", "sums", "minima", "maxima", "mass", "histogram", "first_values")
    _LISTS = ("post", "x_in", "x_gate", "uniform", "weighted")

    @property
    def neurons(self) -> int:
        return len(self.sign)

    @property
    def lists(self) -> tuple[BoundedLists, ...]:
        return tuple(getattr(self, name) for name in self._LISTS)

    def _order(self, key: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> lists.Order:
        def order(entries: torch.Tensor) -> torch.Tensor:
            numbers = lists.token_numbers(entries).cpu().numpy()
            bits = torch.from_numpy(uniform_bits(self.salt, numbers.reshape(-1)).reshape(numbers.shape))
            return key(bits.to(entries.device), entries)

        return order

    def tensors(self) -> dict[str, torch.Tensor]:
        """All recorded so far, as CPU tensors by name: what a checkpoint holds."""
        tensors = {name: getattr(self, name) for name in self._TENSORS}
        tensors |= {name: getattr(self, name).entries for name in self._LISTS}
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `tensors` gave."""
        for name in self._TENSORS:
            getattr(self, name).copy_(tensors[name])
        for name in self._LISTS:
            getattr(self, name).load(tensors[name].to(self.sign.device))

    def merge(self, other: LayerState) -> None:
        """Take in what was recorded of the same layer on other texts."""
        for name in ("tokens", "first_counts", "sums", "mass", "histogram"):
            getattr(self, name).add_(getattr(other, name))
        torch.minimum(self.minima, other.minima, out=self.minima)
        torch.maximum(self.maxima, other.maxima, out=self.maxima)
        torch.where(self.first_values.isnan(), other.first_values, self.first_values, out=self.first_values)
        for mine, theirs in zip(self.lists, other.lists, strict=True):
            mine.merge(theirs)

    def result(self, *, constant_first: bool) -> LayerActivations:
        """What was recorded, for the store; `constant_first`: whether every text begins with the same token."""
        n = self.neurons
        state = {name: tensor.numpy() for name, tensor in self.tensors().items()}
        histogram = state["histogram"].view(np.uint32).astype(np.int64)
        counts = histogram.sum(axis=(1, 3)) + state["first_counts"]
        empty = counts[:, :, None] == 0
        by_split = {
            name: state[name].reshape(n, _SPLITS, _COMBINATIONS, self.k) for name in ("post", "uniform", "weighted")
        }
        return LayerActivations(
            counts=counts,
            first_counts=state["first_counts"],
            zeros=state["tokens"] - counts.sum(axis=1),
            sums=state["sums"],
            minima=np.where(empty, np.nan, state["minima"]).astype(np.float32),
            maxima=np.where(empty, np.nan, state["maxima"]).astype(np.float32),
            mass=state["mass"],
            histogram=histogram,
            first_values=state["first_values"] if constant_first else None,
            x_in=state["x_in"].reshape(n, _COMBINATIONS, self.k),
            x_gate=state["x_gate"].reshape(n, _COMBINATIONS, self.k),
            **by_split,
        )
