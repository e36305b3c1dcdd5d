"""How much of a neuron's variance goes once one knows where a property of tokens holds (paper § 5, eq. 7).

For a property P that holds at a share β of the n tokens, with g a neuron's activation,

    total variance    μ = 1 − [β σ²(g|P) + (1−β) σ²(g|¬P)] ÷ σ²(g) = β (1−β) (mean within P − mean outside)² ÷ σ²(g)
    paper             μ = 1 − [(1−β) σ²(g|P) + β σ²(g|¬P)] ÷ σ²(g)

with the variances of these tokens (÷ n). All of it follows from n, Σg and Σg² by property, and these from sums by
*key*: an n-gram, a position, a class of losses, a bin of a random draw. A token has a few keys of thousands, so that
one sparse product per batch does for all of them. Values are centred by the neuron's mean over the first batch;
products are float32 within a batch, sums float64: μ is right to about 1e-6 whatever the neuron's mean is. Both
weightings are the same for P and ¬P.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.predictability.functional import PAPER, TOTAL_VARIANCE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class KeysOfTokens:
    """The keys of n tokens: those of token t are `keys[starts[t] : starts[t + 1]]`, of `count` keys in all."""

    starts: Ints
    keys: NDArray[np.int32]
    count: int

    @classmethod
    def of(cls, tokens: int, parts: Sequence[tuple[Ints, Ints]], count: int) -> KeysOfTokens:
        """From parts of (token, key) each."""
        places = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, dtype=np.int64)
        keys = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, dtype=np.int64)
        order = np.argsort(places, kind="stable")
        starts = np.zeros(tokens + 1, dtype=np.int64)
        np.cumsum(np.bincount(places, minlength=tokens), out=starts[1:])
        return cls(starts, keys[order].astype(np.int32), count)

    def batch(self, tokens: Ints) -> Membership:
        """Which of `tokens` `[T]`, a batch, has which keys."""
        lengths = self.starts[tokens + 1] - self.starts[tokens]
        columns = np.repeat(np.arange(len(tokens)), lengths)
        within = np.arange(len(columns)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = self.keys[np.repeat(self.starts[tokens], lengths) + within]
        order = np.argsort(rows, kind="stable")
        touched, per_row = np.unique(rows, return_counts=True)
        ends = np.concatenate([[0], np.cumsum(per_row)])
        return Membership(touched.astype(np.int64), per_row.astype(np.int64), ends, columns[order], len(tokens))


@dataclass(frozen=True)
class Membership:
    """Of one batch, as a sparse matrix `[touched keys, T]` of ones: `columns[ends[k] : ends[k + 1]]` has key
    `touched[k]`."""

    touched: Ints
    per_key: Ints
    ends: Ints
    columns: Ints
    tokens: int

    def matrix(self, device: torch.device) -> Tensor:
        ends, columns = (torch.from_numpy(each).to(device) for each in (self.ends, self.columns))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's word that sparse matrices are new
            return torch.sparse_csr_tensor(
                ends, columns, torch.ones(len(columns), device=device), (len(self.touched), self.tokens),
                check_invariants=False,
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Of a layer's N neurons over n tokens: `mean` and `variance` `[N]`, 0 for one that is `constant` `[N]`;
    `centre` `[N]`, which sums by key are about. `extreme` and `place` `[N]`: the value of largest magnitude and the
    number of its token (the first of equal ones in the order they were read). `rms`: of all values of the layer."""

    tokens: int
    centre: Floats
    mean: Floats
    variance: Floats
    constant: NDArray[np.bool_]
    extreme: Floats
    place: Ints
    rms: float


@dataclass(frozen=True, kw_only=True)
class SumsByKey:
    """`counts` `[K]`, Σ(g − centre) `first` and Σ(g − centre)² `second` `[K, N]`."""

    counts: Floats
    first: Floats
    second: Floats

    def __getitem__(self, keys: slice) -> SumsByKey:
        return SumsByKey(counts=self.counts[keys], first=self.first[keys], second=self.second[keys])

    def combined(self, members: Floats) -> SumsByKey:
        """Of properties that are unions of keys, `members` `[P, K]` of zeros and ones."""
        return SumsByKey(counts=members @ self.counts, first=members @ self.first, second=members @ self.second)


