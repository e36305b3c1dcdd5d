"""The closed form of a map against normal equations written out, and on activations that were made to be known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.errors import CorpusError
from neuronagent.index.predictability.gram import Grams
from neuronagent.index.predictability.ridge import Solved, bytes_needed, solve
from neuronagent.predictability.scores import Pair

torch.set_num_threads(1)

quick = settings(max_examples=20, deadline=None)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tokens:
    """`post` of a source `[T, N]` and of a target `[T, M]`."""

    source: Tensor
    target: Tensor

    @property
    def sums(self) -> Grams:
        widths = {0: self.source.shape[1]}, {1: self.target.shape[1]}
        found = Grams([Pair(0, 1)], *widths, shared=False, device="cpu")
        found.update({0: self.source}, {1: self.target})
        return found

    @property
    def wide(self) -> tuple[Array, Array]:
        return self.source.double().numpy(), self.target.double().numpy()


def solved(fit: Tokens, select: Tokens, *, intercept: bool = False) -> Solved:
    return solve(fit.sums, select.sums, 0, [1], intercept=intercept)[1]


def noisy(tokens: int, seed: int, *, neurons: int = 12, noise: float = 1.0) -> Tokens:
    """A target of 8 neurons, linear in the source but for noise and an offset; the map is the same for any seed."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(neurons, 8, generator=torch.Generator().manual_seed(77))
    source = torch.randn(tokens, neurons, generator=generator) * torch.linspace(0.1, 2, neurons) + 0.5
    target = source @ weight + noise * torch.randn(tokens, 8, generator=generator) + 3.0
    return Tokens(source, target)


def normal_equations(fit: Tokens, ridge: float, intercept: bool) -> tuple[Array, Array]:
    """W and b, by a solver of numpy's on the tokens themselves."""
    x, y = fit.wide
    scale = (x**2).sum(0).mean()
    at, to = (x.mean(0), y.mean(0)) if intercept else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    x, y = x - at, y - to
    gram = x.T @ x
    weight = np.linalg.solve(gram + ridge * scale * np.eye(len(gram)), x.T @ y).T
    return weight, to - weight @ at


def error(weight: Array, bias: Array, on: Tokens) -> float:
    x, y = on.wide
    return float(((x @ weight.T + bias - y) ** 2).mean())


@quick
@given(seed=st.integers(0, 999), intercept=st.booleans(), tokens=st.sampled_from([40, 300]))
def test_a_map_is_that_of_the_normal_equations_and_its_error_that_of_its_predictions(
    seed: int, intercept: bool, tokens: int
) -> None:
    fit, select = noisy(tokens, seed), noisy(100, seed + 1000)
    found = solved(fit, select, intercept=intercept)
    weight, bias = normal_equations(fit, found.ridge, intercept)
    np.testing.assert_allclose(found.map.weight.numpy(), weight, atol=2e-4)
    np.testing.assert_allclose(found.map.bias.numpy(), bias, atol=2e-4)
    y = select.wide[1]
    assert found.select_mse == pytest.approx(error(weight, bias, select), rel=1e-4)
    assert found.mean_mse == pytest.approx(float(((fit.wide[1].mean(0) - y) ** 2).mean()), rel=1e-4)
    predicted = found.map(select.source).double().numpy()
    assert found.select_mse == pytest.approx(float(((predicted - y) ** 2).mean()), rel=1e-4)


@pytest.mark.parametrize(("tokens", "noise"), [(15, 3.0), (40, 10.0), (200, 1.0), (2000, 0.1)])
def test_no_other_power_of_ten_is_better_on_the_tokens_kept_aside(tokens: int, noise: float) -> None:
    fit, select = noisy(tokens, 5, noise=noise), noisy(400, 6, noise=noise)
    found = solved(fit, select, intercept=True)
    others = [error(*normal_equations(fit, 10.0**power, intercept=True), select) for power in range(-9, 5)]
    assert found.select_mse == pytest.approx(min(others), rel=1e-4)


