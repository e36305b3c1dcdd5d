"""Neighbours of every neuron: which others are most like it, which read what it writes, which write what it reads.

With unit vectors g, i, o of gate, in and out, in the index's sign convention:

- *similar* and *opposite*: the k largest and the k smallest cos(v_a, v_b) for v = o, g, i, the neuron itself left out;
  similar ones are positive, opposite ones negative.
- *readers* of a: the k neurons b of later layers with the largest |cos(o_a, g_b)|, and those with the largest
  |cos(o_a, i_b)|.
- *writers* of b: the same products the other way round, k neurons a of earlier layers.

Every cosine is rounded to a whole number of 1/32767. Lists are ordered by it, ties go to the earlier neuron, and what
rounds to 0 is in no list: the result is a pure function of the weights, whatever the device, dtype or blocking.

How (n neurons, d_model d: 5 n² d floating point operations):

1. *Candidates.* Products of pairs of layers, in `dtype`, each computed once: a similarity serves both its neurons, a
   composition its writer and its reader. A product is read twice, for the extremes of runs of 32 in either direction;
   only runs that beat the last candidate of a neuron's list are looked at. Each list keeps k + 6
   candidates, or k + 38 where `dtype` is half a float32 and more could hide.
2. *Exact cosines* of the candidates, in float64, and the k best of them.
3. *Proof.* What is no candidate is at most (last candidate + error bound of `dtype`). Where that could reach the k-th
   best, the list is made again from float64 products with every neuron; `Neighbourhoods.rechecked` counts these.

float16 suits a GPU better than bfloat16: cosines need no large exponents and its rounding is eight times finer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuronagent.domain import NEIGHBOUR_LISTS, NeighbourList
from neuronagent.index.candidates import RUN, Candidates, Side
from neuronagent.layout import COSINE_STEPS, LayerNeighbours

NEIGHBOURS_K = 10
CPU_BUDGET = 2e13
"""`auto` leaves neighbours out on a CPU above so many floating point operations: some minutes on two cores."""

ReadLayer = Callable[[int], tuple[Tensor, Tensor, Tensor]]
"""Processed weights (gate, in, out) `[N, d_model]` of a layer, signs applied; may be asked for a layer again."""

_SPARE = {torch.float32: 6}  # candidates beyond k
_SPARE_HALF = 38
_PRODUCT_BYTES = {"cpu": 1 << 26, "cuda": 1 << 28}
_RESIDENT_BYTES = 2e9  # of a CPU's memory: below this all layers stay there
_RESIDENT_SHARE = 0.4  # of a GPU's free memory, likewise
_EXACT_ELEMENTS = {"cpu": 1 << 17, "cuda": 1 << 26}  # what a CPU's cache holds
_BLOCK_ELEMENTS = 1 << 22
_NORM_ROWS = 2048  # in float64 at a time
_GATE, _IN, _OUT = 0, 1, 2

_L = NeighbourList
_SIMILARITY: dict[int, tuple[NeighbourList, NeighbourList]] = {
    _OUT: (_L.SIMILAR_OUT, _L.OPPOSITE_OUT),
    _GATE: (_L.SIMILAR_GATE, _L.OPPOSITE_GATE),
    _IN: (_L.SIMILAR_IN, _L.OPPOSITE_IN),
}
_COMPOSITION: dict[int, tuple[NeighbourList, NeighbourList]] = {
    _GATE: (_L.READERS_GATE, _L.WRITERS_GATE),
    _IN: (_L.READERS_IN, _L.WRITERS_IN),
}


class _Kind(NamedTuple):
    """How a list compares: its neuron's vector with another's, which sign counts (0: both), which layers."""

    own: int
    other: int
    sign: int
    later: bool
    earlier: bool


def _kinds() -> dict[NeighbourList, _Kind]:
    kinds: dict[NeighbourList, _Kind] = {}
    for vector, (similar, opposite) in _SIMILARITY.items():
        kinds[similar] = _Kind(vector, vector, 1, later=True, earlier=True)
        kinds[opposite] = _Kind(vector, vector, -1, later=True, earlier=True)
    for vector, (readers, writers) in _COMPOSITION.items():
        kinds[readers] = _Kind(_OUT, vector, 0, later=True, earlier=False)
        kinds[writers] = _Kind(vector, _OUT, 0, later=False, earlier=True)
    return kinds


_KINDS = _kinds()


@dataclass(frozen=True, kw_only=True)
class Neighbourhoods:
    """The neighbours of every layer, and how many of the lists needed a second look."""

    layers: list[LayerNeighbours]
    lists: int
    rechecked: int


def operations(neurons: int, d_model: int) -> float:
    """Floating point operations that neighbours take: 5 n² d."""
    return 5.0 * neurons**2 * d_model


def neighbours(
    read_layer: ReadLayer,
    n_layers: int,
    k: int = NEIGHBOURS_K,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Neighbourhoods:
    """The `k` neighbours of every neuron in each of the ten lists.

    `dtype` of the products: float32 on a CPU, float16 on a GPU, unless given. In memory are the candidates (1.3 kB per
    neuron, on a GPU 3.8 kB), a block of products, and all layers where these are small enough (each is then read once),
    else two at a time, in `dtype` and as they are: `read_layer` is then called about 1.5 · n_layers² times. `progress`
    is told how many pairs of layers are done, of n_layers · (n_layers + 1) / 2.
    """
    found = torch.device(device if torch.device(device).type == "cuda" else "cpu")  # float64 is needed
    dtype = dtype or (torch.float32 if found.type == "cpu" else torch.float16)
    weights = _Layers(read_layer, n_layers, found, None)
    with _whole_sums():
        candidates, error = _find_candidates(weights, k + _SPARE.get(dtype, _SPARE_HALF), dtype, progress)
    first = [0, *accumulate(held.scores.shape[1] for held in candidates)]
    result: list[LayerNeighbours] = []
    rechecked = 0
    for layer in range(n_layers):
        chosen, again = _Choice(weights, first, layer, candidates[layer], error, k).choose()
        result.append(chosen)
        rechecked += again
    return Neighbourhoods(layers=result, lists=len(NEIGHBOUR_LISTS) * first[-1], rechecked=rechecked)


class _Layers:
    """Layers' vectors `[3, N, d_model]` on the device, the last ones used or all: float32 as they are (`dtype` None),
    or of unit length in `dtype`, with zero vectors added up to a multiple of `RUN`. A zero vector stays one."""

    def __init__(self, read: ReadLayer, n_layers: int, device: torch.device, dtype: torch.dtype | None) -> None:
        self._read, self.n_layers = read, n_layers
        self._held: dict[int, Tensor] = {}
        self.device, self._dtype = device, dtype
        self.neurons: dict[int, int] = {}
        self._norms: dict[int, Tensor] = {}
        self._room: int | None = None  # layers to keep, decided at the first

    def __getitem__(self, layer: int) -> Tensor:
        if layer in self._held:
            self._held[layer] = self._held.pop(layer)  # the last one used
            return self._held[layer]
        vectors = self._load(layer)
        if self._room is None:
            self._room = self.n_layers if vectors.nbytes * self.n_layers <= _resident_bytes(self.device) else 2
        while len(self._held) >= self._room:
            del self._held[next(iter(self._held))]
        self._held[layer] = vectors
        return vectors

    def norms(self, layer: int) -> Tensor:
        """Lengths `[3, N]`, float64, of the vectors as they are."""
        if layer not in self._norms:
            parts = self[layer].split(_NORM_ROWS, dim=1)
            self._norms[layer] = torch.cat([part.double().norm(dim=2) for part in parts], dim=1)
        return self._norms[layer]

    def _load(self, layer: int) -> Tensor:
        loaded = [w.to(self.device, torch.float32) for w in self._read(layer)]
        self.neurons[layer] = neurons = len(loaded[0])
        if self._dtype is None:
            return torch.stack(loaded)
        rows = -(-neurons // RUN) * RUN
        vectors = torch.zeros(3, rows, loaded[0].shape[1], dtype=self._dtype, device=self.device)
        for place, w in enumerate(loaded):
            for start in range(0, neurons, _NORM_ROWS):
                part = w[start : start + _NORM_ROWS].double()
                unit = part / part.norm(dim=1, keepdim=True).clamp_min(1e-300)
                vectors[place, start : start + len(part)] = unit.to(self._dtype)
        return vectors


@dataclass(frozen=True)
class _Error:
    """How far a candidate's score `s` may be from its cosine: at most `base + relative · |s|`."""

    base: float
    relative: float

    @classmethod
    def of(cls, dtype: torch.dtype, d_model: int) -> _Error:
        """Unit vectors in `dtype`, products summed in float32 (twice the classical bound, for tensor cores).

        Rounding x and y moves Σ x·y by at most 2u Σ|x·y| ≤ 2u, and rounding the sum by u|s|.
        """
        unit, single = torch.finfo(dtype).eps / 2, torch.finfo(torch.float32).eps / 2
        tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps * 2 * d_model**0.5  # subnormal entries
        sums = (d_model + 2) * single * (1 if dtype is torch.float32 else 4)
        return cls(2.1 * unit + sums + tiny, 1.1 * unit)

    def at(self, score: Tensor) -> Tensor:
        return self.base + self.relative * score.abs()


