"""How recorded numbers are laid out in arrays and bytes: histogram bins, packed list entries, axis orders.

Both the recorder (tensors) and the store (blobs) read this page, so that neither has to know the other.

A **list entry** is a value at a token. Its magnitude's float32 bits and its corpus token number n are packed into one
int64, `bits << 32 | (2^32 − 1 − n)`: the bits of a non-negative float sort like the float, so that comparing packed
entries is the total order "|value| descending, then token number ascending" of every list. The sign is that of the
sign combination and is not stored. −1 marks an empty place.

A **sample entry** is packed the same way; only the order in which a sample keeps entries differs.

Axes: combinations as in `domain.COMBINATIONS`, splits as in `domain.SPLITS`, quantities as in `domain.QUANTITIES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import CosineBaseline, ListEntry

EMPTY = -1
MAX_TOKENS = 2**32 - 1
"""Corpus token numbers must stay below this, which is what a packed entry can hold."""

HISTOGRAM_EDGES: NDArray[np.float32] = (2.0 ** (np.arange(33) / 2.0 - 10.0)).astype(np.float32)
"""Edges of |post|: two bins per octave from 2^-10 to 2^6. Bin 0 is below the first edge, bin i is
`edges[i-1] <= |post| < edges[i]`, bin 33 is at or above the last."""
HISTOGRAM_BINS = len(HISTOGRAM_EDGES) + 1


STRONG_SHARE_PERCENT = 1
"""τ leaves at most this percentage of a combination's tokens at or above it."""


