"""The inverted table: which neurons have a token among their nearest, or as the peak of an example.

Kinds: `gate_top`, `gate_bottom`, `in_top`, … for the tokens nearest to +v and −v in processed W_U, and the name of a
sign combination (`gate+_in-`) for the tokens at which the entries of its `post` list peak. Under each kind and token
stand the neurons' ordinals with the score that ranks them: the dot product, or the largest |post| at that token.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, VECTORS, Vector
from neuronagent.layout import LayerActivations, LayerWeights
from neuronagent.store.packing import pack

_ENTRY = np.dtype([("token", "<i4"), ("ordinal", "<u4"), ("score", "<f4")])
FLUSH_ENTRIES = 16_000_000  # about 400 MB while a segment is sorted


def vocabulary_kind(vector: Vector, *, top: bool = True) -> str:
    """The kind of the tokens nearest to `+vector` (`top`) or to `−vector`."""
    return f"{vector.value}_{'top' if top else 'bottom'}"


KINDS: tuple[str, ...] = (
    *(vocabulary_kind(vector, top=top) for vector in VECTORS for top in (True, False)),
    *(combination.value for combination in COMBINATIONS),
)


class Inverter:
    """Collects (token, neuron, score) of each kind and yields rows of `token_neuron` whenever memory is full."""

    def __init__(self, corpus_tokens: NDArray[np.uint32]) -> None:
        """`corpus_tokens`: the token id at every corpus token number, as in `layout.TextTable.tokens`."""
        self._corpus = corpus_tokens
        self._segment = 0
        self._held = 0
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def add(
        self, first_ordinal: int, weights: LayerWeights, activations: LayerActivations | None
    ) -> Iterator[dict[str, Any]]:
        """Take in one layer; yields rows only if memory is full."""
        for place, vector in enumerate(VECTORS):
            for side, top in enumerate((True, False)):
                ids = weights.vocabulary_ids[:, 0, place, side]  # (N, k) in W_U
                scores = weights.vocabulary_scores[:, 0, place, side]
                self._take(vocabulary_kind(vector, top=top), first_ordinal, ids, scores)
        if activations is not None:
            entries = merged_post(activations.post)  # (N, 4, k)
            numbers = 0xFFFFFFFF - (entries & 0xFFFFFFFF)
            ids = np.where(entries >= 0, self._corpus[np.where(entries >= 0, numbers, 0)].astype(np.int64), -1)
            values = (np.maximum(entries, 0) >> 32).astype(np.uint32).view(np.float32)
            for place, combination in enumerate(COMBINATIONS):
                self._take(combination.value, first_ordinal, ids[:, place], values[:, place])
        if self._held >= FLUSH_ENTRIES:
            yield from self.flush()

    def _take(self, kind: str, first_ordinal: int, ids: NDArray[Any], scores: NDArray[np.float32]) -> None:
        """`ids`, `scores` `[N, k]`; id −1 is an empty place."""
        rows, columns = np.nonzero(ids >= 0)
        taken = np.empty(len(rows), _ENTRY)
        taken["token"] = ids[rows, columns]
        taken["ordinal"] = rows + first_ordinal
        taken["score"] = scores[rows, columns]
        self._parts.setdefault(kind, []).append(taken)
        self._held += len(taken)

    def flush(self) -> Iterator[dict[str, Any]]:
        """The rows of all that was taken in since the last flush, one segment, by kind and token."""
        for place, kind in enumerate(KINDS):
            entries = np.concatenate([np.empty(0, _ENTRY), *self._parts.pop(kind, [])])
            # Neurons came in order and the entries of each strongest first, which a stable sort by token keeps: the
            # first of a neuron's entries at a token is the one to keep. Small integers are sorted by radix.
            tokens = entries["token"]
            entries = entries[np.argsort(tokens.astype(np.min_scalar_type(tokens.max(initial=0))), kind="stable")]
            tokens, ordinals = entries["token"], entries["ordinal"]
            first = np.append(True, (np.diff(tokens) != 0) | (np.diff(ordinals) != 0))[: len(entries)]
            tokens, packed = tokens[first], join(ordinals[first], np.ascontiguousarray(entries["score"][first]))
            starts = np.flatnonzero(np.diff(tokens, prepend=-1)).tolist()
            for start, end in pairwise([*starts, len(tokens)]):
                yield {
                    "kind": place,
                    "token_id": int(tokens[start]),
                    "segment": self._segment,
                    "neurons": pack(packed[start:end]),
                }
        self._segment += 1
        self._held = 0


def join(ordinals: NDArray[np.uint32], scores: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The entries of a blob `neurons`: ordinal in the upper half, the bits of the float32 score in the lower."""
    return (ordinals.astype(np.uint64) << np.uint64(32)) | scores.view(np.uint32)


def split(entries: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Ordinals and scores of what `join` made."""
    return (entries >> np.uint64(32)).astype(np.uint32), entries.astype(np.uint32).view(np.float32)


def merged_post(post: NDArray[np.int64]) -> NDArray[np.int64]:
    """The overall lists `[N, 4, k]` of the lists per split `[N, 3, 4, k]`: the k largest packed entries, descending."""
    neurons, splits, combinations, k = post.shape
    together = post.transpose(0, 2, 1, 3).reshape(neurons, combinations, splits * k)
    return np.flip(np.sort(together, axis=-1), axis=-1)[..., :k]
