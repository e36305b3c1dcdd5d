"""Packed arrays come back as they were, and τ follows its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from neuronagent.errors import StorageError
from neuronagent.layout import HISTOGRAM_BINS, HISTOGRAM_EDGES
from neuronagent.store.packing import pack, pack_rows, tau, taus, unpack_array

_KINDS = st.sampled_from([np.int64, np.int32, np.uint64, np.uint32, np.float64, np.float32])
_HISTOGRAMS = arrays.arrays(np.int64, HISTOGRAM_BINS, elements=st.integers(0, 10**9))


@given(st.data(), _KINDS)
def test_an_array_comes_back_bit_for_bit(data: st.DataObject, kind: type[np.generic]) -> None:
    array = data.draw(arrays.arrays(kind, st.integers(0, 300)))
    assert unpack_array(pack(array), kind).tobytes() == array.tobytes()


@given(st.data(), _KINDS)
def test_packing_many_rows_gives_what_packing_each_gives(data: st.DataObject, kind: type[np.generic]) -> None:
    rows = data.draw(arrays.arrays(kind, arrays.array_shapes(min_dims=3, max_dims=3, max_side=12)))
    assert pack_rows(rows) == [pack(row) for row in rows]


def test_no_rows_give_no_blobs() -> None:
    assert pack_rows(np.empty((0, 4), np.int64)) == []


def test_an_array_that_is_not_contiguous_is_packed_in_its_logical_order() -> None:
    array = np.arange(600, dtype=np.int64).reshape(20, 30).T
    assert unpack_array(pack(array), np.int64).tolist() == array.ravel().tolist()


@pytest.mark.parametrize("blob", [b"", b"\x07abc", b"\x01not zlib", b"\x00abc", pack(np.arange(101, dtype=np.uint8))])
def test_bytes_that_hold_no_such_array_are_refused(blob: bytes) -> None:
    with pytest.raises(StorageError, match="packed array"):
        unpack_array(blob, np.int64)


def tau_by_definition(histogram: NDArray[np.int64]) -> float | None:
    """A slow reading of the definition, edge by edge."""
    total = int(histogram.sum())
    if total == 0:
        return None
    for place, edge in enumerate(HISTOGRAM_EDGES.tolist()):
        if 100 * int(histogram[place + 1 :].sum()) <= total:
            return edge
    return float(HISTOGRAM_EDGES[-1])


@given(_HISTOGRAMS)
def test_tau_is_the_smallest_edge_with_at_most_one_percent_above(histogram: NDArray[np.int64]) -> None:
    assert tau(histogram) == tau_by_definition(histogram)


def test_exactly_one_percent_above_an_edge_is_few_enough() -> None:
    histogram = np.zeros(HISTOGRAM_BINS, np.int64)
    histogram[[3, 10]] = 99, 1
    assert tau(histogram) == pytest.approx(float(HISTOGRAM_EDGES[3]))
    histogram[[3, 10]] = 98, 2
    assert tau(histogram) == pytest.approx(float(HISTOGRAM_EDGES[10]))


def test_an_empty_combination_has_no_tau() -> None:
    assert tau(np.zeros(HISTOGRAM_BINS, np.int64)) is None


def test_where_the_last_bin_holds_more_than_one_percent_tau_is_the_last_edge() -> None:
    histogram = np.zeros(HISTOGRAM_BINS, np.int64)
    histogram[-1] = 5
    assert tau(histogram) == 64.0


def test_many_taus_are_computed_at_once() -> None:
    rng = np.random.default_rng(0)
    histograms = rng.integers(0, 50, (3, 4, HISTOGRAM_BINS))
    histograms[0, 0] = 0
    found = taus(histograms)
    assert math.isnan(found[0, 0])
    for place in np.ndindex(3, 4):
        assert tau(histograms[place]) == (None if math.isnan(found[place]) else found[place])
