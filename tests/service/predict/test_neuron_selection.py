"""Which neurons properties select, and how these compare with what random tokens select."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neuronagent.index.predictability.functional import LayerSums, functional_scores
from neuronagent.predictability.functional import (
    FAMILIES,
    NGRAMS,
    TOTAL_VARIANCE,
    WEIGHTINGS,
    FunctionalLayer,
    SensitiveNeurons,
    sensitive_to,
)
from neuronagent.service.predict import selection
from neuronagent.service.predict.functional_layer import analyse_layer
from neuronagent.service.predict.outliers import find_outliers
from neuronagent.service.predict.properties import Flat, Properties, make_properties
from neuronagent.service.predict.selection import Errors, least_passed, mean_over
from tests.service.predict.test_token_properties import texts, token_bytes

Array = NDArray[np.float64]
NEURONS = 60
BEE, SEVEN_BEE = 2, (5, 2)


@cache
def tokens() -> tuple[Flat, Properties, Array]:
    flat = Flat.of(texts(200))
    losses = np.random.default_rng(0).exponential(size=len(flat))
    return flat, make_properties(flat, losses, token_bytes, ngrams=40, seeds=40, bos=0), losses


def planted() -> Array:
    """Post `[n, 60]`: 0 fires at ` bee`, 1 where ` bee` follows 7, 2 at low losses, 3 at positions up to three,
    4 never varies, the others know nothing."""
    flat, _, losses = tokens()
    post = np.random.default_rng(1).normal(size=(len(flat), NEURONS))
    previous = np.where(flat.positions > 1, np.roll(flat.ids, 1), -1)
    post[:, 0] = 1.0 * (flat.ids == BEE)
    post[:, 1] = 1.0 * ((flat.ids == BEE) & (previous == SEVEN_BEE[0]))
    post[:, 2] += 3.0 * (losses < np.quantile(losses, 0.1))
    post[:, 3] += 3.0 * (flat.positions <= 3)
    post[:, 4] = 0.5
    return post


def analysed(errors: Errors, post: Array | None = None) -> tuple[FunctionalLayer, SensitiveNeurons]:
    flat, found, _ = tokens()
    sums, numbers = LayerSums(found.keys.count), np.arange(len(flat))
    sums.update(found.keys.batch(numbers), numbers, torch.tensor(planted() if post is None else post).float())
    totals, by_key = sums.finish()
    return analyse_layer(3, totals, by_key, found, errors, "layer 2", None, [], None, "made")


def flat_errors() -> Errors:
    generator = np.random.default_rng(2)
    r2 = generator.uniform(0, 0.5, NEURONS)
    r2[4] = np.nan
    return Errors(l2=generator.uniform(1, 2, NEURONS), r2=r2)


def test_planted_neurons_are_selected_by_their_property_and_the_words_say_so() -> None:
    result, sensitive = analysed(flat_errors())
    by_family = sensitive["families"]
    assert set(by_family) == set(result["families"][TOTAL_VARIANCE]) == set(FAMILIES)
    assert by_family["1-gram"]["mu"][by_family["1-gram"]["neurons"].index(0)] == pytest.approx(1.0)
    assert by_family["2-gram"]["mu"][by_family["2-gram"]["neurons"].index(1)] == pytest.approx(1.0)
    assert "1-gram ␣bee (μ 1.00)" in sensitive_to(sensitive, 0)
    assert "2-gram 7␣bee (μ 1.00)" in sensitive_to(sensitive, 1)
    assert "easy tokens" in sensitive_to(sensitive, 2)
    assert (
        2 not in by_family["hard"]["neurons"] or by_family["hard"]["mu"][by_family["hard"]["neurons"].index(2)] < 0.05
    )
    assert "successive positions" in sensitive_to(sensitive, 3)
    assert all(sensitive_to(sensitive, index) == [] for index in range(4, NEURONS))
    assert sensitive["never_vary"] == [4]
    assert result["constant"] == 1
    strongest = [(each["neuron"], each["property"]) for each in result["strongest"]]
    assert (0, "␣bee") in strongest
    assert (1, "7␣bee") in strongest
    for family in by_family.values():
        assert len(family["most"]) == 6
        assert 4 not in family["most"]
    assert 3 in by_family["successive"]["most"]
    assert 2 in by_family["easy"]["most"]


def test_one_percent_of_neurons_that_know_nothing_are_selected() -> None:
    flat, _, _ = tokens()
    post = np.random.default_rng(3).normal(size=(len(flat), NEURONS))
    result, sensitive = analysed(flat_errors(), post)
    for weighting in WEIGHTINGS:
        shares = [own["selected"] for own in result["families"][weighting].values() if own["properties"] > 10]
        assert len(shares) == 5
        assert all(share is not None and 0.002 < share < 0.025 for share in shares)
    verdicts = [own["l2"]["verdict"] for own in result["families"][TOTAL_VARIANCE].values()]
    assert verdicts.count("no different") + verdicts.count(None) >= 6
    assert not any(sensitive_to(sensitive, index) for index in range(NEURONS))


def test_selected_neurons_with_larger_errors_are_called_harder_to_foretell() -> None:
    errors = flat_errors()
    errors.l2[3], errors.r2[3] = 9.0, -0.9
    own = analysed(errors)[0]["families"][TOTAL_VARIANCE]["successive"]
    assert own["l2"]["verdict"] == "higher"
    assert own["r2"]["verdict"] == "lower"
    assert own["l2"]["lo"] is not None
    assert own["l2"]["hi"] is not None
    assert own["l2"]["score"] is not None
    assert own["l2"]["lo"] < own["l2"]["score"] < own["l2"]["hi"]


def test_theta_lies_between_those_of_the_sizes_around_and_the_score_is_a_mean_over_properties() -> None:
    flat, found, _ = tokens()
    sums, numbers = LayerSums(found.keys.count), np.arange(len(flat))
    sums.update(found.keys.batch(numbers), numbers, torch.tensor(planted()).float())
    totals, by_key = sums.finish()
    errors = flat_errors()
    baseline = selection.random_baselines(totals, by_key, found, errors)[TOTAL_VARIANCE]
    family = next(each for each in found.families if each.name == NGRAMS[0])
    scores = functional_scores(totals, family.sums(by_key))[TOTAL_VARIANCE]
    own = selection.select(family, scores, baseline, found)
    for theta, count in zip(own.theta, family.counts, strict=True):
        around = [b for size, b in zip(found.sizes, baseline.theta, strict=True) if count / 1.5 <= size <= count * 1.5]
        assert min(around) <= theta <= max(around)
    means = [errors.l2[np.flatnonzero(row)].mean() for row in own.chosen if row.any()]
    result = selection.family_result(family, own, baseline, found, errors)
    assert result["l2"]["score"] == pytest.approx(np.mean(means))


def test_background_neurons_have_an_error_below_the_mean_of_what_random_tokens_select() -> None:
    errors = flat_errors()
    errors.l2[7] = np.nan
    own = analysed(errors)[0]["background"]
    assert own["threshold"] is not None
    assert own["count"] is not None
    assert own["count"] == int((errors.l2 < own["threshold"]).sum())
    assert own["neurons"] == NEURONS - 1
    assert own["share_lo"] is not None
    assert own["share"] is not None
    assert own["share_hi"] is not None
    assert own["share_lo"] <= own["share"] <= own["share_hi"]
    assert own["threshold_r2"] is not None
    assert own["count_r2"] == int((errors.r2[np.isfinite(errors.r2)] > own["threshold_r2"]).sum())


def test_without_errors_there_is_a_reason_and_no_number() -> None:
    nothing = np.full(NEURONS, np.nan)
    result, sensitive = analysed(Errors(l2=nothing, r2=nothing))
    assert result["all_l2"] is None
    assert result["background"]["threshold"] is None
    assert result["background"]["reason"]
    for own in result["families"][TOTAL_VARIANCE].values():
        assert own["l2"]["score"] is None
        assert own["l2"]["verdict"] is None
        assert own["l2"]["reason"]
    assert 0 in sensitive["families"]["1-gram"]["neurons"]


def test_the_least_number_of_properties_is_the_binomial_one() -> None:
    assert [least_passed(count) for count in (1, 2, 100, 1000)] == [1, 2, 5, 19]
    drawn = np.random.default_rng(4).binomial(1000, 0.01, 200_000)
    assert (drawn >= 19).mean() <= 0.01 < (drawn >= 18).mean()


def test_a_mean_over_no_neuron_is_no_number() -> None:
    found = mean_over(np.array([[True, True, False], [False, False, True], [False] * 3]), np.array([1.0, 3.0, np.nan]))
    np.testing.assert_array_equal(found, [2.0, np.nan, np.nan])


def test_outliers_are_told_with_the_token_or_bos_where_they_are() -> None:
    flat, found, _ = tokens()
    post = np.random.default_rng(5).normal(size=(len(flat), NEURONS))
    post[123, 8], post[:, 4] = -500.0, 0.0
    first = np.zeros(NEURONS)
    first[[4, 9]] = 900.0, 300.0
    sums, numbers = LayerSums(found.keys.count), np.arange(len(flat))
    sums.update(found.keys.batch(numbers), numbers, torch.tensor(post).float())
    totals, _ = sums.finish()
    errors = flat_errors()
    rows = find_outliers(3, totals, first, errors, flat, texts(200), token_bytes, 0, 100.0)
    assert [(row["neuron"], row["place"], row["value"]) for row in rows] == [
        ("3.4", "BOS", 900.0), ("3.8", "token", -500.0), ("3.9", "BOS", 300.0)
    ]  # fmt: skip
    rms = float(np.sqrt((post**2).mean()))
    assert rows[1]["ratio"] == pytest.approx(500 / rms, rel=1e-4)
    assert (rows[1]["position"], rows[1]["document"]) == (flat.positions[123], flat.texts[123])
    assert rows[2]["others"] < 10
    assert rows[0]["token"] == "<s>"
    assert rows[0]["r2"] is None
    assert rows[0]["reason"] == "it never varies but at BOS"
    assert rows[1]["l2_rank"] == (errors.l2 < errors.l2[8]).sum() / (NEURONS - 1)
    assert find_outliers(3, totals, None, errors, flat, texts(200), token_bytes, None, 1e6) == []
