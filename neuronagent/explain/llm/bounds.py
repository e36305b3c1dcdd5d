"""How many tokens a request will take, before it is sent.

Prompts are known to the last character, so that a tokenizer with the model's chat template counts them exactly. Without
one there is an upper bound: no vocabulary of bytes or bytes with merges has more tokens than a text has bytes, and a
template adds some to each message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from neuronagent.explain.llm.items import CHAT, Request
from neuronagent.explain.prompts import Message

_PER_MESSAGE = 16
_PER_PROMPT = 64


class TokenCounter(Protocol):
    """Counts the tokens of a prompt as the model sees it, chat template included."""

    def __call__(self, messages: Sequence[Message]) -> int: ...


@dataclass(frozen=True, kw_only=True)
class PromptTokens:
    """Tokens of a request's prompt: at most `bound`, which `exact` says is what it will be; likely `estimate`."""

    bound: int
    estimate: int
    exact: bool


def prompt_tokens(request: Request, counter: TokenCounter | None = None) -> PromptTokens:
    """Tokens of all prompts of a request."""
    prompts = prompts_of(request)
    if counter is not None:
        counted = sum(counter(messages) for messages in prompts)
        return PromptTokens(bound=counted, estimate=counted, exact=True)
    sizes = [sum(len(message["content"].encode()) for message in messages) for messages in prompts]
    extra = sum(_PER_PROMPT + _PER_MESSAGE * len(messages) for messages in prompts)
    return PromptTokens(bound=sum(sizes) + extra, estimate=(sum(sizes) + extra) // 4, exact=False)


def prompts_of(request: Request) -> list[list[Message]]:
    """The prompts that a server makes of a request: one for a chat, one per question for typed decisions."""
    if request.path == CHAT:
        return [request.body["messages"]]
    state = request.body["state"]
    return [_decision_prompt(state, question) for question in request.body["questions"].values()]


def _decision_prompt(state: str, question: Mapping[str, Any]) -> list[Message]:
    """What `transformers serve` asks a model without a decision template of its own."""
    lines = [question["instructions"]]
    if question["type"] == "noul":
        ending = "Answer Yes or No only."
    else:
        options = list(question["criteria"])
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
        lines += [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
        what = "option" if question["type"] == "choice" else "level"
        ending = f"Answer with the letter of the {what} that fits best ({letters[0]} to {letters[-1]}) only."
    return [Message(role="user", content="\n".join([f"{state}\n", *lines, ending]))]
