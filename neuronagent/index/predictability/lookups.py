"""What the token alone, the token before it, or the position says of a neuron: means of post by key, shrunk.

A key is a token id, the id before, or a position. A neuron's mean at a key that occurs n times among the fitted tokens
is drawn towards its mean over all of them by empirical Bayes,

    ĝ(key) = m + (mean at the key − m) · n ÷ (n + κ),    κ = σ²_within ÷ σ²_between,

so that a key seen once says little where tokens of one key differ much, and all where they do not. Both variances are
the estimates of a one-way analysis of variance over unequal groups (Searle, Casella and McCulloch 1992, § 3.6): of each
neuron alone. A key that was never seen says m; so do all where σ²_between is not above 0.

Tables have rows only for the keys that are wanted, those of the scored text: others are not counted at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.predictability.scores import MEAN


class Keys:
    """Places of wanted keys in tables: `[T]` keys → `[T]` places, `len(keys)` for one that is not wanted."""

    def __init__(self, wanted: NDArray[np.int64]) -> None:
        self.wanted = np.unique(wanted)

    def __len__(self) -> int:
        return len(self.wanted)

    def places(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each key is."""
        if not len(self.wanted):
            return np.zeros(len(keys), dtype=np.int64)
        found = np.searchsorted(self.wanted, keys)
        found[found == len(self.wanted)] = 0
        return np.where(self.wanted[found] == keys, found, len(self.wanted))


BaselineKeys = Mapping[str, Keys]
"""The wanted keys of each predictor that looks one up."""


class Lookup:
    """Sums of one layer's neurons by key, then a table. `centre` `[N]` float64 is about their mean, for precision."""

    def __init__(self, keys: int, centre: Tensor) -> None:
        self._centre = centre
        rows = keys + 1  # the last one for keys that are not wanted
        self._sums = torch.zeros(rows, len(centre), dtype=torch.float64, device=centre.device)
        self._counts = torch.zeros(rows, dtype=torch.float64, device=centre.device)
        self._squares = torch.zeros_like(centre)
        self._table: Tensor | None = None

    @staticmethod
    def bytes_needed(keys: int, neurons: int) -> int:
        """What a table takes, and as much again while it is finished."""
        return 2 * 8 * (keys + 1) * neurons

    def update(self, places: Tensor, centred: Tensor) -> None:
        """Take in T tokens: places of their keys `[T]` and post less `centre`, `[T, N]` float64."""
        self._sums.index_add_(0, places, centred)
        self._counts += torch.bincount(places, minlength=len(self._counts)).to(self._counts)
        self._squares += (places < len(self._counts) - 1).to(centred) @ centred.square()

    def finish(self, mean: Tensor) -> None:
        """Make the table; `mean` `[N]` float64 is that over all tokens."""
        counts, sums = self._counts[:-1], self._sums[:-1]
        shrinking = shrinkage(counts, sums, self._squares)  # κ (N)
        own = mean - self._centre
        weight = counts[:, None] / (counts[:, None] + shrinking)  # 0 where κ is infinite
        weight = torch.where(counts[:, None] > 0, weight, 0.0)
        sums /= counts.clamp(min=1)[:, None]
        sums -= own
        sums *= weight
        self._sums[-1] = 0.0
        self._sums += mean
        self._table = self._sums

    def __call__(self, places: Tensor) -> Tensor:
        """What is said at T tokens by the places of their keys: `[T, N]` float64."""
        if self._table is None:
            raise ValueError("the table is not finished")
        return self._table[places]


def shrinkage(counts: Tensor, sums: Tensor, squares: Tensor) -> Tensor:
    """κ `[N]` of keys with `counts` `[K]`, sums of values `[K, N]` and Σ of all squares `[N]`: infinite where keys do
    not differ more than tokens of one key make them, or nothing can be told."""
    seen = counts > 0
    n, groups = float(counts.sum()), int(seen.sum())
    unknown = torch.full_like(squares, torch.inf)
    if groups < 2 or n <= groups:
        return unknown
    between = (sums.square() / counts.clamp(min=1)[:, None]).sum(0)
    total = sums.sum(0)
    within_ms = (squares - between).clamp(min=0.0) / (n - groups)
    between_ms = (between - total.square() / n).clamp(min=0.0) / (groups - 1)
    size = (n - float(counts.square().sum()) / n) / (groups - 1)
    variance = (between_ms - within_ms) / size
    # What is left of the squares by rounding is no variance within.
    exact = within_ms <= 1e-14 * squares / n
    found = torch.where(exact, 0.0, within_ms / variance)
    return torch.where(variance > 0, found, unknown)


class Baselines:
    """What is foretold of one layer without another layer: its mean, and by token, token before and position."""

    def __init__(self, keys: BaselineKeys, neurons: int, device: torch.device) -> None:
        self._keys, self._neurons, self._device = keys, neurons, device
        self._lookups: dict[str, Lookup] = {}
        self._sum, self._count = torch.zeros(neurons, dtype=torch.float64, device=device), 0
        self._centre: Tensor | None = None
        self.mean: Tensor | None = None
        """`[N]` float64 over all fitted tokens, once finished."""

    @staticmethod
    def bytes_needed(keys: BaselineKeys, neurons: int) -> int:
        """What the tables of a layer take."""
        return sum(Lookup.bytes_needed(len(each), neurons) for each in keys.values())

    def update(self, keys: Mapping[str, NDArray[np.int64]], post: Tensor) -> None:
        """Take in T fitted tokens: their keys `[T]` by predictor, and `post` `[T, N]`."""
        post = post.to(device=self._device, dtype=torch.float64)
        if self._centre is None:
            self._centre = post.mean(0)
            self._lookups = {name: Lookup(len(wanted), self._centre) for name, wanted in self._keys.items()}
        centred = post - self._centre
        for name, wanted in self._keys.items():
            self._lookups[name].update(torch.from_numpy(wanted.places(keys[name])).to(self._device), centred)
        self._sum += centred.sum(0)
        self._count += len(post)

    def finish(self) -> Tensor:
        """Make the tables; the mean `[N]`.

        Raises:
            ValueError: no token was taken in.
        """
        if self._centre is None:
            raise ValueError("there are no tokens to look anything up in")
        self.mean = self._centre + self._sum / self._count
        for lookup in self._lookups.values():
            lookup.finish(self.mean)
        return self.mean

    def __call__(self, keys: Mapping[str, NDArray[np.int64]]) -> dict[str, Tensor]:
        """What each of them says at T tokens: `[T, N]` float64, the mean `[N]`."""
        if self.mean is None:
            raise ValueError("the tables are not finished")
        found = {
            name: self._lookups[name](torch.from_numpy(wanted.places(keys[name])).to(self._device))
            for name, wanted in self._keys.items()
        }
        return {MEAN: self.mean, **found}
