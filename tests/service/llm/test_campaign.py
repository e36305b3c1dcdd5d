"""A run with a language model over real HTTP: writes, chooses, scores, stores once, goes on where it was stopped."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import BudgetError, LLMError, NotFoundError, UsageError
from neuronagent.service.human import add_text
from neuronagent.service.llm.campaign import explain_neurons, score_stored
from neuronagent.service.llm.checking import check
from neuronagent.service.llm.options import LLMOptions, plan_of
from neuronagent.service.llm.preview import preview
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Silent
from tests.known_index import world
from tests.servers.reading import MUTE, named_tokens, reader, reading, written
from tests.servers.scripted import Body, Response, Scripted, fails, says

NEURON = NeuronId(0, 0)
PP = SignCombination.GATE_POS_IN_POS
ROOT = Path(__file__).parents[3]
QUICK = plan_of("quick", "detection")
TINY = replace(QUICK, sizes=replace(QUICK.sizes, name="tiny", positive=3, random=3, per_other=1))


@pytest.fixture(scope="module", autouse=True)
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "a key")
        yield


@pytest.fixture(scope="module")
def servers() -> Iterator[Scripted]:
    """One address for all tests, so that its judge is checked once."""
    with reader() as server:
        yield server


@pytest.fixture(scope="module")
def checked(servers: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that has the judge's check and what probing found; not to be written to."""
    path = Path(shutil.copy(world().db, tmp_path_factory.mktemp("checked") / "planted.db"))
    with Index(str(path)) as index:
        assert check(index, options(servers, drafter=None), Silent())["passed"]
    return path


@pytest.fixture
def server(servers: Scripted) -> Scripted:
    """The server, reading and writing well, with nothing asked so far."""
    servers.chat = reading(good_writer)
    servers.requests.clear()
    return servers


@pytest.fixture
def db(checked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(checked, tmp_path / "planted.db"))


@pytest.fixture
def index(db: Path) -> Iterator[Index]:
    with Index(str(db)) as opened:
        yield opened


def options(server: Scripted, **changes: Any) -> LLMOptions:
    values: dict[str, Any] = {"drafter": "writer", "judge": "reader", "plan": TINY}
    return LLMOptions(base_url=server.base_url, **values | changes)


def rule_tokens(prompt: str) -> dict[str, list[str]]:
    """The marked tokens of each combination's examples, as a prompt for a draft shows them."""
    found: dict[str, list[str]] = {}
    for part in prompt.split("\n## ")[1:]:
        name = part.split("\n")[0]
        found[name] = list(dict.fromkeys(re.findall(r"<<(.*?)>>", part)))
    return found


def good_writer(prompt: str, _sample: int) -> object:
    """Names the marked tokens of each combination."""
    tokens = rule_tokens(prompt)
    asked = re.findall(r"gate[+-]_in[+-]", prompt.split("\nExplain ")[1].split(". Answer")[0])
    return written(lambda c: "One of " + ", ".join(f"`{token}`" for token in tokens[c]), asked)


def bad_writer(prompt: str, _sample: int) -> object:
    """Says nothing that a reader could use."""
    asked = re.findall(r"gate[+-]_in[+-]", prompt.split("\nExplain ")[1].split(". Answer")[0])
    return written(lambda _c: MUTE, asked)


def view(index: Index, neuron: NeuronId = NEURON) -> dict[str, Any]:
    return index.explain(neuron)["combinations"]


@pytest.mark.slow
def test_a_draft_that_names_the_trigger_is_chosen_scored_and_supported(server: Scripted, index: Index) -> None:
    def rules_are_greek(body: Body, _number: int) -> Response | None:
        asked = str(body["messages"][-1]["content"])
        return says("No", top={"Yes": -0.69, "No": -0.7}) if 'Explanation: "Fires ' in asked else None

    server.chat = reading(good_writer, before=rules_are_greek)
    report = explain_neurons(index, [NEURON], options(server, plan=QUICK))
    assert (report.neurons_done, report.failures, report.judge_passed) == (1, {}, True)
    found = view(index)
    own = found[PP.value]
    assert own["explanation"]["source"] == "llm"
    assert own["explanation"]["model"] == "writer"
    assert {" 0", " 5"} <= named_tokens(own["explanation"]["text"])
    assert own["verdict"] == "supported"
    assert own["judge_fit"] is True
    assert own["explanation"]["claims"]["chosen"] >= 1
    assert own["explanation"]["claims"]["neuron_summary"] == "It does one thing."
    assert [other["explanation"]["source"] for other in own["others"]] == ["rule"]
    headline = next(s for s in own["scores"] if s["metric"] == "detection" and s["negative_set"] == "N0")
    assert headline["value"] == 1.0
    assert {"empty", "strongest", "token list"} <= {c["kind"] for c in headline["controls"]}
    assert headline["reading"] == 2  # the rule was read on `test` before


