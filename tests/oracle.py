"""What a pass over a corpus must record, computed slowly: one neuron, one text, one token at a time.

Written from definitions.md ("Sign combinations", "Splits and samples", "BOS and texts") and nothing of the recorder:
a token of known signs goes into Python lists, and every statistic is the plain sum, minimum or sorted list of those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, QUANTITIES, SPLITS
from neuronagent.hashing import uniform_bits
from neuronagent.layout import EMPTY, HISTOGRAM_BINS, HISTOGRAM_EDGES, LayerActivations

Floats = NDArray[np.float32]
Activate = Callable[[Floats], Floats]

POST, X_IN, X_GATE, ACT = range(4)
_EDGES: list[float] = HISTOGRAM_EDGES.tolist()


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A text as the model saw it: x_gate and x_in `[T, N]` (raw convention), its split and first token number."""

    x_gate: Floats
    x_in: Floats
    split: int
    first: int


@dataclass(frozen=True)
class Token:
    """A token in a combination: values in the order of `QUANTITIES`, and what lists and samples need."""

    values: tuple[float, float, float, float]
    text: int
    position: int
    number: int
    split: int
    bits: int


@dataclass(kw_only=True)
class Neuron:
    """The tokens of one neuron by combination, in corpus order, and the number of exact zeros."""

    zeros: int = 0
    tokens: list[list[Token]] = field(default_factory=lambda: [[] for _ in COMBINATIONS])


def sort_tokens(
    texts: Sequence[Observed], neuron: int, *, salt: str, sign: int = 1, activate: Activate
) -> Neuron:
    """Every token of `texts` in its combination for one neuron, in the convention of `sign`."""
    found = Neuron()
    for place, text in enumerate(texts):
        gate = text.x_gate[:, neuron]
        into = text.x_in[:, neuron] * np.float32(sign)
        act = activate(gate)
        post = act * into
        bits: list[int] = uniform_bits(salt, np.arange(text.first, text.first + len(gate))).tolist()
        rows = zip(post.tolist(), into.tolist(), gate.tolist(), act.tolist(), bits, strict=True)
        for position, (*values, u) in enumerate(rows):
            p, i, g, a = values
            if g == 0 or i == 0:
                found.zeros += 1
                continue
            c = next(
                n for n, name in enumerate(COMBINATIONS) if name.gate_sign * g > 0 and name.in_sign * i > 0
            )
            token = Token((p, i, g, a), place, position, text.first + position, text.split, u)
            found.tokens[c].append(token)
    return found


def top_list(tokens: Sequence[Token], quantity: int, k: int) -> list[int]:
    """Each text's most extreme token after position 0; largest first, ties to the smaller token number."""
    ranked = sorted(tokens, key=lambda token: (-abs(token.values[quantity]), token.number))
    entries: list[int] = []
    seen: set[int] = set()
    for token in ranked:
        if token.position > 0 and token.values[quantity] != 0 and token.text not in seen:
            seen.add(token.text)
            entries.append(packed(token.values[quantity], token.number))
    return _padded(entries, k)


def uniform_sample(tokens: Sequence[Token], k: int) -> list[int]:
    """The tokens after position 0 with the smallest u."""
    ranked = sorted((t for t in tokens if t.position > 0), key=lambda token: (token.bits, token.number))
    return _padded([packed(token.values[POST], token.number) for token in ranked], k)


def weighted_sample(tokens: Sequence[Token], k: int) -> list[int]:
    """The tokens after position 0 with the largest |post|/u, in float32 as `lists` says."""
    ranked = sorted(
        (t for t in tokens if t.position > 0 and t.values[POST] != 0),
        key=lambda token: (-priority(token), token.number),
    )
    return _padded([packed(token.values[POST], token.number) for token in ranked], k)


def priority(token: Token) -> float:
    u = np.float32((token.bits + 0.5) / 2**31)
    return float(np.float32(abs(token.values[POST])) / u)


def packed(value: float, number: int) -> int:
    """As `layout` describes it."""
    return (int(np.float32(abs(value)).view(np.uint32)) << 32) | (2**32 - 1 - number)


def _padded(entries: list[int], k: int) -> list[int]:
    return (entries + [EMPTY] * k)[:k]


def histogram_bin(magnitude: float) -> int:
    return sum(edge <= magnitude for edge in _EDGES)


def layer(
    texts: Sequence[Observed],
    *,
    k: int,
    salt: str,
    activate: Activate,
    sign: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
    constant_first: bool = False,
) -> LayerActivations:
    """All that is recorded of `neurons` (default: all) of one layer."""
    chosen = range(texts[0].x_gate.shape[1]) if neurons is None else neurons
    n, c, s, q = len(chosen), len(COMBINATIONS), len(SPLITS), len(QUANTITIES)
    result = LayerActivations(
        counts=np.zeros((n, c), np.int64),
        first_counts=np.zeros((n, c), np.int64),
        zeros=np.zeros(n, np.int64),
        sums=np.zeros((n, c, q)),
        minima=np.full((n, c, q), np.nan, np.float32),
        maxima=np.full((n, c, q), np.nan, np.float32),
        mass=np.zeros((n, c)),
        histogram=np.zeros((n, s, c, HISTOGRAM_BINS), np.int64),
        first_values=np.zeros((n, q), np.float32) if constant_first else None,
        post=np.full((n, s, c, k), EMPTY, np.int64),
        x_in=np.full((n, c, k), EMPTY, np.int64),
        x_gate=np.full((n, c, k), EMPTY, np.int64),
        uniform=np.full((n, s, c, k), EMPTY, np.int64),
        weighted=np.full((n, s, c, k), EMPTY, np.int64),
    )
    for row, neuron in enumerate(chosen):
        s_neuron = 1 if sign is None else sign[neuron]
        found = sort_tokens(texts, neuron, salt=salt, sign=s_neuron, activate=activate)
        result.zeros[row] = found.zeros
        for place, tokens in enumerate(found.tokens):
            _combination(result, row, place, tokens, k)
        if result.first_values is not None:
            gate, into = texts[0].x_gate[:1, neuron], texts[0].x_in[:1, neuron] * np.float32(s_neuron)
            act = activate(gate)
            result.first_values[row] = [float(v[0]) for v in (act * into, into, gate, act)]
    return result


def _combination(result: LayerActivations, row: int, c: int, tokens: list[Token], k: int) -> None:
    result.counts[row, c] = len(tokens)
    result.first_counts[row, c] = sum(token.position == 0 for token in tokens)
    for q in range(len(QUANTITIES)):
        values = [token.values[q] for token in tokens]
        result.sums[row, c, q] = math.fsum(values)
        if values:
            result.minima[row, c, q], result.maxima[row, c, q] = min(values), max(values)
    later = [token for token in tokens if token.position > 0]
    result.mass[row, c] = math.fsum(abs(token.values[POST]) for token in later)
    result.x_in[row, c] = top_list(tokens, X_IN, k)
    result.x_gate[row, c] = top_list(tokens, X_GATE, k)
    for s in range(len(SPLITS)):
        mine = [token for token in tokens if token.split == s]
        result.post[row, s, c] = top_list(mine, POST, k)
        result.uniform[row, s, c] = uniform_sample(mine, k)
        result.weighted[row, s, c] = weighted_sample(mine, k)
    for token in later:
        result.histogram[row, token.split, c, histogram_bin(abs(token.values[POST]))] += 1
