"""Scorers: against double loops, against exhaustive truth on the planted corpus, and honest where nothing is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Container, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.domain import COMBINATIONS, NeuronId, Score, SignCombination, Split, View
from neuronagent.explain.evidence import CombinationEvidence, Strength, Window
from neuronagent.explain.items import FURTHER, N0, N1, ItemSets, item_sets, magnitude_bin, spread
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.base_rate import (
    AUPRC,
    CORPUS,
    F1,
    PRECISION,
    RECALL,
    WIDER,
    base_rate,
    edge_reached_by,
)
from neuronagent.explain.scorers.cross_combination import PAIRWISE, WHICH, shares
from neuronagent.explain.scorers.detection import AUROC, BALANCED_ACCURACY, STRONGEST, detection
from neuronagent.explain.scorers.judged_base_rate import FALSE_POSITIVE_RATE, judged_base_rate
from neuronagent.explain.subjects import EmptySubject, Subject
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL
from neuronagent.layout import HISTOGRAM_BINS, HISTOGRAM_EDGES
from neuronagent.service.explain import Explainer
from neuronagent.store.reader import IndexReader
from tests.explain.scripted_subjects import Array, Scripted, reads_post, windows
from tests.known_index import known, world

PP, PM, MP, MM = COMBINATIONS
LAYER_0 = [NeuronId(0, index) for index in range(16)]


def sets(positive: Sequence[float], negative: Sequence[float]) -> ItemSets:
    return ItemSets(
        positive=windows(positive), negative={N0: windows(negative, first=1000)}, missing={N1: "no other combination"}
    )


def scored(
    items: ItemSets,
    controls: Mapping[str, Subject] | None = None,
    reported: Mapping[str, Subject] | None = None,
    subject: Subject | None = None,
    control_sets: Container[str] | None = None,
) -> dict[tuple[str, str], Score]:
    found = detection(
        subject or Scripted(reads_post), items, controls or {"empty": EmptySubject()}, reported or {},
        view=View.CAUSAL, split=Split.TEST, seed=3, judge="rule", control_sets=control_sets,
    )  # fmt: skip
    assert all(score.split is Split.TEST and score.judge == "rule" and score.seed == 3 for score in found)
    return {(score.metric, score.negative_set): score for score in found}


def double_loop(positive: Sequence[float], negative: Sequence[float]) -> float:
    return sum((p > n) + (p == n) / 2 for p in positive for n in negative) / len(positive) / len(negative)


values = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.51, 0.8, 1.0]), min_size=2, max_size=25)

# Detection


@given(values, values)
@settings(max_examples=30, deadline=None)
def test_detection_is_the_share_of_pairs_in_the_right_order(positive: list[float], negative: list[float]) -> None:
    found = scored(sets(positive, negative))[AUROC, N0]
    assert found.value == pytest.approx(double_loop(positive, negative))
    assert found.lo is not None
    assert found.hi is not None
    assert found.value is not None
    assert found.lo <= found.value <= found.hi
    assert found.hi > found.lo or found.value == 0.5
    assert (found.n_pos, found.n_neg) == (len(positive), len(negative))


@given(values, values)
@settings(max_examples=30, deadline=None)
def test_balanced_accuracy_is_the_mean_of_two_shares_at_one_half(positive: list[float], negative: list[float]) -> None:
    found = scored(sets(positive, negative))[BALANCED_ACCURACY, N0]
    hits = sum(value > 0.5 for value in positive) / len(positive)
    refused = sum(value <= 0.5 for value in negative) / len(negative)
    assert found.value == pytest.approx((hits + refused) / 2)


def test_a_set_that_is_missing_has_a_score_without_a_value_and_with_the_reason() -> None:
    found = scored(sets([1.0, 0.9], [0.1, 0.2]))[AUROC, N1]
    assert (found.value, found.lo, found.hi, found.reason) == (None, None, None, "no other combination")
    assert (found.n_pos, found.n_neg) == (2, 0)


def test_without_positives_no_set_has_a_value_and_all_say_why() -> None:
    found = scored(ItemSets(positive=(), negative={N0: windows([0.1])}, missing={}))
    assert [(s.value, s.reason) for s in found.values()] == [(None, "no strong tokens in test")]


def test_the_empty_control_is_at_exactly_one_half() -> None:
    (empty, strongest) = scored(sets([1.0, 0.9, 0.4], [0.1, 0.2, 0.6]))[AUROC, N0].controls
    assert (empty.kind, empty.value) == ("empty", 0.5)
    assert (strongest.kind, strongest.value) == (STRONGEST, 0.5)
    assert empty.lift == pytest.approx(double_loop([1.0, 0.9, 0.4], [0.1, 0.2, 0.6]) - 0.5)


def test_the_strongest_control_is_the_best_of_those_that_compete_and_the_token_list_does_not() -> None:
    items = sets([1.0, 0.9, 0.8, 0.7], [0.1, 0.2, 0.3, 0.75])
    controls = {
        "empty": EmptySubject(),
        "backwards": Scripted(lambda shown: -reads_post(shown)),
        "coarse": Scripted(lambda shown: np.round(reads_post(shown))),
    }
    found = scored(items, controls, {TOKEN_LIST_CONTROL: Scripted(reads_post)})[AUROC, N0]
    rows = {control.kind: control for control in found.controls}
    assert list(rows) == ["empty", "backwards", "coarse", STRONGEST, TOKEN_LIST_CONTROL]
    assert rows[STRONGEST].value == rows["coarse"].value == pytest.approx(0.875)
    assert rows["backwards"].value == pytest.approx(1 - double_loop([1.0, 0.9, 0.8, 0.7], [0.1, 0.2, 0.3, 0.75]))
    assert rows[TOKEN_LIST_CONTROL].lift == 0.0
    assert rows[STRONGEST].lift == pytest.approx((found.value or 0) - 0.875)
    assert (rows[STRONGEST].lift_lo or 0) <= (rows["coarse"].lift_lo or 0)


# Answers that failed

GOOD, POOR = [1.0, 0.9, 0.8, 0.7, 0.6] * 4, [0.1, 0.2, 0.3, 0.65, 0.4] * 4


def test_an_item_without_an_answer_is_left_out_and_counted() -> None:
    found = scored(sets(GOOD, POOR), subject=Scripted(reads_post, silent={0, 1, 1003}))[AUROC, N0]
    assert found.value == pytest.approx(double_loop(GOOD[2:], POOR[:3] + POOR[4:]))
    assert (found.n_pos, found.n_neg, found.n_failed) == (18, 19, 3)


@pytest.mark.parametrize(("silent", "reason"), [({0, 1, 2}, "3 of 20 answers failed"), (range(40), "20 of 20")])
def test_above_a_tenth_failed_there_is_no_score_and_the_reason_says_how_many(
    silent: Collection[int], reason: str
) -> None:
    for metric in (AUROC, BALANCED_ACCURACY):
        found = scored(sets(GOOD, POOR), subject=Scripted(reads_post, silent=silent))[metric, N0]
        assert (found.value, found.lo, found.hi, found.controls) == (None, None, None, ())
        assert reason in (found.reason or "")
        assert found.n_failed == len(silent) if len(silent) < 20 else 20


def test_failures_are_limited_on_each_side_on_its_own() -> None:
    """Three of twenty negatives are too many, however many positives there are."""
    found = scored(sets(GOOD * 5, POOR), subject=Scripted(reads_post, silent={1000, 1001, 1002}))[AUROC, N0]
    assert found.reason == "3 of 20 answers failed"


def test_a_lift_is_over_the_items_that_subject_and_controls_answered() -> None:
    backwards = Scripted(lambda shown: -reads_post(shown), silent={1, 1003})
    found = scored(sets(GOOD, POOR), {"backwards": backwards}, subject=Scripted(reads_post, silent={0}))[AUROC, N0]
    (row, strongest) = found.controls
    paired = double_loop(GOOD[2:], POOR[:3] + POOR[4:])
    assert found.value == pytest.approx(double_loop(GOOD[1:], POOR))
    assert row.value == strongest.value == pytest.approx(1 - paired)
    assert row.lift == pytest.approx(2 * paired - 1)
    assert found.n_failed == 1


def test_where_a_control_failed_nobody_knows_the_strongest() -> None:
    dumb = Scripted(reads_post, silent=range(2000))
    found = scored(sets(GOOD, POOR), {"empty": EmptySubject(), "dumb": dumb})[AUROC, N0]
    rows = {control.kind: control for control in found.controls}
    assert rows["empty"].lift is not None
    assert (rows["dumb"].value, rows["dumb"].lift, rows["dumb"].lift_lo) == (None, None, None)
    assert (rows[STRONGEST].value, rows[STRONGEST].lift_lo) == (None, None)


def test_controls_are_asked_only_about_the_sets_that_are_named() -> None:
    items = ItemSets(
        positive=windows(GOOD), negative={N0: windows(POOR, first=1000), N1: windows(POOR, first=2000)}, missing={}
    )
    control = Scripted(lambda shown: -reads_post(shown))
    found = scored(items, {"backwards": control}, control_sets=(N0,))
    assert len(found[AUROC, N0].controls) == 2
    assert found[AUROC, N1].controls == ()
    assert set(control.asked) == {*range(20), *range(1000, 1020)}
    scored(items, {"backwards": (unasked := Scripted(reads_post))}, control_sets=())
    assert unasked.asked == []


def test_all_questions_are_known_from_a_first_pass_in_which_nothing_is_answered() -> None:
    """What is asked does not depend on the answers: a pass over silent subjects asks the same."""
    items = sets(GOOD, POOR)
    asked: list[list[int]] = []
    for silent in ((), range(3000)):
        subject, control = Scripted(reads_post, silent), Scripted(reads_post, silent)
        scored(items, {"a": control, "empty": EmptySubject()}, subject=subject)
        asked.append(sorted(set(subject.asked)) + sorted(set(control.asked)))
    assert asked[0] == asked[1]


def test_shuffled_explanations_are_at_chance_within_their_intervals() -> None:
    """Scores that have nothing to do with the windows: some 95 % of intervals hold ½, few p-values are small."""
    inside: list[bool] = []
    small: list[bool] = []
    for seed in range(120):
        generator = np.random.default_rng(seed)
        shuffled = Scripted(lambda shown, g=generator: g.normal(size=len(shown)))
        found = scored(sets(GOOD, POOR), subject=shuffled)[AUROC, N0]
        assert found.lo is not None
        assert found.hi is not None
        assert found.p is not None
        inside.append(found.lo <= 0.5 <= found.hi)
        small.append(found.p <= 0.05)
    assert 0.9 <= np.mean(inside) <= 0.995
    assert np.mean(small) <= 0.1


def test_a_score_is_the_same_every_time_it_is_taken() -> None:
    items = sets([1.0, 0.9, 0.4, 0.3], [0.1, 0.2, 0.6])
    assert scored(items) == scored(items)


# Items


@pytest.mark.parametrize("neuron", LAYER_0[:5], ids=str)
def test_items_are_what_the_protocol_says_of_each_set(explainer: Explainer, neuron: NeuronId) -> None:
    evidence = explainer.evidence(neuron)
    for c, own in evidence.combinations.items():
        for split in Split:
            items = item_sets(evidence, c, split)
            assert all(own.strength(w) is Strength.STRONG for w in items.positive)
            assert len({w.text.text_id for w in items.positive}) == len(items.positive) <= 20
            random = items.negative.get(N0, ())
            assert len(random) <= 20
            assert all(own.strength(w) is Strength.WEAK and w in evidence.random[split] for w in random)
            others = items.negative.get(N1, ())
            assert all(w.combination is not c for w in others)
            for d in COMBINATIONS:
                expected = 0 if d is c else min(7, len(evidence.combinations[d].strong[split]))
                assert sum(w.combination is d for w in others) == expected
            assert set(items.missing) == {N0, N1, *FURTHER} - set(items.negative)
            every = (*items.positive, *random, *others)
            assert all(w.text.split is split for w in every)


@given(st.lists(st.floats(0.01, 50), max_size=40), st.integers(1, 20))
def test_windows_are_taken_in_turn_from_the_bins(posts: list[float], n: int) -> None:
    shown = windows(sorted(posts, reverse=True))
    taken = spread(shown, n)
    assert len(taken) == min(n, len(shown))
    counts = {b: sum(magnitude_bin(w) == b for w in taken) for b in {magnitude_bin(w) for w in shown}}
    for b, count in counts.items():
        available = sum(magnitude_bin(w) == b for w in shown)
        assert count == available or count >= max(counts.values()) - 1


# Base rate


def exhaustive(explainer: Explainer, neuron: NeuronId, c: SignCombination) -> tuple[float, float]:
    """Precision and recall of the rule over every token of the test split, by the oracle's activations."""
    rule, own = explainer.rules(neuron)[c], explainer.evidence(neuron).combinations[c]
    assert rule is not None
    assert own.tau is not None
    truth = known(neuron)
    held = truth.within(Split.TEST)
    fires = rule.predict(explainer.test_positions) > 0.5
    assert len(fires) == held.sum()
    assert explainer.test_positions.back(0).tolist() == truth.token[held].tolist()
    strong = ((truth.combination == c.position) & (np.abs(truth.post) >= own.tau * (1 - 1e-6)))[held]
    both = (fires & strong).sum()
    return float(both / fires.sum()), float(both / strong.sum())


