"""Bounded lists keep the k best entries of each group under a total order, whatever they are offered and when."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.domain import ListEntry
from neuronagent.hashing import uniform_bits, uniform_hash
from neuronagent.index import lists
from neuronagent.index.lists import BoundedLists
from neuronagent.layout import EMPTY, MAX_TOKENS, unpack

torch.set_num_threads(1)

quick = settings(max_examples=60, deadline=None)

MAGNITUDES = st.sampled_from([0.0, 2.0**-149, 1e-30, 0.5, 1.0, 1.0000001, 65504.0, 3e38])
NUMBERS = st.one_of(st.integers(0, 5), st.integers(MAX_TOKENS - 5, MAX_TOKENS - 1))
ORDERS = ("magnitude", "uniform", "weighted")


def few_bits(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """A hash of eight values, so that u and |value|/u tie."""
    return uniform_bits("salt", numbers) >> 28 << 28


def order(kind: str) -> lists.Order:
    """The order of that name."""
    if kind == "magnitude":
        return lists.by_magnitude
    key = lists.uniform_key if kind == "uniform" else lists.weighted_key

    def keys(entries: torch.Tensor) -> torch.Tensor:
        return key(torch.from_numpy(few_bits(lists.token_numbers(entries).numpy())), entries)

    return keys


def pack(magnitudes: list[float], numbers: list[int]) -> torch.Tensor:
    return lists.pack(torch.tensor(magnitudes, dtype=torch.float32), torch.tensor(numbers, dtype=torch.int64))


def rank(kind: str, magnitude: float, number: int) -> tuple[float, int]:
    """What sorts a list in plain Python, best first."""
    value = float(np.float32(magnitude))
    if kind == "magnitude":
        return -value, number
    bits = int(few_bits(np.array([number]))[0])
    if kind == "uniform":
        return bits, number
    with np.errstate(over="ignore"):
        return -min(float(np.float32(value) / np.float32((bits + 0.5) / 2**31)), 3e38), number


@quick
@given(st.lists(st.tuples(MAGNITUDES, NUMBERS), min_size=1, max_size=30))
def test_packed_entries_give_back_magnitude_and_token_number(items: list[tuple[float, int]]) -> None:
    magnitudes, numbers = map(list, zip(*items, strict=True))
    entries = pack(magnitudes, numbers)
    assert lists.magnitudes(entries).tolist() == np.array(magnitudes, np.float32).tolist()
    assert lists.token_numbers(entries).tolist() == numbers
    assert (entries >= 0).all()
    expected = [ListEntry(-float(np.float32(value)), number) for value, number in items]
    assert list(unpack(entries.numpy(), -1)) == expected


@quick
@given(st.sampled_from(ORDERS), st.lists(st.tuples(MAGNITUDES, NUMBERS), min_size=1, max_size=30, unique=True))
def test_keys_sort_like_the_order_that_they_stand_for(kind: str, items: list[tuple[float, int]]) -> None:
    unique = list({number: (value, number) for value, number in items}.values())
    keys = order(kind)(pack(*map(list, zip(*unique, strict=True)))).tolist()
    best_first = [item for _, item in sorted(zip(keys, unique, strict=True), reverse=True)]
    assert best_first == sorted(unique, key=lambda item: rank(kind, *item))
    assert len(set(keys)) == len(keys)
    assert min(keys) >= 0


@pytest.mark.parametrize("kind", ORDERS)
def test_an_empty_place_has_the_worst_key(kind: str) -> None:
    assert order(kind)(torch.full((3,), EMPTY)).tolist() == [EMPTY] * 3


@quick
@given(
    st.sampled_from(ORDERS),
    st.integers(1, 5),
    st.dictionaries(st.integers(0, 200), st.tuples(st.integers(0, 3), MAGNITUDES), max_size=60),
    st.randoms(use_true_random=False),
)
def test_lists_hold_the_k_best_however_offers_are_cut_ordered_and_merged(
    kind: str, k: int, offers: dict[int, tuple[int, float]], chance: random.Random
) -> None:
    items = list(offers.items())
    chance.shuffle(items)
    parts = [BoundedLists(4, k, order(kind)) for _ in range(3)]
    while items:
        size = chance.randint(1, len(items))
        numbers, values = zip(*items[:size], strict=True)
        groups = torch.tensor([group for group, _ in values])
        entries = pack([value for _, value in values], list(numbers))
        keys = order(kind)(entries)
        held = chance.choice(parts)
        better = keys > held.worst[groups]
        held.offer(groups[better], entries[better], keys[better])
        items = items[size:]
    chance.shuffle(parts)
    parts[0].merge(parts[1])
    parts[2].merge(parts[0])
    for group in range(4):
        mine = [(value, number) for number, (owner, value) in offers.items() if owner == group]
        best = sorted(mine, key=lambda item: rank(kind, *item))[:k]
        expected = pack([value for value, _ in best], [number for _, number in best]).tolist() if best else []
        assert parts[2].entries[group].tolist() == expected + [EMPTY] * (k - len(best))
        last = parts[2].entries[group, -1:]
        assert parts[2].worst[group] == order(kind)(last)[0]


def test_an_equal_magnitude_replaces_the_last_entry_only_if_its_token_comes_earlier() -> None:
    held = BoundedLists(1, 1, lists.by_magnitude)
    for number, expected in ((5, 5), (9, 5), (2, 2)):
        entry = pack([1.5], [number])
        better = entry > held.worst
        held.offer(torch.tensor([0])[better], entry[better], entry[better])
        assert lists.token_numbers(held.entries).tolist() == [[expected]]


def test_lists_that_are_loaded_go_on_as_those_that_were_saved() -> None:
    for kind in ORDERS:
        held, again = BoundedLists(1, 2, order(kind)), BoundedLists(1, 2, order(kind))
        entries = pack([1.0, 2.0, 3.0], [7, 8, 9])
        held.offer(torch.zeros(3, dtype=torch.int64), entries, order(kind)(entries))
        again.load(held.entries)
        assert torch.equal(again.entries, held.entries)
        assert torch.equal(again.worst, held.worst)


def test_the_bounds_of_a_list_that_is_not_full_turn_nothing_away() -> None:
    held = BoundedLists(2, 2, order("uniform"))
    entries = pack([4.0], [3])
    held.offer(torch.tensor([1]), entries, order("uniform")(entries))
    assert held.worst_magnitude().tolist() == [0, 0]
    assert held.worst_bits().tolist() == [2**31 - 1] * 2


def test_u_from_31_bits_is_that_of_the_hash_and_never_0() -> None:
    numbers = np.arange(5000)
    bits = uniform_bits("salt", numbers)
    u = lists.uniform(torch.from_numpy(bits)).numpy()
    np.testing.assert_allclose(u, uniform_hash("salt", numbers), rtol=1e-6, atol=2**-31)
    ends = lists.uniform(torch.tensor([0, 2**31 - 1]))
    assert 0 < ends[0] < ends[1] <= 1
