"""The recorder agrees with a double loop over tokens, however texts are batched, sharded, padded and interrupted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, QUANTITIES
from neuronagent.errors import ModelError
from neuronagent.hashing import uniform_bits
from neuronagent.index import batch as batch_module
from neuronagent.index import eager, kernel
from neuronagent.index import state as state_module
from neuronagent.index.batch import Batch
from neuronagent.index.eager import EagerEngine, histogram_bins
from neuronagent.index.recorder import LayerRecorder
from neuronagent.layout import HISTOGRAM_BINS, HISTOGRAM_EDGES, MAX_TOKENS, LayerActivations
from tests import oracle
from tests.oracle import Floats, Observed

torch.set_num_threads(1)

# Few values, so that magnitudes tie within a text and across texts; exact zeros of either sign, both ends of the
# histogram and its edges, and gates so low that `act` underflows to −0.
VALUES = np.array(
    [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.0**-12, -(2.0**-6), 3e-7, 100.0, -40.0, -200.0, 2.0**0.5],
    np.float32,
)

quick = settings(max_examples=40, deadline=None)
few = settings(max_examples=15, deadline=None)


def activate(gate: Floats) -> Floats:
    """Exact in float32, unlike SiLU, so that an oracle in numpy has the same bits; underflows as GELU does."""
    return np.where(gate > 0, gate, np.where(gate < -50, np.float32(-0.0), gate / 4)).astype(np.float32)


def activate_tensor(gate: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(activate(gate.numpy()))


@dataclass(frozen=True)
class Case:
    """Texts, and what the recorder is told: k, salt, the signs of the convention."""

    texts: list[Observed]
    k: int
    salt: str
    sign: list[int]

    def expected(self) -> LayerActivations:
        return oracle.layer(
            self.texts, k=self.k, salt=self.salt, activate=activate, sign=self.sign, constant_first=True
        )

    def recorder(self, engine: Any = None) -> LayerRecorder:
        sign = torch.tensor(self.sign, dtype=torch.int8)
        return LayerRecorder(
            sign=sign, k=self.k, salt=self.salt, activate=activate_tensor, name="layer 7", engine=engine
        )


@st.composite
def cases(draw: st.DrawFn, neurons: int | None = None) -> Case:
    """Random texts that begin with the same token, as with BOS; numbers of tokens need not begin at 0."""
    n = neurons or draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    palette = VALUES[generator.permutation(len(VALUES))[: draw(st.integers(2, len(VALUES)))]]
    splits = draw(st.sampled_from([(0,), (0, 1, 2), (2, 1)]))
    start = draw(st.sampled_from([0, 1000, 2**31 - 20, MAX_TOKENS - 72]))
    first = generator.choice(palette, (2, n))
    texts: list[Observed] = []
    for length in lengths:
        x_gate, x_in = generator.choice(palette, (2, length, n))
        x_gate[0], x_in[0] = first
        texts.append(Observed(x_gate=x_gate, x_in=x_in, split=int(generator.choice(splits)), first=start))
        start += length
    signs = generator.choice([1, -1], n).tolist()
    return Case(texts, draw(st.integers(1, 5)), draw(st.sampled_from(["salt", "other"])), signs)


Tensors = tuple[torch.Tensor, torch.Tensor, Batch]


def padded(texts: Sequence[Observed], salt: str, padding: float = np.nan) -> Tensors:
    """One batch of `texts`; what is at padding means nothing, and may be anything."""
    lengths = np.array([len(text.x_gate) for text in texts])
    shape = (len(texts), int(lengths.max()), texts[0].x_gate.shape[1])
    gate, into = np.full(shape, padding, np.float32), np.full(shape, -padding, np.float32)
    for row, text in enumerate(texts):
        gate[row, : lengths[row]], into[row, : lengths[row]] = text.x_gate, text.x_in
    batch = Batch.of(
        lengths, np.array([t.first for t in texts]), np.array([t.split for t in texts], np.int8), salt, "cpu"
    )
    return torch.from_numpy(gate), torch.from_numpy(into), batch


def batches(case: Case, chance: random.Random) -> list[Tensors]:
    """The texts in any order, in batches of any sizes, with any padding."""
    left = chance.sample(case.texts, len(case.texts))
    made: list[Tensors] = []
    while left:
        size = chance.randint(1, len(left))
        made.append(padded(left[:size], case.salt, chance.choice([0.0, 7.0, np.nan, np.inf])))
        left = left[size:]
    return made


def run(case: Case, parts: Sequence[Tensors], engine: Any = None) -> LayerRecorder:
    recorder = case.recorder(engine)
    for part in parts:
        recorder.update(*part)
    return recorder


def assert_same(
    found: LayerActivations, expected: LayerActivations, *, tolerance: float, skip: Sequence[str] = ()
) -> None:
    """Everything is the same bit for bit but float64 sums, which may differ by `tolerance`."""
    for name in (field.name for field in fields(LayerActivations)):
        a, b = getattr(found, name), getattr(expected, name)
        if name in skip:
            continue
        assert (a is None) == (b is None), name
        if a is None:
            continue
        assert a.dtype == b.dtype, name
        if name in ("sums", "mass"):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-300, err_msg=name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


# The double loop


def coarse_bits(salt: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """A hash of four values, so that u and |post|/u tie."""
    return uniform_bits(salt, numbers) >> 29 << 29


@quick
@given(cases(), st.randoms(use_true_random=False))
def test_every_number_is_that_of_a_double_loop_in_any_batches_and_order(case: Case, chance: random.Random) -> None:
    found = run(case, batches(case, chance)).result(constant_first=True)
    assert_same(found, case.expected(), tolerance=1e-12)


@quick
@given(cases(), st.randoms(use_true_random=False), st.sampled_from([1, 7, 1 << 19]), st.booleans())
def test_the_pass_in_plain_operations_has_the_numbers_of_a_double_loop_too(
    case: Case, chance: random.Random, elements: int, coarse: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eager, "_ELEMENTS", elements)
        if coarse:
            for module in (batch_module, state_module, oracle):
                patch.setattr(module, "uniform_bits", coarse_bits)
        found = run(case, batches(case, chance), EagerEngine).result(constant_first=True)
        assert_same(found, case.expected(), tolerance=1e-12)


def test_random_activations_of_many_neurons_are_recorded_as_a_double_loop_does() -> None:
    generator = np.random.default_rng(0)
    texts: list[Observed] = []
    start = 0
    for length in generator.integers(2, 40, 40).tolist():
        x_gate, x_in = generator.normal(0, 3, (2, length, 6)).astype(np.float32)
        texts.append(Observed(x_gate=x_gate, x_in=x_in, split=start % 3, first=start))
        start += length
    case = Case(texts, 5, "salt", [1, -1, 1, -1, 1, -1])
    for chance in (random.Random(1), random.Random(2)):
        found = run(case, batches(case, chance)).result(constant_first=False)
        assert_same(found, replace(case.expected(), first_values=None), tolerance=1e-6)


@few
@given(cases(neurons=9), st.integers(1, 40))
def test_the_width_of_a_block_of_neurons_changes_nothing_but_the_last_bits_of_sums(case: Case, elements: int) -> None:
    parts = [padded(case.texts, case.salt)]
    whole = run(case, parts, EagerEngine).result(constant_first=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eager, "_ELEMENTS", elements)
        assert_same(run(case, parts, EagerEngine).result(constant_first=True), whole, tolerance=1e-12)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")
def test_where_there_is_a_compiler_the_compiled_pass_runs() -> None:
    assert kernel.missing(torch.device("cpu")) is None


def test_sums_of_long_texts_with_values_of_all_sizes_keep_six_digits() -> None:
    generator = np.random.default_rng(6)
    x_gate, x_in = (np.exp(generator.normal(0, 3, (1024, 2))) * generator.choice([1, -1], (1024, 2)) for _ in range(2))
    text = Observed(x_gate=x_gate.astype(np.float32), x_in=x_in.astype(np.float32), split=0, first=0)
    case = Case([text, replace(text, first=1024)], 2, "salt", [1, -1])
    found = run(case, [padded(case.texts, "salt")]).result(constant_first=True)
    assert_same(found, case.expected(), tolerance=1e-6)


# The monoid


@quick
@given(cases(), st.randoms(use_true_random=False), st.integers(2, 4))
def test_shards_merged_in_any_order_are_the_single_run(case: Case, chance: random.Random, shards: int) -> None:
    parts = batches(case, chance)
    single = run(case, parts).result(constant_first=True)
    owners = [chance.randrange(shards) for _ in parts]
    recorders = [run(case, [p for p, owner in zip(parts, owners, strict=True) if owner == s]) for s in range(shards)]
    chance.shuffle(recorders)
    while len(recorders) > 1:
        other = recorders.pop(chance.randrange(1, len(recorders)))
        recorders[0 if len(recorders) == 1 else chance.randrange(len(recorders))].merge(other)
    assert_same(recorders[0].result(constant_first=True), single, tolerance=1e-12)


@few
@given(cases(), st.randoms(use_true_random=False))
def test_merging_what_saw_nothing_changes_nothing(case: Case, chance: random.Random) -> None:
    parts = batches(case, chance)
    for left, right in (([], parts), (parts, [])):
        merged = run(case, left)
        merged.merge(run(case, right))
        assert_same(merged.result(constant_first=True), run(case, parts).result(constant_first=True), tolerance=0)


@quick
@given(cases(), st.randoms(use_true_random=False))
def test_a_run_that_is_saved_and_loaded_in_the_middle_ends_with_the_same_bits(
    case: Case, chance: random.Random
) -> None:
    parts = batches(case, chance)
    middle = chance.randint(0, len(parts))
    again = case.recorder()
    again.load(run(case, parts[:middle]).state())
    for part in parts[middle:]:
        again.update(*part)
    assert_same(again.result(constant_first=True), run(case, parts).result(constant_first=True), tolerance=0)


# What must not be recorded


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["x_gate", "x_in"])
@pytest.mark.parametrize("other", [0.0, 1.0, -np.inf])
@pytest.mark.parametrize("engine", [None, EagerEngine])
def test_a_value_that_is_not_finite_names_the_layer_and_nothing_can_be_saved_any_more(
    bad: float, place: str, other: float, engine: Any
) -> None:
    generator = np.random.default_rng(0)
    x_gate, x_in = generator.normal(size=(2, 3, 4)).astype(np.float32)
    good = Observed(x_gate=x_gate, x_in=x_in, split=0, first=0)
    case = Case([good], 2, "salt", [1] * 4)
    recorder = run(case, [padded([good], "salt")], engine)
    gate, into, batch = padded([replace(good, first=3), replace(good, first=6)], "salt")
    first, second = (gate, into) if place == "x_gate" else (into, gate)
    first[1, 2, 3], second[1, 2, 3] = bad, other
    with pytest.raises(ModelError, match="layer 7 are not finite"):
        recorder.update(gate, into, batch)
    for save in (recorder.state, lambda: recorder.result(constant_first=False)):
        with pytest.raises(ModelError, match="layer 7 are not finite"):
            save()


def test_a_product_beyond_float32_is_refused_rather_than_recorded() -> None:
    x_gate, x_in = np.full((2, 2, 1), 1e25, np.float32)
    case = Case([Observed(x_gate=x_gate, x_in=x_in, split=0, first=0)], 2, "salt", [1])
    with pytest.raises(ModelError, match="layer 7"):
        run(case, [padded(case.texts, "salt")])


def test_activations_of_half_precision_are_recorded_as_the_same_numbers_in_float32() -> None:
    generator = np.random.default_rng(1)
    x_gate, x_in = torch.from_numpy(generator.normal(size=(2, 5, 3))).to(torch.bfloat16)
    text = Observed(x_gate=x_gate.float().numpy(), x_in=x_in.float().numpy(), split=1, first=0)
    case = Case([text], 3, "salt", [1, -1, 1])
    recorder = case.recorder()
    recorder.update(x_gate[None], x_in[None], padded([text], "salt")[2])
    assert_same(recorder.result(constant_first=True), case.expected(), tolerance=1e-6)


# The histogram


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(0, width=32, allow_infinity=False), min_size=1, max_size=20))
def test_the_bin_of_any_magnitude_is_that_of_comparing_with_the_edges(magnitudes: list[float]) -> None:
    values = np.array(magnitudes, np.float32)
    expected = [oracle.histogram_bin(value) for value in values.tolist()]
    assert histogram_bins(torch.from_numpy(values)).tolist() == expected


def test_an_edge_belongs_to_the_bin_above_it_and_the_float_before_it_to_the_one_below() -> None:
    below = np.nextafter(HISTOGRAM_EDGES, np.float32(0))
    assert histogram_bins(torch.from_numpy(HISTOGRAM_EDGES)).tolist() == list(range(1, HISTOGRAM_BINS))
    assert histogram_bins(torch.from_numpy(below)).tolist() == list(range(HISTOGRAM_BINS - 1))


# What samples are for

_K = 16
_SALTS = 120


def _samples(post: NDArray[np.float32]) -> list[tuple[LayerActivations, NDArray[np.int64], int]]:
    """One recording per salt of three texts, one per split, that each have the tokens `post` `[T]` in gate+_in+:
    (recorded, 31-bit hashes `[3, T + 1]`, tokens in a text)."""
    length = len(post) + 1
    column = np.concatenate([[np.float32(1)], post])[:, None]
    texts = [
        Observed(x_gate=column, x_in=np.ones_like(column), split=split, first=split * length) for split in range(3)
    ]
    made: list[tuple[LayerActivations, NDArray[np.int64], int]] = []
    for seed in range(_SALTS):
        case = Case(texts, _K, f"salt {seed}", [1])
        numbers = np.arange(3 * length).reshape(3, length)
        bits = uniform_bits(case.salt, numbers)
        made.append((run(case, [padded(texts, case.salt)]).result(constant_first=True), bits, length))
    return made


def _positions(entries: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Where in its text each entry of a list lies."""
    return (0xFFFFFFFF - (entries[entries >= 0] & 0xFFFFFFFF)) % length


