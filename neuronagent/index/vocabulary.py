"""Vocabulary projections: which tokens a weight vector points at, and away from.

For each of gate, in and out: the dot products with the columns of the processed unembedding W_U (what a direction in
the residual stream promotes) and of the embedding W_E (which input tokens carry it); the k largest for `+v` and for
`−v`, and variance, skew and excess kurtosis of the cosines over the *whole* vocabulary. Ids that the tokenizer cannot
decode count in the moments and are never listed; of equal products the smaller id comes first.

Each product is computed once and read while it is still in the processor's cache:

1. a block of vectors times a tile of the matrix; its cosines, less their mean, which needs no pass of its own (the mean
   cosine is v̂ · the mean of the unit columns); sums of their first four powers, float32 within a tile, float64 over
   tiles;
2. the largest and smallest product of every 32 columns. The k best of a row lie within the k stretches whose maxima
   are best, so that only these are looked at again.

Blocks of vectors are independent, and worked on by all cores of a CPU at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.index.workers import worker_count, workers

_ELEMENTS = 1 << 26  # products held at a time
_ROWS = 256  # vectors at a time: a tile of their products stays in the cache
_TILE = 1024  # columns at a time; on a GPU all of them
_STRETCH = 32
_FLAT = 2.0**-52  # below this variance a cosine's float32 rounding is all there is
_TINY = 1e-30

Watch = Callable[[slice, slice, torch.Tensor], None]
"""Is shown (neurons, tokens, cosines `[vectors, neurons, tokens]`) of each tile, and must not keep or change them.

Several threads may call it at a time, each with neurons of its own.
"""


class Columns:
    """The V rows of a matrix `[V, d]` to project on, their lengths and mean taken once; `decodable` `[V]` bool."""

    def __init__(self, matrix: torch.Tensor, decodable: torch.Tensor) -> None:
        self.matrix = matrix
        self.decodable = decodable.to(matrix.device)
        self.hidden = torch.nonzero(~self.decodable)[:, 0]
        self.n_decodable = int(decodable.sum())
        self.inverse_norms = torch.empty(len(matrix), device=matrix.device)
        total = torch.zeros(matrix.shape[1], dtype=torch.float64, device=matrix.device)
        for start in range(0, len(matrix), _TILE):
            part = matrix[start : start + _TILE]
            inverse = self.inverse_norms[start : start + _TILE] = part.norm(dim=1).clamp_min(_TINY).reciprocal()
            total += inverse.double() @ part.double()
        self.mean_unit = total / len(matrix)


def project(
    vectors: torch.Tensor, matrix: torch.Tensor, decodable: torch.Tensor, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Project `vectors` `[N, d]` on the rows of `matrix` `[V, d]`.

    Returns:
        ids `[N, 2, k]` and scores `[N, 2, k]` for +v and −v (best first; id −1 where there are fewer than k tokens;
        the score is v·u, so it is negative in the second half), and moments `[N, 3]` of the cosines.
    """
    ids, scores, moments = project_all([vectors], Columns(matrix, decodable), k)
    return ids[:, 0], scores[:, 0], moments[:, 0]


