"""Free answers in JSON, over a real server: as many as were wanted, none invented."""

from __future__ import annotations

import json

import pytest

from neuronagent.errors import BudgetError
from neuronagent.explain.judging import Status
from neuronagent.explain.llm.budget import Budget
from neuronagent.explain.llm.chat import Dialect
from neuronagent.explain.llm.completion import Completer, Completion, Wanted
from neuronagent.explain.prompts import Message
from tests.explain.llm.askers import asker_of
from tests.servers.scripted import Body, Response, Scripted, in_turn, says

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}}


def wanted(text: str = "write", *, sample: int = 0, temperature: float = 0.7) -> Wanted:
    return Wanted(
        messages=[Message(role="user", content=text)],
        purpose="draft",
        prompt_version="draft-1",
        schema=SCHEMA,
        temperature=temperature,
        sample=sample,
        max_tokens=300,
    )


def numbered(_body: Body, number: int) -> Response:
    return says(json.dumps({"label": f"answer {number}"}))


def test_each_sample_is_an_answer_of_its_own_and_kept() -> None:
    with Scripted(numbered) as server:
        complete = Completer(asker_of(server), Dialect())
        answers = complete([wanted(sample=n) for n in range(3)])
        assert len({str(answer.value) for answer in answers}) == 3
        assert complete([wanted(sample=n) for n in range(3)]) == answers
        assert len(server.requests) == 3
        assert complete.model == "m"


def test_what_is_sent_follows_the_dialect() -> None:
    with Scripted(numbered) as server:
        Completer(asker_of(server), Dialect(limit="max_tokens", schema=True, sampling=True, thinking=100))([wanted()])
        body = server.bodies[-1]
        assert (body["max_tokens"], body["temperature"]) == (400, 0.7)
        assert json.loads(body["generation_config"]) == {"do_sample": True, "max_new_tokens": 400}
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA
        Completer(asker_of(server), Dialect(temperature=False))([wanted()])
        assert set(server.bodies[-1]) == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (says('{"label": "cut'), Status.PARSE_ERROR),
        (says("Here it is."), Status.PARSE_ERROR),
        (says("", message={"refusal": "no"}), Status.REFUSAL),
        (Response(content=b"<html>"), Status.HTTP_ERROR),
    ],
)
def test_a_failed_answer_has_no_value(answer: Response, status: Status) -> None:
    with Scripted(in_turn([answer])) as server:
        completion = Completer(asker_of(server), Dialect())([wanted()])[0]
        assert (completion.status, completion.value) == (status, None)


def test_what_was_said_is_there_for_a_repair() -> None:
    with Scripted(in_turn([says("Here it is.")])) as server:
        completion = Completer(asker_of(server), Dialect())([wanted()])[0]
        assert completion == Completion(status=Status.PARSE_ERROR, value=None, text="Here it is.")


def test_the_preview_bounds_the_answer_and_the_budget_holds() -> None:
    with Scripted(numbered) as server:
        complete = Completer(asker_of(server, budget=Budget(tokens=300)), Dialect())
        preview = complete.cost([wanted(), wanted(sample=1)])
        assert (preview.requests, preview.completion_tokens) == (2, 600)
        with pytest.raises(BudgetError):
            complete([wanted()])
        assert server.requests == []
