"""On a graphics card maps are those of a processor, and nothing leaves the card."""

from __future__ import annotations

import pytest
import torch

from neuronagent.index.predictability.adagrad import Adagrad
from neuronagent.index.predictability.gram import Grams
from neuronagent.index.predictability.low_rank import low_rank
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.index.predictability.ridge import solve
from neuronagent.predictability.scores import Pair

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card")

PAIR = Pair(0, 1)
WIDTHS = {0: 300, 1: 200}


def fitted(device: str) -> list[NeuronMap]:
    """By least squares, of rank 20 of it, and by Adagrad."""
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(9_000, 300, generator=generator)
    target = source @ torch.randn(300, 200, generator=generator) + torch.randn(9_000, 200, generator=generator)
    post = {0: source.to(device), 1: target.to(device)}
    sums = Grams([PAIR], WIDTHS, WIDTHS, shared=True, device=device)
    steps = Adagrad([PAIR], WIDTHS, WIDTHS, batch=2_000, device=device)
    sums.update(post, post)
    steps.update(post, post)
    mean = sums.source_sum(0) / sums.tokens
    exact = solve(sums, sums, 0, [1], intercept=True)[1].map
    lower, _ = low_rank(exact, 20, sums.second(0, mean), mean)
    return [exact, lower, steps.finish()[PAIR]]


def test_maps_are_those_of_a_processor() -> None:
    for found, expected in zip(fitted("cuda"), fitted("cpu"), strict=True):
        assert all(part.is_cuda for part in (*found.factors, found.bias))
        torch.testing.assert_close(found.weight.cpu(), expected.weight, rtol=0, atol=1e-3)
        torch.testing.assert_close(found.bias.cpu(), expected.bias, rtol=0, atol=1e-3)