@pytest.mark.slow
def test_precision_and_recall_of_the_whole_corpus_lie_within_their_intervals(explainer: Explainer) -> None:
    """In 95 % of units, give or take what chance does to as many as there are; and every interval has a width."""
    inside: list[bool] = []
    told: list[str] = []
    limited = 0
    for neuron in LAYER_0:
        for c, found in explainer.explain(neuron).items():
            scores = {s.metric: s for s in found.scores if s.negative_set == CORPUS}
            for metric, true in zip(
                (PRECISION, RECALL), exhaustive(explainer, neuron, c) if scores else (), strict=False
            ):
                score = scores[metric]
                if score.value is None:
                    assert score.reason
                    if score.lo is not None and score.hi is not None:  # limits, which hold without exception
                        assert score.lo - 1e-9 <= true <= score.hi + 1e-9
                        limited += 1
                    continue
                assert score.lo is not None
                assert score.hi is not None
                assert 0 <= score.lo < score.hi <= 1
                assert score.lo <= score.value <= score.hi
                inside.append(score.lo - 1e-9 <= true <= score.hi + 1e-9)
                told.append(
                    f"{neuron} {c.value} {metric} {score.value:.2f} [{score.lo:.2f}, {score.hi:.2f}] {true:.2f}"
                )
    assert len(inside) >= 40
    assert limited >= 4
    missed = [line for line, held in zip(told, inside, strict=True) if not held]
    assert np.mean(inside) >= 0.88, "\n".join(missed)


