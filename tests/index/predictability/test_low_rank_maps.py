"""Maps of a given rank against the singular values of what they have to foretell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.errors import UsageError
from neuronagent.index.predictability.low_rank import low_rank
from neuronagent.index.predictability.maps import NeuronMap

torch.set_num_threads(1)


def made(seed: int, rank: int = 10) -> tuple[NeuronMap, torch.Tensor]:
    """A map of 12 × 30 neurons and `post` of its source, which lies mostly in a few directions and off zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(12, rank, generator=generator) @ torch.randn(rank, 30, generator=generator)
    turned = torch.linalg.qr(torch.randn(30, 30, generator=generator))[0]
    post = torch.randn(200, 30, generator=generator) * torch.logspace(0.5, -1.5, 30) @ turned + 1.0
    return NeuronMap(factors=(weight,), bias=torch.randn(12, generator=generator)), post


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), rank=st.integers(1, 8), centred=st.booleans())
def test_no_map_of_that_rank_differs_less_in_its_predictions(seed: int, rank: int, centred: bool) -> None:
    found, post = made(seed)
    mean = post.double().mean(0) if centred else None
    about = post.double() - (0.0 if mean is None else mean)
    lower, kept = low_rank(found, rank, about.T @ about, mean)
    assert lower.rank == rank
    assert [tuple(factor.shape) for factor in lower.factors] == [(rank, 30), (12, rank)]
    singular = np.linalg.svd((about @ found.weight.double().T).numpy(), compute_uv=False) ** 2
    lost = float((lower(post) - found(post)).double().square().sum())
    assert lost == pytest.approx(singular[rank:].sum(), rel=1e-3, abs=1e-5 * singular.sum())
    assert kept == pytest.approx(singular[:rank].sum() / singular.sum(), abs=1e-9)


def test_a_map_that_has_the_rank_is_kept_whole() -> None:
    found, post = made(1, rank=3)
    lower, kept = low_rank(found, 3, post.double().T @ post.double())
    assert kept == pytest.approx(1.0)
    torch.testing.assert_close(lower(post), found(post), rtol=0, atol=1e-3)


def test_with_an_intercept_the_prediction_at_the_mean_stays() -> None:
    found, post = made(2)
    mean = post.double().mean(0)
    about = post.double() - mean
    lower, _ = low_rank(found, 1, about.T @ about, mean)
    torch.testing.assert_close(lower(mean), found(mean), rtol=0, atol=1e-4)


def test_a_rank_at_which_two_factors_are_no_smaller_leaves_the_map_as_it_is() -> None:
    found, post = made(3)
    second = post.double().T @ post.double()
    assert low_rank(found, 9, second) == (found, 1.0)
    assert low_rank(found, 8, second)[0].rank == 8


def test_a_map_that_foretells_nothing_loses_nothing() -> None:
    nothing = NeuronMap(factors=(torch.zeros(12, 30),), bias=torch.zeros(12))
    lower, kept = low_rank(nothing, 2, torch.eye(30, dtype=torch.float64))
    assert kept == 1.0
    assert not lower(torch.ones(5, 30)).any()


@pytest.mark.parametrize("rank", [0, -3])
def test_a_rank_below_one_is_refused(rank: int) -> None:
    found, post = made(4)
    with pytest.raises(UsageError, match="no rank"):
        low_rank(found, rank, post.double().T @ post.double())
