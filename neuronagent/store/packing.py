"""Arrays to bytes and back, and the threshold τ that follows from a histogram. Pure functions.

A packed array is a byte that says how, and its little-endian items: as they are (`RAW`) if there are few, else
(`PLANES`) all lowest bytes of the items, then all second ones, …, zlib-compressed. In planes, the bytes that hardly
vary (exponents of sorted values, high bytes of ids and counts) lie together, which is what zlib can use; between the
others it hardly finds them.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neuronagent.errors import StorageError
from neuronagent.layout import HISTOGRAM_EDGES, rare_edge

RAW, PLANES = b"\x00", b"\x01"
_RAW_BYTES = 96  # an array of at most so many bytes is not worth compressing
_LEVEL = 6


def pack(array: NDArray[Any]) -> bytes:
    """The items of `array`, in C order, as one blob; shape and type are the reader's to know."""
    if array.nbytes <= _RAW_BYTES:
        return RAW + array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return pack_rows(array.reshape(1, -1))[0]


def pack_rows(rows: NDArray[Any]) -> list[bytes]:
    """One blob per entry of the first axis of `rows` `[N, …]`: what `pack` gives for each, but faster."""
    if len(rows) == 0 or rows[0].nbytes <= _RAW_BYTES:
        return [pack(row) for row in rows]
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    items = little.view(np.uint8).reshape(len(rows), flat.shape[1], flat.dtype.itemsize)
    planes = np.ascontiguousarray(items.transpose(0, 2, 1))
    return [PLANES + zlib.compress(row.data, _LEVEL) for row in planes]


def unpack_array(blob: bytes, dtype: DTypeLike) -> NDArray[Any]:
    """The flat array that `pack` was given.

    Raises:
        StorageError: the bytes are no whole number of items, or not what `pack` writes: the index is damaged.
    """
    how, body = bytes(blob[:1]), blob[1:]
    if how == PLANES:
        try:
            body = zlib.decompress(body)
        except zlib.error as error:
            raise _damaged(f"a packed array cannot be read: {error}") from error
    elif how != RAW:
        raise _damaged("a packed array cannot be read: it begins with an unknown byte")
    kind = np.dtype(dtype).newbyteorder("<")
    if len(body) % kind.itemsize:
        raise _damaged(f"a packed array of {len(body)} bytes holds no whole number of {kind.name}")
    if how == RAW:
        return np.frombuffer(body, kind).astype(np.dtype(dtype))
    planes = np.frombuffer(body, np.uint8).reshape(kind.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(kind).reshape(-1).astype(np.dtype(dtype), copy=False)


def _damaged(what: str) -> StorageError:
    return StorageError(f"the index is damaged: {what}", remedy="restore it from a copy, or build the index again")


def taus(histograms: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """τ of each histogram `[…, bins]`, NaN where it is empty; see `tau`."""
    counts = histograms.astype(np.int64)
    edges = HISTOGRAM_EDGES.astype(np.float64)[rare_edge(counts)]
    return np.where(counts.sum(axis=-1) > 0, edges, np.nan)


def tau(histogram: NDArray[np.integer[Any]]) -> float | None:
    """The smallest edge with at most 1 % of the tokens of `histogram` `[bins]`, summed over splits, above it.

    None for an empty combination. Where even the last edge has more above it the last edge is returned, since the
    histogram cannot tell what lies beyond: *strong* is then the last bin.
    """
    value = float(taus(histogram))
    return None if np.isnan(value) else value