def own_evidence(explainer: Explainer) -> CombinationEvidence:
    return explainer.evidence(NeuronId(0, 1)).combinations[PP]


def corpus_scores(own: CombinationEvidence, says: Callable[[Sequence[Window]], Array], fires: int) -> dict[str, Score]:
    """The scores at τ of what fires at `fires` of the 1000 tokens that were looked at."""
    found = base_rate(
        Scripted(says), own, corpus=(np.arange(1000) < fires).astype(np.float64),
        split_tokens=10_000, split=Split.TEST, seed=0, judge="rule",
    )  # fmt: skip
    return {score.metric: score for score in found if score.negative_set == CORPUS}


def test_a_rule_that_always_holds_has_all_the_recall_and_the_base_rate_for_precision(explainer: Explainer) -> None:
    own = own_evidence(explainer)
    found = corpus_scores(own, lambda w: np.ones(len(w)), fires=1000)
    assert found[RECALL].value == pytest.approx(1.0)
    assert found[PRECISION].value == pytest.approx(own.strong_count(Split.TEST) / 10_000)


def test_a_window_of_the_top_list_stands_for_itself_alone(explainer: Explainer) -> None:
    """Half an octave of strong tokens is not what its sixteen strongest are."""
    checked = 0
    for neuron in LAYER_0:
        for own in explainer.evidence(neuron).combinations.values():
            top = {entry.token_number for entry in own.record.post_by_split[Split.TEST]}
            listed = [w for w in own.strong[Split.TEST] if w.number in top]

            def on_the_list(shown: Sequence[Window], top: set[int] = top) -> Array:
                return np.array([w.number in top for w in shown], dtype=np.float64)

            recall = corpus_scores(own, on_the_list, fires=10)[RECALL]
            if recall.value is not None and own.strong_count(Split.TEST) > len(listed):
                assert recall.value == pytest.approx(len(listed) / own.strong_count(Split.TEST))
                checked += 1
    assert checked >= 20


