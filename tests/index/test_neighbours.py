"""Neighbours agree with the full matrix of cosines in float64, whatever the sizes, the dtype and the blocking."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.domain import NEIGHBOUR_LISTS, NeighbourList
from neuronagent.index import neighbours as module
from neuronagent.index import resident
from neuronagent.index.candidates import RUN
from neuronagent.index.neighbours import Neighbourhoods, neighbours, operations
from neuronagent.layout import COSINE_STEPS
from tests.index.cores import cores

torch.set_num_threads(1)

Layers = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
PLACE = {"gate": 0, "in": 1, "out": 2}


def random_layers(sizes: list[int], width: int, seed: int = 0) -> Layers:
    generator = torch.Generator().manual_seed(seed)
    made = [[torch.randn(size, width, generator=generator) for _ in range(3)] for size in sizes]
    return [(gate, inp, out) for gate, inp, out in made]


def found(layers: Layers, k: int = 10, dtype: torch.dtype | None = None) -> Neighbourhoods:
    return neighbours(lambda layer: layers[layer], len(layers), k, dtype=dtype)


def joined(result: Neighbourhoods) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """Ordinals and cosines of all layers, `[n, 10, k]`."""
    return (
        np.concatenate([layer.ordinals for layer in result.layers]),
        np.concatenate([layer.cosines for layer in result.layers]),
    )


def steps_of(layers: Layers, kind: NeighbourList) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The whole matrix `[n, n]` of cosines in steps, 0 where the list allows no pair; and how strongly each counts."""
    what, vector = kind.value.split("_")
    layer = np.repeat(np.arange(len(layers)), [len(one[0]) for one in layers])
    units: list[NDArray[np.float64]] = []
    for place in range(3):
        rows = np.concatenate([one[place].double().numpy() for one in layers])
        units.append(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300))
    own, other = {
        "similar": (PLACE[vector], PLACE[vector]),
        "opposite": (PLACE[vector], PLACE[vector]),
        "readers": (PLACE["out"], PLACE[vector]),
        "writers": (PLACE[vector], PLACE["out"]),
    }[what]
    steps = np.rint(units[own] @ units[other].T * COSINE_STEPS).astype(np.int64)
    if what == "readers":
        steps[layer[:, None] >= layer[None, :]] = 0
    elif what == "writers":
        steps[layer[:, None] <= layer[None, :]] = 0
    else:
        np.fill_diagonal(steps, 0)
    return steps, {"similar": steps, "opposite": -steps}.get(what, np.abs(steps))