class Scratch:
    """Memory that one layer after the other uses: a fresh tensor for each costs more than the arithmetic."""

    def __init__(self) -> None:
        self._held = torch.empty(0)

    def of(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """`[rows, columns]` float32 with anything in it; what it was used for before is gone."""
        if self._held.device != device or self._held.numel() < rows * columns:
            self._held = torch.empty(rows * columns, device=device)
        return self._held[: rows * columns].view(rows, columns)


class LayerSums:
    """Sums of one layer by key, batch by batch."""

    def __init__(self, keys: int, scratch: Scratch | None = None) -> None:
        self._keys, self._n = keys, 0
        self._scratch = scratch or Scratch()
        self._sums: Tensor | None = None

    @staticmethod
    def bytes_needed(keys: int, neurons: int) -> int:
        """On the device, and as much again when they are read."""
        return 4 * 8 * keys * neurons

    def update(self, membership: Membership, tokens: Ints, post: Tensor) -> None:
        """Take in the T tokens numbered `tokens`, with `post` `[T, N]`."""
        if post.device.type not in ("cpu", "cuda"):
            post = post.cpu()  # where there are neither sparse products nor float64
        if self._sums is None:
            self._begin(post)
        assert self._sums is not None
        width = post.shape[1]
        both = self._scratch.of(len(post), 2 * width, post.device)  # g − centre and its square
        torch.sub(post, self._centre, out=both[:, :width])
        torch.square(both[:, :width], out=both[:, width:])
        if len(membership.touched):
            places = torch.from_numpy(membership.touched).to(post.device)
            self._sums.index_add_(0, places, (membership.matrix(post.device) @ both).double())  # each key once
            self._counts[membership.touched] += membership.per_key
        self._totals += both.sum(0).double()
        self._n += len(post)
        self._extremes(tokens, post)

    def _begin(self, post: Tensor) -> None:
        self._centre = post.mean(0)
        self._sums = torch.zeros(self._keys, 2 * post.shape[1], dtype=torch.float64, device=post.device)
        self._counts = np.zeros(self._keys)
        self._totals = torch.zeros(2 * post.shape[1], dtype=torch.float64, device=post.device)
        self._low, self._high = post.amin(0), post.amax(0)
        self._extreme = torch.full_like(self._centre, -1.0)
        self._place = np.zeros(post.shape[1], dtype=np.int64)
        self._value = torch.zeros_like(self._centre)

    def _extremes(self, tokens: Ints, post: Tensor) -> None:
        low, high = post.amin(0), post.amax(0)
        self._low, self._high = torch.minimum(self._low, low), torch.maximum(self._high, high)
        size = torch.maximum(-low, high)
        more = torch.nonzero(size > self._extreme)[:, 0]  # few neurons after the first batches
        if not len(more):
            return
        own = post[:, more]
        where = own.abs().max(0).indices
        self._extreme[more] = size[more]
        self._value[more] = own.gather(0, where[None])[0]
        self._place[more.cpu().numpy()] = tokens[where.cpu().numpy()]

    def finish(self) -> tuple[Totals, SumsByKey]:
        """All of it.

        Raises:
            ValueError: no token was taken in.
        """
        if self._sums is None:
            raise ValueError("there are no tokens")
        n, centre = self._n, self._centre.double().cpu().numpy()
        first, second = np.split(self._totals.cpu().numpy(), 2)
        constant = (self._low == self._high).cpu().numpy()
        variance = np.where(constant, 0.0, np.maximum(second / n - (first / n) ** 2, 0.0))
        squares = second + 2 * centre * first + n * centre**2
        totals = Totals(
            tokens=n,
            centre=centre,
            mean=centre + first / n,
            variance=variance,
            constant=constant | (variance == 0),
            extreme=self._value.double().cpu().numpy(),
            place=self._place,
            rms=float(np.sqrt(max(0.0, squares.sum()) / (n * len(centre)))),
        )
        sums = self._sums.cpu().numpy()
        width = len(centre)
        self._sums = None
        return totals, SumsByKey(counts=self._counts, first=sums[:, :width], second=sums[:, width:])


def functional_scores(totals: Totals, sums: SumsByKey) -> dict[str, Floats]:
    """μ `[P, N]` of properties by weighting; NaN for a neuron that never varies, and for a property of no or all
    tokens."""
    n, count = float(totals.tokens), sums.counts[:, None]
    overall = totals.mean - totals.centre
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = n - count
        away = sums.first - count * overall  # Σ within P of g less its mean
        known = (count > 0) & (rest > 0) & ~totals.constant
        variance = np.where(known, totals.variance, np.nan)
        between = np.minimum(away**2 * n / (count * rest) / (n * variance), 1.0)
        mean = sums.first / count
        inside = np.maximum(sums.second / count - mean**2, 0.0)
        whole = n * (totals.variance + overall**2)
        outside = np.maximum((whole - sums.second) / rest - ((n * overall - sums.first) / rest) ** 2, 0.0)
        printed = 1 - ((1 - count / n) * inside + count / n * outside) / variance
    return {TOTAL_VARIANCE: between, PAPER: printed}


def threshold(scores: Floats, level: float = 0.99) -> float:
    """θ: the quantile `level` of μ over random properties and neurons `[seeds, N]`; NaN without any."""
    known = scores[np.isfinite(scores)]
    return float(np.quantile(known, level)) if len(known) else float("nan")


def nested_sums(sums: SumsByKey, seeds: int, sizes: int) -> SumsByKey:
    """Sums of random tokens `[sizes · seeds, N]`, all seeds of the first size first, from those of their bins: the keys
    of a seed are bins, and the tokens of a size are those of its bin and all before."""

    def added(values: Floats) -> Floats:
        whole = values.reshape(seeds, sizes, *values.shape[1:]).cumsum(axis=1)
        return whole.swapaxes(0, 1).reshape(sizes * seeds, *values.shape[1:])

    return SumsByKey(counts=added(sums.counts), first=added(sums.first), second=added(sums.second))