@pytest.mark.parametrize("intercept", [False, True])
def test_what_is_linear_in_the_source_is_found_to_the_digits_of_float32(intercept: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    weight, offset = torch.randn(9, 40, generator=generator), torch.randn(9, generator=generator)
    offset = offset if intercept else torch.zeros(9)

    def made(tokens: int) -> Tokens:
        source = torch.randn(tokens, 40, generator=generator) * torch.logspace(-1.5, 0.5, 40)
        return Tokens(source, source @ weight.T + offset)

    found, test = solved(made(6000), made(3000), intercept=intercept), made(3000)
    left = (found.map(test.source) - test.target).double().square().sum(0)
    r2 = 1 - left / (test.target - test.target.mean(0)).double().square().sum(0)
    assert float(r2.min()) > 1 - 1e-9
    torch.testing.assert_close(found.map.weight, weight, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.map.bias, offset, rtol=0, atol=1e-4)


def test_a_layer_foretells_itself_by_the_identity() -> None:
    generator = torch.Generator().manual_seed(4)
    post = torch.randn(500, 30, generator=generator)
    sums = Grams([Pair(2, 2)], {2: 30}, {2: 30}, shared=True, device="cpu")
    sums.update({2: post}, {2: post})
    found = solve(sums, sums, 2, [2], intercept=False)[2]
    torch.testing.assert_close(found.map.weight, torch.eye(30), rtol=0, atol=1e-6)
    assert found.select_mse < 1e-12


@pytest.mark.parametrize("intercept", [False, True])
def test_dead_sources_and_constant_targets_break_nothing(intercept: bool) -> None:
    fit, select = noisy(300, 1), noisy(100, 2)
    for tokens in (fit, select):
        tokens.source[:, 3] = 0.0
        tokens.target[:, 5], tokens.target[:, 6] = 0.0, 2.5
    found = solved(fit, select, intercept=intercept)
    assert torch.isfinite(found.map.weight).all()
    assert not found.map.weight[:, 3].any()
    assert not found.map.weight[5].any()
    assert not found.map.bias[5].any()
    if intercept:
        torch.testing.assert_close(found.map(select.source)[:, 6], torch.full((100,), 2.5), rtol=0, atol=1e-4)


def test_a_source_without_a_living_neuron_foretells_nothing() -> None:
    fit, select = noisy(300, 1), noisy(100, 2)
    dead = [Tokens(torch.zeros_like(tokens.source), tokens.target) for tokens in (fit, select)]
    found = solved(dead[0], dead[1])
    assert not found.map.weight.any()
    assert found.select_mse == pytest.approx(float(select.target.double().square().mean()))
    assert solved(dead[0], dead[1], intercept=True).select_mse == pytest.approx(found.mean_mse)


@pytest.mark.parametrize("intercept", [False, True])
def test_fewer_tokens_than_neurons_are_fitted_by_the_ridge(intercept: bool) -> None:
    fit, select, test = (noisy(tokens, seed, neurons=200) for tokens, seed in ((60, 1), (300, 2), (300, 3)))
    found = solved(fit, select, intercept=intercept)
    weight, bias = normal_equations(fit, found.ridge, intercept)
    np.testing.assert_allclose(found.map.weight.numpy(), weight, atol=1e-3)
    here, nothing = error(weight, bias, test), error(0 * weight, fit.wide[1].mean(0), test)
    assert here < nothing


def test_one_token_is_enough_for_numbers() -> None:
    found = solved(noisy(1, 1), noisy(1, 2), intercept=True)
    assert torch.isfinite(found.map.weight).all()
    assert np.isfinite([found.select_mse, found.mean_mse, found.ridge]).all()


def test_targets_are_solved_as_if_alone() -> None:
    generator = torch.Generator().manual_seed(8)
    widths = dict.fromkeys(range(3), 6)
    post = {layer: torch.randn(100, 6, generator=generator) for layer in widths}
    sums = Grams([Pair(0, 1), Pair(0, 2)], widths, widths, shared=True, device="cpu")
    sums.update(post, post)
    both = solve(sums, sums, 0, [1, 2], intercept=False)
    for target in (1, 2):
        alone = solve(sums, sums, 0, [target], intercept=False)[target]
        assert torch.equal(both[target].map.weight, alone.map.weight)
        assert both[target].ridge == alone.ridge


def test_without_tokens_it_is_said_which_are_missing() -> None:
    some, none = noisy(20, 1), noisy(0, 1)
    with pytest.raises(CorpusError, match="no tokens to fit"):
        solved(none, some)
    with pytest.raises(CorpusError, match="no tokens to choose the ridge"):
        solved(some, none)


def test_memory_of_a_solution_counts_its_matrices() -> None:
    without, beside = (bytes_needed(1000, [500], intercept=given) for given in (False, True))
    assert without == 8 * (2 * 1000**2 + 4 * 500_000) + 4 * (1000 + 1) * 500
    assert beside - without == 8 * (2 * 1000**2 + 4 * 500_000)
