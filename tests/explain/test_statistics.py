"""Statistics against published numbers, slow oracles, simulated coverage and properties that must always hold."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import comb, prod
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.explain.statistics import (
    Array,
    Interval,
    auprc,
    auroc,
    auroc_interval,
    balanced_accuracy,
    benjamini_hochberg,
    bootstrap_texts,
    effective_size,
    exact_binomial,
    lift,
    mean_recall,
    mover,
    permutation_p,
    weighted_precision_recall,
    wilson,
)

# Few distinct values, so that ties are common.
scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


def limits(interval: Interval) -> tuple[float, float]:
    return interval.lo, interval.hi


# ── rates ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("successes", "n", "lo", "hi"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_limits_published_by_newcombe_1998(successes: int, n: int, lo: float, hi: float) -> None:
    assert limits(wilson(successes, n)) == pytest.approx((lo, hi), abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "n", "lo", "hi"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_exact_binomial_gives_the_limits_published_by_newcombe_1998(
    successes: int, n: int, lo: float, hi: float
) -> None:
    assert limits(exact_binomial(successes, n)) == pytest.approx((lo, hi), abs=5e-5)


@given(st.integers(1, 30), st.data())
def test_the_exact_limits_put_half_the_error_in_each_tail(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    lo, hi = (Fraction(limit) for limit in limits(exact_binomial(successes, n)))

    def at_least(k: int, p: Fraction) -> float:
        return float(sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)))

    assert at_least(successes, lo) == pytest.approx(0.025 if successes else 1.0)
    assert 1 - at_least(successes + 1, hi) == pytest.approx(0.025 if successes < n else 1.0)


@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_intervals_of_rates_hold_the_rate_and_have_a_width(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    for interval in (wilson(successes, n, level), exact_binomial(successes, n, level)):
        assert 0 <= interval.lo <= interval.value == successes / n <= interval.hi <= 1
        assert interval.hi - interval.lo > 0.01


def test_mover_gives_the_difference_published_by_newcombe_1998() -> None:
    difference = mover([wilson(56, 70), wilson(48, 80)], [1, -1])
    assert (difference.value, *limits(difference)) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_balanced_accuracy_is_mean_recall_of_two_classes() -> None:
    both = balanced_accuracy(18, 20, 3, 7)
    assert both == mean_recall([18, 3], [20, 7])
    assert both.value == pytest.approx((18 / 20 + 3 / 7) / 2)


def exact_coverage(rates: tuple[float, float], sizes: tuple[int, int]) -> float:
    """The chance that the interval of balanced accuracy holds the truth, summed over all outcomes."""
    covered = 0.0
    for a in range(sizes[0] + 1):
        for b in range(sizes[1] + 1):
            lo, hi = limits(balanced_accuracy(a, sizes[0], b, sizes[1]))
            if lo <= sum(rates) / 2 <= hi:
                chances = (comb(n, k) * r**k * (1 - r) ** (n - k) for n, k, r in zip(sizes, (a, b), rates, strict=True))
                covered += prod(chances)
    return covered


@pytest.mark.parametrize("sizes", [(10, 10), (20, 7), (20, 20)])
def test_balanced_accuracy_covers_what_it_claims_at_small_samples(sizes: tuple[int, int]) -> None:
    rates = [(0.5, 0.5), (0.7, 0.7), (0.9, 0.6), (0.9, 0.9), (0.95, 0.8)]
    covered = [exact_coverage(pair, sizes) for pair in rates]
    assert 0.93 <= np.mean(covered) <= 0.98
    assert min(covered) >= 0.93


def test_perfect_recall_of_any_number_of_classes_stays_within_one() -> None:
    for classes in range(1, 60):
        perfect = mean_recall([3] * classes, [3] * classes)
        assert perfect.lo < perfect.value == pytest.approx(1.0)
        assert perfect.value <= perfect.hi <= 1.0


# ── AUROC ────────────────────────────────────────────────────────────────────────────────────────────────────────


def auroc_by_pairs(positive: list[float], negative: list[float]) -> float:
    total = 0.0
    for p in positive:
        for n in negative:
            total += 1.0 if p > n else 0.5 if p == n else 0.0
    return total / (len(positive) * len(negative))


@given(scores, scores)
def test_auroc_is_the_share_of_pairs_in_order(positive: list[float], negative: list[float]) -> None:
    assert auroc(positive, negative) == pytest.approx(auroc_by_pairs(positive, negative), abs=1e-15)


@given(scores, scores)
def test_auroc_is_antisymmetric(positive: list[float], negative: list[float]) -> None:
    assert auroc(positive, negative) + auroc(negative, positive) == pytest.approx(1.0)


@given(scores, scores)
def test_auroc_and_its_tests_see_ranks_only(positive: list[float], negative: list[float]) -> None:
    p, n = np.exp(np.array(positive)) - 3, np.exp(np.array(negative)) - 3
    assert auroc(p, n) == auroc(positive, negative)
    assert auroc_interval(p, n) == auroc_interval(positive, negative)
    assert permutation_p(p, n, draws=50) == permutation_p(positive, negative, draws=50)


@given(scores, scores, st.sampled_from([0.8, 0.95]))
def test_the_interval_of_auroc_holds_it_and_has_a_width(
    positive: list[float], negative: list[float], level: float
) -> None:
    interval = auroc_interval(positive, negative, level)
    assert 0 <= interval.lo <= interval.value <= interval.hi <= 1
    assert interval.hi - interval.lo > 0.05


@given(scores, scores)
def test_the_interval_of_auroc_is_mirrored_when_labels_are_swapped(
    positive: list[float], negative: list[float]
) -> None:
    one, other = auroc_interval(positive, negative), auroc_interval(negative, positive)
    assert limits(one) == pytest.approx((1 - other.hi, 1 - other.lo), abs=1e-12)


def test_perfect_separation_of_twenty_and_twenty_leaves_a_tenth_uncertain() -> None:
    perfect = auroc_interval(range(20, 40), range(20))
    assert limits(perfect) == pytest.approx((0.8987, 1.0), abs=1e-4)


Shape = Callable[[np.random.Generator], tuple[Array, Array]]


def binormal(truth: float, n_pos: int, n_neg: int) -> Shape:
    shift = NormalDist().inv_cdf(truth) * np.sqrt(2)
    return lambda generator: (generator.normal(shift, 1, n_pos), generator.normal(0, 1, n_neg))


def levels(positive: list[float], negative: list[float], n_pos: int, n_neg: int) -> Shape:
    return lambda generator: (
        generator.choice(len(positive), n_pos, p=positive).astype(float),
        generator.choice(len(negative), n_neg, p=negative).astype(float),
    )


@pytest.mark.parametrize(("n_pos", "n_neg"), [(20, 20), (20, 7)])
def test_the_interval_of_auroc_covers_what_it_claims_for_smooth_and_for_tied_scores(n_pos: int, n_neg: int) -> None:
    shapes: list[tuple[float, Shape]] = [(truth, binormal(truth, n_pos, n_neg)) for truth in (0.5, 0.7, 0.9, 0.95)]
    for p, n in (
        ([0.25] * 4, [0.25] * 4),
        ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]),
        ([0.1, 0.3, 0.6], [0.7, 0.2, 0.1]),
    ):
        truth = sum(
            a * b * (1.0 if i > j else 0.5 if i == j else 0.0) for i, a in enumerate(p) for j, b in enumerate(n)
        )
        shapes.append((truth, levels(p, n, n_pos, n_neg)))
    generator, simulations = np.random.default_rng(1), 600
    covered: list[float] = []
    for truth, shape in shapes:
        intervals = [auroc_interval(*shape(generator)) for _ in range(simulations)]
        covered.append(sum(i.lo <= truth <= i.hi for i in intervals) / simulations)
    assert 0.94 <= np.mean(covered) <= 0.975
    assert min(covered) >= 0.92


# ── permutation and false discoveries ────────────────────────────────────────────────────────────────────────────


@given(scores, scores, st.integers(1, 40))
def test_p_values_are_above_zero_and_at_most_one(positive: list[float], negative: list[float], draws: int) -> None:
    assert 1 / (1 + draws) <= permutation_p(positive, negative, draws) <= 1


def test_the_permutation_test_agrees_with_all_orders_of_a_small_sample() -> None:
    # {3, 2} against {1, 0, 2}: of the ten ways to choose two positives, two reach the observed rank sum.
    assert permutation_p([3, 2], [1, 0, 2], draws=20_000) == pytest.approx(0.2, abs=0.01)


def test_constant_scores_have_p_one() -> None:
    assert permutation_p([1, 1, 1], [1, 1], draws=100) == 1.0


def test_p_is_uniform_where_nothing_is_to_be_found() -> None:
    generator = np.random.default_rng(3)
    p = [permutation_p(generator.normal(size=10), generator.normal(size=8), 199, seed) for seed in range(400)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_benjamini_hochberg_adjusts_a_worked_example() -> None:
    p = [0.041, 0.001, 0.205, 0.008, 0.039]
    assert benjamini_hochberg(p) == pytest.approx([0.05125, 0.005, 0.205, 0.02, 0.05125])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_p_values_keep_the_order_and_never_fall(p: list[float]) -> None:
    adjusted = benjamini_hochberg(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


# ── bootstrap and lift ───────────────────────────────────────────────────────────────────────────────────────────


def test_items_of_one_text_are_drawn_together() -> None:
    seen: list[Array] = []

    def statistic(counts: Array) -> Array:
        seen.append(counts)
        return counts @ np.arange(5.0)

    bootstrap_texts(["a", "b", "a", "c", "b"], statistic, draws=50)
    counts = seen[-1]
    assert counts.shape == (50, 5)
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, 0] + counts[:, 1] + counts[:, 3] == 3).all()


def test_every_draw_has_as_many_texts_of_each_stratum() -> None:
    def share(counts: Array) -> Array:
        assert (counts[:, :3].sum(axis=1) == 3).all()
        return counts[:, 0]

    bootstrap_texts(range(7), share, draws=30, strata=[True] * 3 + [False] * 4)


def test_repeating_each_item_in_its_text_does_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=15)

    def mean_of(items: Array) -> Callable[[Array], Array]:
        return lambda counts: counts @ items / counts.sum(axis=1)

    once = bootstrap_texts(range(15), mean_of(values))
    thrice = bootstrap_texts([i for i in range(15) for _ in range(3)], mean_of(np.repeat(values, 3)))
    assert limits(thrice) == pytest.approx(limits(once))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    def spread(counts: Array) -> Array:
        return counts.std(axis=1)

    first = bootstrap_texts(range(9), spread, draws=100, seed=4)
    assert first == bootstrap_texts(range(9), spread, draws=100, seed=4)
    assert first != bootstrap_texts(range(9), spread, draws=100, seed=5)


def test_lift_over_a_constant_is_the_interval_of_the_auroc_itself() -> None:
    generator = np.random.default_rng(7)
    p, n = generator.normal(1, 1, 12), generator.normal(0, 1, 9)
    over = lift(p, n, {"empty": (np.ones(12), np.ones(9))}, range(12), range(9), draws=8000).over_strongest
    alone = auroc_interval(p, n)
    assert (over.value, *limits(over)) == pytest.approx((alone.value - 0.5, alone.lo - 0.5, alone.hi - 0.5), abs=0.01)


def lift_limits_by_loops(own: tuple[Array, Array], control: tuple[Array, Array], draws: int) -> tuple[float, float]:
    """Percentiles of the difference, one resample after the other."""
    generator = np.random.default_rng(0)
    differences: list[float] = []
    for _ in range(draws):
        p, n = generator.integers(len(own[0]), size=len(own[0])), generator.integers(len(own[1]), size=len(own[1]))
        drawn = [auroc_by_pairs(side[0][p].tolist(), side[1][n].tolist()) for side in (own, control)]
        differences.append(drawn[0] - drawn[1])
    lo, hi = np.quantile(differences, [0.025, 0.975])
    return float(lo), float(hi)


def test_lift_agrees_with_resampling_item_by_item_where_the_bootstrap_is_good() -> None:
    """At a hundred items of each kind, far from 1, Newcombe's spread is that of the bootstrap."""
    generator = np.random.default_rng(7)
    p, n = generator.normal(0.6, 1, 100), generator.normal(0, 1, 100)
    own, control = (p, n), (0.7 * p + generator.normal(size=100), 0.7 * n + generator.normal(size=100))
    over = lift(*own, {"a": control}, range(100), range(100)).over["a"]
    assert limits(over) == pytest.approx(lift_limits_by_loops(own, control, 500), abs=0.02)


