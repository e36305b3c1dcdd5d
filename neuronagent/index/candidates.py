"""The running top candidates of many lists, fed with blocks of products: what `neighbours` selects with.

A product block is far larger than what of it enters any list. It is therefore read once per direction, for the extremes
of runs of 32 entries, and only runs whose extreme beats the last candidate of a list are looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RUN = 32
"""Products have a multiple of so many rows and columns; what is added to a layer's neurons is zero vectors."""


@dataclass(frozen=True)
class Side:
    """One direction of a product: its owners (whose lists it may enter) against the others.

    `runs` is the product with the others' axis cut into runs: `[owners, runs, RUN]`, or, where owners are columns,
    `[runs, RUN, owners]`; `low` and `high` `[owners, runs]` are the extremes of each run.
    """

    runs: Tensor
    low: Tensor
    high: Tensor
    owners_first: bool

    @classmethod
    def of_rows(cls, product: Tensor) -> Side:
        """The rows of `product` own, its columns are the others."""
        runs = product.view(len(product), -1, RUN)
        low, high = _extremes(runs, 2)
        return cls(runs, low, high, owners_first=True)

    @classmethod
    def of_columns(cls, product: Tensor) -> Side:
        """The columns of `product` own, its rows are the others."""
        runs = product.view(-1, RUN, product.shape[1])
        low, high = _extremes(runs, 1)
        return cls(runs, low.T, high.T, owners_first=False)

    def strengths(self, sign: int) -> Tensor:
        """The largest `strength` in each run `[owners, runs]`, float32."""
        if sign == 0:
            return torch.maximum(self.high, -self.low).float()
        return (self.high if sign > 0 else -self.low).float()

    def entries(self, owner: Tensor, run: Tensor, sign: int) -> Tensor:
        """The strengths `[M, RUN]`, float32, of M runs: v, −v or |v| for `sign` +1, −1, 0."""
        picked = (self.runs[owner, run] if self.owners_first else self.runs[run, :, owner]).float()
        return picked.abs() if sign == 0 else picked * sign


class Candidates:
    """The strongest others of each of N neurons in each list: `scores` `[lists, N, size]`, descending, and `ordinals`,
    −1 where there are fewer, whose score is `floor`. Nothing at or below `floor` becomes a candidate."""

    def __init__(self, lists: int, neurons: int, size: int, floor: float, device: torch.device) -> None:
        self.scores = torch.full((lists, neurons, size), floor, device=device)
        self.ordinals = torch.full((lists, neurons, size), -1, dtype=torch.int32, device=device)
        self._begun: set[tuple[int, int]] = set()

    def offer(self, place: int, owners: slice, side: Side, sign: int, first: int) -> None:
        """Take in one side of a product for list `place` of neurons `owners`; `first` is its first other's ordinal.

        An entry that equals the last candidate does not replace it.
        """
        strengths = side.strengths(sign)
        least = self.scores[place, owners, -1]
        size = self.scores.shape[2]
        if (place, owners.start) not in self._begun and strengths.shape[1] >= size:
            # As many runs have an extreme at least this large, so that entries below it cannot stay.
            enough = strengths.topk(size, dim=1).values[:, -1]
            least = torch.maximum(least, enough - enough.abs() * 1e-6)
        self._begun.add((place, owners.start))
        owner, run = (strengths > least[:, None]).nonzero(as_tuple=True)
        if len(owner):
            entries = side.entries(owner, run, sign)  # (M, RUN)
            beating, offset = (entries > least[owner, None]).nonzero(as_tuple=True)
            ordinals = (first + run[beating] * RUN + offset).to(torch.int32)
            self._merge(place, owners, owner[beating], ordinals, entries[beating, offset])

    def _merge(self, place: int, owners: slice, owner: Tensor, ordinals: Tensor, scores: Tensor) -> None:
        """Put entries into their owners' lists; `owner` `[E]` is ascending."""
        counts = owner.bincount(minlength=owners.stop - owners.start)
        touched = counts.nonzero()[:, 0]
        row = torch.empty_like(counts)
        row[touched] = torch.arange(len(touched), device=counts.device)
        rank = torch.arange(len(owner), device=counts.device) - (counts.cumsum(0) - counts)[owner]
        size, width = self.scores.shape[2], int(counts.max())
        held = touched + owners.start
        pool = torch.full((len(touched), size + width), -torch.inf, device=scores.device)
        names = torch.full(pool.shape, -1, dtype=torch.int32, device=scores.device)
        pool[:, :size], names[:, :size] = self.scores[place, held], self.ordinals[place, held]
        pool[row[owner], size + rank], names[row[owner], size + rank] = scores, ordinals
        best = pool.topk(size, dim=1)
        self.scores[place, held], self.ordinals[place, held] = best.values, names.gather(1, best.indices)


def _extremes(runs: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest along `dim`: on a CPU two reductions, which are vectorised, take a fifth of `aminmax`."""
    if runs.device.type == "cpu":
        return runs.amin(dim=dim), runs.amax(dim=dim)
    low, high = runs.aminmax(dim=dim)
    return low, high