def expect_the_full_matrix(layers: Layers, result: Neighbourhoods, k: int) -> None:
    ordinals, cosines = joined(result)
    for kind in NEIGHBOUR_LISTS:
        steps, strength = steps_of(layers, kind)
        order = np.argsort(-strength, axis=1, kind="stable")[:, :k]
        listed = np.take_along_axis(strength, order, axis=1) > 0
        width = order.shape[1]
        np.testing.assert_array_equal(ordinals[:, kind.position, :width], np.where(listed, order, -1), kind.value)
        expected = np.where(listed, np.take_along_axis(steps, order, axis=1), 0)
        np.testing.assert_array_equal(cosines[:, kind.position, :width], expected, kind.value)
        assert (ordinals[:, kind.position, width:] == -1).all()


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(1, 12),
    st.integers(0, 1000),
    st.sampled_from([None, torch.bfloat16, torch.float16]),
    st.sampled_from([1, 1 << 14, 1 << 26]),
    st.booleans(),
    st.integers(1, 6),
)
def test_lists_are_those_of_the_full_matrix_in_float64(
    sizes: list[int],
    width: int,
    k: int,
    seed: int,
    dtype: torch.dtype | None,
    product_bytes: int,
    stay: bool,
    threads: int,
) -> None:
    layers = random_layers(sizes, width, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PRODUCT_BYTES", {"cpu": product_bytes})
        patch.setattr(resident, "_RESIDENT_BYTES", 1e9 if stay else 0)
        patch.setattr(module, "_EXACT_ELEMENTS", {"cpu": 100})
        with cores(threads):
            result = found(layers, k, dtype)
    expect_the_full_matrix(layers, result, k)
    assert result.lists == 10 * sum(sizes)


def test_many_equal_neurons_are_listed_in_the_order_of_the_model() -> None:
    layers = random_layers([90, 70, 80], 12)
    for gate, inp, out in layers:
        out[::2] = layers[0][2][0]
        gate[1::3] = -layers[0][2][0] * 3
        inp[5:60] = layers[1][1][2]
    result = found(layers, 10)
    assert result.rechecked > 0  # more are equal than there are candidates
    expect_the_full_matrix(layers, result, 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_candidates_too_close_to_tell_apart_in_low_precision_are_told_apart(dtype: torch.dtype) -> None:
    layers = random_layers([400, 300], 32, seed=3)
    generator = torch.Generator().manual_seed(1)
    for gate, _, out in layers:
        gate[:250] = gate[0] + 2e-2 * torch.randn(250, 32, generator=generator)
        out[:250] = layers[0][0][0] + 2e-2 * torch.randn(250, 32, generator=generator)
    result = found(layers, 10, dtype)
    expect_the_full_matrix(layers, result, 10)
    assert result.rechecked > 0 or dtype is torch.float32


def test_a_zero_vector_has_no_neighbours_and_is_nobodys() -> None:
    layers = random_layers([40, 40], 8)
    layers[0][2][7] = 0
    layers[1][0][3] = 0
    ordinals, _ = joined(found(layers))
    for kind in (NeighbourList.SIMILAR_OUT, NeighbourList.OPPOSITE_OUT, NeighbourList.READERS_IN):
        assert (ordinals[7, kind.position] == -1).all()
        assert not (ordinals[:, kind.position] == 7).any() or kind is NeighbourList.READERS_IN
    assert (ordinals[43, NeighbourList.WRITERS_GATE.position] == -1).all()
    assert not (ordinals[:, NeighbourList.WRITERS_IN.position] == 7).any()
    expect_the_full_matrix(layers, found(layers), 10)


def test_a_planted_reader_is_found_by_its_writer_and_the_other_way_round() -> None:
    layers = random_layers([50, 60, 70], 64)
    layers[2][1][11] = -2.5 * layers[0][2][4]  # 2.11 reads in what 0.4 writes, the other way round
    ordinals, cosines = joined(found(layers))
    readers, writers = NeighbourList.READERS_IN.position, NeighbourList.WRITERS_IN.position
    assert (ordinals[4, readers, 0], cosines[4, readers, 0]) == (121, -COSINE_STEPS)
    assert (ordinals[121, writers, 0], cosines[121, writers, 0]) == (4, -COSINE_STEPS)


def test_nobody_reads_the_last_layer_or_its_own_and_nobody_writes_to_the_first() -> None:
    ordinals, _ = joined(found(random_layers([30, 30, 30], 8)))
    for kind in (NeighbourList.READERS_GATE, NeighbourList.READERS_IN):
        assert (ordinals[60:, kind.position] == -1).all()
        assert (ordinals[:30, kind.position] >= 30).all()
        assert (ordinals[30:60, kind.position] >= 60).all()
    for kind in (NeighbourList.WRITERS_GATE, NeighbourList.WRITERS_IN):
        assert (ordinals[:30, kind.position] == -1).all()
        assert (ordinals[60:, kind.position] < 60).all()


def test_lengths_do_not_matter() -> None:
    layers = random_layers([2 * RUN, RUN + 1], 8)
    longer = [(100 * gate, inp / 64, 3 * out) for gate, inp, out in layers]
    np.testing.assert_array_equal(joined(found(longer))[0], joined(found(layers))[0])


def test_every_pair_of_layers_is_counted_once() -> None:
    layers = random_layers([5, 5, 5], 4)
    told: list[int] = []
    neighbours(lambda layer: layers[layer], 3, progress=told.append)
    assert told == [1, 2, 3, 4, 5, 6]


def test_a_model_of_7b_takes_two_and_a_half_petaflop() -> None:
    assert operations(352_256, 4096) == pytest.approx(2.54e15, rel=0.01)


@pytest.mark.parametrize(("room", "reads"), [(1e9, 6), (0, 54)])
def test_layers_are_read_once_where_there_is_room_and_two_at_a_time_elsewhere(
    room: float, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = random_layers([20] * 6, 4)
    asked: list[int] = []

    def read(layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        asked.append(layer)
        return layers[layer]

    monkeypatch.setattr(resident, "_RESIDENT_BYTES", room)
    expect_the_full_matrix(layers, neighbours(read, 6), 10)
    assert len(asked) <= reads  # 1.5 · 6²
    assert set(asked) == set(range(6))
