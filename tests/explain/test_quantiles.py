"""Quantiles of post, from histogram and lists, against those of the values themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, SPLITS, CombinationRecord, ListEntry, NeuronId, Quantity, SignCombination
from neuronagent.explain.quantiles import signed_quantile
from neuronagent.layout import HISTOGRAM_BINS, HISTOGRAM_EDGES
from neuronagent.store.reader import IndexReader
from tests.known_index import known, world

HALF_A_BIN = 2**0.25


def made(values: NDArray[np.float64], c: SignCombination = COMBINATIONS[0], *, k: int = 16) -> CombinationRecord:
    """What an index would hold of a combination with these |post|, each in a text of its own."""
    values = values.astype(np.float32).astype(np.float64)
    split = np.arange(len(values)) % len(SPLITS)
    bins = np.searchsorted(HISTOGRAM_EDGES, values.astype(np.float32), side="right")

    def listed(there: NDArray[np.intp]) -> tuple[ListEntry, ...]:
        order = there[np.argsort(-values[there], kind="stable")][:k]
        return tuple(ListEntry(c.write_sign * float(values[i]), int(i)) for i in order)

    return CombinationRecord(
        combination=c,
        count=len(values),
        first_count=0,
        statistics={},
        mass=float(values.sum()),
        tau=None,
        histogram={s: tuple(np.bincount(bins[split == s.position], minlength=HISTOGRAM_BINS).tolist()) for s in SPLITS},
        top={Quantity.POST: listed(np.arange(len(values)))},
        post_by_split={s: listed(np.flatnonzero(split == s.position)) for s in SPLITS},
        uniform={},
        weighted={},
    )


def exact(values: Sequence[float] | NDArray[np.float64], q: float) -> float:
    return float(np.quantile(values, q, method="inverted_cdf"))


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("scale", [0.02, 1.0, 4.0])
@pytest.mark.parametrize("shape", ["normal", "lognormal", "exponential"])
def test_it_is_within_half_a_bin_of_the_exact_quantile(shape: str, scale: float, q: float) -> None:
    drawn = getattr(np.random.default_rng(3), shape)(size=20_000)
    values = np.abs(drawn) * scale
    found, truth = signed_quantile(made(values), q), exact(values, q)
    assert found is not None
    assert truth / HALF_A_BIN <= found <= truth * HALF_A_BIN


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1, 1.2, 1.3])
def test_in_a_steep_tail_it_is_not_too_high(scale: float) -> None:
    """The product of a SiLU and a linear number, as `post` is: at 0.999 most of a bin's tokens are at its lower end."""
    errors: list[float] = []
    for seed in range(8):
        gate, up = np.random.default_rng(seed).normal(size=(2, 80_000))
        values = np.abs(gate / (1 + np.exp(-gate)) * up * scale)[(gate > 0) & (up > 0)]
        errors += [(signed_quantile(made(values), q) or 0.0) / exact(values, q) - 1 for q in (0.99, 0.999)]
    assert max(map(abs, errors)) < 0.05
    assert abs(np.median(errors)) < 0.01


@pytest.mark.parametrize("seed", range(20))
def test_a_higher_quantile_is_never_lower(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.lognormal(sigma=random.uniform(0.1, 3), size=int(random.integers(1, 300)))
    values = np.concatenate([values, random.choice(values, 50), [values.max() * 50]])
    found = [signed_quantile(made(values), q) or 0.0 for q in np.linspace(0, 1, 101)]
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] == pytest.approx(values.max())


def test_no_quantile_is_below_what_the_lists_show() -> None:
    values = np.concatenate([np.full(9_990, 0.3), np.full(10, 1.4), [1.41]])  # the ten at the very top of their bin
    assert signed_quantile(made(values), 1 - 5 / len(values)) == pytest.approx(1.4, rel=1e-3)


def test_the_sign_is_that_of_post_in_the_combination() -> None:
    values = np.linspace(0.1, 3.0, 400)
    found = {c: signed_quantile(made(values, c), 0.9) or 0.0 for c in COMBINATIONS}
    assert {c: math.copysign(1, value) for c, value in found.items()} == {c: c.write_sign for c in COMBINATIONS}
    assert len({abs(value) for value in found.values()}) == 1


def test_it_is_never_above_the_strongest_token() -> None:
    values = np.full(1_000, 1.02)  # just above an edge: the bin goes on to 1.41
    for q in (0.5, 0.999, 1.0):
        assert signed_quantile(made(values), q) == pytest.approx(1.02, rel=0.03)
    assert signed_quantile(made(values), 1.0) == pytest.approx(1.02)


def test_beyond_the_last_edge_the_list_speaks() -> None:
    values = np.concatenate([np.full(9_990, 1.0), np.linspace(100, 1_000, 10)])
    assert signed_quantile(made(values), 0.9995) == pytest.approx(exact(values, 0.9995), rel=0.2)
    assert signed_quantile(made(values), 1.0) == pytest.approx(1_000)
    crowded = np.linspace(100, 1_000, 5_000)  # far more than are listed
    found = [signed_quantile(made(crowded), q) or 0.0 for q in (0.1, 0.5, 0.9, 0.999, 1.0)]
    assert found == sorted(found)
    assert found[0] >= 64
    assert found[-1] == pytest.approx(1_000)


def test_values_below_the_first_edge_end_at_zero() -> None:
    values = np.linspace(1e-6, 9e-4, 5_000)
    assert signed_quantile(made(values), 0.5) == pytest.approx(exact(values, 0.5), rel=0.05)
    assert signed_quantile(made(values), 0.0) == 0.0


def test_few_tokens_have_a_quantile_and_none_has_none() -> None:
    assert signed_quantile(made(np.array([0.7])), 0.999) == pytest.approx(0.7, rel=0.01)
    assert signed_quantile(made(np.array([])), 0.999) is None


def test_lists_without_a_histogram_are_enough() -> None:
    own = replace(made(np.arange(1.0, 11.0)), histogram=dict.fromkeys(SPLITS, (0,) * HISTOGRAM_BINS))
    assert signed_quantile(own, 0.999) == 10.0
    assert signed_quantile(own, 0.0) == 1.0


@pytest.mark.parametrize("q", [-0.1, 1.5, float("nan")])
def test_what_is_no_quantile_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        signed_quantile(made(np.array([1.0])), q)


def test_on_a_real_index_it_is_near_the_truth() -> None:
    neuron = NeuronId(0, 5)
    truth = known(neuron)
    with IndexReader.open(world().db) as reader:
        record = reader.neuron(neuron)
    for c in COMBINATIONS:
        posts = np.abs(truth.post[truth.combination == c.position])
        for q in (0.5, 0.99, 0.999):
            found = signed_quantile(record.combinations[c], q)
            assert found is not None
            assert abs(math.log2(abs(found) / exact(posts, q))) <= 0.5
            assert math.copysign(1, found) == c.write_sign
