"""Fuzzing: true marks against wrong ones, in the full view."""

from __future__ import annotations

import numpy as np
import pytest

from neuronagent.domain import Split, View
from neuronagent.explain.scorers.contrast import BALANCED_ACCURACY, STRONGEST
from neuronagent.explain.scorers.fuzzing import FUZZING, WRONG_MARKS, fuzzing
from neuronagent.explain.subjects import EmptySubject
from tests.explain.scripted_subjects import Scripted, reads_post, window, windows

TRUE = windows([1.0, 0.9, 0.7, 0.4] * 5)
WRONG = tuple(window(w.post - 0.5, w.text.text_id, position=3) for w in TRUE)


def test_true_marks_are_ranked_against_wrong_ones_of_the_same_windows() -> None:
    found = {s.metric: s for s in fuzzing(Scripted(reads_post), TRUE, WRONG, split=Split.TEST, seed=1, judge="j")}
    pairs = [(t.post > w.post) + (t.post == w.post) / 2 for t in TRUE for w in WRONG]
    assert found[FUZZING].value == pytest.approx(np.mean(pairs))
    assert found[BALANCED_ACCURACY].value == pytest.approx((15 / 20 + 1.0) / 2)
    assert all(s.view == View.FULL.value and s.negative_set == WRONG_MARKS and s.seed == 1 for s in found.values())


def test_a_subject_that_does_not_look_at_the_mark_is_at_one_half() -> None:
    same = Scripted(lambda shown: np.array([w.text.text_id for w in shown], dtype=np.float64))
    found = fuzzing(same, TRUE, WRONG, split=Split.TEST, seed=1, judge="j")[0]
    assert found.value == 0.5
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < 0.5 < found.hi


def test_controls_are_compared_over_the_same_marks() -> None:
    (found, _) = fuzzing(
        Scripted(reads_post), TRUE, WRONG, split=Split.TEST, seed=1, judge="j", controls={"empty": EmptySubject()}
    )
    assert [control.kind for control in found.controls] == ["empty", STRONGEST]
    assert found.controls[0].lift == pytest.approx((found.value or 0) - 0.5)


def test_failed_answers_are_left_out_and_too_many_leave_no_score() -> None:
    few, many = (
        fuzzing(Scripted(reads_post, silent=range(n)), TRUE, WRONG, split=Split.TEST, seed=1, judge="j")[0]
        for n in (2, 3)
    )
    assert (few.n_pos, few.n_neg, few.n_failed) == (18, 18, 4)
    assert few.value is not None
    assert (many.value, many.reason) == (None, "3 of 20 answers failed")


def test_without_marks_there_is_no_value_and_the_reason_is_told() -> None:
    (found,) = fuzzing(Scripted(reads_post), (), (), split=Split.TEST, seed=1, judge="j", missing="no model was run")
    assert (found.value, found.reason, found.n_pos) == (None, "no model was run", 0)
