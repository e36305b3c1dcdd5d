"""Judges over `transformers serve`, a real server: its answers are a small model's nonsense, its protocol is real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from transformers import AutoTokenizer

from neuronagent.errors import BudgetError, LLMError
from neuronagent.explain.judges.forms import Kind
from neuronagent.explain.judges.probing import probe, probe_chat
from neuronagent.explain.judges.server import server_judge
from neuronagent.explain.judging import Question, Status, Task
from neuronagent.explain.llm.asking import Asker
from neuronagent.explain.llm.bounds import TokenCounter
from neuronagent.explain.llm.budget import Budget
from neuronagent.explain.llm.client import Client
from neuronagent.explain.llm.completion import Completer, Wanted
from neuronagent.explain.llm.server import Server
from neuronagent.explain.prompts import Message
from tests.explain.judges.conftest import Served
from tests.explain.llm.askers import detection

pytestmark = pytest.mark.slow

WHICH = Question(task=Task.WHICH, texts=("digits", "", "names"), tokens=("see", " page", " 3"), marked=2)
SIMULATION = Question(task=Task.SIMULATION, texts=("digits",), tokens=("import", " os", "\n"), marked=None)


def counter_of(served: Served) -> TokenCounter:
    tokenizer = AutoTokenizer.from_pretrained(served.folder)

    def count(messages: Sequence[Message]) -> int:
        ids = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)["input_ids"]
        return len(ids)

    return count


@pytest.fixture
def decider(deciding: Served) -> Iterator[Asker]:
    asker = Asker(Client(Server.of(deciding.base_url, deciding.model)), counter=counter_of(deciding))
    yield asker
    asker.client.close()


@pytest.fixture
def chatter(chatting: Served) -> Iterator[Asker]:
    asker = Asker(Client(Server.of(chatting.base_url, chatting.model)), counter=counter_of(chatting))
    yield asker
    asker.client.close()


def test_typed_decisions_are_found_and_answer_every_task(decider: Asker) -> None:
    capability = probe(decider)
    assert capability.kind is Kind.DECISIONS
    answers = server_judge(decider, capability).ask([detection(1), detection(2), WHICH, SIMULATION])
    assert [answer.status for answer in answers] == [Status.OK] * 4
    assert [len(answer.values) for answer in answers] == [1, 1, 3, 3]
    assert sum(answers[2].values) == pytest.approx(1, abs=1e-6)
    assert all(0 < value < 10 for value in answers[3].values)


def test_an_answer_does_not_depend_on_what_else_is_in_its_call(decider: Asker) -> None:
    judge = server_judge(decider, probe(decider))
    alone = judge.ask([detection(5)])
    other = Asker(decider.client)
    together = server_judge(other, judge.capability).ask([detection(n) for n in range(12)])
    assert together[5].values == pytest.approx(alone[0].values, abs=1e-6)


def test_the_preview_is_what_the_server_then_counts(decider: Asker) -> None:
    judge = server_judge(decider, probe(decider))
    before = decider.budget.spent_tokens
    questions = [WHICH, SIMULATION]
    preview = judge.cost(questions)
    judge.ask(questions)
    assert preview.exact
    assert preview.prompt_tokens == decider.budget.spent_tokens - before > 0


def test_a_vocabulary_without_the_labels_leads_to_chat_and_ignored_fields_to_text(chatter: Asker) -> None:
    capability = probe(chatter)
    assert capability.kind is Kind.TEXT
    assert not capability.dialect.schema
    judge = server_judge(chatter, capability)
    assert [answer.status for answer in judge.ask([detection(1), WHICH])] == [Status.PARSE_ERROR] * 2


def test_a_chat_costs_the_prompt_tokens_that_were_previewed(chatter: Asker) -> None:
    judge = server_judge(chatter, probe(chatter))
    preview = judge.cost([detection(3)])
    items = chatter.ask(judge.requests(detection(3)))
    assert preview.exact
    assert preview.prompt_tokens == sum(item.prompt_tokens or 0 for item in items)
    assert sum(item.completion_tokens or 0 for item in items) <= preview.completion_tokens


def test_samples_differ_where_the_server_has_to_be_told_to_sample(decider: Asker) -> None:
    dialect = probe_chat(decider)
    assert dialect.sampling
    wanted = [
        Wanted(
            messages=[Message(role="user", content="import")],
            purpose="draft",
            prompt_version="1",
            temperature=1.0,
            sample=sample,
            max_tokens=16,
        )
        for sample in (1, 2, 3)
    ]
    texts = [completion.text for completion in Completer(decider, dialect)(wanted)]
    assert len(set(texts)) == 3


def test_a_model_that_it_does_not_have_is_told(deciding: Served) -> None:
    asker = Asker(Client(Server.of(deciding.base_url, "no/such-model"), retries=0))
    with pytest.raises(LLMError, match=r"HTTP 4|does not answer"):
        probe(asker)
    asker.client.close()


def test_a_hard_budget_holds_against_what_the_server_counts(deciding: Served, decider: Asker) -> None:
    capability = probe(decider)
    budget = Budget(tokens=2_000)
    asker = Asker(Client(decider.server), budget=budget, counter=counter_of(deciding))
    with pytest.raises(BudgetError, match="budget is reached"):
        server_judge(asker, capability).ask([detection(n) for n in range(100)])
    assert 1_500 < budget.spent_tokens <= 2_000
    asker.client.close()
