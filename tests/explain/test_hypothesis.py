"""What decides over a hypothesis, and what is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neuronagent.explain.draft_answer import DraftError
from neuronagent.explain.hypothesis import Fate, MeasuredPair, outcome, parse
from neuronagent.explain.pairs import Pair

PAIR = Pair(fires="a", edited="b")


def measured(right: int, wrong: int, *, reach: int | None = None, lost: int = 0) -> list[MeasuredPair]:
    """Pairs of which the first `reach` (default: the right ones) reach a median of 1."""
    n = right + wrong
    reach = right if reach is None else reach
    fires = [2.0 if place < reach else 0.5 for place in range(n)]
    return [
        MeasuredPair(pair=PAIR, fires=value, edited=value / 2 if place < right else value)
        for place, value in enumerate(fires)
    ] + [MeasuredPair(pair=PAIR, fires=None, edited=1.0, reason="the text is empty")] * lost


@pytest.mark.parametrize(
    ("pairs", "fate"),
    [
        (measured(8, 0), Fate.HELD),
        (measured(7, 1), Fate.HELD),
        (measured(6, 2), Fate.UNDECIDED),
        (measured(4, 4), Fate.REFUTED),
        (measured(0, 8), Fate.REFUTED),
        (measured(8, 0, reach=3), Fate.UNDECIDED),
        (measured(8, 0, reach=1), Fate.REFUTED),
        (measured(4, 0), Fate.UNDECIDED),
        (measured(5, 0), Fate.HELD),
        (measured(3, 0, lost=5), Fate.FAILED),
        ([], Fate.FAILED),
    ],
)
def test_the_sign_test_and_the_threshold_decide(pairs: list[MeasuredPair], fate: Fate) -> None:
    assert outcome(pairs, median=1.0, tau=2.0).fate is fate


def test_equal_values_are_not_right_and_texts_that_could_not_be_run_do_not_count() -> None:
    found = outcome(measured(7, 1, lost=2), median=1.0, tau=3.0)
    assert (found.n, found.right, found.reach, found.strong) == (8, 7, 7, 0)
    assert found.p == pytest.approx(9 / 256)
    assert [pair["right"] for pair in found.to_json()["pairs"]] == [True] * 7 + [False] + [None] * 2


def answer(**changes: Any) -> str:
    pairs = [{"fires": f"a {n}", "edited": f"b {n}"} for n in range(8)]
    one = {
        "label": "l", "summary": "s", "trigger": "t", "context": "", "not_when": "", "promotes": [], "suppresses": [],
        "confidence": 0.5, "pairs": pairs,
    }  # fmt: skip
    return json.dumps({"hypotheses": [one | changes]})


def test_a_well_formed_answer_is_read() -> None:
    (proposal,) = parse(answer(trigger="t\n\x1b[31m u"))
    assert proposal.claims.trigger == "t [31m u"
    assert len(proposal.pairs) == 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I suppose digits.",
        '{"hypotheses": []}',
        answer(pairs=[]),
        answer(pairs=[{"fires": "", "edited": "b"}] * 8),
        answer(pairs=[{"fires": "x" * 500, "edited": "b"}] * 8),
        answer(confidence=2),
        answer(more=1),
        "[" * 60_000,
    ],
)
def test_anything_else_is_no_hypothesis(text: str) -> None:
    with pytest.raises(DraftError):
        parse(text)
