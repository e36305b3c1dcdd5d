"""Whether a judge can be trusted: it is asked about passages whose concepts are known.

For each concept of `planted_concepts` the judge sees every passage once with the true explanation and once with a wrong
one, each alone, in the causal view. It passes if, for every concept,

- the AUROC of positives against negatives under the true explanation is at least .95, and
- that under the wrong explanation has ½ within its interval: whoever reads the explanation has no reason to tell the
  sides apart, and whoever only finds the positives more striking does so whatever the explanation says;

and at most 10 % of the answers in each set failed. Scores of a judge that did not pass are marked.

Under the wrong explanation differences are counted in tenths of what the true one makes (median of positives − median
of negatives). An AUROC sees ranks only: a judge that says .003 where it otherwise says .002 would seem to tell the
sides apart, though by its own scale it says no to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any

import numpy as np

from neuronagent.explain.judging import Answer, Judge, Question, Status, Task, Told
from neuronagent.explain.planted_concepts import Concept, Passage, concepts
from neuronagent.explain.statistics import Interval, auroc_interval

LEAST_AUROC = 0.95
MOST_FAILED = 0.1
_STEPS = 10
_LEAST_STEP = 1e-9
SEED = 0


@dataclass(frozen=True, kw_only=True)
class ConceptCheck:
    """One concept: AUROC with its interval under the true and under the wrong explanation, None with a `reason`."""

    concept: str
    wrong_concept: str
    true: Interval | None
    wrong: Interval | None
    n_pos: int
    n_neg: int
    n_failed: int
    reason: str | None

    @property
    def passed(self) -> bool:
        if self.true is None or self.wrong is None:
            return False
        return self.true.value >= LEAST_AUROC and self.wrong.lo <= 0.5 <= self.wrong.hi

    def to_json(self) -> dict[str, Any]:
        intervals = {
            name: None if found is None else [found.value, found.lo, found.hi]
            for name, found in (("true", self.true), ("wrong", self.wrong))
        }
        return vars(self) | intervals | {"passed": self.passed}


@dataclass(frozen=True, kw_only=True)
class JudgeCheck:
    """How a judge did. `auroc` is the least over the concepts under the true explanation, None if one has none."""

    judge: str
    prompt_version: str
    seed: int
    concepts: tuple[ConceptCheck, ...]

    @property
    def passed(self) -> bool:
        return all(concept.passed for concept in self.concepts)

    @property
    def auroc(self) -> float | None:
        values = [concept.true.value for concept in self.concepts if concept.true is not None]
        return min(values) if len(values) == len(self.concepts) else None

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "concepts": [concept.to_json() for concept in self.concepts],
            "passed": self.passed,
            "auroc": self.auroc,
        }


def check_judge(judge: Judge, *, seed: int = SEED, told: Told | None = None) -> JudgeCheck:
    """Ask `judge` all of `check_questions` and score its answers.

    Raises:
        LLMError, BudgetError, Interrupted: see `judging.Judge.ask`.
    """
    questions = check_questions(seed)
    answers = dict(zip(questions, judge.ask(questions, told), strict=True))
    return JudgeCheck(
        judge=judge.name,
        prompt_version=judge.prompt_version,
        seed=seed,
        concepts=tuple(_checked(concept, answers) for concept in concepts(seed)),
    )


def check_questions(seed: int = SEED) -> list[Question]:
    """All that a check asks, each once; positives and negatives in an order that says nothing."""
    asked = [_question(text, p) for c in concepts(seed) for text in (c.text, c.wrong_text) for p in c.passages]
    order = np.random.default_rng(seed).permutation(len(asked))
    return list(dict.fromkeys(asked[place] for place in order))


def _question(text: str, passage: Passage) -> Question:
    last = len(passage.tokens) - 1
    return Question(task=Task.DETECTION, texts=(text,), tokens=passage.tokens, marked=last)


def _checked(concept: Concept, answers: dict[Question, Answer]) -> ConceptCheck:
    true, wrong = (_Sides.of(concept, text, answers) for text in (concept.text, concept.wrong_text))
    reasons = [sides.reason for sides in (true, wrong) if sides.reason]
    step = 0.0 if true.reason else (median(true.positive) - median(true.negative)) / _STEPS
    return ConceptCheck(
        concept=concept.name,
        wrong_concept=concept.wrong,
        true=None if true.reason else auroc_interval(true.positive, true.negative),
        wrong=None
        if wrong.reason
        else auroc_interval(_in_steps(wrong.positive, step), _in_steps(wrong.negative, step)),
        n_pos=sum(passage.holds for passage in concept.passages),
        n_neg=sum(not passage.holds for passage in concept.passages),
        n_failed=true.n_failed + wrong.n_failed,
        reason=reasons[0] if reasons else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """P(yes) under one explanation where there is an answer, and why there are too few, if there are."""

    positive: list[float]
    negative: list[float]
    n_failed: int
    reason: str | None

    @classmethod
    def of(cls, concept: Concept, text: str, answers: dict[Question, Answer]) -> _Sides:
        found: dict[bool, list[float]] = {True: [], False: []}
        for passage in concept.passages:
            answer = answers[_question(text, passage)]
            if answer.status is Status.OK and len(answer.values) == 1 and isfinite(answer.values[0]):
                found[passage.holds].append(answer.values[0])
        total = len(concept.passages)
        failed = total - len(found[True]) - len(found[False])
        too_many = failed > MOST_FAILED * total
        return cls(
            positive=found[True],
            negative=found[False],
            n_failed=failed,
            reason=f"{failed} of {total} answers failed" if too_many else None,
        )


def _in_steps(values: Sequence[float], step: float) -> list[float]:
    """`values` rounded to whole steps; as they are where the steps mean nothing."""
    return [float(round(value / step)) for value in values] if step > _LEAST_STEP else list(values)