def test_a_precision_of_one_has_a_lower_limit(explainer: Explainer) -> None:
    found = corpus_scores(own_evidence(explainer), lambda w: np.ones(len(w)), fires=1)[PRECISION]
    assert (found.value, found.hi) == (1.0, 1.0)
    assert found.lo is not None
    assert 0.5 < found.lo < 1


def test_a_rule_that_never_fires_has_no_precision_and_says_why(explainer: Explainer) -> None:
    found = corpus_scores(own_evidence(explainer), lambda w: np.zeros(len(w)), fires=0)
    assert found[RECALL].value == 0.0
    assert (found[RECALL].hi or 0) > 0
    assert (found[PRECISION].value, found[PRECISION].reason) == (None, "it fires nowhere in the corpus")


def test_without_strong_tokens_both_are_null_with_the_reason(explainer: Explainer) -> None:
    own = explainer.evidence(NeuronId(0, 1)).combinations[PM]
    found = corpus_scores(own, lambda w: np.ones(len(w)), fires=5)
    assert {score.reason for score in found.values()} == {"no strong tokens"}
    assert list(found) == [RECALL, PRECISION, F1, AUPRC]
    assert all(score.value is None for score in found.values())


def test_the_wider_meanings_of_strong_reach_lower_and_have_scores_of_their_own(explainer: Explainer) -> None:
    own = own_evidence(explainer)
    edges = [edge_reached_by(own, percent) for percent in WIDER]
    assert own.tau is not None
    assert edges == sorted((edge for edge in edges if edge is not None), reverse=True)
    assert all(edge is not None and edge <= own.tau for edge in edges)
    found = base_rate(
        Scripted(lambda w: np.ones(len(w))), own, corpus=np.repeat([0.2, 0.9], [500, 500]),
        split_tokens=10_000, split=Split.TEST, seed=0, judge="rule",
    )  # fmt: skip
    values = {(s.negative_set, s.metric): s for s in found}
    for name, edge in zip(WIDER.values(), edges, strict=True):
        reached = sum(
            count
            for count, low in zip(own.record.histogram[Split.TEST][1:], HISTOGRAM_EDGES, strict=True)
            if low >= (edge or 0)
        )
        assert values[name, RECALL].value == pytest.approx(1.0)
        assert values[name, PRECISION].value == pytest.approx(min(1.0, reached / 10_000 / 0.5))


