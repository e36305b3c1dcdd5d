"""Several questions about one state in one call of typed decisions, and their answers apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuronagent.explain.judging import Status
from neuronagent.explain.llm.items import Request


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
