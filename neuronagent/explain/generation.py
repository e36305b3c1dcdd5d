"""Pairs of sentences written by a language model that sees an explanation and nothing else of the neuron.

An answer that is not of the form asked for is asked for once more, with what is wrong with it; then there are no pairs.
Pairs that are no minimal edits are left as they are: `pairs.problems` counts them as failed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import ValidationError

from neuronagent.explain import prompts
from neuronagent.explain.draft_answer import StrictModel, draft_error, plain_line
from neuronagent.explain.judging import Status
from neuronagent.explain.llm.chat import read_object
from neuronagent.explain.llm.completion import Completion, Wanted
from neuronagent.explain.pairs import LONGEST, PAIRS, Pair
from neuronagent.explain.quoting import cut, quoted

MAX_TOKENS = 3_000
PURPOSE = "pairs"
_ANSWER_LENGTH = 20_000
_FORM_VERSION = 1
"""Of what this module does with an answer; raised when that changes."""

Complete = Callable[[Sequence[Wanted]], Sequence[Completion]]


class PairsError(ValueError):
    """An answer that holds no pairs; the message says what is wrong, for the model that is asked again."""


class _PairAnswer(StrictModel):
    fires: str
    edited: str


class _Answer(StrictModel):
    pairs: list[_PairAnswer]


def write_pairs(complete: Complete, explanation: str) -> tuple[Pair, ...] | str:
    """`PAIRS` pairs for an explanation, or why there are none.

    Raises:
        LLMError, BudgetError, Interrupted: what `complete` raises; what was answered is kept.
    """
    first = wanted(explanation)
    (said,) = complete([first])
    found = _read(said)
    if isinstance(found, PairsError):
        (said,) = complete(
            [
                replace(
                    first,
                    messages=prompts.again("generation", first.messages, said.text, str(found), longest=_ANSWER_LENGTH),
                )
            ]
        )
        found = _read(said)
    return f"its answer could not be used: {found}" if isinstance(found, PairsError) else found


def wanted(explanation: str) -> Wanted:
    """What is asked, for a preview; it may cost as much again, if the answer cannot be used."""
    return Wanted(
        messages=prompts.render("generation", **_variables(explanation)),
        purpose=PURPOSE,
        prompt_version=generation_prompt_version(),
        schema=_schema(),
        temperature=0.0,
        max_tokens=MAX_TOKENS,
    )


@cache
def generation_prompt_version() -> str:
    """The version of all that pairs are asked with."""
    source = f"{_FORM_VERSION} {prompts.load('generation').source}"
    return f"pairs-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


def parse_pairs(text: str) -> tuple[Pair, ...]:
    """The pairs that an answer is: one JSON object and nothing else, but for a code fence round it.

    Raises:
        PairsError: it is not of the form asked for, or has another number of pairs.
    """
    value = read_object(text) if len(text) <= _ANSWER_LENGTH else None
    if value is None:
        raise PairsError("the answer is not one JSON object, or is too long")
    try:
        answer = _Answer.model_validate(value)
    except ValidationError as error:
        raise PairsError(str(draft_error(error))) from error
    if len(answer.pairs) != PAIRS:
        raise PairsError(f"{len(answer.pairs)} pairs, not {PAIRS}")
    return tuple(Pair(fires=plain_line(pair.fires), edited=plain_line(pair.edited)) for pair in answer.pairs)


def _read(said: Completion) -> tuple[Pair, ...] | PairsError | str:
    """A refusal or a failed call is not asked again here: the client has tried, and a refusal stands."""
    if said.status not in (Status.OK, Status.PARSE_ERROR):
        return f"no answer came ({said.status.value})"
    try:
        return parse_pairs(said.text)
    except PairsError as error:
        return error


def _variables(explanation: str) -> dict[str, Any]:
    said = quoted(cut(explanation, prompts.EXPLANATION_LENGTH))
    return {"explanation": said, "pairs": PAIRS, "characters": LONGEST}


def _schema() -> dict[str, Any]:
    return _Answer.model_json_schema()