def project_all(
    vectors: Sequence[torch.Tensor], columns: Columns, k: int, watch: Watch | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """`project` for several vectors `[N, d]` of the same N neurons, wherever `columns` is.

    Returns:
        ids and scores `[N, vectors, 2, k]`, moments `[N, vectors, 3]`.
    """
    n, many, size = len(vectors[0]), len(vectors), len(columns.matrix)
    ids = np.full((n, many, 2, k), -1, dtype=np.int32)
    scores = np.zeros((n, many, 2, k), dtype=np.float32)
    moments = np.zeros((n, many, 3), dtype=np.float32)
    device = columns.matrix.device
    at_a_time = worker_count(device, -(-n * many // _ROWS))
    rows = max(1, min(n, _ROWS // many, _ELEMENTS // (size * many * at_a_time)))

    def fill(start: int) -> None:
        block = slice(start, min(n, start + rows))
        stacked = torch.cat([v[block] for v in vectors]).to(device)  # all of one vector, then the next
        work = _Block(stacked, columns)
        work.compute(None if watch is None else _by_vector(watch, block, many))
        moments[block] = _by_neuron(work.moments(), many)
        best_ids, best_scores = work.best(k)
        ids[block, :, :, : best_ids.shape[-1]] = _by_neuron(best_ids, many)
        scores[block, :, :, : best_ids.shape[-1]] = _by_neuron(best_scores, many)

    with workers(device, at_a_time) as pool:
        list(pool.map(fill, range(0, n, rows)))  # raises what a block raises
    return ids, scores, moments


def _by_vector(watch: Watch, block: slice, many: int) -> Callable[[slice, torch.Tensor], None]:
    return lambda tokens, cosines: watch(block, tokens, cosines.unflatten(0, (many, -1)))


def _by_neuron(values: torch.Tensor, many: int) -> NDArray[np.float32]:
    return values.unflatten(0, (many, -1)).transpose(0, 1).cpu().numpy()


class _Block:
    """A block of vectors `[R, d]` against all columns, whose number is rounded up to whole stretches.

    Vectors are first divided by a power of two, which is exact, so that their lengths lie between ½ and 1 and no power
    of a cosine underflows. The sums are those of length times (cosine − mean cosine).
    """

    def __init__(self, vectors: torch.Tensor, columns: Columns) -> None:
        lengths, exponents = torch.frexp(vectors.norm(dim=1))
        device, self.size = vectors.device, len(columns.matrix)
        self.lengths = lengths.double()
        self.vectors = vectors * torch.pow(2.0, -exponents)[:, None]
        self.scale = torch.pow(2.0, exponents)[:, None]
        self.columns = columns
        self.mean = (self.vectors.double() @ columns.mean_unit).float()[:, None]
        self.sums = torch.zeros(4, len(vectors), dtype=torch.float64, device=device)
        stretches = -(-self.size // _STRETCH)
        self.products = torch.empty(len(vectors), stretches * _STRETCH, device=device)
        added = torch.arange(self.size, self.products.shape[1], device=device)
        self.unlisted = torch.cat([columns.hidden, added])
        self.most = torch.empty(len(vectors), stretches, device=device)
        self.least = torch.empty(len(vectors), stretches, device=device)

    def compute(self, watch: Callable[[slice, torch.Tensor], None] | None) -> None:
        """All products, tile by tile, with the sums and the extremes of stretches."""
        tile = min(self.size, _TILE) if self.products.device.type == "cpu" else self.size
        scratch = torch.empty(2, len(self.vectors), tile, device=self.vectors.device)
        inverse = self.lengths.clamp_min(_TINY).reciprocal().float()[:, None]
        for start in range(0, self.size, tile):
            tokens = slice(start, min(self.size, start + tile))
            part, inverse_norms = self.products[:, tokens], self.columns.inverse_norms[tokens]
            x, square = (memory[:, : part.shape[1]] for memory in scratch)
            torch.mm(self.vectors, self.columns.matrix[tokens].T, out=part)
            if watch is not None:
                watch(tokens, torch.mul(part, inverse_norms, out=x).mul_(inverse))
            self._add_powers(torch.addcmul(-self.mean, part, inverse_norms, out=x), square)
            self._reduce(tokens)

    def _add_powers(self, x: torch.Tensor, square: torch.Tensor) -> None:
        """Add up x … x⁴ `[R, columns]` by row; `x` and `square` are memory that is written over."""
        self.sums[0] += x.sum(dim=1)
        torch.mul(x, x, out=square)
        self.sums[1] += square.sum(dim=1)
        self.sums[3] += torch.linalg.vector_norm(square, dim=1).double().square()
        self.sums[2] += x.mul_(square).sum(dim=1)

    def _reduce(self, tokens: slice) -> None:
        """The extremes of each stretch of a tile, unlisted columns left out; a tile begins where a stretch does."""
        first, end = tokens.start // _STRETCH, -(-tokens.stop // _STRETCH)
        low, high = first * _STRETCH, end * _STRETCH
        part, unlisted = self.products[:, low:high], self.unlisted
        unlisted = unlisted[(unlisted >= low) & (unlisted < high)] - low
        stretches = part.unflatten(1, (-1, _STRETCH))
        sides = ((self.most, -torch.inf, torch.amax), (self.least, torch.inf, torch.amin))
        for extremes, none, reduce in sides:
            if len(unlisted):
                part.index_fill_(1, unlisted, none)
            extremes[:, first:end] = reduce(stretches, dim=2)

    def moments(self) -> torch.Tensor:
        """Variance, skew and excess kurtosis `[R, 3]` of the cosines; skew and kurtosis are 0 where they are flat.

        The sums are about the rounded mean; the first of them says by how much it was off.
        """
        powers = torch.arange(1, 5, device=self.lengths.device)[:, None]
        scaled = self.sums / self.lengths.clamp_min(_TINY).pow(powers)
        first, second, third, fourth = scaled / self.size
        variance = (second - first**2).clamp_min(0.0)
        scale = variance.clamp_min(_FLAT)
        skew = (third - 3 * first * second + 2 * first**3) / scale.pow(1.5)
        kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / scale.square() - 3.0
        flat = variance <= _FLAT
        return torch.stack([variance, skew.masked_fill(flat, 0.0), kurtosis.masked_fill(flat, 0.0)], dim=1).float()

    def best(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and products `[R, 2, k or as many as there are]` of the largest and of the smallest products."""
        found = min(k, self.columns.n_decodable)
        sides = [self._best_of(extremes, sign, found) for extremes, sign in ((self.most, 1.0), (self.least, -1.0))]
        ids, scores = zip(*sides, strict=True)
        return torch.stack(ids, dim=1).int(), torch.stack(scores, dim=1)

    def _best_of(self, extremes: torch.Tensor, sign: float, found: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.products.index_fill_(1, self.unlisted, -torch.inf * sign)
        stretches = _largest(extremes * sign, found).sort(dim=1).values  # ascending, as ids then are
        rows = torch.arange(len(stretches), device=stretches.device)[:, None]
        values = self.products.unflatten(1, (-1, _STRETCH))[rows, stretches].flatten(1) * sign
        best = _largest(values, found)
        ids = stretches.gather(1, best // _STRETCH) * _STRETCH + best % _STRETCH
        return ids, values.gather(1, best) * sign * self.scale


def _largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """The places of the k largest `values` `[R, n]` of each row, descending; of equal values the first come first."""
    k = min(k, values.shape[1])
    top = values.topk(min(k + 1, values.shape[1]), dim=1)
    places = top.indices[:, :k]
    tied = (top.values[:, 1:] == top.values[:, :-1]).any(dim=1).nonzero()[:, 0]
    if len(tied):  # hardly ever: sorting all that a row holds is then no matter
        places[tied] = values[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return places
