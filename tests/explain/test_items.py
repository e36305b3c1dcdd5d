"""Items of the known corpus, where what the neuron does at every token is known in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, NeuronRecord, SignCombination, Split, Text, View
from neuronagent.explain.evidence import NeuronEvidence, Strength, Window, fingerprint, gather
from neuronagent.explain.items import (
    DEFAULT_SIZES,
    FULL_SIZES,
    FURTHER,
    N0,
    N1,
    N2,
    N3,
    QUICK_SIZES,
    SAME_TEXTS,
    SIZES,
    ItemSets,
    fuzzing_items,
    item_sets,
    simulation_items,
)
from neuronagent.explain.trace_plan import TraceCorpus, TracePlan, plan, rounded, settle
from neuronagent.explain.traced import PLAN_VERSION, TracedTokens
from neuronagent.store.reader import IndexReader
from neuronagent.store.traced import StoredTokens
from tests.known_index import SALT, Known, known, world

NEURONS = [NeuronId(0, index) for index in range(6)]
DIGITS, PP = NeuronId(0, 0), COMBINATIONS[0]


class Corpus:
    """The known index, with traces that the truth itself has written."""

    def __init__(self, traced: Mapping[NeuronId, StoredTokens] | None = None) -> None:
        self.traced = traced or {}
        self.texts = {text.text_id: text for text in world().texts}

    def neuron(self, neuron: NeuronId) -> NeuronRecord:
        with IndexReader.open(world().db) as reader:
            return reader.neuron(neuron)

    def text(self, text_id: int) -> Text:
        return self.texts[text_id]

    def locate(self, token_number: int) -> tuple[int, int]:
        text = next(t for t in world().texts if t.first_token <= token_number < t.first_token + len(t.token_ids))
        return text.text_id, token_number - text.first_token

    def traced_tokens(self, neuron: NeuronId) -> StoredTokens | None:
        return self.traced.get(neuron)


@cache
def searched() -> TraceCorpus:
    return TraceCorpus([text for text in world().texts if text.split is Split.TEST], SALT)


@cache
def planned(neuron: NeuronId) -> TracePlan:
    return plan(gather(Corpus(), neuron, salt=SALT), searched())


def places_of(truth: Known, numbers: Sequence[int] | np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[int]:
    return np.searchsorted(truth.number, numbers).tolist()


@cache
def settled(neuron: NeuronId) -> TracedTokens:
    """What is kept of the truth: gate and in have the right signs, act is what makes post right."""
    truth = known(neuron)
    places = places_of(truth, planned(neuron).numbers)
    gate = np.array([COMBINATIONS[c].gate_sign if c >= 0 else 0 for c in truth.combination[places]], np.float32)
    into = np.array([COMBINATIONS[c].in_sign if c >= 0 else 0 for c in truth.combination[places]], np.float32)
    return settle(planned(neuron), gate, into, (truth.post[places] * into).astype(np.float32))


@cache
def evidence(neuron: NeuronId) -> NeuronEvidence:
    """The evidence about a neuron that was traced."""
    own = settled(neuron)
    stored = StoredTokens(numbers=own.numbers, values=own.values, sets=own.sets, plan_version=PLAN_VERSION)
    return gather(Corpus({neuron: stored}), neuron, salt=SALT)


UNITS = [(n, c) for n in NEURONS for c in COMBINATIONS if planned(n).evidence.combinations[c].enough(Split.TEST)]
units = pytest.mark.parametrize(("neuron", "c"), UNITS, ids=lambda v: v.value if isinstance(v, SignCombination) else v)


def strength(neuron: NeuronId, c: SignCombination, text: Text, position: int) -> Strength:
    """What a token really is."""
    truth = known(neuron)
    (place,) = places_of(truth, [text.first_token + position])
    found = int(truth.combination[place])
    window = Window(text=text, position=position, combination=COMBINATIONS[found], post=float(truth.post[place]))
    return Strength.WEAK if found < 0 else planned(neuron).evidence.combinations[c].strength(window)


def everything(sets: ItemSets) -> list[Window]:
    return [window for windows in sets.negative.values() for window in windows]


# Sets


@units
def test_every_negative_is_weak_at_its_marked_token(neuron: NeuronId, c: SignCombination) -> None:
    found = item_sets(evidence(neuron), c, Split.TEST, FULL_SIZES)
    assert everything(found)
    for window in everything(found):
        assert strength(neuron, c, window.text, window.position) is Strength.WEAK
        assert window.text.split is Split.TEST


@units
def test_in_the_full_view_everything_that_is_shown_of_a_negative_is_weak(neuron: NeuronId, c: SignCombination) -> None:
    for window in everything(item_sets(evidence(neuron), c, Split.TEST, FULL_SIZES, View.FULL)):
        start, end = window.span(View.FULL)
        assert start <= window.position < end
        assert {strength(neuron, c, window.text, p) for p in range(start, end)} == {Strength.WEAK}


@units
def test_the_full_view_keeps_all_random_windows_that_allow_it(neuron: NeuronId, c: SignCombination) -> None:
    own, weak = planned(neuron).evidence.combinations[c], Strength.WEAK
    allowed = [
        window.number
        for window in planned(neuron).evidence.random[Split.TEST][:60]
        if own.strength(window) is weak
        and all(strength(neuron, c, window.text, p) is weak for p in range(*window.span(View.FULL)))
    ]
    found = item_sets(evidence(neuron), c, Split.TEST, view=View.FULL)
    assert [window.number for window in found.negative.get(N0, ())] == allowed[: DEFAULT_SIZES.random]
    assert (N0 in found.missing) == (not allowed)


@units
def test_sets_are_what_their_names_say(neuron: NeuronId, c: SignCombination) -> None:
    own = evidence(neuron).combinations[c]
    strong = own.strong[Split.TEST]
    texts = {window.text.text_id for window in strong}
    peaks = {window.text.token_ids[window.position] for window in strong}
    copies = {window.fingerprint for windows in own.strong.values() for window in windows}
    found = item_sets(evidence(neuron), c, Split.TEST, FULL_SIZES).negative
    for window in found.get(N2, ()):
        assert window.text.token_ids[window.position] in peaks
    for name in (N2, N3):
        chosen = [window.text.text_id for window in found.get(name, ())]
        assert texts.isdisjoint(chosen)
        assert len(set(chosen)) == len(chosen)
    for window in found.get(N3, ()):
        assert window.span(View.FULL) == window.span(View.CAUSAL)
        assert all(fingerprint(window.text, p) not in copies for p in range(*window.span(View.CAUSAL)))
    assert {window.text.text_id for window in found[SAME_TEXTS]} <= texts


@units
def test_the_same_texts_give_the_tokens_of_smallest_u_that_are_weak(neuron: NeuronId, c: SignCombination) -> None:
    """In turn: each P's text gives its first token before any gives its second."""
    found = item_sets(evidence(neuron), c, Split.TEST, FULL_SIZES).negative[SAME_TEXTS]
    strong = evidence(neuron).combinations[c].strong[Split.TEST]
    if len(strong) >= 20:
        return
    turn: dict[int, int] = {}
    tried = planned(neuron).candidates[c][SAME_TEXTS]
    for window in tried:
        turn[window.text.text_id] = turn.get(window.text.text_id, 0) + 1
    assert max(turn.values()) - min(turn.values()) <= 2  # a strong token and a short text may miss a turn
    order = [window.number for window in tried]
    assert [window.number for window in found] == sorted((w.number for w in found), key=order.index)


