"""What the scores of an explanation come to, in one phrase: the first of a fixed list that applies (protocol, § 4)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from neuronagent.domain import Score
from neuronagent.explain.items import N0, N1, SAME_TEXTS
from neuronagent.explain.scorers.detection import AUROC, STRONGEST


class Verdict(Enum):
    """The order of the members is the order in which they are tried."""

    NOT_ENOUGH = "not enough examples"
    FAILED = "scoring failed"
    UNFIT = "judge unfit"
    NOT_SUPPORTED = "not supported"
    SIGN_UNCLEAR = "trigger right, sign not distinguished"
    TOKEN_LIST = "not better than the token list"
    SUPPORTED = "supported"


TOKEN_LIST_CONTROL = "token list"


def verdict(scores: Sequence[Score], *, enough: bool, is_rule: bool, judge_fit: bool = True) -> Verdict:
    """The verdict over the detection scores of one explanation.

    `enough`: each of the splits used has strong tokens from enough texts. Where no other combination has strong
    tokens there is no sign to distinguish, and that test is passed over.
    """
    if not enough:
        return Verdict.NOT_ENOUGH
    found = {s.negative_set: s for s in scores if s.metric == AUROC}
    random = found.get(N0) or found.get(SAME_TEXTS)
    if random is None or random.value is None or random.lo is None:
        return Verdict.FAILED
    if not judge_fit:
        return Verdict.UNFIT
    lifts = {c.kind: c.lift_lo for c in random.controls}
    strongest = lifts.get(STRONGEST)
    if random.lo <= 0.5 or strongest is None or strongest <= 0:
        return Verdict.NOT_SUPPORTED
    others = found.get(N1)
    if others is not None and others.lo is not None and others.lo <= 0.5:
        return Verdict.SIGN_UNCLEAR
    token_list = lifts.get(TOKEN_LIST_CONTROL)
    if not is_rule and (token_list is None or token_list <= 0):
        return Verdict.TOKEN_LIST
    return Verdict.SUPPORTED
