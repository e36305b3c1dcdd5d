"""Cosines, norms, the sign convention and chance, against float64 arithmetic and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.domain import COSINES, chance
from neuronagent.index.geometry import baselines, cosines_and_norms, gaussian_quantiles, signs
from tests.index.cores import cores

torch.set_num_threads(1)

PAIRS = ((0, 1), (0, 2), (1, 2))
quick = settings(max_examples=40, deadline=None)


def layer(seed: int, neurons: int, dimensions: int, scale: float = 1.0) -> list[torch.Tensor]:
    """Gaussian gate, in and out, `[N, d]` float32."""
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.normal(0, scale, (neurons, dimensions))).float() for _ in range(3)]


@quick
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 9), st.sampled_from([1e-12, 1.0, 1e12]))
def test_cosines_and_norms_are_those_of_a_double_loop(seed: int, n: int, d: int, scale: float) -> None:
    weights = layer(seed, n, d, scale)
    cosines, norms = cosines_and_norms(*weights)
    rows = [w.double().numpy() for w in weights]
    for neuron in range(n):
        vectors = [row[neuron].tolist() for row in rows]
        lengths = [math.sqrt(math.fsum(x * x for x in v)) for v in vectors]
        np.testing.assert_allclose(norms[neuron], lengths, rtol=1e-12)
        for column, (a, b) in enumerate(PAIRS):
            product = math.fsum(x * y for x, y in zip(vectors[a], vectors[b], strict=True))
            assert cosines[neuron, column] == pytest.approx(product / lengths[a] / lengths[b], abs=1e-12)


def test_a_zero_vector_has_cosine_0_and_norm_0() -> None:
    gate, into, out = layer(0, 2, 4)
    into[1] = 0
    cosines, norms = cosines_and_norms(gate, into, out)
    assert cosines[1, [0, 2]].tolist() == [0, 0]
    assert cosines[1, 1] != 0
    assert norms[1, 1] == 0
    assert np.isfinite(cosines).all()


def test_cosines_of_parallel_vectors_do_not_leave_the_interval() -> None:
    gate = layer(1, 200, 7)[0]
    cosines, _ = cosines_and_norms(gate, gate * 3, -gate)
    assert np.abs(cosines).max() <= 1
    np.testing.assert_allclose(cosines, [[1, -1, -1]] * 200, atol=1e-12)


def test_normalising_makes_gate_and_in_point_the_same_way_and_changes_nothing_else() -> None:
    gate, into, out = layer(2, 60, 8)
    into[0] = 0  # neither side
    s = signs(gate, into, "normalised")
    assert s.dtype == np.int8
    assert s[0] == 1
    assert set(s.tolist()) == {1, -1}
    factor = torch.from_numpy(s)[:, None].float()
    raw, raw_norms = cosines_and_norms(gate, into, out)
    new, new_norms = cosines_and_norms(gate, into * factor, out * factor)
    assert (new[:, 0] >= 0).all()
    np.testing.assert_array_equal(new[:, 2], raw[:, 2])
    np.testing.assert_array_equal(new[:, :2], raw[:, :2] * s[:, None])
    np.testing.assert_array_equal(new_norms, raw_norms)
    assert (signs(gate, into * factor, "normalised") == 1).all()
    assert (signs(gate, into, "raw") == 1).all()


def test_a_sign_is_decided_in_float64() -> None:
    # In float32 the products sum to 0 in this order: 1e8 + 1 is 1e8.
    gate = torch.tensor([[1e8, -1.0, -1e8]])
    into = torch.tensor([[1.0, 1.0, 1.0]])
    assert signs(gate, into, "normalised").tolist() == [-1]


# Chance


@pytest.mark.parametrize("level", [0.025, 0.2, 0.5, 0.975])
def test_quantiles_of_gaussian_cosines_have_their_closed_forms(level: float) -> None:
    def quantile(d: int) -> float:
        return gaussian_quantiles(d, (level,))[0]

    assert quantile(2) == pytest.approx(-math.cos(math.pi * level), abs=1e-7)  # the angle is uniform
    assert quantile(3) == pytest.approx(2 * level - 1, abs=1e-7)  # Archimedes: the cosine is uniform
    x = quantile(4)  # the semicircle law
    assert 0.5 + (x * math.sqrt(1 - x * x) + math.asin(x)) / math.pi == pytest.approx(level, abs=1e-7)
    x = quantile(5)
    assert 0.5 + 3 / 4 * (x - x**3 / 3) == pytest.approx(level, abs=1e-7)
    assert quantile(7) == pytest.approx(-gaussian_quantiles(7, (1 - level,))[0], abs=1e-7)


def test_in_many_dimensions_the_quantiles_are_those_of_a_normal_distribution() -> None:
    low, high = gaussian_quantiles(4096)
    assert high == pytest.approx(1.959964 / math.sqrt(4096), rel=1e-3)
    assert low == pytest.approx(-high, abs=1e-9)


def test_random_cosines_fall_between_the_quantiles_as_often_as_they_say() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 40_000, 16))
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    low, high = gaussian_quantiles(16)
    assert np.mean(cosines < low) == pytest.approx(0.025, abs=0.004)
    assert np.mean(cosines > high) == pytest.approx(0.025, abs=0.004)


def test_mismatched_pairs_of_a_gaussian_layer_look_gaussian() -> None:
    found = baselines(*layer(3, 400, 24))
    assert tuple(found) == COSINES
    absolute = gaussian_quantiles(24)[1]
    for baseline in found.values():
        assert baseline.gaussian == gaussian_quantiles(24)
        np.testing.assert_allclose(baseline.mismatched, baseline.gaussian, atol=0.02)
        assert baseline.mismatched_absolute == pytest.approx(absolute, abs=0.02)


def test_mismatched_pairs_leave_out_a_neurons_own_and_need_not_be_gaussian() -> None:
    # Every neuron has out = in, all of them near one direction: pairs of different neurons show that, too.
    gate, _, _ = layer(4, 50, 16)
    common = torch.ones(50, 16) + layer(5, 50, 16)[0] * 0.1
    found = baselines(gate, common, common)
    assert found["cos_in_out"].mismatched[0] > 0.9
    own = baselines(gate, gate, gate)["cos_gate_in"]  # cos(v_i, v_i) = 1 would be 2 % of all pairs
    assert own.mismatched[1] < 0.9


def test_a_small_layer_pools_all_pairs_of_different_neurons() -> None:
    weights = layer(6, 6, 5)
    units = [w.double().numpy() / np.linalg.norm(w.double().numpy(), axis=1, keepdims=True) for w in weights]
    found = baselines(*weights)
    for name, (a, b) in zip(COSINES, PAIRS, strict=True):
        pooled = [float(units[a][i] @ units[b][j]) for i in range(6) for j in range(6) if i != j]
        np.testing.assert_allclose(found[name].mismatched, np.quantile(pooled, (0.025, 0.975)), atol=1e-6)
        assert found[name].mismatched_absolute == pytest.approx(np.quantile(np.abs(pooled), 0.95))


def test_vectors_of_zeros_have_no_mismatched_pairs_and_leave_the_others_their_numbers() -> None:
    weights = layer(7, 9, 5)
    weights[0][2] = 0
    weights[2][8] = 0
    lengths = [np.linalg.norm(w.double().numpy(), axis=1) for w in weights]
    found = baselines(*weights)
    for name, (a, b) in zip(COSINES, PAIRS, strict=True):
        pairs = [(i, j) for i in range(9) for j in range(9) if i != j and lengths[a][i] and lengths[b][j]]
        pooled = [float(weights[a][i] @ weights[b][j]) / lengths[a][i] / lengths[b][j] for i, j in pairs]
        np.testing.assert_allclose(found[name].mismatched, np.quantile(pooled, (0.025, 0.975)), atol=1e-6)
        assert found[name].mismatched_absolute == pytest.approx(np.quantile(np.abs(pooled), 0.95), abs=1e-6)


@pytest.mark.parametrize("weights", [layer(7, 1, 5), layer(7, 4, 5, scale=0)], ids=["one neuron", "zeros"])
def test_a_layer_without_mismatched_pairs_is_compared_with_gaussian_vectors(weights: list[torch.Tensor]) -> None:
    for name, baseline in baselines(*weights).items():
        assert math.isnan(baseline.mismatched_absolute)
        assert chance(name, baseline) == gaussian_quantiles(5)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_layer_larger_than_a_block_has_the_numbers_of_all_its_rows_in_order(threads: int) -> None:
    weights = layer(8, 1300, 7)
    rows = [w.double().numpy() for w in weights]
    with cores(threads):
        cosines, norms = cosines_and_norms(*weights)
        sign = signs(weights[0], weights[1], "normalised")
        found = baselines(*weights)
    lengths = np.stack([np.linalg.norm(row, axis=1) for row in rows], axis=1)
    np.testing.assert_allclose(norms, lengths, rtol=1e-12)
    for column, (a, b) in enumerate(PAIRS):
        expected = (rows[a] * rows[b]).sum(axis=1) / lengths[:, a] / lengths[:, b]
        np.testing.assert_allclose(cosines[:, column], expected, atol=1e-12)
    np.testing.assert_array_equal(sign, np.where((rows[0] * rows[1]).sum(axis=1) < 0, -1, 1))
    some = np.unique(np.linspace(0, 1299, 1024).round().astype(int))  # evenly spaced, the last of all among them
    for name, (a, b) in zip(COSINES, PAIRS, strict=True):
        pooled = (rows[a] / lengths[:, a, None])[some] @ (rows[b] / lengths[:, b, None]).T
        pooled = pooled[np.arange(1300) != some[:, None]]
        np.testing.assert_allclose(found[name].mismatched, np.quantile(pooled, (0.025, 0.975)), atol=1e-6)
        assert found[name].mismatched_absolute == pytest.approx(np.quantile(np.abs(pooled), 0.95), abs=1e-6)


def test_the_same_weights_give_the_same_baselines() -> None:
    weights = layer(7, 700, 6)
    assert baselines(*weights) == baselines(*[w.clone() for w in weights])