def test_where_a_token_is_always_strong_there_is_no_n2_and_the_reason_says_so() -> None:
    """What 0.4 does is decided by the token alone."""
    found = item_sets(evidence(NeuronId(0, 4)), COMBINATIONS[2], Split.TEST)
    assert N2 not in found.negative
    assert "hardly ever is it weak" in found.missing[N2]


def test_without_traces_each_set_says_why_it_is_missing() -> None:
    bare = planned(DIGITS).evidence
    causal, full = (item_sets(bare, PP, Split.TEST, view=view) for view in View)
    assert set(causal.negative) == {N0, N1}
    assert set(causal.missing) == set(FURTHER)
    assert set(full.missing) == {N0, N1, *FURTHER}
    assert all("the model was not run" in reason for reason in (*causal.missing.values(), *full.missing.values()))
    assert full.positive == causal.positive != ()
    assert fuzzing_items(bare, PP, Split.TEST, np.zeros(60, np.int64)) == ((), ())
    assert simulation_items(bare, PP, Split.TEST) is None


def test_select_has_no_sets_that_need_the_model_and_says_so() -> None:
    found = item_sets(evidence(DIGITS), PP, Split.SELECT)
    assert all("select" in found.missing[name] for name in FURTHER)
    assert N0 in found.negative


