"""Explanations and scores are added and superseded, never lost, in either database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, ScoreControl, Split
from neuronagent.errors import NotFoundError, StorageError
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import (
    Scored,
    add_explanation,
    add_score,
    add_scored,
    add_scores,
    make_current,
    next_reading,
)
from neuronagent.store.reader import IndexReader
from tests.store.made_index import Made

NEURON = NeuronId(0, 1)
ONE = Explanation(
    neuron=NEURON,
    combination=COMBINATIONS[1],
    source="llm",
    text="Fires on digits – “7”",
    claims={"promotes": [" th", "é"], "rules": {"digit": 0.9}},
    evidence_hash="abc",
    prompt_version="draft-1",
    model="some-model",
)
TWO = replace(ONE, text="Fires on dates")
TEST = Score(
    metric="detection", negative_set="N0", split=Split.TEST, value=0.8, lo=0.7, hi=0.9, n_pos=20, n_neg=19, p=0.01
)
SELECT = replace(TEST, split=Split.SELECT)


@pytest.fixture
def writer(target: str, made: Made) -> Iterator[Engine]:
    made.write(target)
    engine = open_writer(target)
    yield engine
    engine.dispose()


@pytest.fixture
def reader(target: str, writer: Engine) -> Iterator[IndexReader]:
    with IndexReader.open(target) as opened:
        yield opened


def test_an_explanation_comes_back_as_it_was(writer: Engine, reader: IndexReader) -> None:
    parent = add_explanation(writer, replace(TWO, source="rule"))
    number = add_explanation(writer, ONE, server="http://x", unsealed=True, parent_id=parent)
    stored = reader.explanation(number)
    assert stored.explanation == ONE
    assert (stored.server, stored.unsealed, stored.parent_id, stored.author) == ("http://x", True, parent, None)
    assert datetime.fromisoformat(stored.created).utcoffset() == timedelta(0)
    assert stored == reader.explanations(NEURON)[1]


def test_a_later_explanation_supersedes_the_earlier_of_its_source(writer: Engine, reader: IndexReader) -> None:
    first, second = add_explanation(writer, ONE), add_explanation(writer, TWO)
    assert [stored.id for stored in reader.explanations(NEURON)] == [second]
    assert [stored.superseded_by for stored in reader.explanations(NEURON, superseded=True)] == [second, None]
    assert reader.explanation(first).explanation == ONE


def test_an_unsealed_explanation_supersedes_no_sealed_one(writer: Engine, reader: IndexReader) -> None:
    first = add_explanation(writer, ONE)
    second = add_explanation(writer, TWO, unsealed=True)
    assert [stored.id for stored in reader.explanations(NEURON)] == [first, second]
    third = add_explanation(writer, replace(TWO, text="years"), unsealed=True)
    assert [stored.id for stored in reader.explanations(NEURON)] == [first, third]
    last = add_explanation(writer, TWO)
    assert [stored.id for stored in reader.explanations(NEURON)] == [last]


def test_a_superseded_explanation_can_be_made_current_again(writer: Engine, reader: IndexReader) -> None:
    first, second = add_explanation(writer, ONE), add_explanation(writer, TWO)
    other = add_explanation(writer, replace(ONE, source="rule"))
    for _ in range(2):
        make_current(writer, first)
        assert [stored.id for stored in reader.explanations(NEURON)] == [first, other]
        assert reader.explanation(second).superseded_by == first
    with pytest.raises(NotFoundError):
        make_current(writer, 10**6)


def test_other_units_sources_and_authors_are_left_alone(writer: Engine, reader: IndexReader) -> None:
    human = replace(ONE, source="human")
    numbers = [
        add_explanation(writer, human, author="Ada"),
        add_explanation(writer, human, author="Bob"),
        add_explanation(writer, ONE),
        add_explanation(writer, replace(ONE, source="rule")),
        add_explanation(writer, replace(ONE, combination=COMBINATIONS[2])),
        add_explanation(writer, replace(ONE, neuron=NeuronId(1, 1))),
    ]
    assert len(set(numbers)) == 6
    assert [stored.id for stored in reader.explanations(NEURON)] == numbers[:5]
    assert [stored.id for stored in reader.explanations(NEURON, COMBINATIONS[2])] == [numbers[4]]


def test_adding_the_current_explanation_again_changes_nothing(writer: Engine, reader: IndexReader) -> None:
    first = add_explanation(writer, ONE)
    assert add_explanation(writer, ONE) == first
    assert len(reader.explanations(NEURON, superseded=True)) == 1
    assert add_explanation(writer, replace(ONE, evidence_hash="other")) != first


def test_what_is_not_in_the_index_cannot_be_explained_or_scored(writer: Engine) -> None:
    with pytest.raises(NotFoundError, match=r"neuron 5\.5"):
        add_explanation(writer, replace(ONE, neuron=NeuronId(5, 5)))
    with pytest.raises(NotFoundError, match="no explanation 77"):
        add_explanation(writer, ONE, parent_id=77)
    with pytest.raises(NotFoundError, match="no explanation 77"):
        add_score(writer, 77, TEST, protocol_version="1")


def test_a_score_comes_back_with_its_controls(writer: Engine, reader: IndexReader) -> None:
    controls = (
        ScoreControl(kind="empty", value=0.5, lift=0.3, lift_lo=0.2, lift_hi=0.4),
        ScoreControl(kind="other neuron", value=None, lift=None, lift_lo=None, lift_hi=None),
    )
    score = replace(TEST, controls=controls, n_failed=2, seed=5, judge="some-judge", view="full")
    failed = Score(
        metric="simulation", negative_set="", split=Split.SELECT, value=None, lo=None, hi=None, n_pos=0, n_neg=0,
        reason="zero variance",
    )  # fmt: skip
    number = add_explanation(writer, ONE)
    ids = add_scores(writer, number, [score, failed], protocol_version="imported-v1", tau=0.25)
    stored = reader.scores(number)
    assert [one.id for one in stored] == ids
    assert [one.score for one in stored] == [score, failed]
    assert [(one.tau, one.protocol_version) for one in stored] == [(0.25, "imported-v1")] * 2
    assert [one.reading for one in stored] == [1, None]


def test_explanations_with_their_scores_are_stored_together_or_not_at_all(writer: Engine, reader: IndexReader) -> None:
    def control(kind: str) -> ScoreControl:
        return ScoreControl(kind=kind, value=0.5, lift=0.3, lift_lo=0.2, lift_hi=0.4)

    scores = [replace(TEST, negative_set=f"N{i}", controls=(control(f"a{i}"), control(f"b{i}"))) for i in range(30)]
    one = Scored(explanation=ONE, scores=scores, tau=0.25)
    none = Scored(explanation=replace(ONE, combination=COMBINATIONS[0]), scores=[], tau=None)
    nowhere = Scored(explanation=replace(ONE, neuron=NeuronId(5, 5)), scores=[TEST], tau=None)
    with pytest.raises(NotFoundError):
        add_scored(writer, [one, none, nowhere], protocol_version="1")
    assert reader.explanations(NEURON) == []
    first, second = add_scored(writer, [one, none], protocol_version="1")
    assert [stored.id for stored in reader.explanations(NEURON)] == [first, second]
    assert [stored.score for stored in reader.scores(first)] == scores
    assert {(stored.tau, stored.reading) for stored in reader.scores(first)} == {(0.25, 1)}
    assert reader.scores(second) == []


def test_of_two_equal_scores_stored_together_the_later_one_counts(writer: Engine, reader: IndexReader) -> None:
    number = add_explanation(writer, ONE)
    ids = add_scores(writer, number, [TEST, SELECT, replace(TEST, value=0.75)], protocol_version="1")
    assert [stored.id for stored in reader.scores(number)] == ids[1:]
    assert reader.scores(number, superseded=True)[0].superseded_by == ids[2]


def test_readings_of_test_are_counted_over_all_explanations_of_a_unit(writer: Engine, reader: IndexReader) -> None:
    first, second = add_explanation(writer, ONE), add_explanation(writer, replace(ONE, source="rule"))
    elsewhere = add_explanation(writer, replace(ONE, combination=COMBINATIONS[0]))
    assert next_reading(writer, NEURON, COMBINATIONS[1]) == 1
    add_scores(writer, first, [TEST, replace(TEST, negative_set="N1"), SELECT], protocol_version="1")
    add_score(writer, first, SELECT, protocol_version="1")
    add_score(writer, second, TEST, protocol_version="1")
    add_score(writer, elsewhere, TEST, protocol_version="1")
    assert next_reading(writer, NEURON, COMBINATIONS[1]) == 3
    assert [one.reading for one in reader.scores(first)] == [1, 1, None]
    assert [one.reading for one in reader.scores(second)] == [2]
    assert [one.reading for one in reader.scores(elsewhere)] == [1]


def test_explanations_scored_on_the_same_items_can_share_a_reading(writer: Engine, reader: IndexReader) -> None:
    numbers = [add_explanation(writer, replace(ONE, source=source)) for source in ("rule", "llm")]
    reading = next_reading(writer, NEURON, COMBINATIONS[1])
    for number in numbers:
        add_score(writer, number, TEST, protocol_version="1", reading=reading)
    assert [reader.scores(number)[0].reading for number in numbers] == [1, 1]


def test_a_later_score_supersedes_the_same_score_only(writer: Engine, reader: IndexReader) -> None:
    number = add_explanation(writer, ONE)
    first = add_score(writer, number, TEST, protocol_version="1")
    for other in (replace(TEST, judge="j"), replace(TEST, view="full"), replace(TEST, negative_set="N2")):
        add_score(writer, number, other, protocol_version="1")
    add_score(writer, number, TEST, protocol_version="2")
    assert len(reader.scores(number)) == 5
    again = add_score(writer, number, replace(TEST, value=0.6), protocol_version="1")
    assert again in [one.id for one in reader.scores(number)]
    assert first not in [one.id for one in reader.scores(number)]
    kept = {one.id: one for one in reader.scores(number, superseded=True)}
    assert (kept[first].superseded_by, kept[first].score.value, kept[again].reading) == (again, 0.8, 6)


def test_scores_of_one_run_are_stored_all_or_none(writer: Engine, reader: IndexReader) -> None:
    number = add_explanation(writer, ONE)
    twice = ScoreControl(kind="empty", value=0.5, lift=0.3, lift_lo=0.2, lift_hi=0.4)
    with pytest.raises(StorageError, match=r"UNIQUE|duplicate"):
        add_scores(writer, number, [TEST, replace(SELECT, controls=(twice, twice))], protocol_version="1")
    assert reader.scores(number) == []