@pytest.mark.slow
def test_f1_is_that_of_precision_and_recall_and_auprc_lies_between_base_rate_and_one(explainer: Explainer) -> None:
    checked = 0
    for neuron in LAYER_0:
        for found in explainer.explain(neuron).values():
            for name in (CORPUS, *WIDER.values()):
                scores = {s.metric: s for s in found.scores if s.negative_set == name}
                precision, recall = (scores[m].value if m in scores else None for m in (PRECISION, RECALL))
                if precision is None or recall is None or not precision + recall:
                    continue
                assert scores[F1].value == pytest.approx(2 * precision * recall / (precision + recall))
                area = scores[AUPRC]
                assert area.value is not None
                assert area.lo is not None
                assert area.hi is not None
                assert 0 <= area.lo <= area.value <= area.hi <= 1
                checked += 1
    assert checked >= 60


# Cross-combination

tables = st.integers(2, 4).flatmap(
    lambda k: st.lists(
        st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=k, max_size=k), min_size=1, max_size=6),
        min_size=k,
        max_size=k,
    )
)
"""For each of k combinations its windows, each with a score by each of the k explanations."""


def laid_out(table: list[list[list[float]]]) -> tuple[list[Subject], list[tuple[Window, ...]]]:
    shown = [windows([0.0] * len(rows), first=100 * place) for place, rows in enumerate(table)]
    score_of = {
        w.text.text_id: row
        for group, rows in zip(shown, table, strict=True)
        for w, row in zip(group, rows, strict=True)
    }

    def explanation(column: int) -> Subject:
        return Scripted(lambda some: np.array([score_of[w.text.text_id][column] for w in some], dtype=np.float64))

    return [explanation(column) for column in range(len(table))], shown


@given(tables)
def test_each_window_goes_to_the_explanations_that_score_it_highest_ties_shared(table: list[list[list[float]]]) -> None:
    counts = np.stack([shares(np.array(rows)) for rows in table])
    expected = [[0.0] * len(table) for _ in table]
    for place, rows in enumerate(table):
        for row in rows:
            best = [column for column, value in enumerate(row) if value == max(row)]
            for column in best:
                expected[place][column] += 1 / len(best)
    np.testing.assert_allclose(counts, expected)
    np.testing.assert_allclose(counts.sum(axis=1), [len(rows) for rows in table])


