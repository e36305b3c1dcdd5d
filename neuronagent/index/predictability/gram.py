"""Sums of products of activations, in one pass over the tokens: all that least squares has to know of them.

Of each source i the second moments Σ g^i (g^i)ᵀ `[N_i, N_i]`, of each pair i→j the products Σ g^i (g^j)ᵀ `[N_i, N_j]`,
of each layer Σ g, of each target Σ g². Products are taken in float32, of at most `_TOKENS` tokens at a time, and added
up in float64, on one device: a sum over a million tokens is as exact as one over `_TOKENS`, to about 1e-7 √(Σa² Σb²).

Where sources and targets are layers of one model (`shared`), the block of layers i and j serves i→j and j→i, and that
of i and i is the second moments of i. Of a symmetric block the lower half is copied from the upper, not computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuronagent.errors import StorageError
from neuronagent.predictability.scores import Pair

_TOKENS = 4096
_SCRATCH = 1 << 24
"""Float32 numbers that products are made in: wide blocks are computed strip by strip."""
_STRIPS, _LEAST = 8, 128
"""A symmetric block of N neurons is computed in strips of N ÷ 8 rows, at least 128: wider strips compute more of its
lower half, narrower products are slow."""


class _Side(NamedTuple):
    """A layer as it stands on a side of a product; `side` is the same for both where layers are shared."""

    side: str
    layer: int

    def __str__(self) -> str:
        return f"{self.side} {self.layer}"


_Key = tuple[_Side, _Side]


@dataclass(frozen=True)
class _Layout:
    """What is kept: `blocks` and their ends, the layers and their widths, and the targets whose squares are on no
    diagonal."""

    shared: bool
    widths: Mapping[_Side, int]
    blocks: tuple[_Key, ...]
    alone: tuple[_Side, ...]

    @classmethod
    def of(
        cls, pairs: Iterable[Pair], source_widths: Mapping[int, int], target_widths: Mapping[int, int], shared: bool
    ) -> _Layout:
        pairs = sorted(set(pairs))
        widths: dict[_Side, int] = {}
        blocks: set[_Key] = set()
        for pair in pairs:
            source, target = cls._ends(pair, shared)
            widths |= {source: source_widths[pair.source], target: target_widths[pair.target]}
            blocks |= {(source, source), _ordered(source, target)}
        targets = {cls._ends(pair, shared)[1] for pair in pairs}
        alone = {target for target in targets if (target, target) not in blocks}
        return cls(shared, widths, tuple(sorted(blocks)), tuple(sorted(alone)))

    @staticmethod
    def _ends(pair: Pair, shared: bool) -> _Key:
        sides = ("layer", "layer") if shared else ("source", "target")
        return _Side(sides[0], pair.source), _Side(sides[1], pair.target)

    def ends(self, pair: Pair) -> _Key:
        return self._ends(pair, self.shared)

    def source(self, layer: int) -> _Side:
        return self.ends(Pair(layer, layer))[0]

    def target(self, layer: int) -> _Side:
        return self.ends(Pair(layer, layer))[1]

    def strip(self, key: _Key) -> int:
        """How many rows of a block are computed at once."""
        rows, columns = (self.widths[end] for end in key)
        most = max(1, min(rows, _SCRATCH // columns))
        return min(most, max(_LEAST, -(-rows // _STRIPS))) if key[0] == key[1] else most

    @property
    def scratch(self) -> int:
        """The numbers of the largest strip."""
        return max((self.strip(key) * self.widths[key[1]] for key in self.blocks), default=0)

    @property
    def numbers(self) -> int:
        """The numbers of all sums."""
        blocks = sum(self.widths[left] * self.widths[right] for left, right in self.blocks)
        return blocks + sum(self.widths.values()) + sum(self.widths[target] for target in self.alone)


def _ordered(source: _Side, target: _Side) -> _Key:
    return (source, target) if source <= target else (target, source)


def bytes_needed(
    pairs: Iterable[Pair], source_widths: Mapping[int, int], target_widths: Mapping[int, int], shared: bool
) -> int:
    """What `Grams` of these pairs takes: its sums, and a strip of a product, as made and (on a CPU) as float64."""
    layout = _Layout.of(pairs, source_widths, target_widths, shared)
    return 8 * layout.numbers + (4 + 8) * layout.scratch


class Grams:
    """The sums for `pairs`; layers that no pair has are never looked at. Widths are numbers of neurons by layer."""

    def __init__(
        self,
        pairs: Iterable[Pair],
        source_widths: Mapping[int, int],
        target_widths: Mapping[int, int],
        *,
        shared: bool,
        device: torch.device | str,
    ) -> None:
        self.tokens = 0
        self._layout = layout = _Layout.of(pairs, source_widths, target_widths, shared)
        self._blocks = {key: _zeros(device, *(layout.widths[end] for end in key)) for key in layout.blocks}
        self._sums = {side: _zeros(device, width) for side, width in layout.widths.items()}
        self._squares = {side: _zeros(device, layout.widths[side]) for side in layout.alone}
        self._scratch = torch.empty(layout.scratch, dtype=torch.float32, device=device)

    def update(self, sources: Mapping[int, Tensor], targets: Mapping[int, Tensor]) -> None:
        """Take in T tokens: `post` `[T, N]` float32 of the sources and the targets, where the sums are."""
        given = {"layer": {**targets, **sources}, "source": sources, "target": targets}
        post = {side: given[side.side][side.layer].float() for side in self._sums}
        total = len(next(iter(post.values()), ()))
        for start in range(0, total, _TOKENS):
            self._add({side: values[start : start + _TOKENS] for side, values in post.items()})
        self.tokens += total

    def _add(self, post: Mapping[_Side, Tensor]) -> None:
        for key, block in self._blocks.items():
            self._add_product(block, post[key[0]], post[key[1]], key)
        for side, sums in self._sums.items():
            sums += post[side].sum(0)
        for side, squares in self._squares.items():
            self._add_squares(squares, post[side])

    def _add_product(self, block: Tensor, left: Tensor, right: Tensor, key: _Key) -> None:
        """block += leftᵀ right; of a symmetric one what is in the strips' columns from the diagonal on."""
        rows, columns = block.shape
        step = self._layout.strip(key)
        for start in range(0, rows, step):
            stop, first = min(rows, start + step), start if key[0] == key[1] else 0
            product = self._scratch[: (stop - start) * (columns - first)].view(stop - start, columns - first)
            torch.mm(left[:, start:stop].T, right[:, first:], out=product)
            block[start:stop, first:] += product

    def _add_squares(self, squares: Tensor, values: Tensor) -> None:
        """squares += Σ values², as many tokens at a time as the scratch has room for."""
        for rows in values.split(max(1, len(self._scratch) // len(squares))):
            product = self._scratch[: rows.numel()].view(rows.shape)
            squares += torch.mul(rows, rows, out=product).sum(0)

    def second(self, source: int, mean: Tensor | None = None) -> Tensor:
        """Σ g gᵀ of a source `[N, N]` float64, of g less `mean` `[N]` if given. Not to be written to."""
        side = self._layout.source(source)
        block = self._symmetric((side, side))
        return block if mean is None else self._about(block, self._sums[side], self._sums[side], mean, mean)

    def cross(self, pair: Pair, source_mean: Tensor | None = None, target_mean: Tensor | None = None) -> Tensor:
        """Σ g^i (g^j)ᵀ `[N_i, N_j]` float64, of both less these means if given. Not to be written to."""
        source, target = self._layout.ends(pair)
        key = _ordered(source, target)
        block = self._symmetric(key) if source == target else self._blocks[key]
        block = block if key == (source, target) else block.T
        if source_mean is None or target_mean is None:
            return block
        return self._about(block, self._sums[source], self._sums[target], source_mean, target_mean)

    def _about(self, block: Tensor, left: Tensor, right: Tensor, left_mean: Tensor, right_mean: Tensor) -> Tensor:
        found = torch.addr(block, left_mean, right, alpha=-1)
        return found.addr_(left, right_mean, alpha=-1).addr_(left_mean, right_mean, alpha=self.tokens)

    def _symmetric(self, key: _Key) -> Tensor:
        """A symmetric block with its lower half filled in, strip by strip."""
        block, step = self._blocks[key], self._layout.strip(key)
        for start in range(0, len(block), step):
            stop = start + step
            block[stop:, start:stop] = block[start:stop, stop:].T
        return block

    def source_sum(self, source: int) -> Tensor:
        """Σ g of a source, `[N]` float64."""
        return self._sums[self._layout.source(source)]

    def target_sum(self, target: int) -> Tensor:
        """Σ g of a target, `[N]` float64."""
        return self._sums[self._layout.target(target)]

    def target_squares(self, target: int) -> Tensor:
        """Σ g² of a target, `[N]` float64."""
        side = self._layout.target(target)
        return self._squares[side] if side in self._squares else self._blocks[side, side].diagonal()

    def state(self) -> dict[str, Tensor]:
        """All sums by name, not copied: `load` of them goes on bit for bit."""
        return dict(self._named(), tokens=torch.tensor(self.tokens))

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((f"{left} x {right}", block) for (left, right), block in self._blocks.items())
        yield from ((f"sum {side}", sums) for side, sums in self._sums.items())
        yield from ((f"squares {side}", squares) for side, squares in self._squares.items())

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the sums of another `Grams` of the same pairs.

        Raises:
            StorageError: they are sums of other pairs or widths.
        """
        own = dict(self._named())
        shapes = {name: value.shape for name, value in own.items()} | {"tokens": torch.Size([])}
        if {name: value.shape for name, value in state.items()} != shapes:
            raise StorageError("these sums are those of other layers", remedy="fit it again from the start")
        for name, value in own.items():
            value.copy_(state[name])
        self.tokens = int(state["tokens"])


def _zeros(device: torch.device | str, *shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64, device=device)
