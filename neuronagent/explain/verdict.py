"""What the scores of an explanation come to, in one phrase: the first of a fixed list that applies (protocol, § 4).

The causal view on `test` counts, by one judge: an explanation that two judges have read has two verdicts (`by_judge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from neuronagent.domain import Score, Split, View
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


def by_judge(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """The scores of each judge that detection was scored by, in order of appearance."""
    judges = dict.fromkeys(score.judge for score in scores if score.metric == AUROC)
    return {judge: [score for score in scores if score.judge == judge] for judge in judges}


def verdict(scores: Sequence[Score], *, enough: bool, is_rule: bool, judge_fit: bool = True) -> Verdict:
    """The verdict over the detection scores of one explanation by one judge.

    `enough`: each of the splits used has strong tokens from enough texts. Where no other combination has strong
    tokens there is no sign to distinguish, and that test is passed over. Where a score that a test needs, or that of a
    control, is missing because answers failed, scoring failed.

    Raises:
        ValueError: detection scores of more than one judge.
    """
    counted = [s for s in scores if s.metric == AUROC and s.view == View.CAUSAL.value and s.split is Split.TEST]
    if len({score.judge for score in counted}) > 1:
        raise ValueError("scores of several judges have no verdict in common")
    if not enough:
        return Verdict.NOT_ENOUGH
    found = {s.negative_set: s for s in counted}
    random, others = found.get(N0) or found.get(SAME_TEXTS), found.get(N1)
    if random is None or random.value is None or random.lo is None:
        return Verdict.FAILED
    lifts = {c.kind: c.lift_lo for c in random.controls if not (is_rule and c.kind == TOKEN_LIST_CONTROL)}
    if None in (lifts.get(STRONGEST, 0.0), lifts.get(TOKEN_LIST_CONTROL, 0.0)):
        return Verdict.FAILED
    if others is not None and others.value is None and others.n_failed:
        return Verdict.FAILED
    if not judge_fit:
        return Verdict.UNFIT
    if random.lo <= 0.5 or (lifts.get(STRONGEST) or 0.0) <= 0:
        return Verdict.NOT_SUPPORTED
    if others is not None and others.lo is not None and others.lo <= 0.5:
        return Verdict.SIGN_UNCLEAR
    if not is_rule and (lifts.get(TOKEN_LIST_CONTROL) or 0.0) <= 0:
        return Verdict.TOKEN_LIST
    return Verdict.SUPPORTED