def test_the_strongest_control_is_picked_anew_in_each_draw() -> None:
    """Among four that are equally good chance has a say in which is best: the lower limit is below each one's own."""
    generator = np.random.default_rng(1)
    own = generator.normal(1, 1, 20), generator.normal(0, 1, 20)
    controls = {str(i): (generator.normal(0, 1, 20), generator.normal(0, 1, 20)) for i in range(4)}
    result = lift(*own, controls, range(20), range(20))
    assert result.over_strongest.value == pytest.approx(auroc(*own) - max(auroc(*c) for c in controls.values()))
    assert result.over_strongest.lo < min(interval.lo for interval in result.over.values())
    assert result.over_strongest.hi >= result.over[result.strongest].hi


def test_an_explanation_lifts_itself_by_exactly_nothing() -> None:
    p, n = np.array([3.0, 1.0, 2.0]), np.array([0.0, 1.5])
    assert lift(p, n, {"itself": (p, n)}, range(3), range(2)).over_strongest == Interval(0.0, 0.0, 0.0)


def test_a_perfect_explanation_is_not_certain_of_its_lift_over_an_empty_text() -> None:
    empty = (np.zeros(20), np.zeros(20))
    over = lift(np.ones(20), np.zeros(20), {"empty": empty}, range(20), range(20)).over["empty"]
    alone = auroc_interval(np.ones(20), np.zeros(20))
    assert limits(over) == pytest.approx((alone.lo - 0.5, 0.5), abs=1e-3)


