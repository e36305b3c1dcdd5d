"""Passes take no more memory than is allowed, have every pair once, and are few."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.errors import UsageError
from neuronagent.predictability.scores import FitKind, Pair, parse_pairs
from neuronagent.service.predict.plan import Plan, Shape, check_memory, parse_memory, plan_passes, size

GB = 10**9


def shape(layers: int, width: int, *, shared: bool = True, kind: FitKind = FitKind.LEAST_SQUARES) -> Shape:
    widths = dict.fromkeys(range(layers), width)
    return Shape(kind=kind, sources=widths, targets=widths, shared=shared, tokens=4096)


def planned(pairs: tuple[Pair, ...], own: Shape, memory: int) -> Plan:
    plan = plan_passes(pairs, own, memory)
    assert sorted(pair for each in plan.passes for pair in each) == sorted(pairs)
    assert plan.memory == max(own.memory(each) for each in plan.passes) <= memory
    return plan


@settings(max_examples=25, deadline=None)
@given(
    layers=st.integers(1, 7),
    widths=st.lists(st.sampled_from([8, 20, 300]), min_size=7, max_size=7),
    picked=st.data(),
    shared=st.booleans(),
    kind=st.sampled_from(FitKind),
    room=st.floats(1.0, 30.0),
)
def test_every_pair_is_in_one_pass_that_fits(
    layers: int, widths: list[int], picked: st.DataObject, shared: bool, kind: FitKind, room: float
) -> None:
    every = [Pair(i, j) for i in range(layers) for j in range(layers)]
    pairs = tuple(picked.draw(st.lists(st.sampled_from(every), min_size=1, unique=True)))
    by_layer = dict(enumerate(widths))
    own = Shape(kind=kind, sources=by_layer, targets=by_layer, shared=shared, tokens=64)
    planned(pairs, own, int(room * max(own.memory([pair]) for pair in pairs)))


def test_half_the_layers_of_a_7b_model_fit_into_any_memory_that_holds_one_pair() -> None:
    pairs, own = parse_pairs("even", 32), shape(32, 11_008)
    assert len(pairs) == 256
    with pytest.raises(UsageError, match="too little for one pair of layers"):
        check_memory(pairs, own, GB)
    passes = {memory: len(planned(pairs, own, memory * GB).passes) for memory in (16, 32, 70, 400)}
    assert passes[400] == 1
    assert passes[70] <= 8
    assert passes[16] > passes[32] > passes[70]


def test_sums_that_serve_both_directions_need_fewer_passes() -> None:
    pairs, memory = parse_pairs("all", 16), 120 * GB
    both, one = shape(16, 11_008), shape(16, 11_008, shared=False)
    assert len(planned(pairs, both, memory).passes) < len(planned(pairs, one, memory).passes)


def test_neighbouring_layers_share_their_sums() -> None:
    own = shape(32, 4096)
    pairs = parse_pairs("adjacent", 32)
    one = own.memory(pairs[:1])
    assert len(planned(pairs, own, 4 * one).passes) <= 8
    assert planned(pairs, own, own.memory(pairs)).passes == (pairs,)


def test_nothing_to_fit_takes_no_pass() -> None:
    assert plan_passes((), shape(2, 8), GB) == Plan(passes=(), memory=0)


@pytest.mark.parametrize(
    ("said", "found"),
    [("8GB", 8 * GB), ("500 MB", 500_000_000), ("1.5g", 1_500_000_000), ("2048", 2048), (" 3 kB ", 3000)],
)
def test_amounts_of_memory_are_read(said: str, found: int) -> None:
    assert parse_memory(said) == found


@pytest.mark.parametrize("said", ["", "much", "8 GBs", "-1GB", "0", "0.0001", "1e9", "8,5GB", "GB", "½GB", "1GiB"])
def test_what_is_no_amount_of_memory_is_refused(said: str) -> None:
    with pytest.raises(UsageError, match="is no amount of memory"):
        parse_memory(said)


def test_sizes_are_written_in_units() -> None:
    assert [size(count) for count in (3, 94_400_000, 12_200_000_000, 5e12)] == ["3 bytes", "94.4 MB", "12.2 GB", "5 TB"]
