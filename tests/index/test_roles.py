"""Functional roles: planted neurons get their labels, the numbers agree with slow computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.domain import ROLES, Role, RoleThresholds
from neuronagent.index.roles import (
    DoubleChecking,
    RoleNumbers,
    assign,
    attention_scores,
    entropy_shares,
    null_space,
)
from neuronagent.index.vocabulary import Columns, project, project_all

torch.set_num_threads(1)

WIDTH, VOCABULARY = 128, 600


def numbers(
    variance: list[float],
    skew: list[float],
    kurtosis: list[float],
    *,
    cos_gate_in: list[float] | None = None,
    attention: list[float] | None = None,
    entropy: list[float] | None = None,
) -> RoleNumbers:
    def array(values: list[float] | None) -> NDArray[np.float32] | None:
        return None if values is None else np.array(values, np.float32)

    return RoleNumbers(
        variance=np.array(variance, np.float32),
        skew=np.array(skew, np.float32),
        kurtosis=np.array(kurtosis, np.float32),
        cos_gate_in=np.array([0.0] * len(variance) if cos_gate_in is None else cos_gate_in),
        attention=array(attention),
        entropy=array(entropy),
    )


def roles_of(layers: list[RoleNumbers]) -> tuple[list[list[Role | None]], RoleThresholds]:
    places, thresholds = assign(layers, entropy_dimensions=1, attention_reason=None)
    return [[None if place < 0 else ROLES[place] for place in layer.tolist()] for layer in places], thresholds


def test_planted_neurons_get_the_role_that_was_planted() -> None:
    """w_out along one token's column, against it, along a broad split, in the null space, along a head's direction."""
    generator = torch.Generator().manual_seed(0)
    unembedding = torch.randn(VOCABULARY, WIDTH, generator=generator)
    unembedding[:60, 0] += 12.0  # two kinds of tokens
    unembedding[:, 1] *= 1e-3  # what hardly moves any logit
    unembedding[:, 2] *= 0.02
    unembedding[500] = 30.0 * torch.eye(WIDTH)[2]  # a token that is like no other
    out = torch.randn(2, 50, WIDTH, generator=generator)
    axes = torch.eye(WIDTH)
    heads = torch.stack([axes[5], torch.randn(WIDTH, generator=generator)])
    out[1, 3], out[1, 4], out[1, 5] = 2 * axes[2], -3 * axes[2], axes[0]
    out[1, 6] = axes[1]
    out[0, 8], out[0, 9] = axes[5] + 0.1 * axes[9], -axes[5]
    gate_in = np.full((2, 50), 0.3)
    gate_in[0, 9] = -0.2  # raw signs: written the other way round

    basis = null_space(unembedding)
    layers: list[RoleNumbers] = []
    for layer in range(2):
        moments = project(out[layer], unembedding, torch.ones(VOCABULARY, dtype=torch.bool), 1)[2]
        layers.append(
            RoleNumbers(
                variance=moments[:, 0],
                skew=moments[:, 1],
                kurtosis=moments[:, 2],
                cos_gate_in=gate_in[layer],
                attention=attention_scores(out[layer], heads)[0] if layer == 0 else None,
                entropy=entropy_shares(out[layer], basis) if layer == 1 else None,
            )
        )
    found, thresholds = roles_of(layers)
    expected: list[list[Role | None]] = [[None] * 50, [None] * 50]
    expected[1][3:7] = [Role.PREDICTION, Role.SUPPRESSION, Role.PARTITION, Role.ENTROPY]
    expected[0][8:10] = [Role.ATTENTION_DEACTIVATION, Role.ATTENTION_DEACTIVATION]
    assert found == expected
    assert thresholds.partition_neurons == 1
    assert thresholds.partition_variance == layers[1].variance[5]
    assert thresholds.kurtosis == layers[1].kurtosis[5]


def test_a_flipped_neuron_keeps_its_role() -> None:
    one = numbers([9, 1, 1], [0, 2, -2], [0, 5, 5], cos_gate_in=[0.1, 0.2, 0.3], attention=[0.1, 0.8, 0.9])
    flipped = numbers([9, 1, 1], [0, -2, 2], [0, 5, 5], cos_gate_in=[-0.1, -0.2, -0.3], attention=[-0.1, -0.8, -0.9])
    assert roles_of([one])[0] == roles_of([flipped])[0] == [[Role.PARTITION, Role.PREDICTION, Role.SUPPRESSION]]


def test_the_share_of_partition_neurons_is_that_of_the_paper() -> None:
    many = numbers([float(i) for i in range(1000)], [0] * 1000, [0] * 1000)
    found, thresholds = roles_of([many])
    assert thresholds.partition_neurons == 3  # 1000 · 1000 / 352,256
    assert [i for i, role in enumerate(found[0]) if role] == [997, 998, 999]
    assert thresholds.partition_variance == 997.0


def test_ties_in_variance_go_to_the_earlier_neuron_across_layers() -> None:
    found, _ = roles_of([numbers([1, 2], [0, 0], [0, 0]), numbers([2, 2], [0, 0], [0, 0])])
    assert found == [[None, Role.PARTITION], [None, None]]


def test_exactly_the_threshold_is_no_role() -> None:
    # √½ in float32 is a little less than √½.
    layer = numbers([5, 1, 1, 1], [0, 1, 0, 0], [3, 3, 0, 0], attention=[0, 0, math.sqrt(0.5), -0.71])
    assert roles_of([layer])[0] == [[Role.PARTITION, None, None, Role.ATTENTION_ACTIVATION]]


def test_a_neuron_without_skew_is_suppression_and_one_that_writes_nothing_has_no_role() -> None:
    layer = numbers([5, 1, 0], [0, 0, 0], [-1, 0, 0])
    assert roles_of([layer])[0] == [[Role.PARTITION, Role.SUPPRESSION, None]]
    assert roles_of([numbers([0, 0], [0, 0], [0, 0])])[0] == [[None, None]]


def test_an_entropy_neuron_stands_out_and_has_most_of_its_length_in_the_null_space() -> None:
    background = [0.1] * 20
    small = numbers([9, *[1.0] * 21], [0] * 22, [5] * 22, entropy=[*background, 0.49, 0.51])
    found, thresholds = roles_of([small])
    assert [i for i, role in enumerate(found[0]) if role is Role.ENTROPY] == [21]
    assert thresholds.entropy_outlier == pytest.approx(0.1)
    common = numbers([9, *[1.0] * 21], [0] * 22, [5] * 22, entropy=[0.1 + 0.04 * i for i in range(22)])
    assert Role.ENTROPY not in roles_of([common])[0][0]


def test_attention_comes_after_every_other_role() -> None:
    layer = numbers([9, 1, 1], [0, 1, 0], [0, 4, 0], attention=[0.9, 0.9, 0.9])
    assert roles_of([layer])[0] == [[Role.PARTITION, Role.PREDICTION, Role.ATTENTION_DEACTIVATION]]


def test_the_null_space_is_that_of_the_singular_values() -> None:
    matrix = torch.randn(300, 4096 // 16, generator=torch.Generator().manual_seed(1))
    matrix *= torch.linspace(1, 4, matrix.shape[1])
    basis = null_space(matrix)
    assert basis.shape == (256, 2)  # 40 · 256 / 4096, to even
    left = torch.linalg.svd(matrix.double().T)[0][:, -2:]
    torch.testing.assert_close(basis @ basis.T, left @ left.T, atol=1e-9, rtol=0)


def test_directions_that_move_no_logit_at_all_are_all_in_the_null_space() -> None:
    matrix = torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    matrix[:, 10:15] = 0
    basis = null_space(matrix)
    assert basis.shape == (64, 5)
    shares = entropy_shares(torch.eye(64)[[10, 14, 20]], basis)
    np.testing.assert_allclose(shares, [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(entropy_shares(torch.eye(64)[[10]] + torch.eye(64)[[20]], basis), math.sqrt(0.5))
    assert entropy_shares(torch.zeros(1, 64), basis).tolist() == [0]


def test_the_attention_score_is_the_cosine_of_largest_magnitude() -> None:
    generator = torch.Generator().manual_seed(2)
    out, directions = torch.randn(30, 16, generator=generator), torch.randn(5, 16, generator=generator) * 100
    scores, heads = attention_scores(out, directions)
    for neuron in range(30):
        cosines = [torch.cosine_similarity(out[neuron].double(), head.double(), dim=0).item() for head in directions]
        best = max(range(5), key=lambda head: abs(cosines[head]))
        assert heads[neuron] == best
        assert scores[neuron] == pytest.approx(cosines[best], abs=1e-6)
    assert attention_scores(torch.zeros(1, 16), directions)[0].tolist() == [0]


def double_checking_scores(
    gate: torch.Tensor, inp: torch.Tensor, matrix: torch.Tensor, decodable: torch.Tensor
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    checking = DoubleChecking(len(gate), decodable)
    project_all([gate, inp, gate + inp], Columns(matrix, decodable), 1, checking.watch)
    return checking.scores, checking.tokens


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([2, 5, 9, 1500]), st.sets(st.integers(0, 8)))
def test_double_checking_is_a_loop_over_tokens(seed: int, neurons: int, tokens: int, hidden: set[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    gate, inp = torch.randn(2, neurons, 4, generator=generator)
    matrix = torch.randn(tokens, 4, generator=generator)
    decodable = torch.tensor([token not in hidden for token in range(tokens)])
    scores, found = double_checking_scores(gate, inp, matrix, decodable)
    cosines = [torch.cosine_similarity(v.double()[:, None], matrix.double()[None], dim=2).tolist() for v in (gate, inp)]
    for n in range(neurons):
        best, best_token = 0.0, -1
        for token in range(tokens):
            both = min(abs(cosines[0][n][token]), abs(cosines[1][n][token]))
            if token not in hidden and both > best:
                best, best_token = both, token
        assert scores[n] == pytest.approx(best, abs=1e-6)
        assert found[n] == best_token


def test_orthogonal_gate_and_in_can_detect_one_token_both() -> None:
    gate, inp, matrix = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, -1.0]]), torch.tensor([[3.0, 3.0], [5.0, 0.0]])
    scores, tokens = double_checking_scores(gate, inp, matrix, torch.ones(2, dtype=torch.bool))
    assert scores[0] == pytest.approx(math.sqrt(0.5))
    assert tokens[0] == 0