@settings(max_examples=40)
@given(st.data())
def test_lifts_hold_their_estimates(data: st.DataObject) -> None:
    m, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    column = [st.lists(st.integers(0, 3).map(float), min_size=k, max_size=k) for k in (m, n)]
    own, a, b = ((data.draw(column[0]), data.draw(column[1])) for _ in range(3))
    texts = [data.draw(st.lists(st.integers(0, 3), min_size=k, max_size=k)) for k in (m, n)]
    result = lift(*own, {"a": a, "b": b}, *texts, draws=40)
    for interval in (*result.over.values(), result.over_strongest):
        assert -1 <= interval.lo <= interval.value <= interval.hi <= 1
    assert result.over[result.strongest].value == result.over_strongest.value


# ── base-rate view ───────────────────────────────────────────────────────────────────────────────────────────────

LABELS = [True] * 4 + [False] * 4


def test_precision_counts_each_item_with_its_weight() -> None:
    result = weighted_precision_recall([1, 1, 1, 0, 1, 0, 0, 0], LABELS, [2, 1, 1, 1, 50, 50, 50, 50], range(8))
    assert result.precision is not None
    assert result.precision.value == pytest.approx(4 / 54)
    assert result.recall.value == pytest.approx(4 / 5)
    assert result.f1.value == pytest.approx(2 / (54 / 4 + 5 / 4))
    assert result.false_positive_bound is None


