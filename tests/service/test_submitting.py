"""What clients submit is checked, measured, and stored whole or not at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.errors import IndexMismatchError, ModelError, NotFoundError, StorageError, UsageError
from neuronagent.service import views
from neuronagent.service.direct_output import OutputTokens
from neuronagent.service.human import add_text, history_view
from neuronagent.service.live.questions import InProcess
from neuronagent.service.lookup import Index
from neuronagent.service.submitting import Submission, Submitted, submit
from neuronagent.service.tool_brief import brief_id, neuron_brief
from tests.known_index import world
from tests.service.live.live_world import live

DIGIT = NeuronId(0, 0)
PP = COMBINATIONS[0]
GOOD = Submission(
    neuron=DIGIT, combination=PP, author="Claude Code 2", label="digits", trigger="a digit",
    promotes=("apple", " bird"), suppresses=(),
)  # fmt: skip
_PLACES = ("apple", "river"), ("bird", "water"), ("door", "green"), ("field", "house"), ("book", "light")
PAIRS: dict[str, Any] = {
    "positive": [f"a {one} {n} in the {two}" for n, (one, two) in enumerate(_PLACES)],
    "negative": [f"a {one} see in the {two}" for one, two in _PLACES],
}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return Path(shutil.copy(world().db, tmp_path / "planted.db"))


@pytest.fixture
def index(db: Path) -> Iterator[Index]:
    with Index(str(db)) as opened:
        yield opened


def asks(index: Index) -> InProcess:
    return InProcess(type(live())(index, live().model))


def sealed(index: Index, submission: Submission = GOOD) -> Submission:
    return replace(submission, brief_id=brief_id(index.info["fingerprint"], submission.neuron))


def given(index: Index, **changes: Any) -> Submitted:
    return submit(index, replace(sealed(index), **changes), None)


# Stored


def test_a_submission_is_stored_with_its_author_and_what_the_model_measured(index: Index) -> None:
    found = submit(index, replace(sealed(index), **PAIRS), asks(index))
    assert (found.new, found.replaced, found.attempt, found.missing, found.left_out) == (True, (), 1, (), ())
    stored = index.reader.explanation(found.id)
    assert (stored.explanation.source, stored.author, stored.unsealed) == ("agent", "Claude Code 2", False)
    assert stored.explanation.text == "digits. a digit."
    assert stored.explanation.claims["promotes"] == [" apple", " bird"]  # the space that belongs to the token
    scores = {(s.score.metric, s.score.judge): s for s in index.reader.scores(found.id)}
    for key in (("output_promoted", "weights"), ("output_promoted", "live model"), ("generation", "live model")):
        assert scores[key].score.value == 1.0
        assert scores[key].reading is None


def test_the_same_again_changes_nothing_and_adds_what_was_missing(index: Index) -> None:
    first = given(index, **PAIRS)
    assert [line.split(":")[0] for line in first.missing] == ["output and generation"]
    assert index.reader.scores(first.id) == []
    second = submit(index, sealed(index), asks(index))  # without the pairs, which are stored
    assert (second.id, second.new, second.missing) == (first.id, False, ())
    measured = [s.id for s in index.reader.scores(first.id)]
    third = submit(index, sealed(index, replace(GOOD, **PAIRS)), asks(index))
    assert (third.id, third.new) == (first.id, False)
    assert [s.id for s in index.reader.scores(first.id, superseded=True)] == measured


def test_another_text_replaces_its_authors_only_and_is_counted(index: Index) -> None:
    human = add_text(index, DIGIT, PP, "digits", "Claude Code 2")
    first, other = given(index), given(index, author="Cursor 1")
    second = given(index, label="numbers")
    assert (second.replaced, second.attempt) == ((first.id,), 3)
    current = {e.id for e in index.reader.explanations(DIGIT, PP)}
    assert current == {human.id, other.id, second.id}


def test_a_new_name_does_not_begin_the_count_of_attempts_anew(index: Index) -> None:
    given(index)
    given(index, label="numbers")
    assert given(index, author="another", label="figures").attempt == 3
    assert given(index, author="another", label="figures").attempt == 3  # the same text again is no attempt
    assert given(index, author="another", combination=COMBINATIONS[1]).attempt == 1


def test_a_text_without_the_brief_takes_the_place_of_no_sealed_one(index: Index) -> None:
    first = submit(index, sealed(index), asks(index))
    loose = submit(index, replace(GOOD, label="numbers", brief_id="0" * 16), None)
    assert (loose.new, loose.replaced) == (True, ())
    again = submit(index, replace(GOOD, label="figures"), asks(index))
    assert (again.new, again.replaced) == (True, (loose.id,))
    assert [e.id for e in index.reader.explanations(DIGIT, PP)] == [first.id, again.id]
    shown = views.ranked(index.explanations(DIGIT), PP, index.judges_fit)
    assert [e.id for e, _ in shown] == [first.id, again.id]  # though the other one was scored later
    assert given(index, label="at last").replaced == (first.id, again.id)


def test_the_words_of_a_sealed_text_without_the_brief_change_nothing(index: Index) -> None:
    first = submit(index, sealed(index), asks(index))
    found = submit(index, GOOD, asks(index))
    assert (found.id, found.new, found.replaced, found.attempt) == (first.id, False, (), 1)
    assert not index.reader.explanation(first.id).unsealed
    second = given(index, label="numbers")
    found = submit(index, GOOD, asks(index))
    assert (found.id, found.new, found.replaced) == (first.id, False, ())
    assert any("brief_id" in line for line in found.left_out)
    assert [e.id for e in index.reader.explanations(DIGIT, PP)] == [second.id]


@pytest.mark.parametrize("briefed", [True, False])
def test_a_text_that_was_replaced_is_found_again_with_its_scores(index: Index, briefed: bool) -> None:
    one = sealed(index) if briefed else GOOD
    first = submit(index, one, asks(index))
    scores = index.reader.scores(first.id)
    second = submit(index, replace(one, label="numbers"), asks(index))
    back = submit(index, one, None)
    assert (back.id, back.new, back.replaced, back.attempt) == (first.id, False, (second.id,), 2)
    assert index.reader.scores(first.id) == scores
    assert [e.id for e in index.reader.explanations(DIGIT, PP)] == [first.id]
    assert index.reader.explanation(second.id).superseded_by == first.id
    assert submit(index, one, None).replaced == ()


def test_a_text_that_was_measured_and_not_judged_is_not_called_unscored(index: Index) -> None:
    first = submit(index, sealed(index), asks(index))
    given(index, label="numbers")
    told = history_view(index, DIGIT, superseded=True)["explanations"]
    assert [(e["verdict"], e["superseded_by"] is None) for e in told] == [("not judged", False), ("not scored", True)]
    assert told[0]["id"] == first.id


def test_without_the_brief_a_text_is_marked(index: Index) -> None:
    for wrong in (None, "", "0" * 16, brief_id(index.info["fingerprint"], NeuronId(0, 1))):
        found = submit(index, replace(GOOD, brief_id=wrong, author=f"client {wrong}"), None)
        assert index.reader.explanation(found.id).unsealed
    briefed = neuron_brief(index, "0.0").get("brief_id")
    assert not index.reader.explanation(submit(index, replace(GOOD, brief_id=briefed), None).id).unsealed


def test_a_model_that_fails_costs_the_scores_and_not_the_text(index: Index) -> None:
    class Gone:
        def call(self, name: str, **_: Any) -> Any:
            raise ModelError(f"the model is gone ({name})", remedy="bring it back")

    found = submit(index, replace(sealed(index), **PAIRS), Gone())
    assert found.new
    assert [line.split(";")[0] for line in found.missing] == [
        "output: the model is gone (output_change)",
        "generation: the model is gone (strengths)",
    ]


def test_claims_that_are_no_token_and_pairs_that_are_none_are_named(index: Index) -> None:
    found = submit(
        index,
        replace(
            sealed(index),
            promotes=(" apple", "appletree"),
            positive=["a bird 3"],
            negative=["the whole is another one"],
        ),
        asks(index),
    )
    assert found.left_out[0] == "no single token: 'appletree'"
    assert found.left_out[1].startswith("pair 1: no minimal edit")
    scores = {s.score.metric: s.score for s in index.reader.scores(found.id) if s.score.judge == "live model"}
    assert scores["generation"].reason == "0 pairs can be used, 4 are needed"
    assert scores["output_promoted"].n_pos == 1


def test_what_is_wrong_with_a_pair_is_said_each_time(index: Index) -> None:
    one = sealed(index, replace(GOOD, positive=["a bird 3"], negative=["the whole is another one"]))
    told = [submit(index, one, live).left_out for live in (None, asks(index), asks(index), None)]
    assert told[0] == told[1] == told[2] == told[3]
    assert [line.split(":")[1] for line in told[0]] == [" no minimal edit"]


def test_what_is_no_text_is_no_token_to_claim(index: Index) -> None:
    """Neither an id without text, nor bytes that are none on their own."""
    with closing(sqlite3.connect(index.target)) as connection, connection:
        connection.execute("UPDATE token SET bytes = x'e2' WHERE id = 20")
        connection.execute("UPDATE token SET bytes = x'' WHERE id = 21")
    tokens = OutputTokens(index)
    assert "" not in tokens.ids
    assert "\ufffd" not in tokens.ids
    found = given(index, promotes=("apple", "\ufffd"))
    assert found.left_out == ("no single token: '\ufffd'",)


# Refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": " \n "}, "the label is empty"),
        ({"trigger": ""}, "the trigger is empty"),
        ({"label": "one two three four five six seven eight nine"}, "label: longer than 8 words"),
        ({"trigger": "x" * 50_000}, "the trigger has 50,000 characters"),
        ({"context": "x" * 401}, "the context has 401 characters; write at most 400"),
        ({"summary": "a\x1b[2Jb"}, "the summary holds U+001B"),
        ({"not_when": "a\u202eb"}, "the not_when holds U+202E"),
        ({"label": "\ud800"}, "the label holds U+D800"),
        ({"author": "a\x00"}, "the author holds U+0000"),
        ({"author": " "}, "the author is empty"),
        ({"promotes": ["a"] * 13}, "promotes has 13 tokens"),
        ({"suppresses": ["x" * 61]}, "suppresses has a token of 61 characters"),
        ({"promotes": [""]}, "promotes has an empty token"),
        ({"suppresses": ["a", ""]}, "suppresses has an empty token"),
        ({"promotes": ["\x07"]}, "the promotes holds U+0007"),
        ({"confidence": 1.5}, "confidence: not between 0 and 1"),
        ({"confidence": float("nan")}, "confidence: not between 0 and 1"),
        ({"positive": ["a"]}, "there are 1 positive sentences and 0 negative ones"),
        ({"positive": ["a"] * 9, "negative": ["b"] * 9}, "there are 9 pairs"),
        ({"positive": ["a\x00"], "negative": ["b"]}, "the positive sentence holds U+0000"),
        ({"positive": ["a"], "negative": [""]}, "the negative sentence is empty"),
        ({"positive": ["a" * 401], "negative": ["b"]}, "the positive sentence has 401 characters"),
        ({"neuron": NeuronId(0, 1), "combination": SignCombination.GATE_NEG_IN_POS}, "8 are needed"),
    ],
)
def test_what_cannot_be_stored_is_refused_in_one_line(index: Index, changes: dict[str, Any], said: str) -> None:
    if "neuron" in changes:
        evidence = index.explainer.evidence
        changes["neuron"], changes["combination"] = next(
            (NeuronId(layer, i), c)
            for layer in (0, 1)
            for i in range(16)
            for c, own in evidence(NeuronId(layer, i)).combinations.items()
            if not own.strong or min(map(len, own.strong.values())) < 3
        )
    with pytest.raises(UsageError) as error:
        given(index, **changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    neuron = changes.get("neuron", DIGIT)
    assert index.reader.explanations(neuron) == []


def test_a_neuron_of_another_model_is_refused(index: Index) -> None:
    with pytest.raises(NotFoundError):
        given(index, neuron=NeuronId(31, 9634))


# Trouble


def test_two_who_write_at_once_both_get_what_they_wrote(db: Path) -> None:
    found: dict[str, Submitted] = {}

    def write(author: str, label: str) -> None:
        with Index(str(db)) as index:
            found[f"{author} {label}"] = submit(index, sealed(index, replace(GOOD, author=author, label=label)), None)

    threads = [threading.Thread(target=write, args=(a, b)) for a in ("one", "two") for b in ("digits", "digits")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Index(str(db)) as index:
        assert {e.author for e in index.reader.explanations(DIGIT, PP)} == {"one", "two"}
        assert len(index.reader.explanations(DIGIT, PP, superseded=True)) == 2


def test_text_and_scores_are_stored_together_or_not_at_all(index: Index, db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON score BEGIN SELECT raise(ABORT, 'no room'); END")
    with pytest.raises(StorageError):
        submit(index, sealed(index), asks(index))
    assert index.reader.explanations(DIGIT) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_index_that_cannot_be_written_says_so(index: Index, db: Path) -> None:
    db.chmod(0o400)
    with pytest.raises(StorageError):
        given(index)


def test_an_index_that_is_another_one_by_now_is_not_written_to(index: Index) -> None:
    def gone() -> Index:
        raise IndexMismatchError("the index was replaced")

    with pytest.raises(IndexMismatchError):
        submit(index, sealed(index), None, gone)
    assert index.reader.explanations(DIGIT) == []