@units
def test_smaller_sizes_take_the_first_of_larger_ones(neuron: NeuronId, c: SignCombination) -> None:
    for view in View:
        quick, usual, full = (item_sets(evidence(neuron), c, Split.TEST, s, view) for s in SIZES.values())
        for less, more in ((quick, usual), (usual, full)):
            assert more.positive[: len(less.positive)] == less.positive
            for name in set(less.negative) - {N1}:
                assert more.negative[name][: len(less.negative[name])] == less.negative[name]
        assert len(usual.positive) <= 20
        assert all(len(usual.negative.get(name, ())) <= 20 for name in (N0, SAME_TEXTS))
        assert all(len(usual.negative.get(name, ())) <= 10 for name in (N2, N3))
        assert all(len(quick.negative.get(name, ())) <= 5 for name in (N2, N3))
        assert len(quick.negative.get(N1, ())) <= 3 * QUICK_SIZES.per_other


def test_an_older_plan_counts_for_nothing() -> None:
    own = settled(DIGITS)
    stored = StoredTokens(numbers=own.numbers, values=own.values, sets=own.sets, plan_version="trace-v0")
    assert gather(Corpus({DIGITS: stored}), DIGITS, salt=SALT).traced is None


# Fuzzing and simulation


@units
def test_wrong_marks_are_weak_other_tokens_of_the_same_passage(neuron: NeuronId, c: SignCombination) -> None:
    counts = np.arange(60, dtype=np.int64) ** 2
    true, wrong = fuzzing_items(evidence(neuron), c, Split.TEST, counts)
    assert len(true) == len(wrong) > 0
    for right, other in zip(true, wrong, strict=True):
        start, end = right.span(View.FULL)
        assert other.span(View.FULL) == (start, end)
        assert other.text is right.text
        assert strength(neuron, c, right.text, right.position) is Strength.STRONG
        ids, peak = right.text.token_ids, right.text.token_ids[right.position]
        distance = {
            abs(np.log(counts[ids[p]] + 1.0) - np.log(counts[peak] + 1.0))
            for p in range(start, end)
            if ids[p] != peak and strength(neuron, c, right.text, p) is Strength.WEAK
            if known(neuron).combination[places_of(known(neuron), [right.text.first_token + p])[0]] >= 0
        }
        assert ids[other.position] != peak
        assert abs(np.log(counts[ids[other.position]] + 1.0) - np.log(counts[peak] + 1.0)) == min(distance)


@units
@pytest.mark.parametrize("split", [Split.TEST, Split.SELECT])
def test_simulated_truths_are_the_truth(neuron: NeuronId, c: SignCombination, split: Split) -> None:
    truth, found = known(neuron), simulation_items(evidence(neuron), c, split)
    assert found is not None
    assert len(found.random) >= 10
    windows = [*found.positive, *found.random]
    for window, told in zip(windows, (*found.positive_truths, *found.random_truths), strict=True):
        start, end = window.span(View.CAUSAL)
        places = places_of(truth, np.arange(start, end) + window.text.first_token)
        right = np.where(truth.combination[places] == c.position, np.abs(truth.post[places]), 0.0)
        assert told == pytest.approx(right, rel=1e-4)
    assert all(told[-1] > 0 for told in found.positive_truths)