def _assert_unbiased(estimates: Sequence[float], exact: float) -> None:
    values = np.array(estimates)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - exact) < 4 * error, (values.mean(), exact, error)
    assert error < 0.05 * exact  # else the line above would say nothing


@pytest.mark.parametrize("sample", ["uniform", "weighted"])
def test_totals_over_the_corpus_are_estimated_without_bias_from_bins_and_sampled_tokens(sample: str) -> None:
    # Within a bin |post| is the same, so that the weighted sample is uniform in it; both bins are always sampled.
    generator = np.random.default_rng(3)
    post = generator.permutation(np.repeat(np.array([1.0, 1.5], np.float32), [60, 60]))
    quantity = generator.uniform(0, 1, len(post)) + (post > 1)  # anything that one may ask of a token
    estimates: list[float] = []
    for found, _, length in _samples(post):
        for split in range(3):
            entries = getattr(found, sample)[0, split, 0]
            places = _positions(entries, length) - 1
            bins = histogram_bins(torch.from_numpy(post[places])).numpy()
            histogram = found.histogram[0, split, 0]
            estimates.append(
                sum(float(histogram[b] * quantity[places[bins == b]].mean()) for b in np.unique(bins).tolist())
            )
    _assert_unbiased(estimates, float(quantity.sum()))