def test_without_a_false_positive_precision_is_bounded_by_three_over_n() -> None:
    labels = [True] * 20 + [False] * 20
    result = weighted_precision_recall([1] * 20 + [0] * 20, labels, [1] * 20 + [9] * 20, range(40))
    assert result.false_positive_bound == pytest.approx(3 / 20)
    assert result.precision is not None
    assert result.precision.value == result.f1.value == 1.0
    assert limits(result.recall) == pytest.approx(limits(wilson(20, 20)))
    assert 0.3 < result.precision.lo < 0.5
    assert 0.5 < result.f1.lo < 0.6


def test_precision_of_no_prediction_is_none_and_recall_is_bounded() -> None:
    result = weighted_precision_recall([0.0] * 8, LABELS, [1] * 8, range(8))
    assert result.precision is None
    assert result.recall == wilson(0, 4)
    assert result.f1.value == 0
    assert result.f1.hi > 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.1, 9), st.integers(0, 5)), min_size=8, max_size=8))
def test_precision_and_recall_always_have_a_width_and_hold_their_estimates(
    items: list[tuple[int, float, int]],
) -> None:
    values, weights, texts = ([item[k] for item in items] for k in range(3))
    result = weighted_precision_recall(values, LABELS, weights, texts, threshold=1)
    for interval in (result.precision, result.recall, result.f1):
        if interval is not None:
            assert 0 <= interval.lo <= interval.value <= interval.hi <= 1
            assert interval.hi - interval.lo > 1e-9