def at_or_above(histograms: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many tokens of each histogram `[…, bins]` reach each edge `[…, edges]`: edge i begins bin i + 1."""
    return np.flip(np.cumsum(np.flip(histograms, axis=-1), axis=-1), axis=-1)[..., 1:]


def rare_edge(histograms: NDArray[np.int64]) -> NDArray[np.intp]:
    """The place of τ `[…]`: the smallest edge with at most 1 % of the tokens of a histogram `[…, bins]` at or above it.

    The last edge where even that has more: the histogram cannot tell what lies beyond.
    """
    rare = at_or_above(histograms) * 100 <= STRONG_SHARE_PERCENT * histograms.sum(axis=-1)[..., None]
    return np.where(rare.any(axis=-1), rare.argmax(axis=-1), len(HISTOGRAM_EDGES) - 1)


LEAST_STRONG = 16
"""Tokens of the `explain` split that should be strong: about half of them are then left in `test`."""


def strong_edge(histogram: NDArray[np.int64]) -> float | None:
    """|post| from which a token counts as strong, by the histogram of `explain` alone: the edge that one in a hundred
    reaches at most, or the one below it where fewer than `LEAST_STRONG` do; None for an empty histogram."""
    if not histogram.sum():
        return None
    place = int(rare_edge(histogram))
    if at_or_above(histogram)[place] < LEAST_STRONG:
        place = max(0, place - 1)
    return float(HISTOGRAM_EDGES[place])


def unpack(entries: NDArray[np.int64], sign: int) -> tuple[ListEntry, ...]:
    """The non-empty entries of one list, signed, in the order in which they are stored."""
    kept = entries[entries >= 0]
    values = (kept >> 32).astype(np.uint32).view(np.float32)
    numbers = (0xFFFFFFFF - (kept & 0xFFFFFFFF)).tolist()
    return tuple(ListEntry(sign * float(value), number) for value, number in zip(values, numbers, strict=True))


COSINE_STEPS = 32767
"""Cosines of neighbours are kept as whole numbers of 1/32767: rounded by at most 1.6e-5, in two bytes."""


@dataclass(frozen=True, kw_only=True)
class LayerRoles:
    """The numbers behind the functional roles of one layer of N neurons (`index.roles`), beside `vocabulary_moments`.

    `attention_scores` float32 and `attention_heads` int16 `[N]`, None where the next layer has none; `entropy_shares`
    float32 `[N]`, of the last layer only; `double_checking` float32 and `double_checking_tokens` int32 `[N]`, id −1
    where no token can be decoded.
    """

    attention_scores: NDArray[np.float32] | None
    attention_heads: NDArray[np.int16] | None
    entropy_shares: NDArray[np.float32] | None
    double_checking: NDArray[np.float32]
    double_checking_tokens: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class LayerNeighbours:
    """The neighbours of one layer of N neurons (`index.neighbours`).

    `ordinals` int32 `[N, 10 lists, k]`, lists as in `domain.NEIGHBOUR_LISTS`, strongest first, −1 where there are fewer
    than k: a neuron's ordinal is its place in the model, all layers counted through. `cosines` int16 `[N, 10, k]` in
    steps of 1/32767.
    """

    ordinals: NDArray[np.int32]
    cosines: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """What the weights of one layer of N neurons tell, in the index's sign convention.

    `cosines` and `norms` `[N, 3]` float64: (gate,in), (gate,out), (in,out); gate, in, out. `sign` `[N]` int8.
    `io_class` `[N]`: place in `domain.IO_CLASSES`. `baselines`: by the name of the cosine ("cos_gate_in", …).
    `vocabulary_ids` int32 and `vocabulary_scores` float32 `[N, 2 matrices, 3 vectors, 2 (+v, −v), k]`: dot products,
    id −1 where there are fewer tokens than k. `vocabulary_moments` `[N, 2, 3, 3]` float32: variance, skew, excess
    kurtosis of the cosines over the whole vocabulary. `roles` is None where it was not computed.
    """

    cosines: NDArray[np.float64]
    norms: NDArray[np.float64]
    sign: NDArray[np.int8]
    io_class: NDArray[np.int8]
    baselines: dict[str, CosineBaseline]
    vocabulary_ids: NDArray[np.int32]
    vocabulary_scores: NDArray[np.float32]
    vocabulary_moments: NDArray[np.float32]
    roles: LayerRoles | None = None


@dataclass(frozen=True, kw_only=True)
class WholeModel:
    """What is known only when every layer has been seen: functional roles and neighbours.

    `roles`: by layer int8 `[N]`, places in `domain.ROLES`, −1 for none. `neighbours`: by layer, taken one at a time.
    `info`: what an index says of how they were made.
    """

    roles: Mapping[int, NDArray[np.int8]]
    neighbours: Iterable[tuple[int, LayerNeighbours]]
    info: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class LayerActivations:
    """What one pass over the corpus recorded of one layer of N neurons, lists of k entries.

    `counts`, `first_counts` `[N, 4]`; `zeros` `[N]`; `sums` `[N, 4, 4]` float64 and `minima`, `maxima` `[N, 4, 4]`
    float32 (NaN where a combination is empty) by combination and quantity; `mass` `[N, 4]` float64; `histogram`
    `[N, 3 splits, 4, bins]`; `first_values` `[N, 4]` by quantity, or None. Packed entries, sorted by magnitude:
    `post` `[N, 3 splits, 4, k]`, `x_in`, `x_gate` `[N, 4, k]`, samples `uniform` and `weighted` `[N, 3 splits, 4, k]`.
    """

    counts: NDArray[np.int64]
    first_counts: NDArray[np.int64]
    zeros: NDArray[np.int64]
    sums: NDArray[np.float64]
    minima: NDArray[np.float32]
    maxima: NDArray[np.float32]
    mass: NDArray[np.float64]
    histogram: NDArray[np.int64]
    first_values: NDArray[np.float32] | None
    post: NDArray[np.int64]
    x_in: NDArray[np.int64]
    x_gate: NDArray[np.int64]
    uniform: NDArray[np.int64]
    weighted: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """The vocabulary: the bytes of every token id (None where undecodable), the Euclidean norms of its columns in
    processed W_U and in W_E `[V]`, how often each id occurs in the corpus per split `[3, V]`,
    position 0 left out."""

    token_bytes: list[bytes | None]
    norm_unembedding: NDArray[np.float32]
    norm_embedding: NDArray[np.float32]
    counts: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """The corpus as read: for text i its document name, split, and `tokens[first[i] : first[i+1]]` (BOS included)."""

    documents: list[str]
    splits: NDArray[np.int8]
    first: NDArray[np.int64]
    tokens: NDArray[np.uint32]