@pytest.mark.parametrize("sample", ["uniform", "weighted"])
def test_with_its_last_entry_as_threshold_a_sample_estimates_any_total_without_bias(sample: str) -> None:
    """Bottom-k and priority sampling (Duffield et al. 2007): exact even where |post| varies by orders of magnitude."""
    generator = np.random.default_rng(4)
    post = np.exp(generator.normal(0, 1.0, 150)).astype(np.float32)
    quantity = generator.uniform(0.5, 1, len(post)) * (1.0 if sample == "uniform" else post.astype(np.float64))
    estimates: list[float] = []
    for found, bits, length in _samples(post):
        for split in range(3):
            places = _positions(getattr(found, sample)[0, split, 0], length)
            u = (bits[split, places] + 0.5) / 2**31
            weight = np.ones(_K) if sample == "uniform" else post[places - 1].astype(np.float64)
            threshold = weight[-1] / u[-1]
            chance = np.minimum(1, weight[:-1] / threshold)
            estimates.append(float((quantity[places[:-1] - 1] / chance).sum()))
    _assert_unbiased(estimates, float(quantity.sum()))


def test_samples_of_all_neurons_take_the_tokens_with_the_smallest_u() -> None:
    generator = np.random.default_rng(5)
    x_gate, x_in = np.abs(generator.normal(1, 0.2, (2, 50, 8))).astype(np.float32)
    text = Observed(x_gate=x_gate, x_in=x_in, split=0, first=0)
    found = run(Case([text], 4, "salt", [1] * 8), [padded([text], "salt")]).result(constant_first=True)
    numbers = 0xFFFFFFFF - (found.uniform[:, 0, 0] & 0xFFFFFFFF)
    assert (numbers == numbers[0]).all()
    assert numbers[0].tolist() == (np.argsort(uniform_bits("salt", np.arange(1, 50)))[:4] + 1).tolist()


def test_axes_are_those_of_the_domain() -> None:
    text = Observed(
        x_gate=np.array([[1], [2], [3], [-4], [-5]], np.float32),
        x_in=np.array([[1], [7], [-7], [7], [-7]], np.float32),
        split=2,
        first=0,
    )
    found = run(Case([text], 1, "salt", [1]), [padded([text], "salt")]).result(constant_first=True)
    assert found.counts.tolist() == [[2, 1, 1, 1]]
    for place, combination in enumerate(COMBINATIONS):
        values = found.maxima[0, place]
        for q, quantity in enumerate(QUANTITIES):
            assert np.sign(values[q]) == combination.sign(quantity) if quantity.value != "act" else True
    assert (found.post[0, 2] >= 0).all()
    assert (found.post[0, :2] < 0).all()
