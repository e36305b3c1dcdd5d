"""Chat completions: how a server wants to be asked, what is kept of its answer, and JSON read strictly."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from neuronagent.explain.judging import Status
from neuronagent.explain.llm.items import CHAT, Request
from neuronagent.explain.prompts import Message

_LEAST = 1e-12
_LONGEST = 200_000
"""Characters of an answer that are looked at."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What a server takes and really heeds.

    `limit`: its name for the longest answer; `temperature`: whether it may be set; `system`: whether the model's chat
    template knows such a message; `schema`: whether a JSON schema binds the answer; `sampling`: whether temperatures
    need `do_sample` in a `generation_config` (transformers serve); `thinking`: tokens that it needs for thoughts before
    it answers.
    """

    limit: str = "max_completion_tokens"
    temperature: bool = True
    system: bool = True
    schema: bool = False
    sampling: bool = False
    thinking: int = 0


def chat_request(
    messages: Sequence[Message],
    dialect: Dialect,
    *,
    purpose: str,
    prompt_version: str,
    read: Callable[[Mapping[str, Any]], object | None],
    max_tokens: int,
    temperature: float = 0.0,
    sample: int = 0,
    schema: Mapping[str, Any] | None = None,
    top_logprobs: int = 0,
) -> Request:
    """A request for one answer. Each `sample` is an answer of its own to the same messages."""
    longest = max_tokens + dialect.thinking
    spoken = list(messages) if dialect.system else _without_system(messages)
    body: dict[str, Any] = {"messages": spoken, dialect.limit: longest}
    if dialect.temperature:
        body["temperature"] = temperature
    if dialect.sampling and temperature > 0:
        body["generation_config"] = json.dumps({"do_sample": True, "max_new_tokens": longest})
    if schema is not None and dialect.schema:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        }
    if top_logprobs:
        body |= {"logprobs": True, "top_logprobs": top_logprobs}
    return Request(
        path=CHAT,
        body=body,
        purpose=purpose,
        prompt_version=prompt_version,
        read=read,
        completion_tokens=longest,
        sample=sample,
    )


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The same, with the system's words at the head of the first message."""
    first, *others = messages
    if first["role"] != "system" or not others:
        return list(messages)
    head = Message(role=others[0]["role"], content=f"{first['content']}\n\n{others[0]['content']}")
    return [head, *others[1:]]


def kept_of_chat(body: Mapping[str, Any]) -> tuple[Status, dict[str, Any]]:
    """What is kept of a chat completion: text, how it ended, and the likely first tokens with their log-probabilities.

    A body that is no chat completion is a failed request, however it was labelled.
    """
    choice = _first(body.get("choices"))
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        return Status.HTTP_ERROR, {"problem": "the answer is no chat completion", "reached": True}
    content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    kept: dict[str, Any] = {"text": content[:_LONGEST] if isinstance(content, str) else "", "finish": str(finish)[:40]}
    if finish == "content_filter" or (isinstance(refusal, str) and refusal):
        return Status.REFUSAL, kept
    top = _top_logprobs(choice.get("logprobs"))
    return Status.OK, kept | ({"top": top} if top else {})


def _first(value: object) -> dict[str, Any] | None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return cast("dict[str, Any]", value[0])
    return None


def _top_logprobs(logprobs: object) -> list[tuple[str, float]]:
    place = _first(cast("dict[str, Any]", logprobs).get("content")) if isinstance(logprobs, dict) else None
    listed = place.get("top_logprobs") if place else None
    found: list[tuple[str, float]] = []
    for entry in listed[:100] if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("token"), str) and is_number(entry.get("logprob")):
            found.append((entry["token"][:100], min(0.0, float(entry["logprob"]))))
    return found


def is_number(value: object) -> bool:
    """Whether a value of a server's answer is a finite number."""
    return type(value) in (int, float) and math.isfinite(cast("float", value))


def label_probabilities(kept: Mapping[str, Any], labels: Sequence[str]) -> tuple[float, ...] | None:
    """The probability of each label among themselves, from the likely first tokens; None if none of them is there.

    Spaces and case of a token do not matter. A label that is not listed is at most as likely as the last one that is,
    and as all together that are not, and is taken to be so: P(yes) then still ranks answers in which "No" was too
    unlikely to be listed.
    """
    top = kept.get("top") or []
    found = [sum(math.exp(lp) for token, lp in top if token.strip().lower() == label.lower()) for label in labels]
    if not any(found):
        return None
    listed = [math.exp(lp) for _, lp in top]
    floor = max(_LEAST, min(*listed, 1 - sum(listed)))
    filled = [value or floor for value in found]
    return tuple(value / sum(filled) for value in filled)


def read_object(text: str) -> dict[str, Any] | None:
    """The one JSON object that a text consists of; a code fence round it is allowed, thoughts before it too."""
    bare = re.sub(r"\A\s*<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?\s*```", bare, re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else bare, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _no_constant(name: str) -> float:
    raise ValueError(name)
