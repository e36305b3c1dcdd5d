"""Sums of products: whatever the batches, whoever shares a block, they are those of a plain product in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuronagent.errors import StorageError
from neuronagent.index.predictability.gram import Grams, bytes_needed
from neuronagent.predictability.scores import Pair

torch.set_num_threads(1)

quick = settings(max_examples=12, deadline=None)
WIDTHS = {0: 5, 1: 300, 2: 7, 3: 4}  # 300: more than one strip
PAIRS = [Pair(0, 1), Pair(1, 0), Pair(2, 2), Pair(1, 3), Pair(2, 1)]


def whole_numbers(tokens: int, seed: int = 0) -> dict[int, Tensor]:
    """`post` of every layer in whole numbers: float32 products of them are exact."""
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randint(-4, 5, (tokens, width), generator=generator).float() for n, width in WIDTHS.items()}


def real_numbers(tokens: int, seed: int = 0) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(tokens, width, generator=generator) for layer, width in WIDTHS.items()}


def sums(post: dict[int, Tensor], cuts: list[int] | None = None, *, shared: bool = True) -> Grams:
    """The sums of `PAIRS`, with the tokens given in parts that end at `cuts`."""
    found = Grams(PAIRS, WIDTHS, WIDTHS, shared=shared, device="cpu")
    ends = [0, *(cuts or []), len(post[0])]
    for start, stop in pairwise(ends):
        part = {layer: values[start:stop] for layer, values in post.items()}
        found.update(part, part)
    return found


def check(found: Grams, post: dict[int, Tensor], tolerance: float) -> None:
    """All of it against plain products."""
    wide = {layer: values.double().numpy() for layer, values in post.items()}
    for pair in PAIRS:
        source, target = wide[pair.source], wide[pair.target]
        for mine, plain in (
            (found.second(pair.source), source.T @ source),
            (found.cross(pair), source.T @ target),
            (found.source_sum(pair.source), source.sum(0)),
            (found.target_sum(pair.target), target.sum(0)),
            (found.target_squares(pair.target), (target**2).sum(0)),
        ):
            np.testing.assert_allclose(mine.numpy(), plain, rtol=0, atol=tolerance * len(source))
    assert found.tokens == len(post[0])


@quick
@given(cuts=st.lists(st.integers(0, 700), max_size=5).map(sorted), shared=st.booleans(), seed=st.integers(0, 99))
def test_sums_do_not_depend_on_batches_nor_on_who_shares_a_block(cuts: list[int], shared: bool, seed: int) -> None:
    post = whole_numbers(700, seed)
    check(sums(post, cuts, shared=shared), post, 0.0)


def test_a_batch_of_more_tokens_than_a_product_takes_is_summed_in_float64() -> None:
    post = real_numbers(9_000)
    check(sums(post), post, 1e-6)


def test_sums_of_two_models_keep_layers_of_the_same_number_apart() -> None:
    source, target = whole_numbers(50, 1)[1], whole_numbers(50, 2)[2]
    found = Grams([Pair(0, 0)], {0: 300}, {0: 7}, shared=False, device="cpu")
    found.update({0: source}, {0: target})
    assert torch.equal(found.cross(Pair(0, 0)), (source.T @ target).double())
    assert torch.equal(found.second(0), (source.T @ source).double())
    assert torch.equal(found.target_squares(0), target.square().sum(0).double())


@quick
@given(shared=st.booleans(), seed=st.integers(0, 99))
def test_sums_about_means_are_those_of_what_is_left(shared: bool, seed: int) -> None:
    post = whole_numbers(40, seed)
    found, pair = sums(post, shared=shared), Pair(1, 0)
    means = [post[layer].double().mean(0) + layer for layer in pair]
    left = [post[layer].double() - mean for layer, mean in zip(pair, means, strict=True)]
    torch.testing.assert_close(found.cross(pair, *means), left[0].T @ left[1], rtol=0, atol=1e-9)
    torch.testing.assert_close(found.second(1, means[0]), left[0].T @ left[0], rtol=0, atol=1e-9)
    check(found, post, 0.0)


@quick
@given(stop=st.integers(0, 300), asked=st.booleans(), seed=st.integers(0, 99))
def test_sums_that_were_stopped_go_on_bit_for_bit(stop: int, asked: bool, seed: int) -> None:
    post = real_numbers(300, seed)
    begun = sums({layer: values[:stop] for layer, values in post.items()})
    if asked:
        begun.second(1)
    going = Grams(PAIRS, WIDTHS, WIDTHS, shared=True, device="cpu")
    going.load({name: value.clone() for name, value in begun.state().items()})
    rest = {layer: values[stop:] for layer, values in post.items()}
    going.update(rest, rest)
    whole = sums(post, [stop])
    assert going.tokens == whole.tokens
    for pair in PAIRS:
        assert torch.equal(going.second(pair.source), whole.second(pair.source))
        assert torch.equal(going.cross(pair), whole.cross(pair))
        assert torch.equal(going.target_squares(pair.target), whole.target_squares(pair.target))


def test_sums_of_other_layers_are_refused_and_nothing_is_changed() -> None:
    found = sums(whole_numbers(20))
    before = {name: value.clone() for name, value in found.state().items()}
    other = Grams(PAIRS[:2], WIDTHS, WIDTHS, shared=True, device="cpu")
    wider = Grams(PAIRS, WIDTHS | {0: 6}, WIDTHS | {0: 6}, shared=True, device="cpu")
    for wrong in (other, wider):
        with pytest.raises(StorageError, match="other layers"):
            found.load(wrong.state())
    assert all(torch.equal(value, before[name]) for name, value in found.state().items())


@pytest.mark.parametrize("shared", [True, False])
def test_memory_is_known_to_the_byte(shared: bool) -> None:
    found = Grams(PAIRS, WIDTHS, WIDTHS, shared=shared, device="cpu")
    held = [value for name, value in found.state().items() if name != "tokens"]
    storage = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in held}
    product = (4 + 8) * 128 * 300  # a strip of a symmetric block
    assert bytes_needed(PAIRS, WIDTHS, WIDTHS, shared) == sum(storage.values()) + product


def test_wide_layers_need_no_more_than_their_blocks_and_a_bounded_scratch() -> None:
    wide = {0: 11_008, 1: 11_008}
    needed = bytes_needed([Pair(0, 1)], wide, wide, shared=True)
    assert 0 <= needed - 2 * 8 * 11_008**2 <= 202_000_000


def test_nothing_read_is_nothing_counted() -> None:
    found = sums(whole_numbers(0))
    assert found.tokens == 0
    assert not any(bool(value.any()) for value in found.state().values())
