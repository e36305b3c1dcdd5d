"""The verdict: every branch of the protocol's list, in its order."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from neuronagent.domain import Score, ScoreControl, Split
from neuronagent.explain.items import N0, N1
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL, Verdict, by_judge, verdict


def score(negative: str, lo: float | None, **lifts: float | None) -> Score:
    controls = tuple(
        ScoreControl(kind=kind.replace("_", " "), value=0.5, lift=lift, lift_lo=lift, lift_hi=lift)
        for kind, lift in lifts.items()
    )
    return Score(
        metric=AUROC, negative_set=negative, split=Split.TEST, value=lo, lo=lo, hi=lo, n_pos=20, n_neg=20,
        reason="missing" if lo is None else None, controls=controls,
    )  # fmt: skip


GOOD = score(N0, 0.8, strongest=0.2, token_list=0.1)
SIGN = score(N1, 0.7)


def test_the_control_names_of_the_table_are_those_of_the_program() -> None:
    assert [c.kind for c in GOOD.controls] == [STRONGEST, TOKEN_LIST_CONTROL]


@pytest.mark.parametrize(
    ("scores", "enough", "is_rule", "fit", "expected"),
    [
        pytest.param([GOOD, SIGN], False, True, True, Verdict.NOT_ENOUGH, id="too few examples"),
        pytest.param([SIGN], True, True, True, Verdict.FAILED, id="no score against random tokens"),
        pytest.param([score(N0, None), SIGN], True, True, True, Verdict.FAILED, id="a score without a value"),
        pytest.param([score(N0, 0.8, strongest=None), SIGN], True, True, True, Verdict.FAILED, id="a control failed"),
        pytest.param(
            [score(N0, 0.8, strongest=0.2, token_list=None), SIGN], True, False, True, Verdict.FAILED,
            id="the token list failed",
        ),
        pytest.param(
            [score(N0, 0.8, strongest=0.2, token_list=None), SIGN], True, True, True, Verdict.SUPPORTED,
            id="the token list failed, which is not asked of a rule",
        ),
        pytest.param(
            [GOOD, replace(score(N1, None), n_failed=3)], True, True, True, Verdict.FAILED,
            id="answers on other combinations failed",
        ),
        pytest.param([GOOD, SIGN], True, False, False, Verdict.UNFIT, id="the judge failed its check"),
        pytest.param([score(N0, 0.5, strongest=0.2), SIGN], True, True, True, Verdict.NOT_SUPPORTED, id="at chance"),
        pytest.param([score(N0, 0.8, strongest=0.0), SIGN], True, True, True, Verdict.NOT_SUPPORTED, id="no lift"),
        pytest.param([score(N0, 0.8), SIGN], True, True, True, Verdict.NOT_SUPPORTED, id="no control"),
        pytest.param([GOOD, score(N1, 0.5)], True, True, True, Verdict.SIGN_UNCLEAR, id="other signs fit as well"),
        pytest.param(
            [score(N0, 0.8, strongest=0.2, token_list=0.0), SIGN], True, False, True, Verdict.TOKEN_LIST,
            id="a text no better than the token list",
        ),
        pytest.param([score(N0, 0.8, strongest=0.2), SIGN], True, False, True, Verdict.TOKEN_LIST, id="no token list"),
        pytest.param(
            [score(N0, 0.8, strongest=0.2, token_list=-0.3), SIGN], True, True, True, Verdict.SUPPORTED,
            id="not asked of a rule",
        ),
        pytest.param([GOOD, SIGN], True, False, True, Verdict.SUPPORTED, id="a text that beats the token list"),
        pytest.param([GOOD, score(N1, None)], True, True, True, Verdict.SUPPORTED, id="no other combination is strong"),
        pytest.param([GOOD], True, True, True, Verdict.SUPPORTED, id="no other combination was asked"),
    ],
)  # fmt: skip
def test_the_first_that_applies_is_the_verdict(
    scores: list[Score], enough: bool, is_rule: bool, fit: bool, expected: Verdict
) -> None:
    assert verdict(scores, enough=enough, is_rule=is_rule, judge_fit=fit) is expected


def test_where_several_apply_the_earlier_of_the_list_wins() -> None:
    """Everything that can go wrong, in every mixture: the verdict is the first of the enumeration that holds."""
    for few, failed, unfit, chance, sign, no_better in itertools.product([False, True], repeat=6):
        lo = None if failed else 0.4 if chance else 0.8
        scores = [score(N0, lo, strongest=0.2, token_list=-0.1 if no_better else 0.1), score(N1, 0.4 if sign else 0.7)]
        applies = [few, failed, unfit, chance, sign, no_better, True]
        expected = next(v for v, held in zip(Verdict, applies, strict=True) if held)
        assert verdict(scores, enough=not few, is_rule=False, judge_fit=not unfit) is expected


def test_only_detection_counts() -> None:
    other = Score(
        metric="balanced_accuracy", negative_set=N0, split=Split.TEST, value=0.9, lo=0.9, hi=1, n_pos=9, n_neg=9
    )
    assert verdict([other], enough=True, is_rule=True) is Verdict.FAILED


def test_only_the_causal_view_and_only_the_test_split_count() -> None:
    full, selected = replace(score(N0, 0.4), view="full"), replace(score(N0, 0.4), split=Split.SELECT)
    assert verdict([GOOD, SIGN, full, selected], enough=True, is_rule=True) is Verdict.SUPPORTED
    assert verdict([full, selected], enough=True, is_rule=True) is Verdict.FAILED


def test_every_judge_has_a_verdict_of_its_own_and_two_have_none_in_common() -> None:
    strict = replace(score(N0, 0.4, strongest=-0.1), judge="strict")
    weights = replace(GOOD, metric="output_promoted", judge="weights")
    split = by_judge([GOOD, SIGN, strict, weights])
    assert {judge: verdict(found, enough=True, is_rule=True) for judge, found in split.items()} == {
        "rule": Verdict.SUPPORTED,
        "strict": Verdict.NOT_SUPPORTED,
    }
    with pytest.raises(ValueError, match="several judges"):
        verdict([GOOD, SIGN, strict], enough=True, is_rule=True)
