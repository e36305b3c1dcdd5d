"""Features at every position equal a plain loop over the text, and look only backwards."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.explain.features import NEARBY, PLACES, Condition, Positions, TokenShapes, quote, shape_conditions

BOS = 0
VOCABULARY: list[bytes | None] = [
    b"<s>", b" a", b"(", b")", b" [", b"]", b'"', "“".encode(), "”".encode(), b"\n", b"\n\n", b" ", b" 12", b" Word",
    b" NASA", b"ing", b"!", b" =", b"f(", b"),", b"\xe2", None, b"\t", b"'", b" x\n",
]  # fmt: skip
SHAPES = TokenShapes(VOCABULARY)
TEXT = [token.decode("utf-8", "backslashreplace") if token is not None else "" for token in VOCABULARY]

ids = st.integers(1, len(VOCABULARY) - 1)
a_text = st.lists(ids, max_size=30).map(lambda tokens: [BOS, *tokens])
some_texts = st.lists(a_text, min_size=1, max_size=5)
sets = st.lists(ids, min_size=1, max_size=4, unique=True).map(lambda found: tuple((t,) for t in found))
pairs = st.lists(st.tuples(ids, ids), min_size=1, max_size=4).map(tuple)
conditions = st.one_of(
    st.sampled_from(list(shape_conditions())),
    st.builds(Condition, kind=st.sampled_from(["token", "previous", "nearby"]), tokens=sets),
    st.builds(Condition, kind=st.just("pair"), tokens=pairs),
)


# What the places mean, one position at a time


def slow_place(name: str, text: Sequence[int], at: int) -> bool:
    before = [TEXT[t] for t in text[:at]]
    if name == "inside brackets":
        return sum(t.count(b) for t in before for b in "([{") > sum(t.count(b) for t in before for b in ")]}")
    if name == "inside quotes":
        return sum(t.count(mark) for t in before for mark in '"“”') % 2 == 1
    if name == "a repeated token":
        return text[at] in text[max(0, at - 64) : at]
    if name == "near the beginning of the text":
        return at < 8
    if at == 0 or not TEXT[text[at]].strip():
        return False
    for earlier in range(at - 1, -1, -1):
        if earlier == 0 or "\n" in TEXT[text[earlier]]:
            return True
        if TEXT[text[earlier]].strip():
            return False
    raise AssertionError("BOS comes first")


def slow_condition(condition: Condition, text: Sequence[int], at: int) -> bool:
    wanted = {t for tokens in condition.tokens for t in tokens}
    if condition.kind == "token":
        return text[at] in wanted
    if condition.kind == "previous":
        return at > 0 and text[at - 1] in wanted
    if condition.kind == "pair":
        return at > 0 and (text[at - 1], text[at]) in condition.tokens
    if condition.kind == "nearby":
        return any(t in wanted for t in text[max(0, at - NEARBY) : at])
    if condition.kind == "place":
        return slow_place(condition.name, text, at)
    step = 1 if condition.kind == "previous shape" else 0
    return at >= step and bool(SHAPES.tables[condition.name][text[at - step]])


@given(some_texts, conditions)
def test_a_condition_over_many_texts_is_that_of_a_loop_over_each(texts: list[list[int]], condition: Condition) -> None:
    expected = [slow_condition(condition, text, at) for text in texts for at in range(len(text))]
    assert condition.holds(Positions.of_texts(texts, SHAPES)).tolist() == expected


@given(some_texts, st.sampled_from(PLACES))
def test_places_are_those_of_a_loop(texts: list[list[int]], name: str) -> None:
    expected = [slow_place(name, text, at) for text in texts for at in range(len(text))]
    assert Positions.of_texts(texts, SHAPES).place(name).tolist() == expected


@given(some_texts, st.integers(0, 40))
def test_looking_back_never_crosses_into_another_text(texts: list[list[int]], step: int) -> None:
    expected = [text[at - step] if at >= step else -1 for text in texts for at in range(len(text))]
    assert Positions.of_texts(texts, SHAPES).back(step).tolist() == expected


@pytest.mark.parametrize(("gap", "repeated"), [(1, True), (63, True), (64, True), (65, False)])
def test_a_token_is_repeated_within_64_tokens_and_not_beyond(gap: int, repeated: bool) -> None:
    text = [BOS, 13, *([1] * (gap - 1)), 13]
    assert bool(Positions.of_texts([text], SHAPES).place("a repeated token")[-1]) is repeated


def test_the_same_token_in_the_text_before_is_no_repetition() -> None:
    at = Positions.of_texts([[BOS, 12, 13], [BOS, 13, 12]], SHAPES)
    assert not at.place("a repeated token").any()


@given(st.data(), some_texts, conditions)
def test_chosen_positions_have_what_all_positions_have_there(
    data: st.DataObject, texts: list[list[int]], condition: Condition
) -> None:
    everywhere = Positions.of_texts(texts, SHAPES)
    chosen = data.draw(st.lists(st.integers(0, len(everywhere) - 1), max_size=8))
    some = everywhere.at(np.array(chosen, dtype=np.int64))
    assert len(some) == len(chosen)
    assert condition.holds(some).tolist() == condition.holds(everywhere)[chosen].tolist()


@given(st.data(), a_text, conditions, st.lists(ids, max_size=20))
def test_what_comes_after_a_position_never_changes_what_holds_there(
    data: st.DataObject, text: list[int], condition: Condition, other: list[int]
) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    before = condition.holds(Positions.of_texts([text], SHAPES))[: at + 1]
    after = condition.holds(Positions.of_texts([[*text[: at + 1], *other]], SHAPES))[: at + 1]
    assert before.tolist() == after.tolist()


@given(conditions)
def test_a_condition_survives_json(condition: Condition) -> None:
    assert Condition.from_json(json.loads(json.dumps(condition.to_json()))) == condition


# Shapes


@pytest.mark.parametrize(
    ("token", "shape"),
    [
        (b" 12", "a number"), (b"7", "a number"), (b" Word", "a capitalised word"), (b" NASA", "an upper-case word"),
        (b"A", "an upper-case word"), (b" a", "a lower-case word"), (b"ing", "the inside of a word"),
        (b" (", "an opening bracket"), (b"f(", "an opening bracket"), (b"),", "a closing bracket"),
        (b' "', "a quotation mark"), (b"!=", "an operator"), (b"!", "other punctuation"), (b".", "other punctuation"),
        (b"?", "other punctuation"), (b"\n", "a line break"), (b"    ", "spaces"),
    ],
)  # fmt: skip
def test_a_token_has_the_shape_that_a_reader_would_name(token: bytes, shape: str) -> None:
    assert TokenShapes([token]).tables[shape].tolist() == [True, False]


@pytest.mark.parametrize(
    ("token", "shape"),
    [
        (b" 12a", "a number"), (b" word", "a capitalised word"), (b" Word", "a lower-case word"),
        (b" a", "the inside of a word"), (b"ing", "a lower-case word"), (b"\n", "spaces"), (None, "a number"),
        (b"\xe2", "a lower-case word"),
    ],
)  # fmt: skip
def test_a_token_has_no_shape_that_only_a_part_of_it_has(token: bytes | None, shape: str) -> None:
    assert TokenShapes([token]).tables[shape].tolist() == [False, False]


def test_what_lies_before_the_text_has_no_shape_and_is_no_token() -> None:
    at = Positions.of_texts([[1]], SHAPES)
    assert not any(Condition(kind="previous shape", name=name).holds(at)[0] for name in SHAPES.tables)
    every = tuple((token,) for token in range(len(VOCABULARY)))
    assert not Condition(kind="previous", tokens=every).holds(at)[0]
    assert Condition(kind="token", tokens=every).holds(at)[0]


# In words


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("\n", r"`\n`"), ("a\tb", r"`a\tb`"), ("\r", r"`\r`"), ("\x1b[31m", r"`\x1b[31m`"), ("\x00", r"`\x00`"),
        ("\u202eevil", r"`\x202eevil`"), (" é", "` é`"),
    ],
)  # fmt: skip
def test_a_quoted_token_shows_its_controls(token: str, shown: str) -> None:
    assert quote(token) == shown


@given(st.text())
def test_whatever_is_quoted_is_one_printable_line(token: str) -> None:
    assert quote(token).isprintable()


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (Condition(kind="token", tokens=((13,), (9,))), r"on ` Word`, `\n`"),
        (Condition(kind="previous", tokens=((1,),)), "after ` a`"),
        (Condition(kind="pair", tokens=((1, 13),)), "on ` a Word`"),
        (Condition(kind="nearby", tokens=((13,),)), "within 5 tokens after ` Word`"),
        (Condition(kind="shape", name="a number"), "on a number"),
        (Condition(kind="previous shape", name="a number"), "after a number"),
        (Condition(kind="place", name="a repeated token"), "on a repeated token"),
        (Condition(kind="place", name="inside brackets"), "inside brackets"),
    ],
)
def test_a_condition_says_itself_in_words(condition: Condition, words: str) -> None:
    assert condition.describe(SHAPES) == words