@pytest.mark.slow
def test_the_rule_is_kept_where_no_draft_beats_it(server: Scripted, index: Index) -> None:
    server.chat = reading(bad_writer)
    explain_neurons(index, [NEURON], options(server))
    own = view(index)[PP.value]
    assert own["explanation"]["source"] == "rule"
    assert own["judge"].startswith("reader @ 127.0.0.1")
    assert set(own["by_judge"]) == {"rule", own["judge"]}


@pytest.mark.slow
def test_a_second_run_asks_nothing_and_stores_nothing(server: Scripted, index: Index) -> None:
    explain_neurons(index, [NEURON], options(server))
    before, asked = index.explanations(NEURON, superseded=True), len(paid(server))
    report = explain_neurons(index, [NEURON], options(server))
    assert (report.neurons_done, report.skipped, report.requests) == (0, 1, 0)
    assert len(paid(server)) == asked
    assert index.explanations(NEURON, superseded=True) == before


def paid(server: Scripted) -> list[bytes]:
    """The requests that a judge with prices would have charged. (Drafts are several samples of one request.)"""
    return [r.raw for r in server.requests if "messages" in r.body and r.body["model"] == "reader"]


@pytest.mark.slow
def test_what_a_person_wrote_stays_and_is_scored_like_any_other(server: Scripted, index: Index) -> None:
    added = add_text(index, NEURON, PP, "Fires on the digits ` 0`, ` 1`, ` 2`, ` 3`, ` 4`, ` 5`, ` 6`.", "Ada")
    explain_neurons(index, [NEURON], options(server))
    only = options(server, drafter=None)
    report = score_stored(index, [NEURON], only, explanation_id=added.id)
    assert report.neurons_done == 1
    again = score_stored(index, [NEURON], only, explanation_id=added.id)
    assert (again.neurons_done, again.requests) == (0, 0)
    stored = {e.id: (e, scores) for e, scores in index.explanations(NEURON)}
    text, scores = stored[added.id]
    assert text.author == "Ada"
    assert text.superseded_by is None
    headline = next(s.score for s in scores if s.score.metric == "detection" and s.score.negative_set == "N0")
    assert headline.value is not None
    assert headline.value > 0.5


def test_answers_that_fail_never_become_scores(server: Scripted, index: Index) -> None:
    """More than a tenth of the answers about random windows are refusals: no score, and the reason is said."""
    turns = iter(range(10**6))

    def refuses_half(body: Body, _number: int) -> Response | None:
        user = str(body["messages"][-1]["content"])
        if "digits" not in user or next(turns) % 2:
            return None
        return says("", message={"refusal": "I will not.", "content": None})

    add = add_text(index, NEURON, PP, "Fires on digits: ` 0`, ` 1`.", "Ada")
    server.chat = reading(before=refuses_half)
    score_stored(index, [NEURON], options(server, drafter=None), explanation_id=add.id)
    scores = [s.score for e, scores in index.explanations(NEURON) if e.id == add.id for s in scores]
    detection = [s for s in scores if s.metric == "detection" and s.negative_set == "N0"]
    assert [s.value for s in detection] == [None]
    assert detection[0].n_failed > 0
    assert "failed" in (detection[0].reason or "")


def test_a_server_that_loses_many_questions_gives_no_scores_and_is_asked_for_them_again(
    server: Scripted, index: Index
) -> None:
    def loses_a_third(_body: Body, number: int) -> Response | None:
        return Response(content=b"<html>busy</html>") if number % 3 == 0 else None

    add = add_text(index, NEURON, PP, "Fires on digits: ` 0`, ` 1`.", "Ada")
    only = options(server, drafter=None)
    server.chat = reading(before=loses_a_third)
    with pytest.raises(LLMError, match="did not answer"):
        score_stored(index, [NEURON], only, explanation_id=add.id)
    assert not [scores for e, scores in index.explanations(NEURON) if e.id == add.id and scores]
    answered = len(server.requests)
    server.chat = reading()
    score_stored(index, [NEURON], only, explanation_id=add.id)
    assert answered / 4 < len(server.requests) - answered < answered / 2
    assert [scores for e, scores in index.explanations(NEURON) if e.id == add.id and scores]


