"""How much of a neuron's variance a property takes away, against slow oracles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.index.predictability.functional import (
    KeysOfTokens,
    LayerSums,
    SumsByKey,
    Totals,
    functional_scores,
    nested_sums,
    threshold,
)
from neuronagent.predictability.functional import PAPER, TOTAL_VARIANCE

Array = NDArray[np.float64]
TOKENS, NEURONS, KEYS = 400, 5, 7


def read(post: Array, keys: KeysOfTokens, sizes: Sequence[int]) -> tuple[Totals, SumsByKey]:
    """Sums over batches of these sizes, again and again, in an order of their own."""
    sums, order = LayerSums(keys.count), np.random.default_rng(5).permutation(len(post))
    start, place = 0, 0
    while start < len(post):
        tokens = order[start : start + sizes[place % len(sizes)]]
        sums.update(keys.batch(tokens), tokens, torch.tensor(post[tokens], dtype=torch.float32))
        start, place = start + len(tokens), place + 1
    return sums.finish()


def made(generator: np.random.Generator, mean: float = 0.0) -> tuple[Array, list[list[int]], KeysOfTokens]:
    """Post of heavy tails, and up to three keys of each token."""
    post = mean + generator.standard_t(4, (TOKENS, NEURONS)).astype(np.float32).astype(np.float64)
    own = [sorted(set(generator.integers(0, KEYS - 1, generator.integers(0, 4)).tolist())) for _ in range(TOKENS)]
    pairs = np.array([(token, key) for token, keys in enumerate(own) for key in keys])
    order = generator.permutation(len(pairs))
    return post, own, KeysOfTokens.of(TOKENS, [(pairs[order, 0], pairs[order, 1])], KEYS)


def variance(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


def test_both_weightings_are_those_of_a_double_loop() -> None:
    post, own, keys = made(np.random.default_rng(0))
    found = functional_scores(*read(post, keys, [64, 7, 130]))
    for key in range(KEYS - 1):
        for neuron in range(NEURONS):
            g = post[:, neuron].tolist()
            inside = [g[token] for token in range(TOKENS) if key in own[token]]
            outside = [g[token] for token in range(TOKENS) if key not in own[token]]
            beta = len(inside) / TOKENS
            total = 1 - (beta * variance(inside) + (1 - beta) * variance(outside)) / variance(g)
            printed = 1 - ((1 - beta) * variance(inside) + beta * variance(outside)) / variance(g)
            assert found[TOTAL_VARIANCE][key, neuron] == pytest.approx(total, abs=1e-6)
            assert found[PAPER][key, neuron] == pytest.approx(printed, abs=1e-5)
    # The last key has no token.
    assert np.isnan(found[TOTAL_VARIANCE][-1]).all()
    assert np.isnan(found[PAPER][-1]).all()


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4), mean=st.sampled_from([0.0, -30.0, 300.0]))
def test_batches_and_the_mean_of_a_neuron_change_nothing(sizes: list[int], mean: float) -> None:
    post, _, keys = made(np.random.default_rng(1), mean)
    whole, parts = (functional_scores(*read(post, keys, each)) for each in ([TOKENS], sizes))
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=2e-5)


def test_totals_are_those_of_the_values_and_say_where_the_largest_is() -> None:
    post, _, keys = made(np.random.default_rng(2), 3.0)
    post[:, 1] = 0.25
    post[17, 2] = -90.0
    totals, sums = read(post, keys, [50])
    np.testing.assert_allclose(totals.mean, post.mean(0), atol=1e-5)
    np.testing.assert_allclose(totals.variance[[0, 2, 3, 4]], post.var(0)[[0, 2, 3, 4]], rtol=1e-5)
    assert totals.constant.tolist() == [False, True, False, False, False]
    assert (totals.extreme[2], totals.place[2], totals.tokens) == (-90.0, 17, TOKENS)
    assert totals.rms == pytest.approx(np.sqrt((post**2).mean()), rel=1e-5)
    assert np.isnan(functional_scores(totals, sums)[TOTAL_VARIANCE][:, 1]).all()
    np.testing.assert_array_equal(sums.counts, [len(keys.keys[keys.keys == key]) for key in range(KEYS)])


def test_a_neuron_that_only_the_property_decides_loses_all_its_variance() -> None:
    post = np.zeros((TOKENS, 2))
    post[:40, 0] = 2.0
    post[:, 1] = np.random.default_rng(3).normal(size=TOKENS)
    keys = KeysOfTokens.of(TOKENS, [(np.arange(40), np.zeros(40, dtype=np.int64))], 1)
    found = functional_scores(*read(post, keys, [33]))
    assert found[TOTAL_VARIANCE][0, 0] == pytest.approx(1.0)
    assert found[PAPER][0, 0] == pytest.approx(1.0)
    assert found[TOTAL_VARIANCE][0, 1] < 0.05


def test_the_papers_weighting_also_selects_a_neuron_that_is_quiet_where_the_property_holds() -> None:
    generator = np.random.default_rng(4)
    post = generator.normal(size=(TOKENS, 1))
    post[:4] = 0.01 * generator.normal(size=(4, 1))
    keys = KeysOfTokens.of(TOKENS, [(np.arange(4), np.zeros(4, dtype=np.int64))], 1)
    found = functional_scores(*read(post, keys, [TOKENS]))
    assert found[PAPER][0, 0] > 0.95
    assert found[TOTAL_VARIANCE][0, 0] < 0.01


def test_unions_of_keys_are_properties_too() -> None:
    post, own, keys = made(np.random.default_rng(6))
    totals, sums = read(post, keys, [100])
    alone = np.array([[len(each) == 1 and each[0] == key for key in range(KEYS)] for each in own])
    single = KeysOfTokens.of(TOKENS, [tuple(np.nonzero(alone))], KEYS)  # type: ignore[list-item]
    totals, sums = read(post, single, [100])
    union = functional_scores(totals, sums.combined(np.array([[1.0, 0, 1, 0, 0, 0, 0]])))
    both = alone[:, 0] | alone[:, 2]
    merged = KeysOfTokens.of(TOKENS, [(np.flatnonzero(both), np.zeros(both.sum(), dtype=np.int64))], 1)
    direct = functional_scores(*read(post, merged, [100]))
    for name in union:
        np.testing.assert_allclose(union[name], direct[name], atol=1e-6)


def test_random_tokens_of_a_size_are_those_of_its_bin_and_all_before() -> None:
    generator = np.random.default_rng(7)
    seeds, sizes = 3, 4
    values = generator.normal(size=(seeds * sizes, 2))
    sums = SumsByKey(counts=np.arange(12.0), first=values, second=values**2)
    nested = nested_sums(sums, seeds, sizes)
    for size in range(sizes):
        for seed in range(seeds):
            own = slice(seed * sizes, seed * sizes + size + 1)
            assert nested.counts[size * seeds + seed] == sums.counts[own].sum()
            np.testing.assert_allclose(nested.first[size * seeds + seed], values[own].sum(0))
            np.testing.assert_allclose(nested.second[size * seeds + seed], (values[own] ** 2).sum(0))


def test_the_threshold_is_the_99th_percentile_of_what_is_known() -> None:
    scores = np.arange(1000.0).reshape(20, 50)
    assert threshold(scores) == pytest.approx(np.percentile(scores, 99))
    scores[:, 0] = np.nan
    assert (scores[:, 1:] > threshold(scores)).mean() == pytest.approx(0.01, abs=0.002)
    assert np.isnan(threshold(np.full((2, 3), np.nan)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card")
def test_sums_on_a_graphics_card_are_those_of_a_processor() -> None:
    post, _, keys = made(np.random.default_rng(8))
    sums, tokens = LayerSums(keys.count), np.arange(TOKENS)
    sums.update(keys.batch(tokens), tokens, torch.tensor(post, dtype=torch.float32, device="cuda"))
    found, expected = functional_scores(*sums.finish()), functional_scores(*read(post, keys, [TOKENS]))
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
