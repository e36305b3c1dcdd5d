"""Evidence: what is strong, weak or neither, what is random, and that `test` stays out of what is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.domain import (
    COMBINATIONS,
    QUANTITIES,
    SPLITS,
    CombinationRecord,
    Geometry,
    IOClass,
    ListEntry,
    NeuronId,
    NeuronRecord,
    QuantityStatistics,
    SignCombination,
    Split,
    Text,
)
from neuronagent.explain import rules
from neuronagent.explain.evidence import (
    MINIMUM_STRONG,
    NeuronEvidence,
    Strength,
    Window,
    gather,
    median_edge,
    threshold,
)
from neuronagent.hashing import split_of, uniform_hash
from neuronagent.layout import HISTOGRAM_BINS, HISTOGRAM_EDGES
from neuronagent.service.explain import Explainer
from neuronagent.store.reader import IndexReader
from tests import known_index, planted
from tests.known_index import SALT, Known, known, world

PLUS = SignCombination.GATE_POS_IN_POS
MINUS = SignCombination.GATE_NEG_IN_NEG
PLANTED = [NeuronId(0, index) for index in range(6)]
WITH_ZEROS = NeuronId(1, 12)
EDGES: list[float] = HISTOGRAM_EDGES.tolist()

# A corpus made by hand


@dataclass
class Made:
    """A corpus of texts with one neuron, whose lists are exactly `entries`."""

    texts: list[Text] = field(default_factory=list[Text])
    entries: dict[tuple[SignCombination, Split], list[ListEntry]] = field(
        default_factory=dict[tuple[SignCombination, Split], list[ListEntry]]
    )
    histogram: dict[SignCombination, list[int]] = field(default_factory=dict[SignCombination, list[int]])

    def add(self, split: Split, ids: Sequence[int]) -> Text:
        first = sum(len(text.token_ids) for text in self.texts)
        text = Text(
            text_id=len(self.texts), document=f"d{len(self.texts)}", split=split, first_token=first,
            token_ids=tuple(ids),
        )  # fmt: skip
        self.texts.append(text)
        return text

    def peak(self, text: Text, position: int, post: float, combination: SignCombination = PLUS) -> None:
        entry = ListEntry(post, text.first_token + position)
        self.entries.setdefault((combination, text.split), []).append(entry)

    def text(self, text_id: int) -> Text:
        return self.texts[text_id]

    def locate(self, token_number: int) -> tuple[int, int]:
        text = next(t for t in reversed(self.texts) if t.first_token <= token_number)
        return text.text_id, token_number - text.first_token

    def neuron(self, neuron: NeuronId) -> NeuronRecord:
        return NeuronRecord(
            neuron=neuron,
            geometry=Geometry(cos_gate_in=0, cos_gate_out=0, cos_in_out=0, norm_gate=1, norm_in=1, norm_out=1),
            io_class=IOClass("depletion"), sign=1, vocabulary={}, tokens=10_000, zeros=0, first_values=None,
            combinations={c: self.record(c) for c in COMBINATIONS},
        )  # fmt: skip

    def record(self, c: SignCombination) -> CombinationRecord:
        """A histogram whose 1 % edge is 4 and whose median edge is 1, unless `histogram` has another."""
        own = self.histogram.get(c)
        if own is None:
            own = bins({1.0: 3000, 2.9: 1000, 4.0: 30})
        lists = {split: tuple(self.entries.get((c, split), ())) for split in SPLITS}
        return record(c, dict.fromkeys(SPLITS, own), lists)

    def traced_tokens(self, neuron: NeuronId) -> None:
        return None

    def evidence(self) -> NeuronEvidence:
        return gather(self, NeuronId(0, 0), salt="s")


def bins(counts: Mapping[float, int]) -> list[int]:
    """A histogram with so many tokens of each magnitude."""
    found = [0] * HISTOGRAM_BINS
    for magnitude, count in counts.items():
        found[sum(edge <= magnitude for edge in EDGES)] += count
    return found


def record(
    c: SignCombination,
    histogram: Mapping[Split, Sequence[int]],
    lists: Mapping[Split, tuple[ListEntry, ...]] | None = None,
) -> CombinationRecord:
    nothing: Mapping[Split, tuple[ListEntry, ...]] = dict.fromkeys(SPLITS, ())
    return CombinationRecord(
        combination=c, count=1, first_count=0, mass=1.0, tau=None, top={},
        statistics={q: QuantityStatistics(None, None, None) for q in QUANTITIES},
        histogram={split: tuple(counts) for split, counts in histogram.items()},
        post_by_split=lists or nothing, uniform=nothing, weighted=nothing,
    )  # fmt: skip


def places(evidence: NeuronEvidence, split: Split, c: SignCombination = PLUS) -> list[tuple[int, int]]:
    return [(w.text.text_id, w.position) for w in evidence.combinations[c].strong[split]]


# Thresholds

histograms = st.lists(
    st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 3000)), min_size=HISTOGRAM_BINS, max_size=HISTOGRAM_BINS
)


@given(st.lists(histograms, min_size=1, max_size=3))
def test_the_median_edge_is_the_largest_that_half_of_the_tokens_reach(several: list[list[int]]) -> None:
    total = [sum(column) for column in zip(*several, strict=True)]
    reached = [edge for place, edge in enumerate(EDGES) if sum(total) and 2 * sum(total[place + 1 :]) >= sum(total)]
    assert median_edge(several) == (max(reached) if reached else 0.0)


@pytest.mark.slow
@given(histograms, histograms)
def test_tau_is_the_smallest_edge_with_a_hundredth_above_it_or_one_lower_where_hardly_any_is(
    explain: list[int], test: list[int]
) -> None:
    found = threshold(record(PLUS, {Split.EXPLAIN: explain, Split.SELECT: test, Split.TEST: test}))
    if not sum(explain):
        assert found is None
        return
    above = [sum(explain[place + 1 :]) for place in range(len(EDGES))]
    rare = [place for place, count in enumerate(above) if count <= 0.01 * sum(explain)]
    place = rare[0] if rare else len(EDGES) - 1
    if above[place] < 2 * MINIMUM_STRONG and place:
        place -= 1
    assert found == EDGES[place]


def test_a_neuron_that_fires_as_hard_each_time_has_strong_tokens() -> None:
    always = {split: bins({3.0: 500}) for split in SPLITS}
    tau = threshold(record(PLUS, always))
    assert tau is not None
    assert tau <= 3.0


@pytest.mark.parametrize("neuron", PLANTED, ids=str)
def test_the_number_of_strong_tokens_is_that_of_the_whole_corpus(explainer: Explainer, neuron: NeuronId) -> None:
    truth = known(neuron)
    for c, own in explainer.evidence(neuron).combinations.items():
        for split in SPLITS:
            values = np.abs(truth.post[truth.within(split, c)])
            tau = own.tau if own.tau is not None else np.inf
            least, most = ((values * factor >= tau).sum() for factor in (1 - 1e-5, 1 + 1e-5))
            assert least <= own.strong_count(split) <= most


# Strong windows


def test_strong_is_a_magnitude_of_at_least_tau_and_one_window_stands_for_a_text() -> None:
    made = Made()
    first = made.add(Split.EXPLAIN, range(100, 150))
    second = made.add(Split.EXPLAIN, range(200, 250))
    made.peak(first, 20, 4.0)
    made.peak(first, 40, 6.0)
    made.peak(second, 20, 3.99)
    made.peak(second, 40, -8.0)
    assert places(made.evidence(), Split.EXPLAIN) == [(1, 40), (0, 40)]


def test_equal_tokens_round_the_peak_are_one_example_within_a_split_and_across_splits() -> None:
    made = Made()
    passage = list(range(500, 516))
    for split in (Split.TEST, Split.EXPLAIN, Split.EXPLAIN, Split.SELECT):
        made.peak(made.add(split, [*range(len(made.texts), 20), *passage, 7]), 20 - len(made.texts) + 9, 5.0)
    evidence = made.evidence()
    assert [len(evidence.combinations[PLUS].strong[split]) for split in SPLITS] == [1, 0, 0]
    assert places(evidence, Split.EXPLAIN)[0][0] == 1


@pytest.mark.parametrize(("changed", "kept"), [(11, 1), (12, 2), (27, 2), (28, 1)])
def test_only_the_sixteen_tokens_round_the_peak_decide_what_is_a_duplicate(changed: int, kept: int) -> None:
    made = Made()
    passage = list(range(500, 540))
    made.peak(made.add(Split.EXPLAIN, passage), 20, 5.0)
    passage[changed] = 1
    made.peak(made.add(Split.TEST, passage), 20, 5.0)
    strong = made.evidence().combinations[PLUS].strong
    assert sum(len(strong[split]) for split in SPLITS) == kept


def test_a_window_is_weak_outside_the_combination_or_below_the_median_and_grey_up_to_tau() -> None:
    made = Made()
    text = made.add(Split.EXPLAIN, range(50))
    made.peak(text, 20, 9.0)
    own = made.evidence().combinations[PLUS]
    assert (own.median, own.tau) == (1.0, 4.0)

    def strength(post: float, c: SignCombination = PLUS) -> Strength:
        return own.strength(Window(text=text, position=3, combination=c, post=post))

    assert [strength(post) for post in (0.99, 1.0, 3.99, 4.0)] == [
        Strength.WEAK, Strength.GREY, Strength.GREY, Strength.STRONG,
    ]  # fmt: skip
    assert strength(-4.0) is Strength.STRONG
    assert strength(9.0, MINUS) is Strength.WEAK


@pytest.mark.parametrize(("texts", "enough"), [(7, False), (8, True)])
def test_eight_strong_tokens_of_distinct_texts_are_enough(texts: int, enough: bool) -> None:
    made = Made()
    for number in range(texts):
        made.peak(made.add(Split.EXPLAIN, range(100 * number, 100 * number + 40)), 20, 5.0)
    assert made.evidence().combinations[PLUS].enough(Split.EXPLAIN) is enough
    assert not made.evidence().combinations[PLUS].enough(Split.TEST)


def test_a_window_shows_what_the_model_had_seen_without_bos_and_what_followed() -> None:
    text = Made().add(Split.EXPLAIN, range(60))
    late = Window(text=text, position=50, combination=PLUS, post=1.0)
    assert late.before == tuple(range(19, 51))
    assert late.after == (51, 52, 53, 54)
    assert Window(text=text, position=2, combination=PLUS, post=1.0).before == (1, 2)


@pytest.mark.parametrize("neuron", PLANTED, ids=str)
def test_every_strong_window_is_strong_in_truth_and_in_a_text_of_its_split(
    explainer: Explainer, neuron: NeuronId
) -> None:
    truth = by_number(known(neuron))
    strong = 0
    for c, own in explainer.evidence(neuron).combinations.items():
        seen: set[int] = set()
        for split in SPLITS:
            for window in own.strong[split]:
                combination, post = truth[window.text.first_token + window.position]
                assert window.text.split is split
                assert combination == c.position
                assert window.post == pytest.approx(post, rel=1e-4)
                assert own.tau is not None
                assert abs(window.post) >= own.tau
                assert window.text.text_id not in seen
                seen.add(window.text.text_id)
                strong += 1
    assert strong >= MINIMUM_STRONG


def by_number(truth: Known) -> dict[int, tuple[int, float]]:
    rows = zip(truth.number.tolist(), truth.combination.tolist(), truth.post.tolist(), strict=True)
    return {number: (combination, post) for number, combination, post in rows}


# Random windows


@pytest.mark.parametrize("neuron", [*PLANTED, WITH_ZEROS], ids=str)
@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.value)
def test_random_windows_are_the_tokens_of_the_split_with_the_smallest_u(
    explainer: Explainer, neuron: NeuronId, split: Split
) -> None:
    truth = known(neuron)
    held = np.flatnonzero(truth.within(split) & (truth.combination >= 0))
    ranked = held[np.argsort(uniform_hash(SALT, truth.number[held]))]
    windows = explainer.evidence(neuron).random[split]
    assert len(windows) >= 16
    expected = ranked[: len(windows)]
    assert [w.text.first_token + w.position for w in windows] == truth.number[expected].tolist()
    assert [w.combination.position for w in windows] == truth.combination[expected].tolist()
    assert [w.post for w in windows] == pytest.approx(truth.post[expected].tolist(), rel=1e-3, abs=1e-5)


def test_a_token_with_an_exact_zero_is_the_only_kind_that_is_never_random() -> None:
    truth = known(WITH_ZEROS)
    assert (truth.combination < 0).any()
    for neuron in PLANTED:
        assert (known(neuron).combination >= 0).all()


@pytest.mark.parametrize("neuron", PLANTED, ids=str)
def test_the_grey_share_is_that_of_the_random_tokens_between_median_and_tau(
    explainer: Explainer, neuron: NeuronId
) -> None:
    evidence = explainer.evidence(neuron)
    for c, own in evidence.combinations.items():
        windows = evidence.random[Split.TEST]
        grey = 0
        for window in windows:
            inside = window.combination is c and abs(window.post) >= own.median
            grey += inside and own.tau is not None and abs(window.post) < own.tau
        assert evidence.grey_share(c, Split.TEST) == pytest.approx(grey / len(windows))


# The seal


def test_nothing_of_the_test_split_reaches_the_rules(explainer: Explainer, tmp_path: Path) -> None:
    """Two corpora with the same explain and select documents, in front, and wholly unlike test documents."""
    open_to_all = [text for text in planted.corpus(600) if split_of(SALT, text) is not Split.TEST]
    digits_only = [" ".join(f"{n:05d}") + " not !" for n in range(1500)]
    tests = [
        [text for text in planted.corpus(300, seed=1) if split_of(SALT, text) is Split.TEST],
        [text for text in digits_only if split_of(SALT, text) is Split.TEST],
    ]
    found: list[dict[NeuronId, object]] = []
    for number, sealed in enumerate(tests):
        file = known_index.write_texts(tmp_path / f"{number}.jsonl", [*open_to_all, *sealed])
        db = tmp_path / f"{number}.db"
        texts = known_index.build(world().model, file, db)
        assert sum(text.split is Split.TEST for text in texts) == len(sealed)
        with IndexReader.open(db) as reader:
            one = Explainer(reader)
            found.append({neuron: said(one, neuron) for neuron in PLANTED})
    assert found[0] == found[1]
    assert any(rule is not None for neuron in PLANTED for rule in explainer.rules(neuron).values())


def said(explainer: Explainer, neuron: NeuronId) -> list[object]:
    found = explainer.rules(neuron)
    return [rule and (rule, rules.phrase(rule, explainer.shapes, [], 1)) for rule in found.values()]