@given(tables)
@settings(max_examples=40, deadline=None)
def test_overall_is_the_mean_share_that_goes_to_its_own_and_pairs_are_auroc(table: list[list[list[float]]]) -> None:
    subjects, shown = laid_out(table)
    order = COMBINATIONS[: len(table)]
    scores = cross_combination.cross_combination(
        dict(zip(order, subjects, strict=True)), dict(zip(order, shown, strict=True)),
        split=Split.TEST, seed=0, judge="rule",
    )  # fmt: skip
    counts = np.stack([shares(np.array(rows)) for rows in table])
    own = [counts[place, place] / len(rows) for place, rows in enumerate(table)]
    overall = cross_combination.overall(scores)
    assert overall is not None
    assert overall.value == pytest.approx(np.mean(own))
    assert overall.lo <= overall.value <= overall.hi
    for place, c in enumerate(order):
        which = [s.value for s in scores[c] if s.metric == WHICH]
        assert sum(value or 0 for value in which) == pytest.approx(1)
        for other, d in enumerate(order):
            if d is not c:
                pair = next(s for s in scores[c] if s.metric == PAIRWISE and s.negative_set == d.value)
                columns = [[row[place] for row in table[group]] for group in (place, other)]
                assert pair.value == pytest.approx(double_loop(*columns))


@given(tables)
@settings(max_examples=30, deadline=None)
def test_what_a_judge_said_of_all_texts_together_decides_which_and_not_the_pairs(
    table: list[list[list[float]]],
) -> None:
    subjects, shown = laid_out(table)
    order = COMBINATIONS[: len(table)]
    told = {c: np.eye(len(order))[[place] * len(shown[place])] for place, c in enumerate(order)}
    groups = dict(zip(order, subjects, strict=True)), dict(zip(order, shown, strict=True))
    with_judge = cross_combination.cross_combination(*groups, split=Split.TEST, seed=0, judge="j", which=told)
    alone = cross_combination.cross_combination(*groups, split=Split.TEST, seed=0, judge="j")
    overall = cross_combination.overall(with_judge)
    assert overall is not None
    assert overall.value == pytest.approx(1.0)
    for c in order:
        pairs = [[s for s in found[c] if s.metric == PAIRWISE] for found in (with_judge, alone)]
        assert pairs[0] == pairs[1]


def test_where_too_many_choices_failed_there_is_no_share_and_no_overall() -> None:
    order = (PP, PM)
    shown = {PP: windows(GOOD), PM: windows(POOR, first=1000, combination=PM)}
    subjects = {PP: Scripted(reads_post, silent={0}), PM: Scripted(lambda w: -reads_post(w), silent=range(1000, 1003))}
    scores = cross_combination.cross_combination(subjects, shown, split=Split.TEST, seed=0, judge="j")
    of = {(c, s.metric, s.negative_set): s for c in order for s in scores[c]}
    assert of[PP, WHICH, PP.value].value == 1.0
    assert (of[PP, WHICH, PP.value].n_pos, of[PP, WHICH, PP.value].n_failed) == (19, 1)
    assert of[PM, WHICH, PM.value].reason == "3 of 20 answers failed"
    assert of[PP, PAIRWISE, PM.value].value == pytest.approx(double_loop(GOOD[1:], POOR))
    assert of[PM, PAIRWISE, PP.value].value is None
    assert cross_combination.overall(scores) is None
    assert cross_combination.not_told_apart(scores) == []


@pytest.mark.parametrize("given_choices", [True, False])
def test_a_combination_without_windows_has_no_value_and_the_others_keep_theirs(given_choices: bool) -> None:
    shown = {PP: windows(GOOD), PM: ()}
    scores = cross_combination.cross_combination(
        {PP: Scripted(reads_post), PM: Scripted(lambda w: -reads_post(w))}, shown, split=Split.TEST, seed=0, judge="j",
        which={c: np.full((len(shown[c]), 2), 0.5) for c in shown} if given_choices else None,
    )  # fmt: skip
    assert {s.reason for s in scores[PM]} == {"no strong tokens"}
    assert [s.value is None for s in scores[PP]] == [False, False, True]


def test_a_single_combination_has_nothing_to_be_told_apart_from() -> None:
    found = cross_combination.cross_combination(
        {PP: Scripted(reads_post)}, {PP: windows([1.0])}, split=Split.TEST, seed=0, judge="rule"
    )
    assert found == {PP: []}
    assert cross_combination.overall(found) is None
    assert cross_combination.not_told_apart(found) == []


