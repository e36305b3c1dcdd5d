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

On a CPU the five products of a pair of layers are worked on side by side, then the layers; no two tasks share a list.

float16 suits a GPU better than bfloat16: cosines need no large exponents and its rounding is eight times finer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuronagent.domain import NEIGHBOUR_LISTS, NeighbourList
from neuronagent.index.candidates import RUN, Candidates, Side
from neuronagent.index.resident import Layers, ReadLayer
from neuronagent.index.workers import workers
from neuronagent.layout import COSINE_STEPS, LayerNeighbours

NEIGHBOURS_K = 10
CPU_BUDGET = 2e13
"""`auto` leaves neighbours out on a CPU above so many floating point operations: some minutes on two cores."""

_SPARE = {torch.float32: 6}  # candidates beyond k
_SPARE_HALF = 38
_PRODUCT_BYTES = {"cpu": 1 << 25, "cuda": 1 << 28}  # of a block; on a CPU there may be five at a time
_EXACT_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 26}  # what a CPU's cache holds
_BLOCK_ELEMENTS = 1 << 22
_GATE, _IN, _OUT = 0, 1, 2

_L = NeighbourList


class _Product(NamedTuple):
    """A product of a layer a (`own` of its vectors) with a layer b ≥ a (`other`), and the lists that it serves."""

    own: int
    other: int
    of_a: tuple[NeighbourList, ...]
    of_b: tuple[NeighbourList, ...]

    @property
    def similarity(self) -> bool:
        return self.own == self.other


# No two serve the same list: they can be worked on side by side.
_PRODUCTS = (
    _Product(_OUT, _OUT, (_L.SIMILAR_OUT, _L.OPPOSITE_OUT), (_L.SIMILAR_OUT, _L.OPPOSITE_OUT)),
    _Product(_GATE, _GATE, (_L.SIMILAR_GATE, _L.OPPOSITE_GATE), (_L.SIMILAR_GATE, _L.OPPOSITE_GATE)),
    _Product(_IN, _IN, (_L.SIMILAR_IN, _L.OPPOSITE_IN), (_L.SIMILAR_IN, _L.OPPOSITE_IN)),
    _Product(_OUT, _GATE, (_L.READERS_GATE,), (_L.WRITERS_GATE,)),
    _Product(_OUT, _IN, (_L.READERS_IN,), (_L.WRITERS_IN,)),
)


class _Kind(NamedTuple):
    """How a list compares: its neuron's vector with another's, which sign counts (0: both), which layers."""

    own: int
    other: int
    sign: int
    later: bool
    earlier: bool


def _kinds() -> dict[NeighbourList, _Kind]:
    kinds: dict[NeighbourList, _Kind] = {}
    for own, other, of_a, of_b in _PRODUCTS:
        if own == other:
            for kind, sign in zip(of_a, (1, -1), strict=True):
                kinds[kind] = _Kind(own, other, sign, later=True, earlier=True)
        else:
            kinds[of_a[0]] = _Kind(own, other, 0, later=True, earlier=False)
            kinds[of_b[0]] = _Kind(other, own, 0, later=False, earlier=True)
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
    weights = Layers(read_layer, n_layers, found, None)
    with _whole_sums():
        candidates, error = _find_candidates(weights, k + _SPARE.get(dtype, _SPARE_HALF), dtype, progress)
    first = [0, *accumulate(held.scores.shape[1] for held in candidates)]
    choices = [_Choice(weights, first, layer, candidates[layer], error, k) for layer in range(n_layers)]
    with workers(found, n_layers if weights.resident else 1) as pool:
        chosen = list(pool.map(_Choice.choose, choices))
    return Neighbourhoods(
        layers=[layer for layer, _ in chosen],
        lists=len(NEIGHBOUR_LISTS) * first[-1],
        rechecked=sum(again for _, again in chosen),
    )


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
    weights: Layers, size: int, dtype: torch.dtype, progress: Callable[[int], None] | None
) -> tuple[list[Candidates], _Error]:
    """Step 1: candidates of every layer, and the error bound of their scores."""
    n_layers, device = weights.n_layers, weights.device

    def read(layer: int) -> tuple[Tensor, Tensor, Tensor]:
        gate, inp, out = weights[layer]
        return gate, inp, out

    layers = Layers(read, n_layers, device, dtype)
    error = _Error.of(dtype, layers[0].shape[2])
    floor = max(0.0, 0.49 / COSINE_STEPS - error.base)
    candidates: list[Candidates] = []
    first = [0]
    before: list[Future[None]] = []
    with workers(device, len(_PRODUCTS)) as pool:
        for a in range(n_layers):
            for b in range(a, n_layers):
                own, other = layers[a], layers[b]
                if a == 0:  # every layer is met here first
                    candidates.append(Candidates(len(NEIGHBOUR_LISTS), layers.neurons[b], size, floor, device))
                    first.append(first[-1] + layers.neurons[b])
                pair = _Pair(own, other, candidates[a], candidates[b], first[a], first[b])
                tasks = [pool.submit(pair.offer, *each) for each in zip_longest(_PRODUCTS, before)]
                # One pair ahead; where not all layers stay, none, since its layers are then in memory.
                _finish(before if layers.resident else tasks)
                before = tasks
                if progress is not None:
                    progress(a * n_layers - a * (a - 1) // 2 + b - a + 1)
        _finish(before)
    return candidates, error


def _finish(tasks: list[Future[None]]) -> None:
    for task in tasks:
        task.result()


@dataclass(frozen=True)
class _Pair:
    """A layer a (`own`) and a layer b ≥ a (`other`): unit vectors, candidates, and the first neuron's ordinal."""

    own: Tensor
    other: Tensor
    mine: Candidates
    theirs: Candidates
    first: int
    other_first: int

    def offer(self, what: _Product, before: Future[None] | None) -> None:
        """All products of one kind, in blocks of rows of a, when the pair `before` is done with the same lists."""
        if before is not None:
            before.result()
        room = _PRODUCT_BYTES[self.own.device.type] // (self.own.element_size() * self.other.shape[1])
        rows = max(RUN, room // RUN * RUN)
        same = self.mine is self.theirs
        if same and not what.similarity:
            return
        other = self.other[what.other].T
        for start in range(0, self.own.shape[1], rows):
            product = self.own[what.own, start : start + rows] @ other
            if same:
                product.diagonal(start).fill_(0)  # itself
            _offer(product, self.mine, what.of_a, start, self.other_first, by_rows=True)
            if not same:
                _offer(product, self.theirs, what.of_b, 0, self.first + start, by_rows=False)


def _offer(
    product: Tensor, candidates: Candidates, lists: tuple[NeighbourList, ...], start: int, first: int, *, by_rows: bool
) -> None:
    """One direction of a product to the `lists` of its owners, whose first is neuron `start` of its layer."""
    neurons = candidates.scores.shape[1]
    # Owners that are added zero vectors have no lists.
    product = product[: neurons - start] if by_rows else product[:, :neurons]
    side = Side.of_rows(product) if by_rows else Side.of_columns(product)
    owners = slice(start, start + (len(product) if by_rows else product.shape[1]))
    for kind in lists:
        candidates.offer(kind.position, owners, side, _KINDS[kind].sign, first)


class _Choice:
    """Steps 2 and 3 for one layer: exact cosines of its candidates, the k best, and whether these are proven."""

    def __init__(self, weights: Layers, first: list[int], layer: int, held: Candidates, error: _Error, k: int) -> None:
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
            x, y = own.index_select(0, mine[part]).double(), others.index_select(0, theirs[part]).double()
            result[part] = x.mul_(y).sum(dim=1)
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