@pytest.mark.slow
def test_a_budget_stops_before_it_is_exceeded_and_more_money_goes_on(server: Scripted, index: Index) -> None:
    with pytest.raises(BudgetError):
        explain_neurons(index, [NEURON], options(server, budget_tokens=30_000))
    first = paid(server)
    assert sum(len(request) for request in first) / 5 <= 30_000  # five bytes of a request and more make a token
    assert all(e.explanation.source == "rule" for e, _ in index.explanations(NEURON))
    explain_neurons(index, [NEURON], options(server))
    assert len(set(paid(server))) == len(paid(server))


def test_a_budget_of_nothing_asks_nothing(server: Scripted, db: Path) -> None:
    shutil.copy(world().db, db)  # nothing was asked before
    with Index(str(db)) as index, pytest.raises(BudgetError):
        explain_neurons(index, [NEURON], options(server, budget_tokens=0))
    assert not server.requests


def test_a_writer_that_writes_prose_is_an_error_of_that_neuron(server: Scripted, index: Index) -> None:
    server.chat = reading(lambda _prompt, _sample: "no")
    with pytest.raises(LLMError, match="wrote nothing"):
        explain_neurons(index, [NEURON], options(server))
    report = explain_neurons(index, [NEURON, NeuronId(0, 1)], options(server))
    assert set(report.failures) == {"0.0", "0.1"}


@pytest.mark.parametrize("code", [401, 404])
def test_a_server_that_refuses_ends_the_run_at_once(server: Scripted, index: Index, code: int) -> None:
    def refuses(_body: Body, _number: int) -> Response:
        return fails(code)

    server.chat = refuses
    with pytest.raises(LLMError):
        explain_neurons(index, [NEURON], options(server, drafter="another"))
    assert len(server.requests) < 8


def test_options_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UsageError, match="no language model"):
        LLMOptions()
    with pytest.raises(UsageError, match="does not write"):
        LLMOptions(drafter="local:/models/judge")
    with pytest.raises(UsageError, match="too small"):
        LLMOptions(drafter="a", candidates=0)


def test_there_is_nothing_to_score_of_a_neuron_that_nobody_explained(server: Scripted, index: Index) -> None:
    with pytest.raises(NotFoundError):
        score_stored(index, [NEURON], options(server, drafter=None))


def test_the_preview_of_scoring_names_every_request_that_is_then_made(server: Scripted, index: Index) -> None:
    add_text(index, NEURON, PP, "Fires on ` 0`, ` 1`.", "Ada")
    told = preview(index, [NEURON], options(server, drafter=None))
    report = score_stored(index, [NEURON], options(server, drafter=None))
    assert told.unknown_texts == 0
    assert told.judge_requests == report.requests
    assert told.judge_prompt_tokens == told.prompt_bound


@pytest.mark.slow
def test_the_preview_of_writing_bounds_what_is_then_asked(server: Scripted, index: Index) -> None:
    told = preview(index, [NEURON], options(server))
    report = explain_neurons(index, [NEURON], options(server))
    assert told.draft_requests == 3
    assert told.judge_requests + told.draft_requests >= report.requests
    assert told.unknown_texts > 0
    assert told.prompt_bound > told.judge_prompt_tokens


CHILD = """
import sys
from neuronagent.domain import NeuronId
from neuronagent.service.llm.campaign import explain_neurons
from neuronagent.service.llm.options import LLMOptions, plan_of
from neuronagent.service.lookup import Index

with Index(sys.argv[1]) as index:
    plan = plan_of("quick", "detection")
    run = LLMOptions(drafter="writer", judge="reader", base_url=sys.argv[2], plan=plan, concurrency=4)
    explain_neurons(index, [NeuronId(0, 0), NeuronId(0, 1)], run)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", [40, 420])
def test_a_run_that_is_killed_pays_again_only_for_what_was_on_its_way(server: Scripted, db: Path, when: int) -> None:
    def child(server: Scripted) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", CHILD, str(db), server.base_url], cwd=ROOT)

    first = child(server)
    wait_for(lambda: len(paid(server)) >= when or first.poll() is not None)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert child(server).wait() == 0
    asked = paid(server)
    assert len(asked) - len(set(asked)) <= 4
    with Index(str(db)) as index:
        assert all(own["judge"] for own in view(index).values() if own["explanation"])


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