@pytest.mark.parametrize(
    ("there", "back", "unclear"), [(0.4, 0.5, True), (0.4, 0.6, False), (0.6, 0.4, False), (0.6, 0.6, False)]
)
def test_combinations_are_not_told_apart_only_if_neither_way_is_above_one_half(
    there: float, back: float, unclear: bool
) -> None:
    def pair(other: SignCombination, lo: float) -> Score:
        return Score(
            metric=PAIRWISE, negative_set=other.value, split=Split.TEST, value=0.7, lo=lo, hi=0.9, n_pos=9, n_neg=9
        )

    scores = {MP: [pair(MM, there)], MM: [pair(MP, back)]}
    assert cross_combination.not_told_apart(scores) == ([(MP, MM)] if unclear else [])


def test_the_explainer_reads_the_whole_test_split_when_it_is_small(explainer: Explainer) -> None:
    with IndexReader.open(world().db) as reader:
        assert len(explainer.test_positions) == int(reader.token_counts(Split.TEST).sum())


# Base rate, judged


def judged(
    own: CombinationEvidence, explainer: Explainer, subject: Subject, neuron: NeuronId = LAYER_0[1]
) -> dict[str, Score]:
    random = explainer.evidence(neuron).random[Split.TEST][:30]
    positive = spread(own.strong[Split.TEST], 20)
    found = judged_base_rate(
        subject, own, positive, random, split_tokens=explainer.test_tokens, split=Split.TEST, seed=0, judge="j"
    )
    assert all((s.negative_set, s.judge) == (CORPUS, "j") for s in found)
    return {score.metric: score for score in found}


def test_a_judge_that_always_says_yes_has_the_base_rate_for_precision(explainer: Explainer) -> None:
    own = own_evidence(explainer)
    found = judged(own, explainer, Scripted(lambda w: np.full(len(w), 0.9)))
    share = own.strong_count(Split.TEST) / explainer.test_tokens
    assert found[RECALL].value == pytest.approx(1.0)
    assert found[PRECISION].value == pytest.approx(share)
    assert found[F1].value == pytest.approx(2 * share / (1 + share))
    assert found[FALSE_POSITIVE_RATE].value == 1.0
    assert (found[AUPRC].value, found[AUPRC].reason) == (None, "it scores all windows alike")


def test_without_a_false_positive_the_bound_is_told_and_not_a_precision_of_one(explainer: Explainer) -> None:
    own = own_evidence(explainer)
    found = judged(own, explainer, Scripted(lambda w: np.array([own.strength(x) is Strength.STRONG for x in w]) * 1.0))
    rate, precision = found[FALSE_POSITIVE_RATE], found[PRECISION]
    assert (rate.value, rate.lo) == (None, 0.0)
    assert rate.hi is not None
    assert rate.hi == pytest.approx(3 / rate.n_neg, rel=0.35)  # random windows of one text count as one
    assert (precision.value, precision.hi) == (None, 1.0)
    assert precision.lo is not None
    assert 0 < precision.lo < 0.5
    assert "no false positive among" in (precision.reason or "")
    assert found[AUPRC].value == pytest.approx(1.0)


def test_a_judged_base_rate_counts_failures_like_every_score(explainer: Explainer) -> None:
    own = own_evidence(explainer)
    silent = {w.text.text_id for w in own.strong[Split.TEST]}
    found = judged(own, explainer, Scripted(lambda w: np.ones(len(w)), silent=silent))
    assert all(score.value is None and "answers failed" in (score.reason or "") for score in found.values())


def test_strong_windows_stand_for_their_half_octave(explainer: Explainer) -> None:
    """Recall of what holds in one bin alone is the share of the corpus' strong tokens in it, and in those above it that
    no window is of."""
    checked = 0
    for neuron, own in ((n, own) for n in LAYER_0 for own in explainer.evidence(n).combinations.values()):
        present = sorted({magnitude_bin(w) for w in spread(own.strong[Split.TEST], 20)})
        for low, high in itertools.pairwise([*present[1:], HISTOGRAM_BINS]):
            subject = Scripted(lambda shown, b=low: np.array([magnitude_bin(w) == b for w in shown]) * 1.0)
            recall = judged(own, explainer, subject, neuron)[RECALL].value
            inside = sum(own.record.histogram[Split.TEST][low:high])
            assert recall == pytest.approx(inside / own.strong_count(Split.TEST))
            checked += 1
    assert checked >= 3
