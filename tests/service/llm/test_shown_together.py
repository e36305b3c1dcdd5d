"""What is shown of a combination is one judge's, under one protocol; what a campaign chose comes first."""

from __future__ import annotations

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, SignCombination, Split
from neuronagent.service import views
from neuronagent.service.scoring import CHOSEN
from neuronagent.store.explanations import StoredExplanation, StoredScore

PP, PM = COMBINATIONS[:2]
GOOD, BAD = "good @ here (labels)", "bad @ here (labels)"
FIT = {GOOD: True, BAD: False}


def score(
    number: int, *, judge: str = GOOD, protocol: str = "p", metric: str = "detection", other: str = "N0"
) -> StoredScore:
    value = Score(
        metric=metric, negative_set=other, split=Split.TEST, value=0.8, lo=0.6, hi=0.9, n_pos=20, n_neg=20, judge=judge
    )
    return StoredScore(
        id=number, explanation_id=1, score=value, tau=None, protocol_version=protocol, reading=1, created="",
        superseded_by=None,
    )  # fmt: skip


def text(number: int, c: SignCombination = PP, source: str = "llm") -> StoredExplanation:
    said = Explanation(
        neuron=NeuronId(0, 0), combination=c, source=source, text=f"t{number}", claims={}, evidence_hash=""
    )
    return StoredExplanation(
        id=number, explanation=said, author=None, server="", unsealed=False, parent_id=None, created="",
        superseded_by=None,
    )  # fmt: skip


def test_scores_of_an_earlier_protocol_of_the_same_judge_are_left_out() -> None:
    judge, own = views.judged([score(1, protocol="quick"), score(2, protocol="default")], FIT)
    assert (judge, [s.id for s in own]) == (GOOD, [2])


def test_a_judge_that_passed_its_check_comes_before_one_that_was_asked_later_and_failed() -> None:
    judge, own = views.judged([score(1), score(2, judge=BAD)], FIT)
    assert (judge, [s.id for s in own]) == (GOOD, [1])


def test_what_a_campaign_chose_is_shown_before_what_was_scored_later() -> None:
    chosen = (text(1), [score(1), score(2, metric=CHOSEN, other="campaign")])
    later = (text(2, source="human"), [score(3)])
    assert [e.id for e, _ in views.ranked([later, chosen, (text(3), [])], PP, FIT)] == [1, 2, 3]


def test_combinations_that_were_not_judged_together_are_not_compared() -> None:
    def which(number: int, judge: str) -> list[StoredScore]:
        return [
            score(number + i, judge=judge, metric="which_combination", other=c.value) for i, c in enumerate((PP, PM))
        ]

    together = views.cross_view({PP: which(1, GOOD), PM: which(3, GOOD)}, FIT)
    assert together["available"]
    assert (together["judge"], together["judge_fit"]) == (GOOD, True)
    apart = views.cross_view({PP: which(1, GOOD), PM: which(3, BAD)}, FIT)
    assert not apart["available"]
    assert "not judged together" in apart["reason"]
