"""Bounded lists of packed entries: the top lists and samples of every neuron, as one tensor.

`[groups, k]` int64 entries (see `layout`), a group being one list of one neuron, kept in the order of an *order*:

- `magnitude`: |value| descending — top lists;
- `uniform`: u ascending, u = hash(salt, token number) — a simple random sample of the tokens offered;
- `weighted`: |value|/u descending — priority sampling (Duffield, Lund & Thorup 2007), in proportion to |value|.

Ties go to the smaller token number, so each order is total and keeping the k first is associative and commutative:
any batches, shards or restarts end with the same lists. An entry carries all that its rank depends on, so merging
needs nothing but the entries.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuronagent.layout import EMPTY

Order = Callable[[torch.Tensor], torch.Tensor]
"""Packed entries → int64 keys, larger is better, −1 for empty places."""

_LOW = 0xFFFFFFFF
_MERGED = 1 << 16  # lists merged at a time, so that memory stays small


def pack(magnitude: torch.Tensor, token_number: torch.Tensor) -> torch.Tensor:
    """float32 magnitudes (≥ 0) and corpus token numbers → int64 entries."""
    bits = magnitude.contiguous().view(torch.int32).to(torch.int64)
    return (bits << 32) | (_LOW - token_number)


def magnitudes(entries: torch.Tensor) -> torch.Tensor:
    """The float32 magnitudes of packed entries (0 for empty places)."""
    return (entries.clamp_min(0) >> 32).to(torch.int32).view(torch.float32)


def token_numbers(entries: torch.Tensor) -> torch.Tensor:
    """The corpus token numbers of packed entries."""
    return _LOW - (entries & _LOW)


def uniform(bits: torch.Tensor) -> torch.Tensor:
    """u in (0, 1) as float32 from 31-bit hashes: (bits + ½)/2³¹."""
    return ((bits.to(torch.float64) + 0.5) / 2.0**31).to(torch.float32)


def by_magnitude(entries: torch.Tensor) -> torch.Tensor:
    """Order of the top lists: an entry is its own key."""
    return entries


def uniform_key(bits: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """Keys of a uniform sample for entries whose tokens have 31-bit hashes `bits`: the smallest hash first."""
    key = ((0x7FFFFFFF - bits) << 32) | (entries & _LOW)
    return torch.where(entries == EMPTY, EMPTY, key)


def weighted_key(bits: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """Keys of a sample in proportion to magnitude: |value|/u in float32, u = (bits + ½)/2³¹."""
    priority = magnitudes(entries) / uniform(bits)
    key = (priority.clamp_max(3e38).view(torch.int32).to(torch.int64) << 32) | (entries & _LOW)
    return torch.where(entries == EMPTY, EMPTY, key)


class BoundedLists:
    """The k best entries of each group under one order."""

    def __init__(self, groups: int, k: int, order: Order, device: torch.device | str = "cpu") -> None:
        self.entries = torch.full((groups, k), EMPTY, dtype=torch.int64, device=device)
        self.order = order
        self._worst: torch.Tensor | None = None
        self._proposed: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @property
    def worst(self) -> torch.Tensor:
        """The key that an offer must exceed, per group: that of the last place."""
        if self._worst is None:
            self._worst = self.order(self.entries[:, -1:])[:, 0]
        return self._worst

    def worst_magnitude(self) -> torch.Tensor:
        """The magnitude (or priority) in the last place of each group, 0 while it is empty: a float32 bound, so that
        a dense test need not pack keys."""
        return magnitudes(self.worst)

    def worst_bits(self) -> torch.Tensor:
        """For uniform samples: the hash in the last place of each group, 2³¹ − 1 while it is empty."""
        return 0x7FFFFFFF - (self.worst.clamp_min(0) >> 32)

    def load(self, entries: torch.Tensor) -> None:
        """Take over saved entries `[groups, k]`."""
        self.entries.copy_(entries)
        self._worst = None

    def propose(self, groups: torch.Tensor, entries: torch.Tensor, keys: torch.Tensor) -> None:
        """Remember an offer until `settle`: one sort for many small offers."""
        if len(groups):
            self._proposed.append((groups, entries, keys))

    def settle(self) -> None:
        """Offer all that was proposed."""
        if self._proposed:
            groups, entries, keys = (torch.cat(part) for part in zip(*self._proposed, strict=True))
            self._proposed.clear()
            self.offer(groups, entries, keys)

    def offer(self, groups: torch.Tensor, entries: torch.Tensor, keys: torch.Tensor) -> None:
        """Offer entries `[M]` with their keys to groups `[M]`; the caller has dropped those not above `worst`."""
        if not len(groups):
            return
        k = self.entries.shape[1]
        order = keys.argsort(descending=True)
        order = order[groups[order].argsort(stable=True)]
        groups, entries, keys = groups[order], entries[order], keys[order]
        touched, sizes = groups.unique_consecutive(return_counts=True)
        rank = torch.arange(len(groups), device=groups.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        kept = rank < k
        row = torch.arange(len(touched), device=groups.device).repeat_interleave(sizes)[kept]
        new_entries = self.entries.new_full((len(touched), k), EMPTY)
        new_keys = new_entries.clone()
        new_entries[row, rank[kept]] = entries[kept]
        new_keys[row, rank[kept]] = keys[kept]
        self._replace(touched, new_entries, new_keys)

    def merge(self, other: BoundedLists) -> None:
        """Take in the lists of another part of the corpus."""
        for start in range(0, len(self.entries), _MERGED):
            part = torch.arange(start, min(start + _MERGED, len(self.entries)), device=self.entries.device)
            entries = other.entries[part].to(self.entries.device)
            self._replace(part, entries, self.order(entries))

    def _replace(self, groups: torch.Tensor, entries: torch.Tensor, keys: torch.Tensor) -> None:
        k = self.entries.shape[1]
        both = torch.cat([self.entries[groups], entries], dim=1)
        best = torch.cat([self.order(self.entries[groups]), keys], dim=1).topk(k, dim=1)
        self.entries[groups] = both.gather(1, best.indices)
        self.worst[groups] = best.values[:, -1]
