"""Prompts: the templates of the folder `prompts`, and how a question is put to a judge.

    render("draft", …)              messages of a prompt with the parts `system` and `user`
    judge_messages(question)        messages that ask for one of `labels(question)` and nothing else
    judge_messages(question, JSON)  messages that ask for a JSON object of `answer_schema(question)`
    split_for_decisions(question)   the same as a state and a typed question, for `/v1/systemone`
    judge_prompt_version()          one string for the wording of all of these, stored with every answer

One request holds one passage. Passages and explanations are data: each is one JSON string (`quoted`), the token that is
asked about between `<<` and `>>`, which nothing in the text itself can imitate. In the causal view a passage ends at
that token. No prompt says how many passages fit, and an empty explanation is asked about in the same form as any other.

Simulation is asked in one of two ways. Where single labels are read, there is a question per token, each with the
passage up to that token (`per_token`), and the labels are the digits 0 to 9: "10" is two tokens in many vocabularies;
a digit is worth `GRADES`/9. In JSON, all tokens of a passage are graded in one answer.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from neuronagent.errors import NotFoundError
from neuronagent.explain.judging import GRADES, Question, Task
from neuronagent.explain.quoting import PASSAGE_LENGTH, cut, passage, quoted
from neuronagent.resources import folder

if TYPE_CHECKING:
    from jinja2 import Template

EXPLANATION_LENGTH = 4_000
_ANSWER_SHOWN = 10_000
DIGITS = tuple(string.digits)
_JUDGING = ("quotations", "detection", "fuzzing", "which", "simulation", "repair")
_PLACE = "\0"
"""Stands for the passage in a template that is filled once for many; no quoted text holds it."""
_FORM_VERSION = 1
"""Of what this module does to texts; raised when that changes."""


class Message(TypedDict):
    """One message of a chat."""

    role: str
    content: str


class Form(Enum):
    """What an answer is asked to look like: one of a few labels that are single tokens, or a JSON object."""

    LABEL = "label"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A template: `parts` are Jinja2 sources by name, in order."""

    name: str
    version: str
    parts: Mapping[str, str]
    source: str


def load(name: str) -> Prompt:
    """The template `prompts/NAME.md`.

    Raises:
        NotFoundError: there is none, or it has no front matter.
    """
    return _load(_folder(), name)


@cache
def _folder() -> Path:
    return folder("prompts")


@cache
def _load(place: Path, name: str) -> Prompt:
    try:
        source = (place / f"{name}.md").read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(f"the prompt {name!r} is missing", remedy="install neuronagent again") from error
    found = re.fullmatch(r"---\n(.*?)\n---\n(.*)", source, re.DOTALL)
    fields = dict(re.findall(r"^(\w+): *(.*)$", found[1], re.MULTILINE)) if found else {}
    if found is None or fields.get("name") != name or "version" not in fields:
        raise NotFoundError(f"the prompt {name!r} does not state its name and version", remedy="install it again")
    pieces = re.split(r"^# (\w+)\n", found[2], flags=re.MULTILINE)
    parts = {"": pieces[0]} | dict(zip(pieces[1::2], pieces[2::2], strict=True))
    return Prompt(name=name, version=fields["version"], parts=parts, source=source)


def render_part(name: str, part: str, **variables: Any) -> str:
    """One part of a template, filled in. A variable that the template needs and does not get is an error."""
    return _fill(name, part, variables)


def again(
    name: str, messages: Sequence[Message], said: str, problem: str, *, longest: int = _ANSWER_SHOWN
) -> list[Message]:
    """`messages` of a template with the part `repair`, then what was said to them and could not be used (`longest`
    characters of it), and what is wrong with it."""
    before = Message(role="assistant", content=said[:longest] or "(nothing)")
    return [*messages, before, Message(role="user", content=render_part(name, "repair", problem=problem))]


def _fill(name: str, part: str, variables: Mapping[str, Any]) -> str:
    return _template(_folder(), name, part).render(variables).strip()


@cache
def _template(place: Path, name: str, part: str) -> Template:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    included = FunctionLoader(lambda other: _load(place, other).parts[""].strip())
    return Environment(undefined=StrictUndefined, loader=included).from_string(_load(place, name).parts[part])


def render(name: str, **variables: Any) -> list[Message]:
    """The messages of a template with the parts `system` and `user` (or only `user`), filled in."""
    roles = [role for role in ("system", "user") if role in load(name).parts]
    return [Message(role=role, content=_fill(name, role, variables)) for role in roles]


@cache
def judge_prompt_version() -> str:
    """The version of all that a judge is asked with: a hash over the templates and over what is done to texts."""
    digest = hashlib.sha256(str(_FORM_VERSION).encode())
    for name in _JUDGING:
        digest.update(load(name).source.encode())
    return f"judge-{digest.hexdigest()[:10]}"


