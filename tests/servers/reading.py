"""A server that can read: a judge who knows the planted concepts and takes tokens in backquotes at their word, and a
writer who says what a test tells it. Over real HTTP, in OpenAI's form with log-probabilities.

An explanation fits a marked token if that token is among those that it has in backquotes; a passage without a mark, if
any of them occurs in it. Explanations that begin with `MUTE` are not understood.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from neuronagent.explain import prompts
from neuronagent.explain.planted_concepts import TEXTS, concepts
from tests.servers.scripted import Answering, Body, Response, Scripted, says

MUTE = "Something"
_SURE = 0.95
Writing = Callable[[str, int], object]
"""Gets the prompt and the number of the sample, and returns what is written, as JSON."""


Before = Callable[[Body, int], Response | None]


def reader(write: Writing | None = None) -> Scripted:
    """The server."""
    return Scripted(chat=reading(write))


def reading(write: Writing | None = None, *, before: Before | None = None) -> Answering:
    """What such a server answers; `before` may answer a request in its own way."""

    def chat(body: Body, number: int) -> Response:
        response = answered(body, number)
        if response.status != 200 or not response.content.startswith(b"{"):
            return response
        said = json.loads(response.content)
        length = sum(len(str(message["content"])) for message in body["messages"])
        usage = {"prompt_tokens": length // 4, "completion_tokens": 1, "total_tokens": length // 4 + 1}
        return replace(response, content=json.dumps(said | {"usage": usage}).encode())

    def answered(body: Body, number: int) -> Response:
        special = before(body, number) if before else None
        if special is not None:
            return special
        user = str(body["messages"][-1]["content"])
        if "neuron_summary" in user:
            return says(json.dumps(write(user, int(body.get("seed", 0))) if write else {}))
        if body.get("logprobs"):
            return _label(user)
        if '"grades"' in user:
            return says(json.dumps({"grades": _grades(user)}))
        return says("I would rather talk about the weather.")

    return chat


def _label(user: str) -> Response:
    texts, passage = _texts(user), _passage(user)
    if len(texts) == 1:
        p = _fits(texts[0], passage)
        return says("Yes" if p > 0.5 else "No", top={"Yes": math.log(p), "No": math.log(1 - p)})
    fits = [_fits(text, passage) for text in texts]
    letters = "ABCD"[: len(fits)]
    return says(letters[0], top={a: math.log(p / sum(fits)) for a, p in zip(letters, fits, strict=True)})


def _fits(text: str, passage: str) -> float:
    known = _known().get(passage, {}).get(text)
    if known is not None:
        return _SURE if known else 1 - _SURE
    named = named_tokens(text)
    if not named:
        return 0.5
    marked = re.search(r"<<(.*?)>>", passage)
    shown = json.loads(f'"{marked[1]}"') if marked else json.loads(passage)
    fits = shown in named if marked else any(token in shown for token in named)
    return _SURE if fits else 1 - _SURE


def _grades(user: str) -> list[int]:
    named = named_tokens(_texts(user)[0])
    tokens = [json.loads(found) for found in re.findall(r'^\d+: (".*")$', user, re.MULTILINE)]
    return [10 if token in named else 0 for token in tokens]


def named_tokens(text: str) -> set[str]:
    """The tokens that a text has in backquotes."""
    return set() if text.startswith(MUTE) else set(re.findall(r"`([^`]*)`", text))


def _texts(user: str) -> list[str]:
    return [json.loads(found) for found in re.findall(r'^(?:Explanation|[A-D]): (".*")$', user, re.MULTILINE)]


def _passage(user: str) -> str:
    found = re.search(r'^Passage: (".*")$', user, re.MULTILINE)
    return found[1] if found else '""'


@cache
def _known() -> dict[str, dict[str, bool]]:
    """Whether the text of a concept holds of a planted passage, by passage and text."""
    known: dict[str, dict[str, bool]] = {}
    for concept in concepts(0):
        for p in concept.passages:
            shown = prompts.passage(p.tokens, len(p.tokens) - 1)
            truth = {TEXTS[concept.name]: p.holds, TEXTS[concept.wrong]: p.wrong_holds}
            known.setdefault(shown, {}).update(truth)
    return known


def written(label_of: Callable[[str], str], asked: Sequence[str], *, summary: str = "It does one thing.") -> object:
    """A draft in the form asked for, with `label_of(combination)` as its trigger."""
    return {
        "neuron_summary": summary,
        "combinations": [
            {
                "combination": c,
                "label": "tokens",
                "summary": "s",
                "trigger": label_of(c),
                "context": "",
                "not_when": "",
                "promotes": [],
                "suppresses": [],
                "confidence": 0.5,
            }
            for c in asked
        ],
        "same": [],
    }
