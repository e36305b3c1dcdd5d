"""The paper's optimiser against PyTorch's own, with a loss that autograd differentiates."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuronagent.index.predictability.adagrad import Adagrad, bytes_needed
from neuronagent.predictability.scores import Pair

torch.set_num_threads(1)

WIDTHS = {0: 6, 1: 4, 2: 5}
PAIRS = [Pair(0, 1), Pair(2, 1), Pair(1, 1)]
BATCH = 50


def tokens(count: int, seed: int = 0) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(count, width, generator=generator) for layer, width in WIDTHS.items()}


def begun(lr: float = 0.01) -> Adagrad:
    return Adagrad(PAIRS, WIDTHS, WIDTHS, lr=lr, batch=BATCH, device="cpu")


def fed(post: dict[int, Tensor], cuts: list[int]) -> Adagrad:
    found, ends = begun(), [0, *cuts, len(post[0])]
    for start, stop in pairwise(ends):
        part = {layer: values[start:stop] for layer, values in post.items()}
        found.update(part, part)
    return found


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_every_step_is_that_of_pytorch_on_the_mean_squared_error(pair: Pair) -> None:
    post = tokens(170)
    weight = begun().finish()[pair].weight.clone().requires_grad_()
    optimiser = torch.optim.Adagrad([weight], lr=0.01)
    losses: list[float] = []
    for start in range(0, 170, BATCH):
        source, target = (post[layer][start : start + BATCH] for layer in pair)
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(source @ weight.T, target)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    found = fed(post, [])
    torch.testing.assert_close(found.finish()[pair].weight, weight.detach(), rtol=0, atol=1e-6)
    assert found.curves[pair] == pytest.approx(losses, rel=1e-5)
    assert len(losses) == 4


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 230), max_size=6).map(sorted))
def test_steps_do_not_depend_on_how_tokens_come(cuts: list[int]) -> None:
    post = tokens(230)
    one, other = fed(post, []).finish(), fed(post, cuts).finish()
    assert all(torch.equal(one[pair].weight, other[pair].weight) for pair in PAIRS)


def test_it_starts_as_a_linear_layer_does_and_the_same_each_time() -> None:
    wide = {0: 400, 1: 300}
    one, again = (Adagrad([Pair(0, 1)], wide, wide, device="cpu").finish()[Pair(0, 1)].weight for _ in range(2))
    layer = torch.nn.Linear(400, 300, bias=False).weight
    assert torch.equal(one, again)
    assert one.shape == layer.shape
    assert float(one.abs().max()) <= 1 / 400**0.5
    assert float(one.std()) == pytest.approx(float(layer.detach().std()), rel=0.02)
    assert not torch.equal(begun().finish()[Pair(0, 1)].weight[:, :4], begun().finish()[Pair(1, 1)].weight)


def test_what_is_given_out_is_not_trained_further() -> None:
    found = begun()
    found.update(tokens(60), tokens(60))
    first = found.finish()
    kept = first[PAIRS[0]].weight.clone()
    found.update(tokens(60, 1), tokens(60, 1))
    second = found.finish()
    assert torch.equal(first[PAIRS[0]].weight, kept)
    assert not torch.equal(second[PAIRS[0]].weight, kept)
    assert [len(curve) for curve in found.curves.values()] == [4, 4, 4]


def test_epochs_bring_it_to_a_planted_map() -> None:
    post = tokens(500)
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(9))
    post[1] = post[0] @ weight.T
    found = begun(lr=0.5)
    for _ in range(20):
        found.update(post, post)
    torch.testing.assert_close(found.finish()[Pair(0, 1)].weight, weight, rtol=0, atol=0.01)
    assert not found.finish()[Pair(0, 1)].bias.any()


def test_dead_neurons_break_nothing() -> None:
    post = tokens(120)
    post[0][:, 2], post[1][:, 3] = 0.0, 0.0
    found = begun()
    found.update(post, post)
    assert all(torch.isfinite(each.weight).all() for each in found.finish().values())


def test_memory_counts_every_matrix_and_the_batch() -> None:
    sizes = 6 * 4 + 5 * 4 + 4 * 4
    stream, errors = 6 + 5 + 4 + 4, 2 * 4
    assert bytes_needed(PAIRS, WIDTHS, WIDTHS, batch=BATCH) == 4 * (3 * sizes + 3 * 24 + BATCH * (stream + errors))
    assert bytes_needed([], WIDTHS, WIDTHS) == 0
