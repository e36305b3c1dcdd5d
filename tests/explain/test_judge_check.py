"""The check of judges: who knows the concepts and reads the explanation passes, and nobody else."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from neuronagent.explain.judge_check import JudgeCheck, check_judge, check_questions
from neuronagent.explain.judging import Answer, Question, Status, Task, Told
from neuronagent.explain.planted_concepts import CAPITAL, DATE, NOT, NUMBER, PER_SIDE, TEXTS, concepts

Says = Callable[[Question], float]


@dataclass
class Oracle:
    """A judge that answers by a function; what it says "None" to has failed."""

    says: Callable[[Question], float | None]
    name: str = "oracle"
    prompt_version: str = "1"
    asked: list[Question] = field(default_factory=list[Question])

    def ask(self, questions: Sequence[Question], told: Told | None = None) -> list[Answer]:
        self.asked += questions
        return [self._answer(self.says(question)) for question in questions]

    def _answer(self, value: float | None) -> Answer:
        return Answer(status=Status.TIMEOUT) if value is None else Answer(status=Status.OK, values=(value,))


_MONTH = r"(January|February|March|April|May|June|July|August|September|October|November|December)"


def holds(concept: str, tokens: Sequence[str]) -> bool:
    """Whether a concept is there at the last token: written apart from the code that makes the passages."""
    text, last = "".join(tokens), tokens[-1].strip()
    if concept == NUMBER:
        return last.isdigit()
    if concept == CAPITAL:
        return re.search(r"\. [A-Z][a-z]+\Z", text) is not None
    if concept == NOT:
        return "not" in [token.strip() for token in tokens[-6:-1]]
    return re.search(rf" (on|in) {_MONTH} \d+\Z", text) is not None


def concept_of(question: Question) -> str:
    return next(name for name, text in TEXTS.items() if question.texts == (text,))


def knows(question: Question) -> float:
    return float(holds(concept_of(question), question.tokens))


def truth() -> dict[tuple[str, ...], bool]:
    """Which passages are positives of the concept that they were made for."""
    return {p.tokens: p.holds for concept in concepts(0) for p in concept.passages}


POSITIVE = truth()


def failed(check: JudgeCheck, side: str) -> list[str]:
    """The concepts whose true or wrong explanation does not score as it should."""
    found: list[str] = []
    for c in check.concepts:
        interval = c.true if side == "true" else c.wrong
        assert interval is not None
        fine = interval.value >= 0.95 if side == "true" else interval.lo <= 0.5 <= interval.hi
        found += [] if fine else [c.concept]
    return found


# What is asked


@pytest.mark.parametrize("seed", range(5))
def test_passages_are_what_they_are_said_to_be_and_crossed_with_the_wrong_concept(seed: int) -> None:
    assert {concept.name for concept in concepts(seed)} == {NUMBER, CAPITAL, NOT, DATE}
    for concept in concepts(seed):
        assert all(p.holds == holds(concept.name, p.tokens) for p in concept.passages)
        assert all(p.wrong_holds == holds(concept.wrong, p.tokens) for p in concept.passages)
        cells = [(p.holds, p.wrong_holds) for p in concept.passages]
        assert [cells.count((a, b)) for a in (True, False) for b in (True, False)] == [PER_SIDE // 2] * 4
        assert len({p.tokens for p in concept.passages}) == len(concept.passages) == 2 * PER_SIDE
        assert PER_SIDE >= 20


def test_sides_have_passages_of_like_length_that_fit_into_a_window() -> None:
    for concept in concepts(0):
        lengths = {side: sorted(len(p.tokens) for p in concept.passages if p.holds is side) for side in (True, False)}
        assert lengths[True] == lengths[False]
        assert max(lengths[True]) <= 32


def test_negatives_are_hard() -> None:
    by_name = {concept.name: [p.tokens for p in concept.passages if not p.holds] for concept in concepts(0)}
    assert sum(tokens[-2].strip().isdigit() for tokens in by_name[NUMBER]) >= 5
    assert sum(tokens[-1].strip()[0].isupper() for tokens in by_name[CAPITAL]) >= 10
    assert sum(" not" in tokens for tokens in by_name[NOT]) >= 10
    assert all(tokens[-1].strip().isdigit() for tokens in by_name[DATE])
    assert {p.tokens[-1].strip() for p in concepts(0)[3].passages if p.holds} == {
        tokens[-1].strip() for tokens in by_name[DATE]
    }


def test_each_question_is_asked_once_alone_and_in_the_causal_view() -> None:
    questions = check_questions()
    assert len(questions) == len(set(questions)) == 2 * 4 * 2 * PER_SIDE
    for question in questions:
        assert question.task is Task.DETECTION
        assert len(question.texts) == 1
        assert question.marked == len(question.tokens) - 1


def test_the_order_of_questions_says_nothing_and_is_the_same_every_time() -> None:
    order = [POSITIVE[question.tokens] for question in check_questions()]
    assert 0.4 < sum(order[: len(order) // 2]) / (len(order) // 2) < 0.6
    assert check_questions(3) == check_questions(3)
    assert check_questions(3) != check_questions(4)


# Who passes


@pytest.mark.parametrize("seed", range(5))
def test_a_judge_that_knows_the_concepts_passes(seed: int) -> None:
    check = check_judge(Oracle(knows), seed=seed)
    assert check.passed
    assert check.auroc == 1
    assert all(c.wrong is not None and c.wrong.value == 0.5 for c in check.concepts)


def test_a_judge_with_small_doubts_of_its_own_passes() -> None:
    rng = random.Random(0)
    assert check_judge(Oracle(lambda q: 0.8 * knows(q) + 0.15 * rng.random())).passed


def test_a_preference_that_is_nothing_on_the_judges_own_scale_is_forgiven() -> None:
    assert check_judge(Oracle(lambda q: 0.9 * knows(q) + 0.003 * POSITIVE[q.tokens])).passed
    assert check_judge(Oracle(lambda q: 0.001 + 0.009 * knows(q) + 0.0003 * POSITIVE[q.tokens])).passed


def test_a_judge_that_prefers_positives_whatever_it_is_told_fails() -> None:
    check = check_judge(Oracle(lambda q: 0.5 * knows(q) + 0.3 * POSITIVE[q.tokens]))
    assert failed(check, "true") == []
    assert len(failed(check, "wrong")) == 4
    assert not check.passed


def test_a_judge_that_never_reads_the_explanation_fails() -> None:
    check = check_judge(Oracle(lambda q: float(POSITIVE[q.tokens])))
    assert failed(check, "true") == []
    assert not check.passed


_KNOWS_NOTHING: dict[str, Says] = {
    "always says yes": lambda _: 1.0,
    "always says no": lambda _: 0.0,
    "is always undecided": lambda _: 0.5,
    "answers by the length of the passage": lambda q: float(len("".join(q.tokens))),
    "answers by the number of tokens": lambda q: len(q.tokens) / 100,
    "answers by the length of the last token": lambda q: float(len(q.tokens[-1])),
    "answers the other way round": lambda q: 1 - knows(q),
    "takes every explanation for the same one": lambda q: float(holds(NUMBER, q.tokens)),
    "answers as if digits were meant by dates": lambda q: float(
        holds({DATE: NUMBER}.get(concept_of(q), concept_of(q)), q.tokens)
    ),
    "finds any capital good enough": lambda q: float(
        q.tokens[-1].strip()[0].isupper() if concept_of(q) == CAPITAL else knows(q)
    ),
    "finds any `not` near enough": lambda q: float(" not" in q.tokens if concept_of(q) == NOT else knows(q)),
}


@pytest.mark.parametrize("habit", list(_KNOWS_NOTHING))
def test_a_judge_fails_that(habit: str) -> None:
    check = check_judge(Oracle(_KNOWS_NOTHING[habit]))
    assert not check.passed
    assert failed(check, "true")


@pytest.mark.parametrize("seed", range(5))
def test_a_judge_that_answers_at_random_fails(seed: int) -> None:
    rng = random.Random(seed)
    check = check_judge(Oracle(lambda _: rng.random()))
    assert not check.passed
    assert len(failed(check, "true")) == 4


# Failures


def test_a_few_failed_answers_are_left_out_and_counted() -> None:
    lost = set(check_questions()[::48])
    check = check_judge(Oracle(lambda q: None if q in lost else knows(q)))
    assert sum(c.n_failed for c in check.concepts) == len(lost) == 8
    assert check.passed


def test_a_concept_with_too_many_failures_has_no_score_and_the_judge_does_not_pass() -> None:
    check = check_judge(Oracle(lambda q: None if concept_of(q) == CAPITAL else knows(q)))
    by_name = {c.concept: c for c in check.concepts}
    assert by_name[CAPITAL].true is None
    assert by_name[CAPITAL].reason == "48 of 48 answers failed"
    assert by_name[NUMBER].passed
    assert (check.auroc, check.passed) == (None, False)
    every = check_judge(Oracle(lambda _: None))
    assert (every.auroc, every.passed) == (None, False)
    assert sum(c.n_failed for c in every.concepts) == 2 * 4 * 2 * PER_SIDE


def test_an_answer_that_is_no_number_is_a_failure() -> None:
    check = check_judge(Oracle(lambda _: float("nan")))
    assert check.auroc is None


def test_a_check_is_json() -> None:
    for check in (check_judge(Oracle(knows)), check_judge(Oracle(lambda _: None))):
        data = json.loads(json.dumps(check.to_json(), allow_nan=False))
        assert data["passed"] == check.passed
        assert [c["concept"] for c in data["concepts"]] == [NUMBER, CAPITAL, NOT, DATE]
        assert (data["judge"], data["prompt_version"], data["seed"]) == ("oracle", "1", 0)