def labels(question: Question) -> tuple[str, ...]:
    """The answers that are allowed, each a single token in most vocabularies, in the order of the answer's values.

    The value of DETECTION and FUZZING is the probability of the first; that of SIMULATION at one token (see
    `per_token`) is `GRADES`/9 times the expected digit.
    """
    if question.task is Task.WHICH:
        if not 1 <= len(question.texts) <= len(string.ascii_uppercase):
            raise ValueError(f"{len(question.texts)} explanations cannot be told apart by a letter")
        return tuple(string.ascii_uppercase[: len(question.texts)])
    return DIGITS if question.task is Task.SIMULATION else ("Yes", "No")


def per_token(question: Question) -> list[Question]:
    """A question of simulation as one for each token: the passage up to that token, which is marked."""
    return [
        replace(question, tokens=question.tokens[: place + 1], marked=place) for place in range(len(question.tokens))
    ]


def judge_messages(question: Question, form: Form = Form.LABEL) -> list[Message]:
    """The messages that put `question`.

    Raises:
        ValueError: labels are asked for all tokens at once (see `per_token`).
    """
    parts = _judge_parts(question, form)
    asked = "\n\n".join(parts[part] for part in ("explanation", "passage", "question", "answer"))
    return [Message(role="system", content=parts["system"]), Message(role="user", content=asked)]


def repair_messages(question: Question, said: str) -> list[Message]:
    """The messages that ask once more, after `said` could not be read as JSON."""
    again = render("repair", answer=_judge_parts(question, Form.JSON)["answer"])
    before = Message(role="assistant", content=said[:PASSAGE_LENGTH] or "(nothing)")
    return [*judge_messages(question, Form.JSON), before, *again]


def answer_schema(question: Question) -> dict[str, Any]:
    """The JSON schema of an answer in the form JSON."""
    if question.task is Task.WHICH:
        return _object("best", {"type": "string", "enum": list(labels(question))})
    if question.task is Task.SIMULATION:
        grade = {"type": "integer", "minimum": 0, "maximum": GRADES}
        count = len(question.tokens)
        return _object("grades", {"type": "array", "items": grade, "minItems": count, "maxItems": count})
    return _object("fits", {"type": "integer", "minimum": 0, "maximum": 100})


def split_for_decisions(question: Question) -> tuple[str, dict[str, dict[str, Any]]]:
    """The state and the typed questions, by name, that `/v1/systemone` answers.

    One question, but for SIMULATION one for each token. Questions about the same explanation have the same state, so
    that one call can hold many: each is answered in a pass of its own.
    """
    if question.task is Task.SIMULATION and question.marked is None:
        every = [_judge_parts(q, Form.LABEL) for q in per_token(question)]
        return _state(every[0]) if every else "", {str(i): _typed(question, parts) for i, parts in enumerate(every)}
    parts = _judge_parts(question, Form.LABEL)
    return _state(parts), {"0": _typed(question, parts)}


def _state(parts: Mapping[str, str]) -> str:
    return f"{parts['system']}\n\n{parts['explanation']}"


def _typed(question: Question, parts: Mapping[str, str]) -> dict[str, Any]:
    typed: dict[str, Any] = {"instructions": f"{parts['passage']}\n\n{parts['question']}"}
    if question.task is Task.WHICH:
        return {"type": "choice", **typed, "criteria": dict.fromkeys(labels(question))}
    if question.task is Task.SIMULATION:
        return {"type": "score", **typed, "criteria": list(DIGITS)}
    return {"type": "noul", **typed}


def _judge_parts(question: Question, form: Form) -> dict[str, str]:
    if form is Form.LABEL and question.task is Task.SIMULATION and question.marked is None:
        raise ValueError("a label grades one token: ask per_token(question)")
    allowed = labels(question) if question.task is Task.WHICH else ()
    if question.task is Task.SIMULATION and question.marked is None:
        tokens = [quoted(cut(token, PASSAGE_LENGTH // 4)) for token in question.tokens]
        frame = _frame(question.task, question.texts, allowed, form, False, len(tokens))
        shown = _fill(question.task.value, "passage", {"marked": False, "tokens": tokens})
        return {**frame, "passage": shown}
    frame = _frame(question.task, question.texts, allowed, form, question.marked is not None, 0)
    shown = passage(question.tokens, question.marked)
    return {**frame, "passage": frame["passage"].replace(_PLACE, shown)}


@lru_cache(maxsize=1024)
def _frame(
    task: Task, texts: tuple[str, ...], allowed: tuple[str, ...], form: Form, marked: bool, count: int
) -> dict[str, str]:
    """All parts, which are the same for many questions; the passage itself, if it is one string, comes to `_PLACE`."""
    variables = {
        "explanations": [quoted(cut(text, EXPLANATION_LENGTH)) for text in texts],
        "labels": allowed,
        "form": form.value,
        "marked": marked,
        "passage": _PLACE,
        "tokens": (),
        "count": count,
        "highest": GRADES if form is Form.JSON else DIGITS[-1],
    }
    return {part: _fill(task.value, part, variables) for part in load(task.value).parts if part}


def _object(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}
