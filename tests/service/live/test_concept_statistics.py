"""Ranks, permutations and intervals of a search by concept against slow ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from neuronagent.explain.statistics import auroc, auroc_interval, permutation_p
from neuronagent.service.live import concept_statistics
from neuronagent.service.live.concept_controls import ordinary
from neuronagent.service.live.concept_items import LEAST_IN_HALF
from neuronagent.service.live.concept_statistics import (
    FEWEST_DIVISIONS,
    centred_ranks,
    distances,
    divisions,
    exchangeable,
    family_wise,
    grouped_interval,
    held_out_p,
    permuted_labels,
    quantiles,
    rank,
    rounded,
)

TIED = arrays.arrays(np.float32, (15, 6), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, 1e-30, 1e30]))


def slow_rank(row: list[float], place: int) -> int:
    """2·rank − (n + 1), by counting."""
    below, equal = (sum(x < row[place] for x in row), sum(x == row[place] for x in row))
    return 2 * below + equal + 1 - (len(row) + 1)


@given(TIED)
@settings(max_examples=25, deadline=None)
def test_ranks_are_those_of_counting(values: NDArray[np.float32]) -> None:
    found = centred_ranks(values)
    for row, own in zip(values.tolist(), found.tolist(), strict=True):
        assert own == [slow_rank(row, place) for place in range(len(row))]


@given(TIED, st.integers(4, 11), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_columns_are_ranked_as_a_double_loop_ranks_them(values: NDArray[np.float32], positive: int, seed: int) -> None:
    labels = permuted_labels(np.arange(15) < positive, np.arange(15), 20, seed)
    counted = np.array([True, True, False, True, True, False])
    found = rank(values, labels, counted)
    slow = np.array([[auroc(values[own, c], values[~own, c]) for c in range(6)] for own in labels])
    assert 0.5 + distances(found.sums, labels[0]) == pytest.approx(slow[0], abs=1e-12)
    assert found.present.tolist() == values.any(axis=0).tolist()
    best = np.abs(slow[1:, counted] - 0.5).max(axis=1)
    highest = distances(found.highest, labels[1:])
    assert highest == pytest.approx(best, abs=1e-12)
    worse = [(1 + int((best >= abs(one - 0.5) - 1e-12).sum())) / 21 for one in slow[0]]
    assert family_wise(distances(found.sums, labels[0]), highest) == pytest.approx(worse)


def test_labellings_with_other_numbers_of_each_label_are_compared_by_auroc() -> None:
    generator = np.random.default_rng(4)
    groups = np.repeat(np.arange(9), [1, 1, 2, 2, 3, 4, 5, 6, 8])
    labels = permuted_labels(np.isin(groups, [1, 3, 5, 8]), groups, 60, 0)
    values = rounded(generator.random((32, 5)).round(1).astype(np.float32))
    found = rank(values, labels, np.ones(5, np.bool_))
    slow = np.array([[auroc(values[own, c], values[~own, c]) - 0.5 for c in range(5)] for own in labels])
    highest = distances(found.highest, labels[1:])
    assert highest == pytest.approx(np.abs(slow[1:]).max(axis=1), abs=1e-12)
    p = held_out_p(values.T.astype(np.float64), labels)
    assert p == pytest.approx((1 + (slow[1:] >= slow[0] - 1e-12).sum(axis=0)) / 61)


def test_chunks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    values = rounded(generator.normal(size=(50, 300)).clip(0).astype(np.float32))
    labels, counted = permuted_labels(generator.random(50) < 0.5, np.arange(50), 100, 0), np.ones(300, dtype=np.bool_)
    whole = rank(values, labels, counted)
    monkeypatch.setattr(concept_statistics, "_CHUNK", 50 * 7)
    parts = rank(values, labels, counted)
    for one, other in ((whole.sums, parts.sums), (whole.present, parts.present), (whole.highest, parts.highest)):
        assert np.array_equal(one, other)


def test_sums_are_exact_for_as_many_texts_as_are_allowed() -> None:
    values = np.random.default_rng(0).random((9_000, 2)).astype(np.float32)
    labels = np.arange(9_000) < 4_500
    found = rank(values, labels[None], np.ones(2, dtype=np.bool_))
    exact = centred_ranks(np.ascontiguousarray(values.T))[:, labels].astype(np.int64).sum(axis=1)
    assert found.sums.tolist() == exact.tolist()


def test_float_noise_and_signs_of_zero_are_ties() -> None:
    values = np.array([1.0, 1.0 + 1e-6, 3.0, -0.0, 0.0, 1.01], dtype=np.float32)
    found = rounded(values.copy())
    assert found[0] == found[1] != found[5]
    assert np.signbit(found).tolist() == [False] * 6
    assert found == pytest.approx(values, rel=2.0**-12)


def test_permutations_are_those_of_a_seed_and_the_first_row_is_the_truth() -> None:
    labels, groups = np.arange(30) < 11, np.random.default_rng(1).integers(0, 9, 30)
    found = permuted_labels(labels, groups, 100, 3)
    assert np.array_equal(found[0], labels)
    assert set(permuted_labels(labels, np.arange(30) // 3, 100, 3).sum(axis=1).tolist()) == {11}
    assert LEAST_IN_HALF <= found.sum(axis=1).min() <= found.sum(axis=1).max() <= 30 - LEAST_IN_HALF
    assert np.array_equal(found, permuted_labels(labels, groups, 100, 3))
    assert not np.array_equal(found[1:], permuted_labels(labels, groups, 100, 4)[1:])


def test_groups_of_one_size_or_of_one_label_are_exchangeable() -> None:
    groups = np.array([0, 0, 1, 1, 1, 2])
    assert exchangeable(groups == 1, groups)
    assert not exchangeable(np.array([True, False, True, True, True, False]), groups)
    assert exchangeable(np.arange(6) == 1, np.arange(6) // 2)


def test_groups_of_one_label_are_permuted_as_wholes_and_pairs_within() -> None:
    whole = permuted_labels(np.repeat([True, False, True, False], 5), np.repeat(np.arange(4), 5), 200, 0)
    assert {tuple(row.reshape(4, 5).sum(axis=1)) for row in whole} <= set(product((0, 5), repeat=4))
    assert len({tuple(row) for row in whole}) == 6
    pairs = permuted_labels(np.tile([True, False], 6), np.repeat(np.arange(6), 2), 200, 0)
    assert (pairs.reshape(-1, 6, 2).sum(axis=2) == 1).all()
    assert len({tuple(row) for row in pairs}) > 50


def test_groups_of_any_size_keep_their_borders() -> None:
    """Five groups of label 1 stay five groups, whichever they are; so the number of items varies."""
    groups = np.repeat(np.arange(10), np.arange(1, 11))
    found = permuted_labels(groups % 2 == 0, groups, 300, 0)
    first = np.cumsum(np.arange(10))
    assert np.array_equal(found, found[:, first][:, groups])
    assert set(found[:, first].sum(axis=1).tolist()) == {5}
    assert len({tuple(row) for row in found}) > 150
    assert len(set(found.sum(axis=1).tolist())) > 10


def test_a_group_that_takes_the_labels_of_another_size_has_its_share() -> None:
    groups = np.repeat(np.arange(8), [10, 2, 2, 2, 2, 2, 2, 2])
    labels = np.r_[np.arange(10) < 5, np.tile([True, False], 7)]
    found = permuted_labels(labels, groups, 100, 0)
    assert (found[:, :10].sum(axis=1) == 5).all()
    assert len({tuple(row[10:]) for row in found}) > 50


def test_a_permutation_leaves_enough_of_each_label_or_is_not_made() -> None:
    """One group of label 1; wherever else than on the large groups it falls, there is too little of it."""
    groups = np.repeat(np.arange(40), [9, 9, *[1] * 38])
    found = permuted_labels(groups == 0, groups, 100, 0)
    assert set(found.sum(axis=1).tolist()) == {9}
    assert 1 < len(found) < 101
    assert divisions(found) == 2 < FEWEST_DIVISIONS


def test_divisions_are_counted_once_with_their_mirror_images() -> None:
    whole = permuted_labels(np.arange(20) < 10, np.repeat(np.arange(4), 5), 200, 0)
    assert divisions(whole) == 3
    assert divisions(permuted_labels(np.arange(20) < 10, np.arange(20), 200, 0)) > 190


def test_every_labelling_is_as_likely() -> None:
    found = permuted_labels(np.arange(6) < 3, np.arange(6), 20_000, 0)[1:]
    _, counts = np.unique(found @ (1 << np.arange(6)), return_counts=True)
    assert len(counts) == 20
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 43.8  # χ² with 19 degrees of freedom, .001


def test_p_and_interval_of_single_items_are_those_of_the_other_scores() -> None:
    generator = np.random.default_rng(2)
    labels = np.arange(60) < 25
    scores = np.round(generator.normal(size=60) + 0.8 * labels, 1)
    p = held_out_p(scores[None], permuted_labels(labels, np.arange(60), 4_000, 0))[0]
    assert p == pytest.approx(permutation_p(scores[labels], scores[~labels], draws=4_000), abs=0.01)
    assert grouped_interval(scores, labels, np.arange(60)) == auroc_interval(scores[labels], scores[~labels])


def test_groups_widen_the_interval_as_much_as_fewer_items_would() -> None:
    generator = np.random.default_rng(3)
    scores, labels = generator.normal(size=20), np.arange(20) < 9
    few = grouped_interval(scores, labels, np.arange(20))
    copies = grouped_interval(np.repeat(scores, 5), np.repeat(labels, 5), np.repeat(np.arange(20), 5))
    assert (copies.value, copies.lo, copies.hi) == pytest.approx((few.value, few.lo, few.hi), abs=1e-3)


def test_a_large_group_widens_the_interval() -> None:
    """Of groups with 8, 1 and 1 items (8 + 1 + 1)² / (64 + 1 + 1) = 1.5 count, of 4, 3 and 3 almost three."""
    scores, labels = np.random.default_rng(5).normal(size=20), np.arange(20) < 10
    even, uneven = (
        grouped_interval(scores, labels, np.repeat(np.arange(6), [*sizes, *sizes])) for sizes in ([4, 3, 3], [8, 1, 1])
    )
    assert uneven.value == even.value
    assert uneven.lo < even.lo - 0.02
    assert uneven.hi > even.hi + 0.02


def test_quantiles_of_chance_are_aurocs() -> None:
    labels = np.arange(20) < 8
    assert quantiles(distances(np.array([0.0, 48.0, 96.0]), labels), (0.0, 0.5, 1.0)) == [0.5, 0.75, 1.0]


def test_the_ordinary_neuron_is_the_middle_one_of_those_of_like_frequency() -> None:
    frequencies = np.concatenate([[0.1], np.full(15, 0.1), np.full(20, 0.5)])
    sums = np.concatenate([[99.0], np.arange(15.0), np.full(20, 50.0)])
    present = np.ones(36, dtype=np.bool_)
    assert ordinary(0, frequencies, sums, present) == 8
    assert ordinary(0, np.full(36, np.nan), sums, present) == 8
    present[1:] = False
    assert ordinary(0, frequencies, sums, present) is None


SIZES: Mapping[str, Callable[[np.random.Generator], NDArray[np.intp]]] = {
    "equal": lambda _: np.full(20, 5),
    "one to nine": lambda generator: generator.integers(1, 10, 20),
    "heavy": lambda generator: np.clip(generator.pareto(1.0, 30) * 3 + 1, 1, 100).astype(np.intp),
    "one large": lambda _: np.array([60, *[1] * 30]),
}


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True], ids=["one label", "both labels"])
@pytest.mark.parametrize("sizes", SIZES)
def test_p_and_interval_claim_seldom_what_is_not_there(sizes: str, mixed: bool) -> None:
    """Of 300 sets without any effect, whose values hang together within groups, at most 5 % have a family-wise or
    held-out p ≤ .05, and 2.5 % an interval above ½: 99.7 % limits of binomials."""
    low = np.zeros(3, dtype=np.intp)
    for trial in range(300):
        generator = np.random.default_rng(trial)
        groups = np.repeat(np.arange(len(own := SIZES[sizes](generator))), own)
        n, c = len(own), 40
        labels = (generator.permutation(n) < n // 2)[groups]
        if mixed:
            labels = generator.random(len(groups)) < generator.beta(0.4, 0.4, n)[groups]
        if not LEAST_IN_HALF <= labels.sum() <= len(labels) - LEAST_IN_HALF:
            continue
        values = generator.normal(size=(n, c))[groups] + 0.1 * generator.normal(size=(len(groups), c))
        values = rounded(np.abs(values).astype(np.float32))
        permuted = permuted_labels(labels, groups, 199, trial)
        found = rank(values, permuted, np.ones(c, np.bool_))
        best = family_wise(distances(found.sums, labels), distances(found.highest, permuted[1:])).min()
        scores = values[:, 0].astype(np.float64)
        p = held_out_p(scores[None], permuted_labels(labels, groups, 199, trial + 1_000))[0]
        low += best <= 0.05, p <= 0.05, grouped_interval(scores, labels, groups).lo > 0.5
    assert low[0] <= 26  # 15 expected
    assert low[1] <= 26
    assert low[2] <= 16  # 7.5 expected
