"""Vocabulary projections agree with a naive loop over tokens; what cannot be decoded is counted and never listed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.index import vocabulary
from neuronagent.index.vocabulary import project

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
)
def test_ids_scores_and_moments_are_those_of_a_naive_loop(
    seed: int, n: int, tokens: int, k: int, hidden: set[int], elements: int
) -> None:
    vectors, matrix = made(seed, n, tokens, 5)
    listed = [token for token in range(tokens) if token not in hidden]
    decodable = torch.tensor([token in listed for token in range(tokens)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "_ELEMENTS", elements)
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
