"""What is sent together, and what comes back taken apart again.

A chat is one question. Typed decisions about the same state share a call: the server answers each in a forward pass of
its own, so that none can touch another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from neuronagent.explain.judging import Status
from neuronagent.explain.llm.items import DECISIONS, Request

_DECISIONS_PER_CALL = 16
"""A server takes 64, but a slow one should answer before the deadline, and a call that is lost should not hold many."""


def calls(pending: Mapping[str, Request]) -> list[dict[str, Request]]:
    """What is sent together: one question per chat, several about the same state per call of typed decisions."""
    found: list[dict[str, Request]] = []
    open_calls: dict[str, tuple[dict[str, Request], int]] = {}
    for key, request in pending.items():
        if request.path != DECISIONS:
            found.append({key: request})
            continue
        state, size = str(request.body["state"]), len(request.body["questions"])
        call, filled = open_calls.get(state, ({}, 0))
        if not call or filled + size > _DECISIONS_PER_CALL:
            call, filled = {}, 0
            found.append(call)
        call[key] = request
        open_calls[state] = call, filled + size
    return found


def joined(call: Mapping[str, Request]) -> dict[str, Any]:
    """One body for all requests, which have the same state."""
    first = next(iter(call.values()))
    questions = {
        f"{place}.{name}": question
        for place, request in enumerate(call.values())
        for name, question in request.body["questions"].items()
    }
    return {"state": first.body["state"], "questions": questions}


def split(call: Mapping[str, Request], body: Mapping[str, Any]) -> dict[str, tuple[Status, dict[str, Any]]]:
    """What is kept of the answers of each request."""
    answers = body.get("answers")
    if not isinstance(answers, dict):
        failed = {"problem": "the answer holds no decisions", "reached": True}
        return dict.fromkeys(call, (Status.HTTP_ERROR, failed))
    kept: dict[str, tuple[Status, dict[str, Any]]] = {}
    for place, (key, request) in enumerate(call.items()):
        own = {name: _kept(answers.get(f"{place}.{name}")) for name in request.body["questions"]}
        kept[key] = Status.OK, {"answers": own}
    return kept


def _kept(answer: object) -> Any:
    """The numbers of an answer: all that is read of it later."""
    if not isinstance(answer, dict):
        return None
    return {name: answer[name] for name in ("noul", "probabilities", "score") if name in answer}


def usage(body: Mapping[str, Any], call: Mapping[str, Request], bounds: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Prompt and completion tokens of each question: as the server counted, shared out by the bounds of the prompts;
    the bounds themselves where it did not count."""
    told = body.get("usage")
    counts = cast("Mapping[str, Any]", told) if isinstance(told, dict) else {}
    prompt = _count(counts.get("prompt_tokens", counts.get("input_tokens")))
    completion = _count(counts.get("completion_tokens", counts.get("output_tokens")))
    most = [request.completion_tokens for request in call.values()]
    prompts = list(bounds) if prompt is None else _shares(prompt, bounds)
    completions = most if completion is None else _shares(completion, [1 + tokens for tokens in most])
    return dict(zip(call, zip(prompts, completions, strict=True), strict=True))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole numbers, in proportion to `weights`."""
    whole, shares, before = sum(weights), list[int](), 0
    reached = 0
    for weight in weights:
        reached += weight
        upto = total * reached // whole
        shares.append(upto - before)
        before = upto
    return shares
