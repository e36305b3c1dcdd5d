"""BM25 over passages: against a double loop, and at the edges where there is little or nothing to find."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.explain.evidence import WINDOW
from neuronagent.explain.similar_texts import K1, B, SimilarTexts

Texts = list[list[int]]
corpora = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=90), min_size=1, max_size=12)


def passages(texts: Texts) -> list[tuple[int, int, list[int]]]:
    """Text, last position and tokens of each passage, by the definition."""
    found: list[tuple[int, int, list[int]]] = []
    for number, ids in enumerate(texts):
        for start in range(1, len(ids), WINDOW):
            shown = ids[start : start + WINDOW]
            if start == 1 or len(shown) >= WINDOW / 2:
                found.append((number, start + len(shown) - 1, shown))
    return found


def slowly(texts: Texts, query: list[int]) -> list[float]:
    """The formula, passage by passage and token by token."""
    shown = [tokens for _, _, tokens in passages(texts)]
    average = sum(map(len, shown)) / len(shown) if shown else 1
    scores: list[float] = []
    for tokens in shown:
        score, counts = 0.0, Counter(tokens)
        for token in query:
            holding = sum(token in other for other in shown)
            idf = math.log((len(shown) - holding + 0.5) / (holding + 0.5))
            f = counts[token]
            if f and idf > 0:
                score += idf * f * (K1 + 1) / (f + K1 * (1 - B + B * len(tokens) / average))
        scores.append(score)
    return scores


@settings(max_examples=60, deadline=None)
@given(corpora, st.lists(st.integers(0, 15), max_size=40))
def test_scores_are_those_of_a_double_loop(texts: Texts, query: list[int]) -> None:
    assert SimilarTexts(texts).scores(query) == pytest.approx(slowly(texts, query), rel=1e-4, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(corpora, st.lists(st.integers(0, 12), max_size=40), st.integers(0, 50))
def test_the_closest_come_first_and_equal_ones_in_their_order(texts: Texts, query: list[int], n: int) -> None:
    found = SimilarTexts(texts)
    scores = found.scores(query)
    best = sorted((place for place in range(len(scores)) if scores[place] > 0), key=lambda p: (-scores[p], p))
    assert found.closest(query, n).tolist() == best[:n]


@given(corpora)
def test_passages_tile_the_texts_and_end_at_their_marked_token(texts: Texts) -> None:
    found = SimilarTexts(texts)
    assert [(text, marked) for text, marked, _ in passages(texts)] == list(
        zip(found.text.tolist(), found.marked.tolist(), strict=True)
    )


def test_a_passage_is_closest_to_itself() -> None:
    rng = np.random.default_rng(0)
    texts = [[0, *rng.integers(1, 500, 70).tolist()] for _ in range(100)]
    found = SimilarTexts(texts)
    for place in range(0, len(found), 17):
        text, marked = int(found.text[place]), int(found.marked[place])
        assert found.closest(texts[text][marked + 1 - WINDOW : marked + 1], 1).tolist() == [place]


def test_a_token_of_more_than_half_of_the_passages_counts_for_nothing() -> None:
    found = SimilarTexts([[0, 7, 1], [0, 7, 2], [0, 7, 3], [0, 4, 5]])
    assert not found.scores([7]).any()
    assert found.closest([7, 3], 4).tolist() == [2]


@pytest.mark.parametrize("texts", [[], [[0]], [[0], [0]]])
def test_without_passages_nothing_is_close(texts: Texts) -> None:
    assert SimilarTexts(texts).closest([1, 2, 3], 5).tolist() == []
