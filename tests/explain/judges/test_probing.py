"""What a server can do is found out by asking; a field that it accepts and ignores counts for nothing."""

from __future__ import annotations

import pytest

from neuronagent.errors import BudgetError, LLMError
from neuronagent.explain.judges.forms import Kind
from neuronagent.explain.judges.probing import probe, probe_chat
from neuronagent.explain.judges.server import server_judge
from neuronagent.explain.judging import Status
from neuronagent.explain.llm.budget import Budget
from neuronagent.explain.llm.items import Memory
from tests.explain.llm.askers import asker_of, detection
from tests.servers.scripted import Body, Response, Scripted, as_json, fails, in_turn, says

TOP = {"Yes": -0.1, "No": -2.5, " yes": -4.0}


def decide(body: Body, _number: int) -> Response:
    answers = {name: {"type": "noul", "noul": 0.75} for name in body["questions"]}
    return as_json({"model": "m", "answers": answers, "usage": {"input_tokens": 50, "output_tokens": 0}})


def with_logprobs(body: Body, _number: int) -> Response:
    return says("Yes", top=TOP if body.get("logprobs") else None)


def with_schema(body: Body, _number: int) -> Response:
    return says('{"fits": 80}' if "response_format" in body else "Yes")


def only(chat: dict[str, object]) -> object:
    """A server that refuses any field but those."""

    def answer(body: Body, number: int) -> Response:
        unknown = sorted(set(body) - set(chat) - {"model", "messages"})
        return fails(422, f"unexpected {unknown}") if unknown else with_schema(body, number)

    return answer


def test_typed_decisions_come_first_and_no_chat_is_sent() -> None:
    with Scripted(with_logprobs, decide) as server:
        assert probe(asker_of(server)).kind is Kind.DECISIONS
        assert [request.path for request in server.requests] == ["/v1/systemone"]


def test_log_probabilities_come_next() -> None:
    with Scripted(with_logprobs) as server:
        capability = probe(asker_of(server))
        assert (capability.kind, capability.top, capability.name) == (Kind.LOGPROBS, 20, "logprobs")


def test_fewer_log_probabilities_are_taken_where_twenty_are_refused() -> None:
    def at_most_five(body: Body, number: int) -> Response:
        return fails(400, "top_logprobs") if body.get("top_logprobs", 0) > 5 else with_logprobs(body, number)

    with Scripted(at_most_five) as server:
        assert probe(asker_of(server)).top == 5


def test_ignored_log_probabilities_lead_to_a_schema() -> None:
    with Scripted(with_schema) as server:
        capability = probe(asker_of(server))
        assert (capability.kind, capability.dialect.schema) == (Kind.SCHEMA, True)


@pytest.mark.parametrize("answer", ["Yes", '{"fits": "80"}', '{"fits": 80, "more": 1}', '{"other": 1}', ""])
def test_an_ignored_schema_leads_to_text(answer: str) -> None:
    with Scripted(lambda _body, _number: says(answer)) as server:
        capability = probe(asker_of(server))
        assert (capability.kind, capability.dialect.schema) == (Kind.TEXT, False)


def test_log_probabilities_without_the_labels_lead_on() -> None:
    with Scripted(lambda _body, _number: says("I", top={"I": -0.1, "The": -1.0})) as server:
        assert probe(asker_of(server)).kind is Kind.TEXT


@pytest.mark.parametrize(
    ("fields", "limit", "temperature"),
    [
        ({"max_tokens", "temperature", "response_format"}, "max_tokens", True),
        ({"max_completion_tokens", "response_format"}, "max_completion_tokens", False),
        ({"max_tokens"}, "max_tokens", False),
    ],
)
def test_fields_that_are_refused_are_left_out(fields: set[str], limit: str, temperature: bool) -> None:
    with Scripted(only(dict.fromkeys(fields))) as server:  # pyright: ignore[reportArgumentType]
        dialect = probe(asker_of(server)).dialect
        assert (dialect.limit, dialect.temperature) == (limit, temperature)
        assert dialect.schema == ("response_format" in fields)


def test_a_chat_template_without_a_system_message_gets_its_words_in_the_first() -> None:
    def no_system(body: Body, number: int) -> Response:
        if body["messages"][0]["role"] == "system":
            return fails(400, "System role not supported")
        return with_logprobs(body, number)

    with Scripted(no_system) as server:
        asker = asker_of(server)
        capability = probe(asker)
        assert (capability.kind, capability.dialect.system) == (Kind.LOGPROBS, False)
        assert server_judge(asker, capability).ask([detection(1)])[0].status is Status.OK
        (message,) = server.bodies[-1]["messages"]
        assert message["role"] == "user"
        assert "You judge explanations" in message["content"]
        assert "page<< 1>>" in message["content"]


def test_a_model_that_thinks_first_gets_room_for_it() -> None:
    def thinks(body: Body, _number: int) -> Response:
        enough = body["max_completion_tokens"] > 1_000
        return says('{"fits": 1}') if enough else says("", finish_reason="length")

    with Scripted(thinks) as server:
        assert probe_chat(asker_of(server)).thinking > 1_000


def test_what_was_paid_for_in_probing_is_not_paid_again() -> None:
    cache = Memory()
    with Scripted(with_schema) as server:
        first = probe(asker_of(server, cache=cache))
        paid = sum(request.path != "/v1/systemone" for request in server.requests)
        assert probe(asker_of(server, cache=cache)) == first
        assert sum(request.path != "/v1/systemone" for request in server.requests) == paid == 2


def test_a_budget_of_nothing_allows_no_probing() -> None:
    with Scripted(with_logprobs, decide) as server:
        with pytest.raises(BudgetError):
            probe(asker_of(server, budget=Budget(tokens=0)))
        assert server.requests == []


@pytest.mark.parametrize("code", [401, 403])
def test_a_missing_key_is_told_at_the_first_request(code: int) -> None:
    with Scripted(in_turn([fails(code)]), in_turn([fails(code)])) as server:
        with pytest.raises(LLMError, match=f"HTTP {code}"):
            probe(asker_of(server))
        assert len(server.requests) == 1


def test_an_unknown_model_is_told() -> None:
    with (
        Scripted(in_turn([fails(404, "The model `m` does not exist", code="model_not_found")])) as server,
        pytest.raises(LLMError, match=r"does not exist.*check the address"),
    ):
        probe(asker_of(server))


def test_a_server_that_refuses_whatever_is_sent_says_why() -> None:
    with (
        Scripted(in_turn([fails(400, "m is pinned to another model")])) as server,
        pytest.raises(LLMError, match="pinned"),
    ):
        probe(asker_of(server))


@pytest.mark.parametrize(
    "response",
    [Response(content=b"<html>hello</html>", headers={"Content-Type": "text/html"}), fails(500), fails(429)],
    ids=["a web site", "an error", "too many requests"],
)
def test_an_address_where_something_else_answers_is_told(response: Response) -> None:
    with (
        Scripted(in_turn([response]), in_turn([response])) as server,
        pytest.raises(LLMError, match="does not answer"),
    ):
        probe(asker_of(server, retries=0))
