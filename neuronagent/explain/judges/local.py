"""A judge in this process: a language model that gives a probability to each label, one pass per question.

No server, no cost, the same answer every time. The model is handed in: nothing here knows what it runs on. With a cache
answers outlive the process, since a large model without a GPU takes seconds for each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuronagent.errors import Interrupted, ModelError
from neuronagent.explain.judging import GRADES, Answer, Question, Status, Task, Told
from neuronagent.explain.llm.budget import Preview
from neuronagent.explain.llm.items import Cache, Item, Memory
from neuronagent.explain.prompts import Message, judge_messages, judge_prompt_version, labels, per_token

_PURPOSE = "judge"
_AT_ONCE = 64
"""Prompts that are scored between two looks at whether to stop."""

Array = NDArray[np.float64]


class LabelScorer(Protocol):
    """A model that reads labels (`models.label_model.LabelModel`); `context` is the most tokens of a prompt."""

    @property
    def context(self) -> int: ...
    def count(self, prompt: Sequence[Message], /) -> int: ...
    def log_probabilities(self, prompts: Sequence[Sequence[Message]], labels: Sequence[str], /) -> Array:
        """ln P(label | prompt), `[prompts, labels]`; NaN where a prompt is longer than `context`."""
        ...


class LocalJudge:
    """A `judging.Judge` over a model in this process."""

    server, kind = "local", "labels"

    def __init__(
        self,
        model: LabelScorer,
        name: str,
        *,
        cache: Cache | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`name`: that of the model, as it is stored with scores and answers: other weights need another name.
        `stopped` is looked at between batches."""
        self._scorer, self._cache, self._stopped = model, cache if cache is not None else Memory(), stopped
        self.model = name

    @property
    def name(self) -> str:
        return f"{self.model} @ {self.server} ({self.kind})"

    @property
    def prompt_version(self) -> str:
        return judge_prompt_version()

    def ask(self, questions: Sequence[Question], told: Told | None = None) -> list[Answer]:
        """See `judging.Judge`. A prompt that is too long for the model ends as HTTP_ERROR, as at a server.

        Raises:
            ModelError: every prompt is too long, or the model cannot answer with single labels.
            Interrupted: `stopped` said so; what was answered is in the cache.
        """
        keys = {question: self._key(question) for question in questions}
        kept = self._cache.find(list(keys.values()))
        answers = {question: _kept(kept[key]) for question, key in keys.items() if key in kept}
        for batch in _batches([question for question in keys if question not in answers]):
            if self._stopped():
                raise Interrupted(
                    f"stopped after {len(answers)} of {len(keys)} answers", remedy="run it again to go on"
                )
            found = self._ask(batch)
            for question, answer in found.items():
                if answer.status is Status.OK:
                    self._cache.put(self._item(keys[question], answer))
            answers.update(found)
            if told is not None:
                told(len(answers), len(keys))
        if answers and all(answer.status is Status.HTTP_ERROR for answer in answers.values()):
            raise ModelError(
                f"every question is longer than the {self._scorer.context} tokens that {self.name} reads",
                remedy="use a model with a longer context as a judge",
            )
        return [answers[question] for question in questions]

    def cost(self, questions: Sequence[Question]) -> Preview:
        """What asking would take: tokens, and no money."""
        keys = {question: self._key(question) for question in questions}
        kept = self._cache.find(list(keys.values()))
        prompts = [prompt for question, key in keys.items() if key not in kept for prompt in _prompts(question)]
        tokens = sum(self._scorer.count(judge_messages(prompt)) for prompt in prompts)
        return Preview(
            requests=len(prompts),
            known=len(kept),
            prompt_tokens=tokens,
            completion_tokens=0,
            exact=True,
            estimate=tokens,
            cost=0.0,
        )

    def _key(self, question: Question) -> str:
        """Under what an answer is kept: everything that it depends on."""
        asked = [question.task.value, question.texts, question.tokens, question.marked]
        content = json.dumps([*asked, self.name, self.prompt_version])
        return hashlib.sha256(content.encode()).hexdigest()

    def _item(self, key: str, answer: Answer) -> Item:
        return Item(
            request_hash=key,
            purpose=_PURPOSE,
            status=answer.status.value,
            response=json.dumps({"values": answer.values}),
            prompt_tokens=None,
            completion_tokens=None,
            cost=None,
            latency=0.0,
            attempt=1,
            model=self.model,
            server=self.server,
            prompt_version=self.prompt_version,
        )

    def _ask(self, questions: Sequence[Question]) -> dict[Question, Answer]:
        """Answers to questions that have the same labels."""
        prompts = [_prompts(question) for question in questions]
        asked = [judge_messages(prompt) for own in prompts for prompt in own]
        found = self._scorer.log_probabilities(asked, labels(questions[0])) if asked else np.empty((0, 0))
        ends = np.cumsum([len(own) for own in prompts])[:-1]
        return {q: _answer(q, rows) for q, rows in zip(questions, np.split(found, ends), strict=True)}


def _kept(item: Item) -> Answer:
    return Answer(status=item.outcome, values=tuple(item.content["values"]))


def _prompts(question: Question) -> list[Question]:
    """What is asked in a pass of its own: a question, or for simulation one for each token."""
    return per_token(question) if question.task is Task.SIMULATION and question.marked is None else [question]


def _batches(questions: Sequence[Question]) -> list[list[Question]]:
    """Questions with the same labels together, at most `_AT_ONCE` prompts in a batch, or one question."""
    by_labels: dict[tuple[str, ...], list[list[Question]]] = {}
    sizes: dict[tuple[str, ...], int] = {}
    for question in questions:
        key, size = labels(question), len(_prompts(question))
        batches = by_labels.setdefault(key, [])
        if not batches or sizes[key] + size > _AT_ONCE:
            batches.append([])
            sizes[key] = 0
        batches[-1].append(question)
        sizes[key] += size
    return [batch for batches in by_labels.values() for batch in batches]


def _answer(question: Question, found: Array) -> Answer:
    """The answer from the log-probabilities of its prompts `[prompts, labels]`."""
    if np.isnan(found).any():
        return Answer(status=Status.HTTP_ERROR)
    shares = _softmax(found)
    if question.task is Task.SIMULATION:
        digits = np.arange(shares.shape[1]) if len(shares) else np.empty(0)
        grades = shares @ digits * (GRADES / (shares.shape[1] - 1)) if len(shares) else np.empty(0)
        return Answer(status=Status.OK, values=tuple(grades.tolist()))
    values = shares[0] if question.task is Task.WHICH else shares[0, :1]
    return Answer(status=Status.OK, values=tuple(values.tolist()))


def _softmax(rows: Array) -> Array:
    if not rows.size:
        return rows
    weights = np.exp(rows - rows.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
