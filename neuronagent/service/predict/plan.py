"""What a fit needs: memory, disk, and how often the text is read.

Gram matrices of many pairs do not fit into any memory: for 16 layers of 11,008 neurons they are hundreds of gigabytes.
A *pass* reads the text once and fits as many pairs as there is room for. Pairs that share layers share matrices, so
that a pass takes layers × layers: they are cut into groups, and a pass has the pairs between two groups, in both
directions, and more of them while there is room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from neuronagent.domain import clip
from neuronagent.errors import UsageError
from neuronagent.index.predictability import adagrad, gram, ridge
from neuronagent.predictability.scores import FitKind, Pair

_FLOAT = 4
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_LEAST_FREE = 256_000_000  # what is taken where the system does not say what is free
_SHARE = 0.5

Pairs = tuple[Pair, ...]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What decides about memory: the neurons of each source and target layer; `shared`: both are layers of one model.
    `tokens`: of the largest batch."""

    kind: FitKind
    sources: Mapping[int, int]
    targets: Mapping[int, int]
    shared: bool
    tokens: int
    rank: int | None = None
    intercept: bool = False

    def memory(self, pairs: Sequence[Pair]) -> int:
        """Bytes that a pass over `pairs` needs beside the model: sums, activations of a batch, what solves them."""
        layers = [self.sources[i] for i in {p.source for p in pairs}]
        targets = {p.target for p in pairs} - ({p.source for p in pairs} if self.shared else set[int]())
        batch = self.tokens * (sum(layers) + sum(self.targets[j] for j in targets)) * _FLOAT
        if self.kind is FitKind.ADAGRAD:
            return batch + adagrad.bytes_needed(pairs, self.sources, self.targets)
        sums = 2 * gram.bytes_needed(pairs, self.sources, self.targets, self.shared)  # of `explain` and of `select`
        return sums + max(batch, max(self._solving(pair) for pair in pairs))

    def _solving(self, pair: Pair) -> int:
        source, targets = self.sources[pair.source], [self.targets[pair.target]]
        return ridge.bytes_needed(source, targets, intercept=self.intercept)

    def disk(self, pairs: Iterable[Pair]) -> int:
        """Bytes of the maps of `pairs`."""

        def one(n: int, m: int) -> int:
            return n * m if self.rank is None else self.rank * (n + m)

        return sum(
            _FLOAT * (one(self.sources[p.source], self.targets[p.target]) + self.targets[p.target]) for p in pairs
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The pairs of each pass, and the most bytes that one of them needs."""

    passes: tuple[Pairs, ...]
    memory: int


def plan_passes(pairs: Sequence[Pair], shape: Shape, memory: int) -> Plan:
    """As few passes over the text as `memory` bytes allow.

    Raises:
        UsageError: they are too few for any.
    """
    if not pairs:
        return Plan(passes=(), memory=0)

    def fits(some: Iterable[Pair]) -> bool:
        return shape.memory(tuple(some)) <= memory

    check_memory(pairs, shape, memory)
    layers = len({*shape.sources, *shape.targets})
    # The largest groups that fit share most; the smallest fill a pass best.
    coarse = next((found for count in range(1, layers) if (found := _grouped(pairs, shape, count, fits))), None)
    fine = _grouped(pairs, shape, layers, fits) or _merged([(pair,) for pair in pairs], fits)
    passes = min((found for found in (coarse, fine) if found), key=len)
    return Plan(passes=tuple(passes), memory=max(shape.memory(each) for each in passes))


def check_memory(pairs: Sequence[Pair], shape: Shape, memory: int) -> None:
    """Raises `UsageError` where `memory` bytes are too few for any pass."""
    least = max(shape.memory([pair]) for pair in pairs)
    if least > memory:
        raise UsageError(
            f"{size(memory)} of memory are too little for one pair of layers",
            remedy=f"it takes {size(least)}: allow it with --memory, or lower --batch-tokens",
        )


def _grouped(
    pairs: Sequence[Pair], shape: Shape, count: int, fits: Callable[[Iterable[Pair]], bool]
) -> list[Pairs] | None:
    """The passes where the layers are in `count` groups; None if two groups are too much for one."""
    sources, targets = ({layer: k * count // len(own) for k, layer in enumerate(sorted(own))}
                        for own in (shape.sources, shape.targets))  # fmt: skip
    if shape.shared:
        layers = sorted({*shape.sources, *shape.targets})
        sources = targets = {layer: k * count // len(layers) for k, layer in enumerate(layers)}
    tiles: dict[tuple[int, int], list[Pair]] = {}
    for pair in sorted(pairs):
        place = sources[pair.source], targets[pair.target]
        tiles.setdefault((min(place), max(place)) if shape.shared else place, []).append(pair)
    if not all(fits(tile) for tile in tiles.values()):
        return None
    return _merged([tuple(tiles[place]) for place in sorted(tiles)], fits)


def _merged(parts: Sequence[Pairs], fits: Callable[[Iterable[Pair]], bool]) -> list[Pairs]:
    """Parts that follow each other put together while there is room."""
    found: list[Pairs] = []
    for part in parts:
        if found and fits((*found[-1], *part)):
            found[-1] = (*found[-1], *part)
        else:
            found.append(part)
    return [tuple(sorted(each)) for each in found]


def parse_memory(said: str) -> int:
    """`8GB`, `500 MB`, `1.5g` as bytes.

    Raises:
        UsageError: anything else, or nothing at all.
    """
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)b?\s*", said, re.IGNORECASE)
    found = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if found <= 0:
        raise UsageError(f"{clip(said)!r} is no amount of memory", remedy="write 8GB or 500MB")
    return found


def free_memory(device: torch.device) -> int:
    """Bytes that a fit takes on `device` if nobody says otherwise: half of what is free."""
    if device.type == "cuda":
        return int(_SHARE * torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return _LEAST_FREE * 8
    return int(_SHARE * kilobytes * 1024)


def size(count: float) -> str:
    """`1.3 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
