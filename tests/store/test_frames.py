"""Bit-packed rows come back as they were, whatever their numbers; what is no such row is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from neuronagent.domain import NEIGHBOUR_LISTS
from neuronagent.errors import StorageError
from neuronagent.layout import HISTOGRAM_BINS, LayerNeighbours
from neuronagent.store import blobs
from neuronagent.store.frames import falls, pack_frames, rises, unpack_frames
from neuronagent.store.neighbours import pack_neighbours, unpack_neighbours

_WORDS = st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1))


@given(arrays.arrays(np.uint32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=_WORDS))
def test_rows_of_any_numbers_come_back(words: NDArray[np.uint32]) -> None:
    packed = pack_frames(words)
    np.testing.assert_array_equal(unpack_frames(packed), words)
    for row, blob in zip(words, packed, strict=True):
        np.testing.assert_array_equal(unpack_frames([blob])[0], row)


def slow_bits(words: NDArray[np.uint32]) -> bytes:
    """The planes of one row, bit by bit."""
    padded = [*words.tolist(), *[0] * (-len(words) % 16)]
    widths, planes = bytearray(), bytearray()
    for start in range(0, len(padded), 16):
        frame = padded[start : start + 16]
        width = max(frame).bit_length()
        widths.append(width)
        for bit in range(width):
            planes += sum(((number >> bit) & 1) << place for place, number in enumerate(frame)).to_bytes(2, "little")
    return bytes(widths + planes)


def test_a_row_is_packed_as_the_description_says() -> None:
    words = np.random.default_rng(0).integers(0, 1 << 21, (3, 37)).astype(np.uint32)
    words[1, :20] = 0
    words[2, 5] = 2**32 - 1
    for row, blob in zip(words, pack_frames(words), strict=True):
        assert blob == b"\x02" + (37).to_bytes(2, "little") + slow_bits(row)


def test_frames_of_zeros_take_one_byte() -> None:
    assert len(pack_frames(np.zeros((1, 160), np.uint32))[0]) == 3 + 10


@given(arrays.arrays(np.uint32, arrays.array_shapes(min_dims=3, max_dims=3, max_side=8), elements=_WORDS))
def test_lists_in_any_order_come_back_from_their_falls(lists: NDArray[np.uint32]) -> None:
    np.testing.assert_array_equal(rises(falls(lists), lists.shape[1]), lists)


@given(
    arrays.arrays(
        np.int64,
        st.tuples(st.integers(1, 5), st.just(blobs.LISTS), st.integers(1, 20)),
        elements=st.one_of(st.just(-1), st.integers(0, 2**63 - 2**32)),
    )
)
def test_packed_entries_and_empty_places_come_back(lists: NDArray[np.int64]) -> None:
    np.testing.assert_array_equal(blobs.unpack_lists(blobs.pack_lists(lists)), lists)


def test_histograms_statistics_ids_and_scores_come_back_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    histograms = rng.integers(0, 2**32, (5, 3, HISTOGRAM_BINS))
    np.testing.assert_array_equal(blobs.unpack_histograms(blobs.pack_histograms(histograms)), histograms)
    sums, extremes = rng.standard_normal((5, 4)), rng.standard_normal((2, 5, 4)).astype(np.float32)
    extremes[:, 1] = np.nan
    found = blobs.unpack_statistics(blobs.pack_statistics(sums, *extremes))
    np.testing.assert_array_equal(found, np.stack([sums, *extremes.astype(np.float64)], axis=1))
    ids = rng.integers(-1, 2**31 - 1, (5, 2, 3, 2, 10)).astype(np.int32)
    np.testing.assert_array_equal(blobs.unpack_ids(blobs.pack_ids(ids)), ids.reshape(5, -1))
    scores = rng.standard_normal((5, 2, 3, 2, 10)).astype(np.float32)
    assert blobs.unpack_scores(blobs.pack_scores(scores)).tobytes() == scores.tobytes()


def test_neighbours_come_back_with_their_signs() -> None:
    rng = np.random.default_rng(0)
    shape = (7, len(NEIGHBOUR_LISTS), 10)
    ordinals, cosines = rng.integers(-1, 2**30, shape), rng.integers(1, 32768, shape) * rng.choice([-1, 1], shape)
    ordinals[:, :, 7:] = -1
    cosines[ordinals < 0] = 0
    made = LayerNeighbours(ordinals=ordinals.astype(np.int32), cosines=cosines.astype(np.int16))
    found = unpack_neighbours(*pack_neighbours(made, slice(None)))
    np.testing.assert_array_equal(found.ordinals, made.ordinals)
    np.testing.assert_array_equal(found.cosines, made.cosines)


GOOD = pack_frames(np.arange(32, dtype=np.uint32)[None])[0]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x02",
        GOOD[:4],
        GOOD[:-1],
        GOOD + b"\x00",
        b"\x01" + GOOD[1:],
        GOOD[:3] + b"\x21\x00" + GOOD[5:],
    ],
)
def test_bytes_that_are_no_packed_row_are_refused(damaged: bytes) -> None:
    with pytest.raises(StorageError, match="damaged"):
        unpack_frames([damaged])


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(StorageError, match="damaged"):
        unpack_frames([GOOD, pack_frames(np.arange(33, dtype=np.uint32)[None])[0]])


@pytest.mark.parametrize(
    "unpack", [blobs.unpack_lists, blobs.unpack_histograms, blobs.unpack_scores, blobs.unpack_statistics]
)
def test_a_row_of_an_impossible_size_is_refused(unpack: object) -> None:
    assert callable(unpack)
    with pytest.raises(StorageError, match="impossible size"):
        unpack(pack_frames(np.arange(35, dtype=np.uint32)[None]))
