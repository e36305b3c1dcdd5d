"""Random neurons that are like those that are changed: where they come from and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.service.live.changes import by_layer, identifiers
from neuronagent.service.live.matching import ANY, FIRST_BAND, described, draw_partners, matched, overlap
from tests.service.live.reference import live

PLUS_PLUS = SignCombination.GATE_POS_IN_POS


def layer(neurons: int, seed: int = 0) -> NDArray[np.float64]:
    """Shares of tokens by combination `[N, 4]` of a layer in which all kinds of neurons occur."""
    return np.random.default_rng(seed).dirichlet((0.5, 0.5, 1.0, 1.0), neurons) * 0.999


def distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Hellinger's, in a loop."""
    return float(np.sqrt(max(0.0, sum((a**0.5 - b**0.5) ** 2 for a, b in zip(p, q, strict=True)) / 2)))


def test_partners_are_other_neurons_near_by_and_no_neuron_has_two_in_a_draw() -> None:
    shares, members = described(layer(2000), None), np.arange(0, 2000, 5)
    found = draw_partners(shares, members, 10, 0.1, (3, 0))
    assert found.partners.shape == (10, 400)
    for draw in found.partners:
        own = draw[draw >= 0]
        assert len(set(own.tolist())) == len(own)
        assert not set(own.tolist()) & set(members.tolist())
        pairs = zip(members[draw >= 0].tolist(), own.tolist(), strict=True)
        assert max(distance(shares[a], shares[b]) for a, b in pairs) <= 0.1 + 1e-9
    assert (found.partners >= 0).mean() > 0.99
    assert found.differences.mean() < 0.06
    assert FIRST_BAND <= found.bands.min() <= found.bands.max() <= 0.1


def test_partners_follow_from_the_seed() -> None:
    shares, members = described(layer(300), PLUS_PLUS), np.arange(50)
    one, same, other = (draw_partners(shares, members, 3, ANY, (seed, 4)).partners for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_matching_removes_the_difference_in_frequency_that_random_sets_have() -> None:
    frequencies = layer(3000, seed=1)
    members = np.flatnonzero(frequencies[:, 0] > 0.2)[::3]
    shares = described(frequencies, PLUS_PLUS)
    found = draw_partners(shares, members, 5, 0.1, (0, 0))
    others = np.setdiff1d(np.arange(3000), members)
    apart = abs(shares[members, 0].mean() - shares[others, 0].mean())
    for draw in found.partners:
        assert abs(shares[members, 0].mean() - shares[draw[draw >= 0], 0].mean()) < apart / 10
    assert abs(found.shifts.mean()) < apart / 20


def test_where_the_likes_of_a_class_are_used_up_the_shift_says_so() -> None:
    frequencies = layer(3000, seed=1)
    often = np.flatnonzero(frequencies[:, 0] > 0.4)
    found = draw_partners(described(frequencies, PLUS_PLUS), often[: len(often) * 2 // 3], 5, 0.1, (0, 0))
    assert found.shifts.mean() < -0.02


def test_a_class_that_is_larger_than_what_remains_is_matched_in_part() -> None:
    shares, members = described(layer(500), None), np.arange(400)
    found = draw_partners(shares, members, 4, ANY, (0, 0))
    assert ((found.partners >= 0).sum(axis=1) == 100).all()
    near = draw_partners(shares, members, 4, 0.1, (0, 0))
    assert 0.05 < (near.partners >= 0).mean() < 0.25


def test_one_neuron_gets_another_partner_in_every_draw_until_there_is_none() -> None:
    shares = described(layer(12), None)
    found = draw_partners(shares, np.array([3]), 20, ANY, (0, 0)).partners[:, 0]
    assert sorted(found[:11].tolist()) == [n for n in range(12) if n != 3]
    assert (found[11:] == -1).all()


def test_the_band_is_widened_only_as_far_as_needed() -> None:
    frequencies = np.array([0.5, 0.5001, 0.5002, 0.52, 0.6, 0.9, 0.0])
    shares = described(np.stack([frequencies, *np.zeros((3, 7))], axis=1), PLUS_PLUS)
    few, more, all_of_them = (draw_partners(shares, np.array([0]), n, ANY, (0, 0)) for n in (2, 4, 9))
    assert set(few.partners[:, 0].tolist()) <= {1, 2, 3}
    assert few.bands.max() == FIRST_BAND
    assert set(more.partners[:, 0].tolist()) <= {1, 2, 3, 4}
    assert distance(shares[0], shares[4]) == pytest.approx(more.bands.max())
    assert set(all_of_them.partners[:, 0].tolist()) == {1, 2, 3, 4, 5, -1}  # 6 is never in the combination
    assert all_of_them.differences.max() == pytest.approx(0.4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))),
    st.integers(1, 6),
    st.sampled_from([0.05, 0.3, ANY]),
)
def test_whatever_is_asked_no_changed_neuron_is_a_control(
    asked: tuple[int, set[int]], draws: int, limit: float
) -> None:
    neurons, chosen = asked
    members = np.array(sorted(chosen))
    partners = draw_partners(described(layer(neurons, seed=7), None), members, draws, limit, (0, 1)).partners
    assert partners.shape == (draws, len(members))
    assert not set(partners.ravel().tolist()) & chosen
    assert all(np.unique(draw[draw >= 0]).size == (draw >= 0).sum() for draw in partners)


def test_the_overlap_is_the_share_that_two_sets_have_in_common_on_average() -> None:
    generator = np.random.default_rng(5)
    sets = [{layer: generator.choice(20, 6, replace=False) for layer in (0, 3)} for _ in range(5)]
    pairs = [(a, b) for n, a in enumerate(sets) for b in sets[:n]]
    shared = [sum(len(np.intersect1d(a[layer], b[layer])) for layer in (0, 3)) / 12 for a, b in pairs]
    assert overlap(sets) == pytest.approx(np.mean(shared))
    assert overlap([sets[0], sets[0]]) == 1.0
    assert overlap(sets[:1]) is None


def test_what_is_said_of_the_controls_is_true_of_them() -> None:
    neurons = by_layer([NeuronId(0, 5), NeuronId(0, 9), NeuronId(1, 2)])
    found = matched(live(), neurons, PLUS_PLUS, draws=3, seed=0)
    assert found.matching.share == 1.0
    assert len(found.sets) == found.matching.draws == 3
    for drawn in found.sets:
        assert {layer: len(own) for layer, own in drawn.items()} == {0: 2, 1: 1}
        assert not set(identifiers(drawn)) & set(identifiers(neurons))
    frequencies = [live().frequencies(number)[:, 0] for number in (0, 1)]
    spread = max(
        abs(frequencies[b.layer][b.index] - frequencies[a.layer][a.index])
        for drawn in found.sets
        for a in identifiers(neurons)
        for b in identifiers(drawn)
        if a.layer == b.layer
    )
    assert 0 <= (found.matching.mean_difference or 0) <= (found.matching.largest_difference or 0) <= spread
    assert matched(live(), neurons, None, draws=0).matching.reason == "no control was asked for"
