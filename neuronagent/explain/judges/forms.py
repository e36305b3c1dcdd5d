"""A question in the form that a server can answer best, and the answer back in numbers.

    DECISIONS  typed decisions: a probability for each option, from one forward pass per question
    LOGPROBS   a chat that answers with one label; the log-probabilities of the labels are read, not the label
    SCHEMA     a chat whose JSON answer is bound by a schema: fit in percent, a letter, or a list of grades
    TEXT       the same JSON by request only; what cannot be read is asked for once more

Only the first two give probabilities. A percentage that a model writes is coarser, but still ranks passages, which a
yes or no would not. Simulation is asked per token only with typed decisions; a chat grades all tokens of a passage in
one answer, since a request per token would cost some thirty times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

from neuronagent.explain.judging import GRADES, Question, Task
from neuronagent.explain.llm.chat import Dialect, chat_request, is_number, label_probabilities, read_object
from neuronagent.explain.llm.items import DECISIONS, Request
from neuronagent.explain.prompts import (
    DIGITS,
    Form,
    answer_schema,
    judge_messages,
    judge_prompt_version,
    labels,
    repair_messages,
    split_for_decisions,
)

Values = tuple[float, ...]
_DECISIONS_AT_MOST = 64
_SHORT_ANSWER = 32
_PER_GRADE = 4
_PURPOSE = "judge"
_REPAIR_PURPOSE = "judge repair"


class Kind(Enum):
    """What a server can do, best first."""

    DECISIONS = "decisions"
    LOGPROBS = "logprobs"
    SCHEMA = "json schema"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What probing found; `top` is how many likely tokens the server lists."""

    kind: Kind
    dialect: Dialect = field(default_factory=Dialect)
    top: int = 0

    @property
    def name(self) -> str:
        """As it is stored with every score."""
        return self.kind.value


def requests_of(question: Question, capability: Capability) -> list[Request]:
    """The requests that answer `question`: one, or several where a call cannot hold all of its typed decisions."""
    if capability.kind is Kind.DECISIONS:
        return _decisions(question)
    if capability.kind is Kind.LOGPROBS and question.task is not Task.SIMULATION:
        return [_label_request(question, capability)]
    return [_json_request(question, capability, judge_messages(question, Form.JSON), _PURPOSE)]


def repair_of(question: Question, capability: Capability, said: str) -> Request | None:
    """The request that asks once more; None where the form of the answer is the server's own doing."""
    if capability.kind in (Kind.DECISIONS, Kind.SCHEMA):
        return None
    if capability.kind is Kind.LOGPROBS and question.task is not Task.SIMULATION:
        return None
    return _json_request(question, capability, repair_messages(question, said), _REPAIR_PURPOSE)


def values_of(requests: Sequence[Request], contents: Sequence[Mapping[str, Any]]) -> Values | None:
    """The values of an answer from what is kept of its requests; None where one cannot be read."""
    values: list[float] = []
    for request, content in zip(requests, contents, strict=True):
        read = request.read(content)
        if read is None:
            return None
        values += cast("Values", read)
    return tuple(values)


def _decisions(question: Question) -> list[Request]:
    state, typed = split_for_decisions(question)
    names = list(typed)
    reader = _decision_reader(question)
    return [
        Request(
            path=DECISIONS,
            body={"state": state, "questions": {name: typed[name] for name in names[at : at + _DECISIONS_AT_MOST]}},
            purpose=_PURPOSE,
            prompt_version=judge_prompt_version(),
            read=reader,
            completion_tokens=0,
        )
        for at in range(0, len(names), _DECISIONS_AT_MOST)
    ]


def _decision_reader(question: Question) -> Callable[[Mapping[str, Any]], Values | None]:
    options = labels(question) if question.task is Task.WHICH else ()

    def one(answer: Any) -> Values | None:
        if not isinstance(answer, dict):
            return None
        if question.task is Task.WHICH:
            listed = answer.get("probabilities")
            return _probabilities([listed.get(option) for option in options] if isinstance(listed, dict) else [])
        if question.task is Task.SIMULATION:
            return _within([answer.get("score")], len(DIGITS) - 1, GRADES)
        return _within([answer.get("noul")], 1, 1)

    def read(content: Mapping[str, Any]) -> Values | None:
        values: list[float] = []
        answers = content.get("answers")
        for answer in answers.values() if isinstance(answers, dict) else []:
            value = one(answer)
            if value is None:
                return None
            values += value
        return tuple(values) or None

    return read


def _label_request(question: Question, capability: Capability) -> Request:
    allowed = labels(question)

    def read(content: Mapping[str, Any]) -> Values | None:
        found = label_probabilities(content, allowed)
        return found if found is None or question.task is Task.WHICH else found[:1]

    return chat_request(
        judge_messages(question),
        capability.dialect,
        purpose=_PURPOSE,
        prompt_version=judge_prompt_version(),
        read=read,
        max_tokens=1,
        top_logprobs=capability.top,
    )


def _json_request(question: Question, capability: Capability, messages: Any, purpose: str) -> Request:
    def read(content: Mapping[str, Any]) -> Values | None:
        return read_json(question, str(content.get("text", "")))

    size = _PER_GRADE * len(question.tokens) if question.task is Task.SIMULATION else 0
    return chat_request(
        messages,
        capability.dialect,
        purpose=purpose,
        prompt_version=judge_prompt_version(),
        read=read,
        max_tokens=_SHORT_ANSWER + size,
        schema=answer_schema(question),
    )


def read_json(question: Question, text: str) -> Values | None:
    """The values of an answer in the form JSON, read strictly: one object with one field, nothing missing or beyond."""
    answer = read_object(text)
    if answer is None or len(answer) != 1:
        return None
    if question.task is Task.WHICH:
        letters = labels(question)
        best = answer.get("best")
        return tuple(float(letter == best) for letter in letters) if best in letters else None
    if question.task is Task.SIMULATION:
        grades = answer.get("grades")
        if not isinstance(grades, list) or len(grades) != len(question.tokens):
            return None
        return _within(grades, GRADES, GRADES)
    return _within([answer.get("fits")], 100, 1)


def _within(values: Sequence[object], most: float, scale: float) -> Values | None:
    """Numbers from 0 to `most`, so scaled that `most` becomes `scale`."""
    found = [float(cast("float", value)) for value in values if is_number(value)]
    if len(found) != len(values) or not all(0 <= value <= most for value in found):
        return None
    return tuple(value * scale / most for value in found)


def _probabilities(values: Sequence[object]) -> Values | None:
    found = _within(values, 1, 1)
    return found if found and abs(sum(found) - 1) < 0.01 else None
