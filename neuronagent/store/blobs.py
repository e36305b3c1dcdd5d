"""The blobs in the rows of a neuron, to and fro, many rows at once: lists, histograms, statistics, projections.

Numbers are made small for `frames`: entries of a list are in descending order, so that the differences of their
magnitudes' bits are stored, and beside them the corpus token numbers as they are; an empty place is a magnitude of 0,
every other one is one more than its bits say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import QUANTITIES, SPLITS, VECTORS, VOCABULARY_MATRICES
from neuronagent.errors import StorageError
from neuronagent.layout import HISTOGRAM_BINS
from neuronagent.store.frames import Words, falls, pack_frames, rises, unpack_frames

LISTS = 11
"""Lists of a combination: post of each of 3 splits, x_in, x_gate, the uniform and the weighted sample of each split."""

_LOW = 0xFFFFFFFF
_SIDES = len(VOCABULARY_MATRICES) * len(VECTORS) * 2
_STATISTICS = np.dtype(
    [("sums", "<f8", len(QUANTITIES)), ("minima", "<f4", len(QUANTITIES)), ("maxima", "<f4", len(QUANTITIES))]
)


def pack_lists(lists: NDArray[np.int64]) -> list[bytes]:
    """The blobs of packed entries `[R, lists, k]` (`layout`)."""
    rows = len(lists)
    magnitudes = ((lists >> 32) + 1).astype(np.uint32)  # EMPTY, whose bits are all set, becomes 0
    numbers = (_LOW - (lists & _LOW)).astype(np.uint32)
    return pack_frames(np.concatenate([falls(magnitudes), numbers.reshape(rows, -1)], axis=1))


def unpack_lists(blobs: Sequence[bytes], count: int = LISTS) -> NDArray[np.int64]:
    """The packed entries `[R, count, k]` that `pack_lists` was given. Errors as `unpack_frames`."""
    words = unpack_frames(blobs)
    if words.shape[1] % (2 * count):
        raise _damaged("lists")
    half = words.shape[1] // 2
    magnitudes = rises(words[:, :half], count).astype(np.int64) - 1
    numbers = words[:, half:].reshape(magnitudes.shape).astype(np.int64)
    return (magnitudes << 32) | (_LOW - numbers)


def pack_histograms(histograms: NDArray[np.integer[Any]]) -> list[bytes]:
    """The blobs of counts `[R, splits, bins]`; those of one bin stand together, since they are of one size."""
    counts = histograms.astype(np.uint32).transpose(0, 2, 1)
    return pack_frames(np.ascontiguousarray(counts).reshape(len(counts), -1))


def unpack_histograms(blobs: Sequence[bytes]) -> NDArray[np.int64]:
    """The counts `[R, splits, bins]`. Errors as `unpack_frames`."""
    words = unpack_frames(blobs)
    if words.shape[1] != HISTOGRAM_BINS * len(SPLITS) and len(blobs):
        raise _damaged("a histogram")
    return words.reshape(len(blobs), HISTOGRAM_BINS, len(SPLITS)).transpose(0, 2, 1).astype(np.int64)


def pack_statistics(sums: NDArray[np.float64], minima: NDArray[np.float32], maxima: NDArray[np.float32]) -> list[bytes]:
    """The blobs of sums and extremes `[R, quantities]`; what is float32 stays so."""
    rows = np.empty(len(sums), _STATISTICS)
    rows["sums"], rows["minima"], rows["maxima"] = sums, minima, maxima
    size, data = _STATISTICS.itemsize, rows.tobytes()
    return [data[start : start + size] for start in range(0, len(data), size)]


def unpack_statistics(blobs: Sequence[bytes]) -> NDArray[np.float64]:
    """Sums, minima and maxima `[R, 3, quantities]`.

    Raises:
        StorageError: a blob has another size: the index is damaged.
    """
    if any(len(blob) != _STATISTICS.itemsize for blob in blobs):
        raise _damaged("statistics")
    rows = np.frombuffer(b"".join(blobs), _STATISTICS)
    return np.stack([rows[name].astype(np.float64) for name in ("sums", "minima", "maxima")], axis=1)


def pack_ids(ids: NDArray[np.integer[Any]]) -> list[bytes]:
    """The blobs of token ids, or other places, `[R, …]`; −1 for none."""
    return pack_frames((ids.reshape(len(ids), -1).astype(np.int64) + 1).astype(np.uint32))


def unpack_ids(blobs: Sequence[bytes]) -> NDArray[np.int64]:
    """The ids `[R, m]`. Errors as `unpack_frames`."""
    return unpack_frames(blobs).astype(np.int64) - 1


def pack_scores(scores: NDArray[np.float32]) -> list[bytes]:
    """The blobs of the scores of nearest tokens `[R, matrices, vectors, sides, k]`, each list the strongest first."""
    lists = np.ascontiguousarray(scores, np.float32).reshape(len(scores), _SIDES, -1)
    return pack_frames(falls(lists.view(np.uint32)))


def unpack_scores(blobs: Sequence[bytes]) -> NDArray[np.float32]:
    """The scores `[R, matrices, vectors, sides, k]`. Errors as `unpack_frames`."""
    words: Words = unpack_frames(blobs)
    if words.shape[1] % _SIDES:
        raise _damaged("scores")
    lists = np.ascontiguousarray(rises(words, _SIDES)).view(np.float32)
    return lists.reshape(len(blobs), len(VOCABULARY_MATRICES), len(VECTORS), 2, -1)


def _damaged(what: str) -> StorageError:
    return StorageError(
        f"the index is damaged: {what} of an impossible size", remedy="restore it from a copy, or build the index again"
    )
