"""Scores by sums over documents are those of the tokens themselves, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.index.predictability.moments import Moments
from neuronagent.predictability.intervals import student_quantile
from neuronagent.predictability.scores import COLUMNS, MEAN, TOKEN, PredictorScores

Floats = NDArray[np.float64]
NEURONS = 6
STEADY, CONSTANT, FAR = 3, 4, 5
"""A neuron that never varies, one whose prediction does not, one whose mean is 10⁴ times its spread."""


def made(seed: int, lengths: list[int]) -> tuple[NDArray[np.int64], Floats, dict[str, Floats]]:
    """Documents, post and predictions; values of a document are alike."""
    generator = np.random.default_rng(seed)
    documents = np.repeat(np.arange(len(lengths)) * 7 + 3, lengths)
    total = len(documents)
    shared = np.repeat(generator.normal(size=(len(lengths), NEURONS)), lengths, axis=0)
    post = generator.normal(size=(total, NEURONS)) * generator.exponential(size=(total, 1)) + 0.3 * shared + 2
    post[:, STEADY] = 0.75
    post[:, FAR] = post[:, FAR] / 10 + 1e4
    predicted = {
        "layer 1": post + 0.4 * generator.normal(size=post.shape) + 0.2 * shared,
        TOKEN: 0.5 * post + generator.normal(size=post.shape),
        MEAN: np.full_like(post, 1.5),
    }
    predicted["layer 1"][:, CONSTANT] = 1.0
    predicted["layer 1"][:, FAR] = post[:, FAR] + generator.normal(size=total) / 20
    predicted["layer 1"][:, STEADY] = 0.25
    predicted[TOKEN][:, FAR] = predicted[MEAN][:, FAR] = 1e4
    return documents, post, predicted


def scored(
    documents: NDArray[np.int64], post: Floats, predicted: dict[str, Floats], cuts: list[int]
) -> dict[str, PredictorScores]:
    """By `Moments`, in batches between `cuts`."""
    moments = Moments(list(predicted), torch.from_numpy(post[0].copy()))
    for start, stop in zip([0, *cuts], [*cuts, len(post)], strict=True):
        own = {name: torch.from_numpy(values[start:stop]) for name, values in predicted.items()}
        moments.update(documents[start:stop], torch.from_numpy(post[start:stop]), own)
    return moments.scores()


def half_width(linear: Floats, documents: NDArray[np.int64]) -> Floats:
    """t·SE of a statistic whose value moves by `linear` `[T, N]` with every token, by its definition."""
    _, own, counts = np.unique(documents, return_inverse=True, return_counts=True)
    by_document = np.zeros((len(counts), linear.shape[1]))
    np.add.at(by_document, own, linear)
    worth = max(1.0, counts.sum() ** 2 / (counts**2).sum() - 1)
    return student_quantile(worth) * (1 + 1 / worth) * np.sqrt((by_document**2).sum(0))


def by_definition(documents: NDArray[np.int64], g: Floats, p: Floats, token: Floats) -> dict[str, Floats]:
    """All scores from the tokens."""
    n, e, t = len(g), g - p, g - token
    d = g - g.mean(0)
    f = p - p.mean(0)
    mse, variance, spread, both = (e**2).mean(0), (d**2).mean(0), (f**2).mean(0), (d * f).mean(0)
    r2, r = 1 - mse / variance, both / np.sqrt(variance * spread)
    lift = ((t**2).mean(0) - mse) / variance
    found = {"rmse": np.sqrt(mse), "r2": r2, "pearson": r, "lift": lift, "mean": g.mean(0), "variance": variance}
    half = half_width((e**2 / mse - 1) / n, documents) / 2
    found |= {"rmse_lo": np.sqrt(mse) * np.exp(-half), "rmse_hi": np.sqrt(mse) * np.exp(half)}
    half = half_width((e**2 / mse - d**2 / variance) / n, documents)
    found |= {"r2_lo": 1 - (1 - r2) * np.exp(half), "r2_hi": 1 - (1 - r2) * np.exp(-half)}
    slope = (d * f / both - (d**2 / variance + f**2 / spread) / 2) * r / (1 - r**2) / n
    half = half_width(slope, documents)
    found |= {"pearson_lo": np.tanh(np.arctanh(r) - half), "pearson_hi": np.tanh(np.arctanh(r) + half)}
    half = half_width((t**2 - e**2 - lift * d**2) / variance / n, documents)
    found |= {"lift_lo": lift - half, "lift_hi": lift + half}
    return found


def test_every_score_and_interval_is_what_its_definition_makes_of_the_tokens() -> None:
    documents, post, predicted = made(1, [40, 3, 17, 88, 1, 25])
    found = scored(documents, post, predicted, [10, 60, 61, 150])
    for name, columns in (("layer 1", [0, 1, 2, FAR]), (TOKEN, [0, 1, 2])):
        values = (own[:, columns] for own in (post, predicted[name], predicted[TOKEN]))
        truth = by_definition(documents, *values)
        for column in COLUMNS:
            mine = getattr(found[name], column)[columns]
            rtol = 1e-6 if FAR in columns and "_" in column else 1e-10
            np.testing.assert_allclose(mine, truth[column], rtol=rtol, atol=1e-10, err_msg=f"{name} {column}")


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(4, 30), min_size=3, max_size=8),
    cuts=st.lists(st.integers(0, 100), max_size=6),
    seed=st.integers(0, 5),
)
def test_scores_do_not_depend_on_the_batches(lengths: list[int], cuts: list[int], seed: int) -> None:
    documents, post, predicted = made(seed, lengths)
    cut = scored(documents, post, predicted, sorted(min(place, len(post)) for place in cuts))
    whole = scored(documents, post, predicted, [])
    for name in predicted:
        for column in COLUMNS:
            np.testing.assert_allclose(
                getattr(cut[name], column), getattr(whole[name], column), rtol=1e-5, atol=1e-6, err_msg=column
            )


def test_a_neuron_that_never_varies_has_an_error_and_nothing_else() -> None:
    documents, post, predicted = made(2, [20, 20, 20])
    found = scored(documents, post, predicted, [30])["layer 1"].of(STEADY)
    assert found.rmse == pytest.approx(0.5)
    assert found.variance == 0
    assert np.isnan([found.r2, found.r2_lo, found.r2_hi, found.pearson, found.pearson_hi, found.lift]).all()
    assert found.reason == "it never varies on these tokens"


def test_a_prediction_that_never_varies_has_no_correlation_and_the_mean_never_has_one() -> None:
    documents, post, predicted = made(3, [20, 20, 20])
    found = scored(documents, post, predicted, [])
    one = found["layer 1"].of(CONSTANT)
    assert np.isnan(one.pearson)
    assert np.isfinite(one.r2)
    assert one.reason == "the prediction never varies"
    assert np.isnan(found[MEAN].pearson).all()
    assert (found[MEAN].r2[:3] <= 0).all()


def test_one_document_has_scores_without_intervals_which_says_why() -> None:
    documents, post, predicted = made(4, [50])
    one = scored(documents, post, predicted, [20])["layer 1"].of(0)
    assert np.isfinite([one.rmse, one.r2, one.pearson, one.lift]).all()
    assert np.isnan([one.rmse_lo, one.rmse_hi, one.r2_lo, one.r2_hi, one.pearson_lo, one.lift_hi]).all()
    assert one.interval_reason == "an interval takes two documents"
    assert one.reason is None


def test_a_perfect_prediction_is_certain() -> None:
    documents, post, predicted = made(5, [20, 30, 40])
    one = scored(documents, post, {**predicted, "layer 1": post.copy()}, [33])["layer 1"].of(0)
    assert (one.rmse, one.rmse_lo, one.rmse_hi) == (0, 0, 0)
    assert (one.r2, one.r2_lo, one.r2_hi) == (1, 1, 1)
    assert (one.pearson, one.pearson_lo, one.pearson_hi) == (1, 1, 1)


def test_an_r2_of_one_less_a_billionth_keeps_its_digits() -> None:
    documents, post, predicted = made(6, [200, 300, 150])
    noise = np.random.default_rng(0).normal(size=len(post)) * 1e-6
    predicted["layer 1"] = post + noise[:, None]
    one = scored(documents, post, predicted, [])["layer 1"].of(0)
    true = (noise**2).mean() / post[:, 0].var()
    assert 1 - one.r2 == pytest.approx(true, rel=1e-3)
    assert one.r2_lo < one.r2 < one.r2_hi < 1
    assert one.pearson_lo < one.pearson < one.pearson_hi < 1


def test_the_token_baseline_has_no_lift_over_itself() -> None:
    documents, post, predicted = made(7, [20, 30, 40])
    found = scored(documents, post, predicted, [])[TOKEN]
    assert (found.lift[:3] == 0).all()
    assert (found.lift_lo[:3] == 0).all()
    assert (found.lift_hi[:3] == 0).all()


def test_a_document_that_goes_on_after_others_is_refused() -> None:
    documents, post, predicted = made(8, [5, 5, 5])
    with pytest.raises(ValueError, match="goes on after others"):
        scored(documents[[0, 1, 5, 2]], post[:4], {name: values[:4] for name, values in predicted.items()}, [])


def test_memory_does_not_grow_with_the_documents_and_is_what_was_said() -> None:
    documents, post, predicted = made(9, [1] * 60)
    moments = Moments(list(predicted), torch.zeros(NEURONS, dtype=torch.float64))

    def held() -> int:
        tensors = [value for value in vars(moments).values() if isinstance(value, torch.Tensor)]
        return sum(tensor.nbytes for tensor in tensors)

    before = held()
    moments.update(documents, torch.from_numpy(post), {n: torch.from_numpy(v) for n, v in predicted.items()})
    assert held() == before == Moments.bytes_needed(len(predicted), NEURONS) + 3 * NEURONS * 8


@pytest.mark.parametrize(("df", "quantile"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (30, 2.04227)])
def test_students_quantiles_are_those_of_the_tables(df: float, quantile: float) -> None:
    assert student_quantile(df) == pytest.approx(quantile, rel=1e-4)


def test_students_quantile_of_a_fraction_lies_between_and_nonsense_is_refused() -> None:
    assert student_quantile(3) < student_quantile(2.5) < student_quantile(2)
    assert student_quantile(1e6) == pytest.approx(1.95997, rel=1e-3)
    with pytest.raises(ValueError, match="no quantile"):
        student_quantile(0)
