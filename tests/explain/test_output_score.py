"""The output score: claimed tokens against random ones of like frequency, by the weights alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.domain import Score
from neuronagent.explain.scorers.output import PROMOTED, RANDOM_TOKENS, SUPPRESSED, matched_random_tokens, output_score

VOCABULARY = 2000
COUNTS = np.random.default_rng(0).zipf(1.4, VOCABULARY).clip(0, 10**6) - 1
LOGITS = np.random.default_rng(1).normal(size=VOCABULARY)


def scored(promoted: list[int | None], suppressed: list[int | None]) -> dict[str, Score]:
    return {s.metric: s for s in output_score(promoted, suppressed, LOGITS, COUNTS, seed=4)}


def test_tokens_that_move_most_are_recognised_on_both_sides() -> None:
    order = np.argsort(LOGITS).tolist()
    found = scored(list(order[-8:]), list(order[:8]))
    for score in found.values():
        assert score.value == 1.0
        assert score.lo is not None
        assert score.lo > 0.5
        assert score.p is not None
        assert score.p < 0.01
        assert (score.negative_set, score.judge, score.n_pos) == (RANDOM_TOKENS, "weights", 8)
    swapped = scored(list(order[:8]), list(order[-8:]))
    assert [s.value for s in swapped.values()] == [0.0, 0.0]


def test_random_claims_are_at_chance_within_the_interval() -> None:
    inside: list[bool] = []
    for seed in range(150):
        claims = np.random.default_rng(seed).choice(VOCABULARY, 8, replace=False).tolist()
        score = scored(list(claims), [])[PROMOTED]
        assert score.lo is not None
        assert score.hi is not None
        inside.append(score.lo <= 0.5 <= score.hi)
    assert 0.9 <= np.mean(inside) <= 0.995


@given(st.sets(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6), st.integers(0, 9))
def test_random_tokens_are_of_the_same_octave_and_none_is_claimed(claimed: set[int], seed: int) -> None:
    drawn = matched_random_tokens(sorted(claimed), COUNTS, seed, per=10)
    assert len(set(drawn.tolist())) == len(drawn)
    assert not claimed & set(drawn.tolist())
    octave = np.frexp(COUNTS.astype(float))[1]
    for place in set(octave[sorted(claimed)].tolist()):
        own = sum(octave[token] == place for token in claimed)
        others = int((octave == place).sum()) - own
        assert (octave[drawn] == place).sum() == min(others, 10 * own)
    assert set(octave[drawn].tolist()) <= set(octave[sorted(claimed)].tolist())


def test_a_claim_that_is_no_single_token_is_left_out_and_n_says_how_many_remained() -> None:
    order = np.argsort(LOGITS).tolist()
    assert scored([None, order[-1], None, order[-2], order[-2]], [])[PROMOTED].n_pos == 2


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ([], "nothing is claimed"),
        ([None, None], "no claim is a single token"),
        ([VOCABULARY, -1], "no claim is a single"),
    ],
)
def test_without_a_claimed_token_there_is_no_value_and_the_reason_is_told(
    claims: list[int | None], reason: str
) -> None:
    score = scored([1], claims)[SUPPRESSED]
    assert score.value is None
    assert reason in (score.reason or "")


def test_ids_that_are_no_token_are_neither_claimed_nor_drawn() -> None:
    logits = LOGITS.copy()
    logits[::2] = np.nan
    found = output_score([0, 1, 3], [], logits, COUNTS, seed=0)[0]
    assert found.n_pos == 2
    assert found.value is not None


def test_a_frequency_that_no_other_token_has_leaves_no_score() -> None:
    counts = np.ones(5, dtype=np.int64)
    counts[2] = 1 << 20
    score = output_score([2], [], np.arange(5.0), counts, seed=0)[0]
    assert (score.value, score.reason) == (None, "no other token is as frequent")
