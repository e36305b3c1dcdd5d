"""Asking many questions of a real server: once each, in parallel, within a budget, and never again after that."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from neuronagent.errors import BudgetError, Interrupted, LLMError, UsageError
from neuronagent.explain.judging import Status
from neuronagent.explain.llm.asking import BREAKER, Asker
from neuronagent.explain.llm.budget import Budget, Price
from neuronagent.explain.llm.client import Client
from neuronagent.explain.llm.items import Memory
from neuronagent.explain.llm.server import Server
from neuronagent.explain.prompts import Message
from tests.explain.llm.askers import asker_of, echo, plain
from tests.servers.scripted import Body, Response, Scripted, as_json, fails, in_turn, says

SOON = {"retry-after-ms": "1"}


def test_answers_come_in_the_order_of_the_questions() -> None:
    def slow_first(body: Body, number: int) -> Response:
        return replace(echo(body, number), delay=0.1 if number == 1 else 0.0)

    with Scripted(slow_first) as server:
        items = asker_of(server).ask([plain(str(n)) for n in range(10)])
        assert [item.content["text"] for item in items] == [f"to {n}" for n in range(10)]


def test_equal_questions_are_asked_once_and_other_samples_are_others() -> None:
    with Scripted(echo) as server:
        items = asker_of(server).ask([plain("a"), plain("b"), plain("a"), plain("a", sample=1)])
        assert len(server.requests) == 3
        assert items[0] == items[2] != items[3]


def test_equal_questions_of_several_threads_are_asked_once() -> None:
    with Scripted(lambda body, number: replace(echo(body, number), delay=0.05)) as server:
        asker = asker_of(server)
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(asker.ask, [plain("a"), plain("b")]) for _ in range(4)]
            answers = [one.result() for one in asked]
        assert len(server.requests) == 2
        assert all(answer == answers[0] for answer in answers)


def test_what_was_answered_is_not_asked_again_by_the_next_run() -> None:
    cache = Memory()
    with Scripted(echo) as server:
        first = asker_of(server, cache=cache).ask([plain("a"), plain("b")])
        told: list[tuple[int, int]] = []
        second = asker_of(server, cache=cache).ask([plain("a"), plain("b")], lambda done, of: told.append((done, of)))
        assert (first, len(server.requests), told) == (second, 2, [(2, 2)])


def test_another_model_server_prompt_or_parameter_is_another_question() -> None:
    request = plain("a")
    here, there = Server.of("http://a/v1", "m"), Server.of("http://b/v1", "m")
    keys = {
        request.key(here),
        request.key(there),
        request.key(replace(here, model="n")),
        replace(request, prompt_version="2").key(here),
        plain("a", max_tokens=11).key(here),
        plain("b").key(here),
        plain("a", sample=1).key(here),
    }
    assert len(keys) == 7
    assert plain("a").key(here) == request.key(here)


def test_no_more_than_so_many_requests_are_on_their_way_at_once() -> None:
    with Scripted(lambda body, number: replace(echo(body, number), delay=0.03)) as server:
        asker_of(server, concurrency=3).ask([plain(str(n)) for n in range(12)])
        assert server.at_once == 3


def test_refusals_and_unreadable_answers_are_kept_as_such_and_failures_are_not() -> None:
    def chat(body: Body, _number: int) -> Response:
        asked = body["messages"][-1]["content"]
        return {
            "refusal": says("", message={"refusal": "I cannot"}),
            "filter": says("part", finish_reason="content_filter"),
            "empty": says(""),
            "page": Response(content=b"<html>"),
            "error": as_json({"error": {"message": "overloaded"}}),
            "strange": as_json({"choices": [{"message": "text"}]}),
        }[asked]

    questions = ["refusal", "filter", "empty", "page", "error", "strange"]
    with Scripted(chat) as server:
        asker = asker_of(server)
        requests = [plain(question) for question in questions]
        outcomes = [item.outcome for item in asker.ask(requests)]
        assert outcomes == [Status.REFUSAL, Status.REFUSAL, Status.PARSE_ERROR] + 3 * [Status.HTTP_ERROR]
        asker.ask(requests)
        assert len(server.requests) == 6 + 3


def test_after_failures_in_a_row_everything_stops_and_what_was_answered_is_kept() -> None:
    def chat(body: Body, number: int) -> Response:
        return echo(body, number) if number <= 5 else fails(500, headers=SOON)

    with Scripted(chat) as server:
        asker = asker_of(server, retries=0, concurrency=1)
        with pytest.raises(LLMError, match=f"failed {BREAKER} times in a row") as caught:
            asker.ask([plain(str(n)) for n in range(100)])
        assert caught.value.exit_code == 5
        assert len(server.requests) == 5 + BREAKER
        server.chat = echo
        asker.failures = 0
        asker.ask([plain(str(n)) for n in range(5)])
        assert len(server.requests) == 5 + BREAKER


def test_single_failures_stop_nothing() -> None:
    def chat(body: Body, number: int) -> Response:
        return fails(500) if number % 3 == 0 else echo(body, number)

    with Scripted(chat) as server:
        items = asker_of(server, retries=0, concurrency=1).ask([plain(str(n)) for n in range(30)])
        assert sum(item.outcome is Status.HTTP_ERROR for item in items) == 10


def test_a_refused_key_stops_everything_at_once() -> None:
    with Scripted(in_turn([fails(401)])) as server:
        with pytest.raises(LLMError, match="HTTP 401"):
            asker_of(server, concurrency=1).ask([plain(str(n)) for n in range(100)])
        assert len(server.requests) == 1


def test_nobody_at_the_address_stops_with_what_to_do() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = Server.of(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", "m")
        with pytest.raises(LLMError, match="connection failed"):
            Asker(Client(server, retries=0)).ask([plain(str(n)) for n in range(20)])


def test_a_budget_of_nothing_sends_nothing() -> None:
    with Scripted(echo) as server:
        with pytest.raises(BudgetError) as caught:
            asker_of(server, budget=Budget(tokens=0)).ask([plain("a")])
        assert (caught.value.exit_code, server.requests) == (6, [])


def test_a_budget_is_never_exceeded_however_many_are_sent_at_once() -> None:
    budget = Budget(tokens=1_000)
    with Scripted(echo) as server:
        asker = asker_of(server, budget=budget)
        with pytest.raises(BudgetError, match="questions were not sent"):
            asker.ask([plain(f"{n:0100}") for n in range(50)])
        # The server says 110 tokens for each; more than the bound of a request is left only once nothing else fits.
        assert budget.spent_tokens == 110 * len(server.requests) <= 1_000
        assert len(server.requests) == 8
        assert asker.ask([plain(f"{0:0100}")])[0].outcome is Status.OK


def test_money_is_a_budget_too() -> None:
    price = Price(input=1_000.0, output=10_000.0)
    budget = Budget(money=1.0)
    with Scripted(echo) as server:
        with pytest.raises(BudgetError, match=r"\$0\.\d+ of \$1"):
            asker_of(server, budget=budget, price=price).ask([plain(f"{n:0100}") for n in range(50)])
        assert len(server.requests) == 4
        assert budget.spent_money == pytest.approx(4 * (100 * 1_000 + 10 * 10_000) / 1e6)


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="negative"):
        Budget(tokens=-1)
    with pytest.raises(UsageError, match="negative"):
        Budget(money=float("nan"))


def test_an_answer_without_usage_is_booked_at_its_bound() -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "hello"}}]}
    for usage in ({}, {"usage": None}, {"usage": {"prompt_tokens": -5, "completion_tokens": "many"}}):
        with Scripted(in_turn([as_json(body | usage)])) as server:
            asker = asker_of(server, budget=Budget())
            expected = asker.preview([plain("a")])
            asker.ask([plain("a")])
            assert asker.budget.spent_tokens == expected.prompt_tokens + expected.completion_tokens > 0


def test_a_timeout_is_booked_at_its_bound_since_the_server_may_have_worked() -> None:
    with Scripted(in_turn([Response(delay=30)])) as server:
        asker = asker_of(server, deadline=0.2)
        expected = asker.preview([plain("a")])
        assert asker.ask([plain("a")])[0].outcome is Status.TIMEOUT
        assert asker.budget.spent_tokens == expected.prompt_tokens + expected.completion_tokens


def sevens(messages: Sequence[Message]) -> int:
    return 7 * len(messages)


def test_a_preview_counts_each_open_question_once_and_sends_nothing() -> None:
    with Scripted(echo) as server:
        asker = asker_of(server, price=Price(input=1e6, output=2e6), counter=sevens)
        asker.ask([plain("a")])
        preview = asker.preview([plain("a"), plain("b"), plain("b"), plain("c")])
        assert (preview.requests, preview.known) == (2, 1)
        assert (preview.prompt_tokens, preview.completion_tokens, preview.exact) == (14, 20, True)
        assert preview.cost == 14 * 1 + 20 * 2
        assert len(server.requests) == 1


def test_without_a_tokenizer_the_bound_covers_every_byte() -> None:
    with Scripted(echo) as server:
        preview = asker_of(server).preview([plain("日本" * 100)])
        assert not preview.exact
        assert preview.prompt_tokens >= 600 > preview.estimate


def test_ctrl_c_ends_cleanly_and_what_was_answered_is_kept() -> None:
    def chat(body: Body, number: int) -> Response:
        if number == 6:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        return replace(echo(body, number), delay=0.0 if number < 6 else 30.0)

    with Scripted(chat) as server:
        asker, everything = asker_of(server, concurrency=2), [plain(str(n)) for n in range(50)]
        with pytest.raises(Interrupted) as caught:
            asker.ask(everything)
        assert caught.value.exit_code == 130
        asked, kept = len(server.requests), asker.preview(everything).known
        assert asked - 2 <= kept <= asked <= 7
        server.chat = echo
        asker.ask(everything)
        assert len(server.requests) == asked + 50 - kept


def test_being_told_to_stop_ends_between_two_questions() -> None:
    with Scripted(echo) as server:
        asker = asker_of(server, concurrency=1, stopped=lambda: len(server.requests) >= 3)
        with pytest.raises(Interrupted):
            asker.ask([plain(str(n)) for n in range(50)])
        assert len(server.requests) == 3


def test_being_told_to_stop_does_not_wait_for_a_server_that_hangs() -> None:
    with Scripted(lambda body, number: replace(echo(body, number), delay=0.0 if number <= 3 else 30.0)) as server:
        asker = asker_of(server, concurrency=2, stopped=lambda: len(server.requests) >= 5, grace=0.1)
        with pytest.raises(Interrupted):
            asker.ask([plain(str(n)) for n in range(50)])
        assert len(server.requests) == 5
        assert asker.preview([plain(str(n)) for n in range(50)]).known == 3


def test_what_is_on_its_way_may_arrive_when_told_to_stop() -> None:
    with Scripted(lambda body, number: replace(echo(body, number), delay=0.3)) as server:
        asker = asker_of(server, concurrency=2, stopped=lambda: len(server.requests) >= 2)
        with pytest.raises(Interrupted):
            asker.ask([plain(str(n)) for n in range(50)])
        assert asker.preview([plain(str(n)) for n in range(50)]).known == 2


def test_an_answer_that_cannot_be_kept_stops_the_run() -> None:
    class Full(Memory):
        def put(self, item: object) -> None:
            raise OSError("no room")

    with Scripted(echo) as server:
        with pytest.raises(OSError, match="no room"):
            asker_of(server, cache=Full(), concurrency=1).ask([plain(str(n)) for n in range(50)])
        assert len(server.requests) == 1


def test_asking_nothing_asks_nothing() -> None:
    with Scripted(echo) as server:
        assert asker_of(server).ask([]) == []
        assert asker_of(server).preview([]).requests == 0
        assert server.requests == []
