"""Vocabulary projections agree with a naive loop over tokens; what cannot be decoded is counted and never listed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.index import vocabulary
from neuronagent.index.vocabulary import Columns, project, project_all
from tests.index.cores import cores

torch.set_num_threads(1)

quick = settings(max_examples=40, deadline=None)


def made(seed: int, neurons: int, tokens: int, dimensions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors `[N, d]` and a matrix `[V, d]` of Gaussian numbers."""
    generator = np.random.default_rng(seed)
    vectors, matrix = generator.normal(size=(neurons, dimensions)), generator.normal(size=(tokens, dimensions))
    return torch.from_numpy(vectors).float(), torch.from_numpy(matrix).float()


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.fsum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def naive_moments(vector: torch.Tensor, matrix: torch.Tensor) -> list[float]:
    cosines = [dot(vector, row) / math.sqrt(dot(vector, vector) * dot(row, row)) for row in matrix]
    mean = math.fsum(cosines) / len(cosines)
    second, third, fourth = (math.fsum((c - mean) ** p for c in cosines) / len(cosines) for p in (2, 3, 4))
    return [second, third / second**1.5, fourth / second**2 - 3]


@quick
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(3, 12),
    st.integers(1, 15),
    st.sets(st.integers(0, 11)),
    st.sampled_from([1, 25, 1 << 24]),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_ids_scores_and_moments_are_those_of_a_naive_loop(
    seed: int, n: int, tokens: int, k: int, hidden: set[int], elements: int, stretch: int, stretches: int
) -> None:
    vectors, matrix = made(seed, n, tokens, 5)
    listed = [token for token in range(tokens) if token not in hidden]
    decodable = torch.tensor([token in listed for token in range(tokens)])
    with pytest.MonkeyPatch.context() as patch, cores(1 + seed % 3):
        patch.setattr(vocabulary, "_ELEMENTS", elements)
        patch.setattr(vocabulary, "_STRETCH", stretch)
        patch.setattr(vocabulary, "_TILE", stretch * stretches)
        ids, scores, moments = project(vectors, matrix, decodable, k)
    assert (ids.shape, scores.shape, moments.shape) == ((n, 2, k), (n, 2, k), (n, 3))
    for neuron in range(n):
        products = [dot(vectors[neuron], row) for row in matrix]
        for side, direction in enumerate((1, -1)):
            best = sorted(listed, key=lambda token: products[token], reverse=direction > 0)[:k]
            assert ids[neuron, side].tolist() == best + [-1] * (k - len(best))
            expected = [products[token] for token in best] + [0.0] * (k - len(best))
            np.testing.assert_allclose(scores[neuron, side], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(moments[neuron], naive_moments(vectors[neuron], matrix), rtol=1e-3, atol=1e-4)


def test_an_id_that_cannot_be_decoded_counts_in_the_moments_and_is_never_listed() -> None:
    vectors, matrix = made(0, 3, 10, 4)
    matrix[4] = 100 * vectors[0]  # would be first
    some = torch.ones(10, dtype=torch.bool)
    some[4] = False
    ids, _, moments = project(vectors, matrix, some, 10)
    all_ids, _, all_moments = project(vectors, matrix, torch.ones(10, dtype=torch.bool), 10)
    assert 4 not in ids
    assert all_ids[0, 0, 0] == 4
    np.testing.assert_array_equal(moments, all_moments)
    np.testing.assert_allclose(moments[0], naive_moments(vectors[0], matrix), rtol=1e-4)


def test_without_any_decodable_token_the_lists_are_empty() -> None:
    ids, scores, moments = project(*made(1, 2, 6, 4), torch.zeros(6, dtype=torch.bool), 3)
    assert (ids == -1).all()
    assert (scores == 0).all()
    assert (moments[:, 0] > 0).all()


def test_a_zero_vector_or_token_has_cosine_0_and_finite_moments() -> None:
    vectors, matrix = made(2, 2, 6, 4)
    vectors[0] = 0
    matrix[3] = 0
    _, scores, moments = project(vectors, matrix, torch.ones(6, dtype=torch.bool), 6)
    assert moments[0].tolist() == [0, 0, 0]
    assert np.isfinite(moments).all()
    assert np.isfinite(scores).all()


def test_moments_do_not_depend_on_lengths_while_scores_do() -> None:
    vectors, matrix = made(3, 2, 40, 6)
    everything = torch.ones(40, dtype=torch.bool)
    ids, scores, moments = project(vectors, matrix, everything, 5)
    longer_ids, longer_scores, longer_moments = project(8 * vectors, matrix, everything, 5)
    np.testing.assert_array_equal(longer_ids, ids)
    np.testing.assert_allclose(longer_scores, 8 * scores, rtol=1e-6)
    np.testing.assert_allclose(longer_moments, moments, rtol=1e-5)
    stretched = project(vectors, matrix * torch.linspace(0.1, 9, 40)[:, None], everything, 5)[2]
    np.testing.assert_allclose(stretched, moments, rtol=1e-4)


def test_the_moments_of_a_skewed_vocabulary_have_the_sign_that_they_should() -> None:
    # One token in a hundred points along v: positive skew for +v, large kurtosis.
    matrix = torch.zeros(100, 3)
    matrix[:, 1] = 1
    matrix[0] = torch.tensor([1.0, 0.0, 0.0])
    vectors = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    _, _, moments = project(vectors, matrix, torch.ones(100, dtype=torch.bool), 1)
    p = 0.01
    skew, kurtosis = (1 - 2 * p) / math.sqrt(p * (1 - p)), (1 - 6 * p * (1 - p)) / (p * (1 - p))
    np.testing.assert_allclose(moments, [[p * (1 - p), skew, kurtosis], [p * (1 - p), -skew, kurtosis]], rtol=1e-5)


@quick
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 40), st.integers(1, 6))
def test_several_vectors_of_the_same_neurons_give_what_each_gives_alone(seed: int, n: int, tokens: int, k: int) -> None:
    vectors = [made(seed + place, n, tokens, 5)[0] for place in range(3)]
    matrix = made(seed, 1, tokens, 5)[1]
    decodable = torch.arange(tokens) % 3 != 1
    together = project_all(vectors, Columns(matrix, decodable), k)
    for place, vector in enumerate(vectors):
        for found, expected in zip(together, project(vector, matrix, decodable, k), strict=True):
            np.testing.assert_allclose(found[:, place], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (4, 1), (256, 1), (4, 3)])
