"""Tables by key say what a one-way random-effects model says, and no more of a key than its tokens do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.index.predictability.lookups import Baselines, Keys, Lookup, shrinkage
from neuronagent.predictability.scores import MEAN, POSITION, TOKEN

Floats = NDArray[np.float64]
CPU = torch.device("cpu")


def by_definition(keys: NDArray[np.int64], values: Floats, wanted: NDArray[np.int64], mean: float) -> Floats:
    """What is said of each wanted key, for one neuron, by the formulas of the textbook."""
    kept = np.isin(keys, wanted)
    groups = [values[keys == key] for key in np.unique(keys[kept])]
    n, k = sum(map(len, groups)), len(groups)
    kappa = np.inf
    if k > 1 and n > k:
        own = np.concatenate(groups).mean()
        within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (n - k)
        between = sum(len(group) * (group.mean() - own) ** 2 for group in groups) / (k - 1)
        n0 = (n - sum(len(group) ** 2 for group in groups) / n) / (k - 1)
        if between > within:
            kappa = within / ((between - within) / n0)
    found: list[float] = []
    for key in wanted:
        group = values[keys == key]
        weight = len(group) / (len(group) + kappa) if len(group) else 0.0
        found.append(mean + (weight * (group.mean() - mean) if len(group) else 0.0))
    return np.array(found)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 80), max_size=4), effect=st.sampled_from([0.0, 0.5, 3.0]))
def test_tables_are_those_of_the_textbook_whatever_the_batches(seed: int, cuts: list[int], effect: float) -> None:
    generator = np.random.default_rng(seed)
    keys = generator.integers(0, 9, 80) ** 2
    values = generator.normal(size=(80, 3)) + effect * generator.normal(size=(82, 3))[keys] + [0, 5, -1e3]
    wanted = np.array([0, 1, 4, 9, 25, 36, 77])  # 77 is in no fitted token; 49 and 64 are not wanted
    baselines = Baselines({TOKEN: Keys(wanted)}, 3, CPU)
    edges = [0, *sorted(cuts), 80]
    for start, stop in pairwise(edges):
        if stop > start:
            baselines.update({TOKEN: keys[start:stop]}, torch.from_numpy(values[start:stop]))
    baselines.finish()
    found = baselines({TOKEN: wanted})
    np.testing.assert_allclose(found[MEAN].numpy(), values.mean(0), rtol=1e-12)
    for neuron in range(3):
        truth = by_definition(keys, values[:, neuron], wanted, float(values[:, neuron].mean()))
        np.testing.assert_allclose(found[TOKEN][:, neuron].numpy(), truth, rtol=1e-9, atol=1e-9)


def test_a_neuron_that_the_key_decides_is_not_shrunk_and_one_that_it_does_not_touch_is_all_mean() -> None:
    generator = np.random.default_rng(0)
    keys = np.repeat(np.arange(40), generator.integers(1, 9, 40))
    decided = np.sin(keys * 1.0)
    values = np.stack([decided, np.full(len(keys), 0.5)], axis=1)
    baselines = Baselines({TOKEN: Keys(np.arange(40))}, 2, CPU)
    baselines.update({TOKEN: keys}, torch.from_numpy(values))
    baselines.finish()
    found = baselines({TOKEN: np.arange(40)})[TOKEN].numpy()
    np.testing.assert_allclose(found[:, 0], np.sin(np.arange(40.0)), atol=1e-12)
    assert (found[:, 1] == 0.5).all()


def test_noise_is_shrunk_to_the_mean_and_a_rare_key_more_than_a_frequent_one() -> None:
    generator = np.random.default_rng(1)
    effects = generator.normal(size=60)
    keys = np.concatenate([np.repeat(np.arange(30), 40), np.arange(30, 60)])
    values = (effects[keys] + 2 * generator.normal(size=len(keys)))[:, None]
    baselines = Baselines({TOKEN: Keys(np.arange(60))}, 1, CPU)
    baselines.update({TOKEN: keys}, torch.from_numpy(values))
    mean = float(baselines.finish()[0])
    found = baselines({TOKEN: np.arange(60)})[TOKEN][:, 0].numpy()
    raw = np.array([values[keys == key, 0].mean() for key in range(60)])
    kept = (found - mean) / (raw - mean)
    assert kept[:30].min() == pytest.approx(kept[:30].max())
    assert 0.8 < kept[0] < 1
    assert 0.1 < kept[45] < 0.4
    # What it is for: the tokens that were not fitted.
    assert ((found - effects) ** 2).mean() < ((raw - effects) ** 2).mean()


def test_keys_that_occur_once_each_say_nothing() -> None:
    lookup = Lookup(5, torch.zeros(1, dtype=torch.float64))
    lookup.update(torch.arange(5), torch.arange(5, dtype=torch.float64)[:, None])
    lookup.finish(torch.tensor([2.0], dtype=torch.float64))
    assert (lookup(torch.arange(5)) == 2.0).all()


def test_keys_that_differ_no_more_than_chance_are_not_told_apart() -> None:
    counts = torch.tensor([2.0, 2.0], dtype=torch.float64)
    sums = torch.tensor([[0.0], [0.0]], dtype=torch.float64)  # 1 and −1 at each key
    assert shrinkage(counts, sums, torch.tensor([4.0], dtype=torch.float64)).item() == np.inf


def test_a_key_that_is_not_wanted_says_the_mean_and_so_do_all_where_none_is() -> None:
    keys = Keys(np.array([7, 3, 7]))
    assert keys.places(np.array([3, 7, 5, 99, -1])).tolist() == [0, 1, 2, 2, 2]
    assert Keys(np.array([], dtype=np.int64)).places(np.array([1, 2])).tolist() == [0, 0]
    baselines = Baselines({TOKEN: keys, POSITION: Keys(np.array([], dtype=np.int64))}, 1, CPU)
    fitted = {TOKEN: np.array([3, 3, 7, 7]), POSITION: np.arange(4)}
    baselines.update(fitted, torch.tensor([[1.0], [1.0], [3.0], [3.0]]))
    baselines.finish()
    found = baselines({TOKEN: np.array([3, 7, 5]), POSITION: np.array([0, 1, 2])})
    assert found[TOKEN][:, 0].tolist() == [1.0, 3.0, 2.0]
    assert found[POSITION][:, 0].tolist() == [2.0, 2.0, 2.0]


def test_tables_that_are_not_finished_and_texts_without_tokens_are_refused() -> None:
    baselines = Baselines({TOKEN: Keys(np.array([1]))}, 1, CPU)
    with pytest.raises(ValueError, match="not finished"):
        baselines({TOKEN: np.array([1])})
    with pytest.raises(ValueError, match="no tokens"):
        baselines.finish()
