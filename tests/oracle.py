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

from neuronagent.domain import (
    COMBINATIONS,
    LISTED,
    QUANTITIES,
    SPLITS,
    CombinationRecord,
    ListEntry,
    NeuronRecord,
    Split,
)
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


def sort_tokens(texts: Sequence[Observed], neuron: int, *, salt: str, sign: int = 1, activate: Activate) -> Neuron:
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
            c = next(n for n, name in enumerate(COMBINATIONS) if name.gate_sign * g > 0 and name.in_sign * i > 0)
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


# What is stored, against the double loop over activations that were rounded differently


def assert_stored(record: NeuronRecord, found: Neuron, *, k: int, noise: float = 1e-4, zero: float = 2e-6) -> None:
    """Every number of `record` is that of `found` up to float noise: values to `noise` relative, lists up to ties.

    A token with x_gate or x_in within `zero` of 0 may be in another combination; where a neuron has none, counts and
    uniform samples are compared exactly.
    """
    undecided = sum(min(abs(t.values[X_GATE]), abs(t.values[X_IN])) < zero for ts in found.tokens for t in ts)
    assert abs(record.zeros - found.zeros) <= undecided
    assert record.tokens == found.zeros + sum(map(len, found.tokens))
    assert tuple(record.combinations) == COMBINATIONS
    for place, combination in enumerate(COMBINATIONS):
        stored, tokens = record.combinations[combination], found.tokens[place]
        assert abs(stored.count - len(tokens)) <= undecided, (record.neuron, combination)
        _assert_histogram(stored, tokens, noise, undecided)
        for quantity in LISTED:
            _assert_list(stored.top[quantity], tokens, QUANTITIES.index(quantity), k, noise)
        for split in SPLITS:
            mine = [token for token in tokens if token.split == split.position]
            _assert_list(stored.post_by_split[split], mine, POST, k, noise)
            _assert_samples(stored, split, mine, k, noise, exact=not undecided)
        if stored.count == len(tokens):
            _assert_statistics(stored, tokens, noise)


def _assert_statistics(stored: CombinationRecord, tokens: Sequence[Token], noise: float) -> None:
    assert stored.first_count == sum(token.position == 0 for token in tokens)
    mass = math.fsum(abs(token.values[POST]) for token in tokens if token.position > 0)
    assert math.isclose(stored.mass, mass, rel_tol=noise, abs_tol=1e-6)
    for q, quantity in enumerate(QUANTITIES):
        values, seen = [token.values[q] for token in tokens], stored.statistics[quantity]
        if not values:
            assert (seen.mean, seen.min, seen.max) == (None, None, None)
            continue
        expected = (math.fsum(values) / len(values), min(values), max(values))
        np.testing.assert_allclose(
            [seen.mean or 0.0, seen.min or 0.0, seen.max or 0.0], expected, rtol=noise, atol=1e-6
        )


def _assert_histogram(stored: CombinationRecord, tokens: Sequence[Token], noise: float, undecided: int) -> None:
    """At or above each edge lie no fewer tokens than surely, and no more than possibly."""
    total = np.zeros(HISTOGRAM_BINS, np.int64)
    for split in SPLITS:
        histogram = np.array(stored.histogram[split])
        total += histogram
        above = np.cumsum(histogram[::-1])[::-1][1:]
        later = np.array([abs(t.values[POST]) for t in tokens if t.position > 0 and t.split == split.position])
        for edge, count in zip(_EDGES, above.tolist(), strict=True):
            least, most = (np.count_nonzero(later * factor >= edge) for factor in (1 - noise, 1 + noise))
            assert least - undecided <= count <= most + undecided
        assert abs(int(histogram.sum()) - len(later)) <= undecided
    if not total.sum():
        assert stored.tau is None
        return
    rare = [edge for place, edge in enumerate(_EDGES) if total[place + 1 :].sum() <= 0.01 * total.sum()]
    assert stored.tau == (rare[0] if rare else _EDGES[-1])


def _assert_list(stored: Sequence[ListEntry], tokens: Sequence[Token], quantity: int, k: int, noise: float) -> None:
    """The same values in the same order, each at a token that has it, each text once."""
    expected = [entry for entry in top_list(tokens, quantity, k) if entry != EMPTY]
    by_number = {token.number: token for token in tokens}
    values = [by_number[2**32 - 1 - (entry & 0xFFFFFFFF)].values[quantity] for entry in expected]
    np.testing.assert_allclose([entry.value for entry in stored], values, rtol=noise, atol=1e-6)
    assert len({by_number[entry.token_number].text for entry in stored}) == len(stored)
    _assert_at_tokens(stored, by_number, quantity, noise)


def _assert_at_tokens(stored: Sequence[ListEntry], by_number: dict[int, Token], quantity: int, noise: float) -> None:
    for entry in stored:
        token = by_number[entry.token_number]
        assert token.position > 0
        assert math.isclose(entry.value, token.values[quantity], rel_tol=noise, abs_tol=1e-6)


def _assert_samples(
    stored: CombinationRecord, split: Split, tokens: Sequence[Token], k: int, noise: float, *, exact: bool
) -> None:
    by_number = {token.number: token for token in tokens}
    uniform, weighted = stored.uniform[split], stored.weighted[split]
    for sample in (uniform, weighted):
        _assert_at_tokens(sample, by_number, POST, noise)
    if exact:
        expected = [2**32 - 1 - (entry & 0xFFFFFFFF) for entry in uniform_sample(tokens, k) if entry != EMPTY]
        assert [entry.token_number for entry in uniform] == expected
    best = sorted((priority(t) for t in tokens if t.position > 0 and t.values[POST] != 0), reverse=True)[:k]
    kept = [priority(by_number[entry.token_number]) for entry in weighted]
    np.testing.assert_allclose(kept, best, rtol=noise, atol=1e-6)