def test_a_watcher_is_shown_every_cosine_once(rows: int, threads: int) -> None:
    vectors, matrix = [made(seed, 7, 150, 6)[0] * 10**seed for seed in (0, 1, 2)], made(9, 1, 150, 6)[1]
    seen = torch.full((3, 7, 150), torch.nan)
    shown = torch.zeros(7, 150)

    def watch(neurons: slice, tokens: slice, cosines: torch.Tensor) -> None:
        seen[:, neurons, tokens] = cosines
        shown[neurons, tokens] += 1

    with pytest.MonkeyPatch.context() as patch, cores(threads):
        patch.setattr(vocabulary, "_ROWS", rows)
        patch.setattr(vocabulary, "_TILE", 64)
        hidden = torch.arange(150) % 10 == 3
        watched = project_all(vectors, Columns(matrix, ~hidden), 5, watch)
        unwatched = project_all(vectors, Columns(matrix, ~hidden), 5)
    assert bool((shown == 1).all())
    for place, vector in enumerate(vectors):
        for neuron in range(7):
            expected = [
                dot(vector[neuron], u) / math.sqrt(dot(vector[neuron], vector[neuron]) * dot(u, u)) for u in matrix
            ]
            np.testing.assert_allclose(seen[place, neuron], expected, atol=1e-6)
    for found, expected in zip(watched, unwatched, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("stretch", [1, 3, 64])
def test_of_equal_products_the_smaller_id_comes_first_whatever_the_stretch(stretch: int) -> None:
    matrix = torch.tensor([1.0, 2.0, -1.0, 0.0, -0.0, -2.0]).repeat(20)[:, None]  # every product twenty times
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "_STRETCH", stretch)
        patch.setattr(vocabulary, "_TILE", 6 * stretch)
        for vector, first, last in ((3.0, 2.0, -2.0), (-3.0, -2.0, 2.0), (0.0, 0.0, 0.0)):
            ids, scores, _ = project(torch.tensor([[vector]]), matrix, torch.ones(120, dtype=torch.bool), 30)
            for side, peak in ((0, first), (1, last)):
                order = sorted(range(120), key=lambda i: (-vector * float(matrix[i]) * (1 - 2 * side), i))[:30]
                assert ids[0, side].tolist() == order
                assert float(scores[0, side, 0]) == vector * peak


@pytest.mark.parametrize("scale", [1e-15, 1e-9, 1e12, 1e15])
def test_moments_survive_vectors_of_any_length(scale: float) -> None:
    vectors, matrix = made(5, 3, 50, 6)
    moments = project(vectors * scale, matrix, torch.ones(50, dtype=torch.bool), 4)[2]
    for neuron in range(3):
        np.testing.assert_allclose(moments[neuron], naive_moments(vectors[neuron], matrix), rtol=1e-3, atol=1e-4)


def test_a_common_part_of_all_tokens_does_not_spoil_the_moments() -> None:
    # Cosines of about 0.99 that differ by about 0.001: sums of raw powers in float32 would know nothing of them.
    matrix = made(6, 1, 400, 8)[1] * 0.003
    matrix[:, 0] += 1.0
    vectors = torch.eye(8)[:1] + made(7, 1, 1, 8)[0] * 0.1
    moments = project(vectors, matrix, torch.ones(400, dtype=torch.bool), 4)[2]
    expected = naive_moments(vectors[0], matrix)
    np.testing.assert_allclose(moments[0, 0], expected[0], rtol=1e-3)
    np.testing.assert_allclose(moments[0, 1:], expected[1:], atol=2e-3)


def test_tokens_that_are_all_the_same_have_no_skew() -> None:
    moments = project(made(8, 4, 1, 7)[0], made(8, 1, 1, 7)[1].repeat(300, 1), torch.ones(300, dtype=torch.bool), 2)[2]
    assert moments[:, 1:].tolist() == [[0.0, 0.0]] * 4
    assert float(moments[:, 0].max()) < 1e-15