def _find_candidates(
    weights: _Layers, size: int, dtype: torch.dtype, progress: Callable[[int], None] | None
) -> tuple[list[Candidates], _Error]:
    """Step 1: candidates of every layer, and the error bound of their scores."""
    n_layers, device = weights.n_layers, weights.device

    def read(layer: int) -> tuple[Tensor, Tensor, Tensor]:
        gate, inp, out = weights[layer]
        return gate, inp, out

    layers = _Layers(read, n_layers, device, dtype)
    error = _Error.of(dtype, layers[0].shape[2])
    floor = max(0.0, 0.49 / COSINE_STEPS - error.base)
    candidates: list[Candidates] = []
    first = [0]
    for a in range(n_layers):
        for b in range(a, n_layers):
            own, other = layers[a], layers[b]
            if a == 0:  # every layer is met here first
                candidates.append(Candidates(len(NEIGHBOUR_LISTS), layers.neurons[b], size, floor, device))
                first.append(first[-1] + layers.neurons[b])
            _offer_pair(own, other, candidates[a], candidates[b], first[a], first[b])
            if progress is not None:
                progress(a * n_layers - a * (a - 1) // 2 + b - a + 1)
    return candidates, error


def _offer_pair(own: Tensor, other: Tensor, mine: Candidates, theirs: Candidates, first: int, other_first: int) -> None:
    """All products of layer a (`own`) with a layer b ≥ a (`other`), in blocks of rows of a."""
    room = _PRODUCT_BYTES[own.device.type] // (own.element_size() * other.shape[1])
    rows = max(RUN, room // RUN * RUN)
    same = mine is theirs
    for start in range(0, own.shape[1], rows):
        block = own[:, start : start + rows]
        for vector, (similar, opposite) in _SIMILARITY.items():
            product = block[vector] @ other[vector].T
            if same:
                product.diagonal(start).fill_(0)  # itself
            _offer(product, [(mine, similar), (mine, opposite)], start, other_first, by_rows=True)
            if not same:
                _offer(product, [(theirs, similar), (theirs, opposite)], 0, first + start, by_rows=False)
        for vector, (readers, writers) in () if same else _COMPOSITION.items():
            product = block[_OUT] @ other[vector].T
            _offer(product, [(mine, readers)], start, other_first, by_rows=True)
            _offer(product, [(theirs, writers)], 0, first + start, by_rows=False)


def _offer(
    product: Tensor, lists: list[tuple[Candidates, NeighbourList]], start: int, first: int, *, by_rows: bool
) -> None:
    """One direction of a product to the lists of its owners, whose first is neuron `start` of its layer."""
    neurons = lists[0][0].scores.shape[1]
    # Owners that are added zero vectors have no lists.
    product = product[: neurons - start] if by_rows else product[:, :neurons]
    side = Side.of_rows(product) if by_rows else Side.of_columns(product)
    owners = slice(start, start + (len(product) if by_rows else product.shape[1]))
    for candidates, kind in lists:
        candidates.offer(kind.position, owners, side, _KINDS[kind].sign, first)


class _Choice:
    """Steps 2 and 3 for one layer: exact cosines of its candidates, the k best, and whether these are proven."""

    def __init__(self, weights: _Layers, first: list[int], layer: int, held: Candidates, error: _Error, k: int) -> None:
        self._weights, self._first, self._layer = weights, first, layer
        self._held, self._error, self._k = held, error, k

    def choose(self) -> tuple[LayerNeighbours, int]:
        """The neighbours of the layer, and how many lists had to be made again."""
        neurons = self._held.scores.shape[1]
        shape = (neurons, len(NEIGHBOUR_LISTS), self._k)
        ordinals, cosines = np.full(shape, -1, np.int32), np.zeros(shape, np.int16)
        rechecked = 0
        for kind, keys in zip(NEIGHBOUR_LISTS, self._best_candidates(), strict=True):
            unsure = self._unsure(kind, keys).nonzero()[:, 0]
            if len(unsure):
                keys[unsure] = self._best_of_all(kind, unsure)
                rechecked += len(unsure)
            found_ordinals, steps = _unkey(keys)
            ordinals[:, kind.position] = found_ordinals.cpu().numpy()
            cosines[:, kind.position] = steps.cpu().numpy()
        return LayerNeighbours(ordinals=ordinals, cosines=cosines), rechecked

    def _best_candidates(self) -> list[Tensor]:
        """Keys `[N, k]` of the best candidates of each list, by their exact cosines; each layer is asked for once."""
        keys = torch.full(self._held.scores.shape, _NO_KEY, dtype=torch.int64, device=self._held.scores.device)
        last = self._held.scores[:, :, self._k - 1 : self._k]
        possible = self._held.scores >= last - 2 * self._error.at(last) - 1 / COSINE_STEPS
        for other in range(len(self._first) - 1):
            low, high = self._first[other], self._first[other + 1]
            inside = possible & (self._held.ordinals >= low) & (self._held.ordinals < high)
            for kind in NEIGHBOUR_LISTS:
                owner, slot = inside[kind.position].nonzero(as_tuple=True)
                if len(owner):
                    names = self._held.ordinals[kind.position][owner, slot].long()
                    cosines = self._exact(kind, other, owner, names - low)
                    keys[kind.position][owner, slot] = _key(cosines, _KINDS[kind].sign, names)
        return list(keys.topk(self._k, dim=2).values)

    def _exact(self, kind: NeighbourList, other: int, mine: Tensor, theirs: Tensor) -> Tensor:
        """Cosines `[P]`, float64, of P pairs: neuron `mine` of this layer with `theirs` of layer `other`."""
        how = _KINDS[kind]
        own, others = self._weights[self._layer][how.own], self._weights[other][how.other]
        result = torch.empty(len(mine), dtype=torch.float64, device=own.device)
        pairs = max(1, _EXACT_ELEMENTS[own.device.type] // own.shape[1])
        for start in range(0, len(mine), pairs):
            part = slice(start, start + pairs)
            x, y = own[mine[part]].double(), others[theirs[part]].double()
            result[part] = torch.bmm(x[:, None], y[:, :, None])[:, 0, 0]
        lengths = self._weights.norms(self._layer)[how.own][mine] * self._weights.norms(other)[how.other][theirs]
        return result / lengths.clamp_min(1e-300)

    def _unsure(self, kind: NeighbourList, keys: Tensor) -> Tensor:
        """Of which neurons `[N]` something that is no candidate could belong among the k best of this list."""
        cut = self._held.scores[kind.position, :, -1].double()
        reach = ((cut + self._error.at(cut)) * COSINE_STEPS + 0.5).floor()  # largest possible cosine, in steps
        _, steps = _unkey(keys[:, -1:])
        how = _KINDS[kind]
        if not (how.later and how.earlier):
            ahead = len(self._first) - 2 - self._layer if how.later else self._layer
            reach = reach * (ahead > 0)
        return reach >= steps[:, 0].abs().clamp_min(1)

    def _best_of_all(self, kind: NeighbourList, rows: Tensor) -> Tensor:
        """Keys `[rows, k]` from float64 cosines with every neuron that the list may hold."""
        how, last = _KINDS[kind], len(self._first) - 1
        low = 0 if how.earlier else self._layer + 1
        high = last if how.later else self._layer
        best = torch.full((len(rows), self._k), _NO_KEY, dtype=torch.int64, device=rows.device)
        for other in range(low, high):
            own = self._weights[self._layer][how.own][rows].double()
            own /= self._weights.norms(self._layer)[how.own][rows, None].clamp_min(1e-300)
            theirs = self._weights[other][how.other].double()
            theirs /= self._weights.norms(other)[how.other][:, None].clamp_min(1e-300)
            names = torch.arange(self._first[other], self._first[other + 1], device=rows.device)
            step = max(1, _BLOCK_ELEMENTS // len(names))
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                keys = _key(own[part] @ theirs.T, how.sign, names)
                if how.own == how.other:
                    keys[names == rows[part, None] + self._first[self._layer]] = _NO_KEY  # itself
                pool = torch.cat([best[part], keys], dim=1)
                best[part] = pool.topk(self._k, dim=1).values
        return best


# A key orders the entries of a list: the cosine's strength in steps, then the smaller ordinal. Its lowest bit keeps the
# cosine's sign, which decides nothing since ordinals differ.
_NO_KEY = -1
_LAST_ORDINAL = 2**31 - 1


def _key(cosines: Tensor, sign: int, ordinals: Tensor) -> Tensor:
    """Keys (int64) of float64 `cosines` of neurons `ordinals`; `_NO_KEY` for what the list does not hold."""
    steps = (cosines.clamp(-1.0, 1.0) * COSINE_STEPS).round().long()
    strength = steps.abs() if sign == 0 else steps * sign
    key = (strength << 32) | ((_LAST_ORDINAL - ordinals) << 1) | (steps < 0)
    return torch.where(strength > 0, key, _NO_KEY)


def _unkey(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Ordinals (−1 for none) and signed steps (0 for none) of keys."""
    none = keys < 0
    ordinals = _LAST_ORDINAL - ((keys >> 1) & _LAST_ORDINAL)
    steps = (keys >> 32) * (1 - 2 * (keys & 1))
    return ordinals.masked_fill(none, -1), steps.masked_fill(none, 0)


def _resident_bytes(device: torch.device) -> float:
    return _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _RESIDENT_BYTES


@contextmanager
def _whole_sums() -> Generator[None]:
    """No TF32, and partial sums of half-precision products stay in float32 on a GPU: the error bound supposes both."""
    settings, precision = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    names = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = {name: getattr(settings, name) for name in names}
    try:
        torch.set_float32_matmul_precision("highest")
        for name in names:
            setattr(settings, name, False)
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        for name, value in before.items():
            setattr(settings, name, value)
