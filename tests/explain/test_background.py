"""Shares of the corpus, counted in bits, are those of a plain mean; single positions are those of whole texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination, Split, Text
from neuronagent.explain.background import Background, positions_of
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import PLACES, Condition, Positions, TokenShapes, shape_conditions
from neuronagent.explain.rules import NeuronRules, explain_combination
from neuronagent.service.explain import Explainer

VOCABULARY: list[bytes | None] = [b"<s>", b" a", b"(", b")", b'"', b"\n", b" 12", b" Word", b" NASA", b"!", None]
SHAPES = TokenShapes(VOCABULARY)
ids = st.integers(1, len(VOCABULARY) - 1)
texts = st.lists(st.lists(ids, max_size=90).map(lambda tokens: (0, *tokens)), min_size=1, max_size=6)
sets = st.lists(st.tuples(ids), min_size=1, max_size=4, unique=True).map(tuple)
conditions = st.one_of(
    st.sampled_from(list(shape_conditions())),
    st.builds(Condition, kind=st.sampled_from(["token", "previous", "nearby"]), tokens=sets),
    st.builds(Condition, kind=st.just("pair"), tokens=st.lists(st.tuples(ids, ids), min_size=1, max_size=4).map(tuple)),
)


def corpus(tokens: list[tuple[int, ...]]) -> list[Text]:
    first = np.cumsum([0, *map(len, tokens)]).tolist()
    return [
        Text(text_id=i, document="", split=Split.EXPLAIN, first_token=first[i], token_ids=own)
        for i, own in enumerate(tokens)
    ]


@given(texts, st.lists(conditions, min_size=1, max_size=3))
def test_a_rate_is_the_mean_over_all_tokens_but_the_first_of_texts(
    tokens: list[tuple[int, ...]], wanted: list[Condition]
) -> None:
    background = Background(SHAPES, corpus(tokens), np.ones(len(VOCABULARY), dtype=np.int64))
    everywhere = Positions.of_texts(tokens, SHAPES)
    behind = everywhere.back(1) >= 0
    held = np.logical_and.reduce([condition.holds(everywhere) for condition in wanted])
    expected = float(held[behind].mean()) if behind.any() else 0.0
    assert background.rate(wanted) == expected


@given(texts, st.data())
def test_marked_tokens_have_what_their_texts_have_there(tokens: list[tuple[int, ...]], data: st.DataObject) -> None:
    shapes = TokenShapes(VOCABULARY)
    every = [(text, p) for text in corpus(tokens) for p in range(len(text.token_ids))]
    chosen = data.draw(st.lists(st.integers(0, len(every) - 1), max_size=20))
    windows = [
        Window(text=every[i][0], position=every[i][1], combination=SignCombination.GATE_POS_IN_POS, post=1.0)
        for i in chosen
    ]
    there, everywhere = positions_of(windows, shapes), Positions.of_texts(tokens, shapes)
    assert len(there) == len(chosen)
    for step in range(8):
        assert there.back(step).tolist() == everywhere.back(step)[chosen].tolist()
    for name in PLACES:
        assert there.place(name).tolist() == everywhere.place(name)[chosen].tolist()
    condition = data.draw(conditions)
    assert condition.holds(there).tolist() == condition.holds(everywhere)[chosen].tolist()


def test_two_texts_of_equal_tokens_that_are_not_one_object_have_equal_places() -> None:
    shapes = TokenShapes(VOCABULARY)
    for _ in range(3000):  # more than are kept; ids of objects that are gone come back
        a, b = (0, 2, 6, 3), (0, 6, 6, 5)
        assert shapes.places(list(a)).tolist() != shapes.places(list(b)).tolist()


def test_an_empty_background_says_that_nothing_holds_anywhere() -> None:
    background = Background(SHAPES, [], np.zeros(len(VOCABULARY), dtype=np.int64))
    assert background.rate([Condition(kind="token", tokens=((1,),))]) == 0
    assert background.share.tolist() == [0] * len(VOCABULARY)


@pytest.mark.parametrize("index", range(3), ids=lambda index: f"0.{index}")
def test_rules_learnt_when_asked_for_are_those_learnt_one_by_one(explainer: Explainer, index: int) -> None:
    evidence = explainer.evidence(NeuronId(0, index))
    lazy = NeuronRules(evidence, explainer.background)
    assert len(lazy) == len(COMBINATIONS)
    assert dict(lazy) == {c: explain_combination(evidence, c, explainer.background) for c in COMBINATIONS}
    rule = lazy[COMBINATIONS[0]]
    assert lazy[COMBINATIONS[0]] is rule
