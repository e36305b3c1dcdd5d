"""Ranks, permutations and intervals of a search by concept against slow ones."""

from __future__ import annotations

import random
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
from neuronagent.service.live.concept_statistics import (
    auroc_of,
    centred_ranks,
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
    assert auroc_of(found.sums, labels[0]) == pytest.approx(slow[0], abs=1e-12)
    assert found.present.tolist() == values.any(axis=0).tolist()
    best = np.abs(slow[1:, counted] - 0.5).max(axis=1)
    assert auroc_of(found.highest, labels[0]) - 0.5 == pytest.approx(best, abs=1e-12)
    worse = [(1 + int((best >= abs(one - 0.5) - 1e-12).sum())) / 21 for one in slow[0]]
    assert family_wise(found.sums, found.highest) == pytest.approx(worse)


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


def test_a_permutation_keeps_the_number_of_labels_and_the_first_row_is_the_truth() -> None:
    labels, groups = np.arange(30) < 11, np.random.default_rng(1).integers(0, 9, 30)
    found = permuted_labels(labels, groups, 100, 3)
    assert np.array_equal(found[0], labels)
    assert set(found.sum(axis=1).tolist()) == {11}
    assert np.array_equal(found, permuted_labels(labels, groups, 100, 3))
    assert not np.array_equal(found[1:], permuted_labels(labels, groups, 100, 4)[1:])


def test_groups_of_one_label_are_permuted_as_wholes_and_pairs_within() -> None:
    whole = permuted_labels(np.repeat([True, False, True, False], 5), np.repeat(np.arange(4), 5), 200, 0)
    assert {tuple(row.reshape(4, 5).sum(axis=1)) for row in whole} <= set(product((0, 5), repeat=4))
    assert len({tuple(row) for row in whole}) == 6
    pairs = permuted_labels(np.tile([True, False], 6), np.repeat(np.arange(6), 2), 200, 0)
    assert (pairs.reshape(-1, 6, 2).sum(axis=2) == 1).all()
    assert len({tuple(row) for row in pairs}) > 50


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


def test_quantiles_of_chance_are_aurocs() -> None:
    labels = np.arange(20) < 8
    assert quantiles(np.array([0.0, 96.0, 192.0]), labels, (0.0, 0.5, 1.0)) == [0.5, 1.0, 1.5]


def test_the_ordinary_neuron_is_the_middle_one_of_those_of_like_frequency() -> None:
    frequencies = np.concatenate([[0.1], np.full(15, 0.1), np.full(20, 0.5)])
    sums = np.concatenate([[99.0], np.arange(15.0), np.full(20, 50.0)])
    present = np.ones(36, dtype=np.bool_)
    assert ordinary(0, frequencies, sums, present) == 8
    assert ordinary(0, np.full(36, np.nan), sums, present) == 8
    present[1:] = False
    assert ordinary(0, frequencies, sums, present) is None


@pytest.mark.slow
def test_the_family_wise_p_is_a_p_also_for_groups() -> None:
    """Of 400 sets without any effect, whose values hang together within groups, at most 5 % have p ≤ .05."""
    draw, low = random.Random(0), 0
    for trial in range(400):
        generator = np.random.default_rng(trial)
        groups = np.repeat(np.arange(16), 4)
        values = np.abs(generator.normal(size=(16, 40))[groups] + 0.3 * generator.normal(size=(64, 40)))
        labels = np.repeat(np.array(draw.sample([True, False] * 8, 16)), 4)
        found = rank(values.astype(np.float32), permuted_labels(labels, groups, 199, trial), np.ones(40, np.bool_))
        low += bool(family_wise(found.sums, found.highest).min() <= 0.05)
    assert low <= 32  # 20 expected; 99.7 % of binomials