@units
def test_counts_of_simulated_tokens_are_those_of_the_split(neuron: NeuronId, c: SignCombination) -> None:
    truth, found = known(neuron), simulation_items(evidence(neuron), c, Split.TEST)
    assert found is not None
    held = truth.within(Split.TEST) & (truth.combination >= 0)
    assert sum(found.counts) == held.sum()
    assert found.counts[0] == (held & (truth.combination != c.position)).sum()


# Plans


def test_a_plan_is_the_same_every_time_and_whatever_was_traced_before() -> None:
    again = plan(evidence(DIGITS), TraceCorpus([t for t in world().texts if t.split is Split.TEST], SALT))
    assert np.array_equal(again.numbers, planned(DIGITS).numbers)
    assert again.wanted == planned(DIGITS).wanted
    assert again.candidates == planned(DIGITS).candidates


def test_a_plan_reads_no_text_of_the_split_that_explanations_are_learnt_from() -> None:
    for neuron in NEURONS:
        assert {text.split for text in planned(neuron).texts.values()} <= {Split.SELECT, Split.TEST}


def test_a_copy_of_a_strong_passage_is_no_candidate() -> None:
    """Every text of `test` is there twice, under other numbers: the copies would be the closest of all."""
    own = planned(DIGITS).evidence
    texts = [text for text in world().texts if text.split is Split.TEST]
    copies = [replace(t, text_id=t.text_id + 10_000, first_token=t.first_token + 1_000_000) for t in texts]
    strong = {window.text.text_id + 10_000 for window in own.combinations[PP].strong[Split.TEST]}
    found = plan(own, TraceCorpus([*texts, *copies], SALT)).candidates[PP]
    copied = [window for window in found[N3] if window.text.text_id in strong]
    peaks = {w.text.text_id + 10_000: w.position for w in own.combinations[PP].strong[Split.TEST]}
    assert all(peaks[w.text.text_id] not in range(*w.span(View.CAUSAL)) for w in copied)
    assert len(found[N3]) == 3 * DEFAULT_SIZES.similar


def test_a_neuron_without_enough_examples_is_run_on_nothing() -> None:
    own = planned(DIGITS).evidence
    none = {c: replace(e, strong=dict.fromkeys(Split, ())) for c, e in own.combinations.items()}
    empty = plan(replace(own, combinations=none), searched())
    assert (len(empty.numbers), empty.texts, empty.candidates) == (0, {}, {})
    nothing = np.empty(0, np.float32)
    kept = settle(empty, nothing, nothing, nothing)
    assert (len(kept.numbers), kept.sets) == (0, {Split.TEST: {}})
    assert kept.at(5) is None


def test_what_is_kept_is_a_part_of_what_was_run() -> None:
    for neuron in NEURONS:
        assert np.isin(settled(neuron).numbers, planned(neuron).numbers).all()
        assert len(settled(neuron).numbers) < len(planned(neuron).numbers)


def test_rounding_keeps_signs_and_five_digits_and_can_be_repeated() -> None:
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32) * np.float32(1e-3)
    once = rounded(values)
    assert np.array_equal(np.sign(once), np.sign(values))
    assert np.abs(once - values).max() <= np.abs(values).max() * 2**-16
    assert (np.abs(once - values) <= np.abs(values) * 2**-16).all()
    assert np.array_equal(rounded(once), once)


def test_an_exact_zero_is_no_item() -> None:
    """1.12 is exactly 0 at digits: such a token is in no combination, and not a window."""
    neuron = NeuronId(1, 12)
    own = gather(Corpus(), neuron, salt=SALT)
    zero = int(known(neuron).number[np.flatnonzero(known(neuron).combination < 0)[0]])
    sets = {Split.TEST: {PP: {N2: (zero,)}}}
    stored = StoredTokens(
        numbers=np.array([zero]), values=np.zeros((1, 4), np.float32), sets=sets, plan_version=PLAN_VERSION
    )
    assert gather(Corpus({neuron: stored}), neuron, salt=SALT).further == {Split.TEST: {PP: {N2: ()}}}
    assert own.further == {}