def test_items_of_one_text_are_worth_one() -> None:
    assert effective_size([1, 1, 1, 1], ["a", "a", "b", "b"]) == pytest.approx(2)
    assert effective_size([3, 1], ["a", "b"]) == pytest.approx(16 / 10)


def average_precision_by_loops(values: list[float], labels: list[bool], weights: list[float]) -> float:
    total = sum(w for w, label in zip(weights, labels, strict=True) if label)
    area, recall = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = [i for i, value in enumerate(values) if value >= threshold]
        hit = sum(weights[i] for i in chosen if labels[i])
        area += (hit / total - recall) * hit / sum(weights[i] for i in chosen)
        recall = hit / total
    return area


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 9)), min_size=8, max_size=8))
def test_auprc_agrees_with_one_threshold_after_the_other(items: list[tuple[int, float]]) -> None:
    values, weights = [float(item[0]) for item in items], [item[1] for item in items]
    interval = auprc(values, LABELS, weights, range(8))
    assert interval.value == pytest.approx(average_precision_by_loops(values, LABELS, weights))
    assert interval.lo <= interval.value <= interval.hi


def test_a_perfect_ranking_does_not_have_a_certain_auprc() -> None:
    interval = auprc([1] * 20 + [0] * 20, [True] * 20 + [False] * 20, [1] * 40, range(40))
    assert limits(interval) == pytest.approx((0.908, 1.0), abs=1e-3)


def test_a_constant_score_has_the_base_rate_as_auprc() -> None:
    assert auprc([1] * 8, LABELS, [1] * 4 + [9] * 4, range(8)).value == pytest.approx(0.1)


# ── what cannot be computed ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(0, 0),
        lambda: wilson(3, 2),
        lambda: wilson(1, 2, level=1.0),
        lambda: exact_binomial(0, 0),
        lambda: mover([], []),
        lambda: mover([wilson(1, 2)], [1, 2]),
        lambda: mean_recall([], []),
        lambda: mean_recall([1, 0], [2, 0]),
        lambda: balanced_accuracy(1, 1, 0, 0),
        lambda: auroc([], [1]),
        lambda: auroc([1], []),
        lambda: auroc([float("nan")], [1]),
        lambda: auroc_interval([], [1]),
        lambda: permutation_p([1], []),
        lambda: permutation_p([1], [0], draws=0),
        lambda: benjamini_hochberg([]),
        lambda: benjamini_hochberg([1.5]),
        lambda: bootstrap_texts([], lambda counts: counts.sum(axis=1)),
        lambda: bootstrap_texts(["a", "a"], lambda counts: counts.sum(axis=1)),
        lambda: bootstrap_texts(range(3), lambda counts: np.full(len(counts), np.nan)),
        lambda: lift([1], [0], {}, [0], [0]),
        lambda: lift([1], [0], {"short": ([1, 2], [0])}, [0], [0]),
        lambda: lift([1], [0], {"a": ([1], [0])}, [0, 1], [0]),
        lambda: weighted_precision_recall([1, 0], [True, True], [1, 1], [0, 1]),
        lambda: weighted_precision_recall([1, 0], [False, False], [1, 1], [0, 1]),
        lambda: weighted_precision_recall([1, 0], [True, False], [1, 0], [0, 1]),
        lambda: auprc([1, 0], [True, False], [1], [0, 1]),
        lambda: effective_size([], []),
    ],
)
def test_what_is_undefined_is_refused_and_not_scored(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        call()
