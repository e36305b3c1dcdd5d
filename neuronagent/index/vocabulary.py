"""Vocabulary projections: which tokens a weight vector points at, and away from.

For each of gate, in and out: the dot products with the columns of the processed unembedding W_U (what a direction in
the residual stream promotes) and of the embedding W_E (which input tokens carry it); the k largest for `+v` and for
`−v`, and variance, skew and excess kurtosis of the cosines over the *whole* vocabulary. Ids that the tokenizer cannot
decode count in the moments and are never listed; of equal products the smaller id comes first.

Each product is computed once and read while it is still in the processor's cache:

1. a block of vectors times a tile of the matrix; its cosines, less their mean, which needs no pass of its own (the mean
   cosine is v̂ · the mean of the unit columns); sums of their first four powers, float32 within a tile, float64 over
   tiles;
2. the largest and smallest product of every 64 columns. The k best of a row lie within the k stretches whose maxima
   are best, so that only these are looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

_ELEMENTS = 1 << 26  # products held at a time
_ROWS = 256  # vectors at a time: a tile of their products stays in the cache
_TILE = 1024  # columns at a time; on a GPU all of them
_STRETCH = 64
_FLAT = 2.0**-52  # below this variance a cosine's float32 rounding is all there is
_TINY = 1e-30

Watch = Callable[[slice, slice, torch.Tensor], None]
"""Is shown (neurons, tokens, cosines `[vectors, neurons, tokens]`) of each tile, and must not keep or change them."""


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
    rows = max(1, min(n, _ROWS // many, _ELEMENTS // (size * many)))
    products = torch.empty(rows * many, size, device=columns.matrix.device)
    for start in range(0, n, rows):
        block = slice(start, min(n, start + rows))
        stacked = torch.cat([v[block] for v in vectors]).to(columns.matrix.device)  # all of one vector, then the next
        work = _Block(stacked, columns, products[: len(stacked)])
        work.compute(None if watch is None else _by_vector(watch, block, many))
        moments[block] = _by_neuron(work.moments(), many)
        best_ids, best_scores = work.best(k)
        ids[block, :, :, : best_ids.shape[-1]] = _by_neuron(best_ids, many)
        scores[block, :, :, : best_ids.shape[-1]] = _by_neuron(best_scores, many)
    return ids, scores, moments


def _by_vector(watch: Watch, block: slice, many: int) -> Callable[[slice, torch.Tensor], None]:
    return lambda tokens, cosines: watch(block, tokens, cosines.unflatten(0, (many, -1)))


def _by_neuron(values: torch.Tensor, many: int) -> NDArray[np.float32]:
    return values.unflatten(0, (many, -1)).transpose(0, 1).cpu().numpy()


class _Block:
    """A block of vectors `[R, d]` against all columns; `products` `[R, V]` is memory for their products.

    Vectors are first divided by a power of two, which is exact, so that their lengths lie between ½ and 1 and no power
    of a cosine underflows. The sums are those of length times (cosine − mean cosine).
    """

    def __init__(self, vectors: torch.Tensor, columns: Columns, products: torch.Tensor) -> None:
        lengths, exponents = torch.frexp(vectors.norm(dim=1))
        device = vectors.device
        self.exponents, self.lengths = exponents[:, None], lengths.double()
        self.vectors, self.columns, self.products = torch.ldexp(vectors, -self.exponents), columns, products
        self.mean = (self.vectors.double() @ columns.mean_unit).float()[:, None]
        self.sums = torch.zeros(4, len(vectors), dtype=torch.float64, device=device)
        stretches = -(-products.shape[1] // _STRETCH)
        self.most = torch.empty(len(vectors), stretches, device=device)
        self.least = torch.empty(len(vectors), stretches, device=device)

    def compute(self, watch: Callable[[slice, torch.Tensor], None] | None) -> None:
        size = self.products.shape[1]
        tile = min(size, _TILE) if self.products.device.type == "cpu" else size
        scratch = torch.empty(2, len(self.vectors), tile, device=self.vectors.device)
        inverse = self.lengths.clamp_min(_TINY).reciprocal().float()[:, None]
        for start in range(0, size, tile):
            tokens = slice(start, min(size, start + tile))
            part, inverse_norms = self.products[:, tokens], self.columns.inverse_norms[tokens]
            x, square = (memory[:, : part.shape[1]] for memory in scratch)
            torch.mm(self.vectors, self.columns.matrix[tokens].T, out=part)
            if watch is not None:
                watch(tokens, torch.mul(part, inverse_norms, out=x).mul_(inverse))
            self._add_powers(torch.addcmul(-self.mean, part, inverse_norms, out=x), square)
            self._reduce(part, tokens)

    def _add_powers(self, x: torch.Tensor, square: torch.Tensor) -> None:
        """Add up x … x⁴ `[R, columns]` by row; `x` and `square` are memory that is written over."""
        self.sums[0] += x.sum(dim=1)
        torch.mul(x, x, out=square)
        self.sums[1] += square.sum(dim=1)
        self.sums[3] += torch.linalg.vector_norm(square, dim=1).double().square()
        self.sums[2] += x.mul_(square).sum(dim=1)

    def _reduce(self, part: torch.Tensor, tokens: slice) -> None:
        """The extremes of each stretch of a tile, hidden columns left out; a tile begins where a stretch does."""
        hidden = self.columns.hidden
        hidden = hidden[(hidden >= tokens.start) & (hidden < tokens.stop)] - tokens.start
        first, whole = tokens.start // _STRETCH, part.shape[1] // _STRETCH
        for extremes, none in ((self.most, -torch.inf), (self.least, torch.inf)):
            if len(hidden):
                part.index_fill_(1, hidden, none)
            reduce = torch.amax if extremes is self.most else torch.amin
            if whole:
                stretches = part[:, : whole * _STRETCH].unflatten(1, (whole, _STRETCH))
                extremes[:, first : first + whole] = reduce(stretches, dim=2)
            if whole * _STRETCH < part.shape[1]:
                extremes[:, first + whole] = reduce(part[:, whole * _STRETCH :], dim=1)

    def moments(self) -> torch.Tensor:
        """Variance, skew and excess kurtosis `[R, 3]` of the cosines; skew and kurtosis are 0 where they are flat.

        The sums are about the rounded mean; the first of them says by how much it was off.
        """
        powers = torch.arange(1, 5, device=self.lengths.device)[:, None]
        scaled = self.sums / self.lengths.clamp_min(_TINY).pow(powers)
        first, second, third, fourth = scaled / self.products.shape[1]
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
        order = _ranks(extremes * sign, torch.arange(extremes.shape[1], device=extremes.device), found)
        places = torch.arange(_STRETCH, device=extremes.device)
        ids = (order[:, :, None] * _STRETCH + places).flatten(1)
        inside = ids.clamp_max(self.products.shape[1] - 1)
        listed = self.columns.decodable[inside] & (inside == ids)
        values = (self.products.gather(1, inside) * sign).masked_fill_(~listed, -torch.inf)
        best = _ranks(values, ids, found)
        return best, torch.ldexp(self.products.gather(1, best), self.exponents)


def _ranks(values: torch.Tensor, numbers: torch.Tensor, k: int) -> torch.Tensor:
    """The `numbers` of the k largest `values` `[R, n]` of each row; of equal values the smallest numbers come first.

    Value and number are packed into one integer that sorts so: a float's bits sort like the float once those of a
    negative one are turned round (and −0 made 0).
    """
    bits = (values + 0.0).view(torch.int32)
    keys = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long() << 32
    best = keys.bitwise_or_(0xFFFFFFFF - numbers).topk(min(k, keys.shape[1]), dim=1).values
    return 0xFFFFFFFF - (best & 0xFFFFFFFF)
