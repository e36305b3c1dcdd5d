"""`explain --llm`, `score` and `judge-check` against a real server on loopback whose answers are foreseeable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_errors import refused
from tests.servers.scripted import Scripted, fails
from tests.servers.word_model import SUMMARY, word_model

QUICK = ("--size", "quick", "--scores", "", "--no-trace")
NOBODY = "http://127.0.0.1:9/v1"


@pytest.fixture
def db(planted_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the planted index, meant by every command."""
    copy = Path(shutil.copy(planted_db, tmp_path / "planted.db"))
    monkeypatch.setenv("NEURONAGENT_DB", str(copy))
    return copy


@pytest.fixture(autouse=True)
def no_server_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEURONAGENT_LLM", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", NOBODY)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with word_model() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    with word_model(careless=True) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


@pytest.mark.usefixtures("db")
def test_a_model_writes_a_judge_reads_and_the_card_names_both(cli: Cli, words: Scripted) -> None:
    ran = cli("explain", "0.0", "--llm", "writer", "--judge", "reader", *QUICK)
    assert ran.code == 0, ran.err
    assert "Judged by reader @ 127.0.0.1" in " ".join(ran.out.split())
    assert "which passed its check" in " ".join(ran.out.split())
    assert "Asked: " in ran.err
    assert {body["model"] for body in words.bodies} == {"writer", "reader"}
    view = cli("explain", "0.0", "--json", "--no-trace").json
    judged = [own for own in view["combinations"].values() if own["judge"] not in (None, "rule")]
    assert judged
    assert all(own["judge_fit"] for own in judged)
    if any(own["explanation"]["source"] == "llm" for own in judged):
        assert view["summary"] == SUMMARY
        assert SUMMARY in ran.out


@pytest.mark.usefixtures("db")
def test_what_is_stored_is_shown_again_without_a_question(cli: Cli, words: Scripted) -> None:
    command = ("explain", "0.0", "--llm", "words", *QUICK)
    first = cli(*command)
    asked = len(words.requests)
    again = cli(*command)
    assert (again.code, again.out) == (0, first.out)
    assert len(words.requests) == asked


@pytest.mark.usefixtures("db")
def test_a_dry_run_says_the_cost_and_explains_nothing(cli: Cli, words: Scripted, tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"words": {"input": 1.0, "output": 2.0}}))
    command = ("explain", "0.0", "--llm", "words", *QUICK, "--prices", str(prices), "--dry-run")
    ran = cli(*command)
    assert ran.code == 0, ran.err
    assert "writing" in ran.out
    assert "judging" in ran.out
    assert "at most $" in ran.out
    assert len(words.requests) < 8  # what the server can do was asked, and no more
    view = cli(*command, "--json").json["preview"]
    assert view["draft_requests"] == 3
    assert view["cost_bound"] >= view["cost"] > 0
    assert "nothing was said" in cli("explanations", "0.0").out


@pytest.mark.usefixtures("db")
def test_scores_of_a_judge_that_failed_its_check_are_marked(cli: Cli, careless: Scripted) -> None:
    ran = cli("explain", "0.0", "--llm", "yes", *QUICK)
    assert ran.code == 0, ran.err
    assert "FAILED its check" in " ".join(ran.out.split())
    assert "judge unfit" in ran.out
    assert ".50† [" in ran.out
    assert careless.requests


@pytest.mark.usefixtures("db")
def test_a_batch_stops_after_the_preview_until_it_is_agreed_to(cli: Cli, words: Scripted) -> None:
    command = ("explain", "--layer", "0", "--limit-neurons", "3", "--llm", "words", *QUICK)
    stopped = cli(*command)
    assert stopped.code == 2
    assert stopped.out == ""
    assert "judging" in stopped.err
    assert "--yes" in stopped.err.splitlines()[-1]
    assert len(words.requests) < 8
    ran = cli(*command, "--yes", "--workers", "1")
    assert ran.code == 0, ran.err
    assert "3 neurons" in ran.out
    assert "judged" in ran.out
    assert "Asked: " in ran.out
    paid = len(words.requests)
    report = cli(*command, "--yes", "--workers", "1", "--json").json
    assert len(words.requests) == paid
    assert set(report["reports"]) == {"judged", "rule"}
    assert report["reports"]["judged"]["explanations"] == report["reports"]["rule"]["explanations"] > 0
    assert report["llm"]["requests"] == 0


@pytest.mark.usefixtures("db")
def test_a_budget_ends_a_run_and_the_next_one_pays_only_for_the_rest(cli: Cli, words: Scripted) -> None:
    command = ("explain", "0.0", "--llm", "words", *QUICK)
    refused(cli(*command, "--budget-tokens", "0"), 6, "budget")
    assert words.requests == []
    ran = cli(*command, "--budget-tokens", "60000")
    assert ran.code == 6
    assert ran.out == ""
    assert "budget" in ran.err.splitlines()[-1]
    assert words.requests
    assert cli(*command).code == 0
    assert len({request.raw for request in words.requests}) == len(words.requests)


@pytest.mark.usefixtures("db")
def test_a_persons_text_is_scored_by_a_judge(cli: Cli, words: Scripted) -> None:
    added = cli("explanations", "add", "0.0", "++", "The word ` apple`.", "--author", "Ada", "--json").json
    ran = cli("score", "0.0", "--judge", "words", "--id", str(added["id"]), *QUICK)
    assert ran.code == 0, ran.err
    assert "(human Ada)" in ran.out
    assert "vs random" in ran.out
    (said,) = [e for e in cli("explanations", "0.0", "--json").json["explanations"] if e["author"]]
    assert list(said["by_judge"]) and said["verdict"] != "not scored"
    asked = len(words.requests)
    assert cli("score", "0.0", "--judge", "words", "--id", str(added["id"]), *QUICK).out == ran.out
    assert len(words.requests) == asked


@pytest.mark.usefixtures("db")
def test_score_refuses_what_is_not_there(cli: Cli, words: Scripted) -> None:
    cli("explanations", "add", "0.0", "++", "Apples.", "--author", "Ada")
    (one,) = cli("explanations", "0.0", "--json").json["explanations"]
    refused(cli("score", "0.0", "--judge", "words", "--id", "999"), 3, "explanation 999")
    refused(cli("score", "0.1", "--judge", "words", "--id", str(one["id"])), 2, "is of 0.0")
    refused(cli("score", "0.0", "0.1", "--judge", "words", "--id", "1"), 2, "alone")
    assert words.requests == []


@pytest.mark.usefixtures("db")
def test_judge_check_passes_a_good_judge(cli: Cli, words: Scripted) -> None:
    ran = cli("judge-check", "--judge", "words")
    assert ran.code == 0, ran.err
    assert "passed" in ran.out
    view = cli("judge-check", "--judge", "words", "--json").json
    assert view["passed"]
    assert view["stored"]
    assert len(view["concepts"]) == 4
    assert words.requests


def test_judge_check_needs_no_index_and_fails_a_careless_judge(cli: Cli, careless: Scripted) -> None:
    ran = cli("judge-check", "--llm", "yes")
    assert ran.code == 1
    assert "NOT passed" in ran.out
    assert "the outcome is not kept" in ran.err
    assert careless.requests


def test_a_neuron_without_examples_is_not_asked_about(cli: Cli, made_db: Path, tmp_path: Path, words: Scripted) -> None:
    copy = shutil.copy(made_db, tmp_path / "made.db")
    ran = cli("explain", "0.1", "--llm", "words", "--db", copy)
    assert ran.code == 0, ran.err
    assert "not enough examples" in ran.out
    assert not any("neuron_summary" in str(body) for body in words.bodies)


@pytest.mark.usefixtures("db")
def test_a_missing_key_and_a_missing_server_are_one_line_each(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (("explain", "0.0"), ("score", "0.0"), ("judge-check",)):
        ran = cli(*command, "--llm", "any")
        assert (ran.code, ran.out) == (5, "")
        assert "127.0.0.1:9/v1 does not answer" in ran.err.splitlines()[-1]
    with Scripted(lambda _body, _number: fails(401, "no key")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        ran = cli("judge-check", "--llm", "any")
        assert ran.code == 5
        assert "OPENAI_API_KEY" in ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("explain",), "no neuron is named"),
        (("explain", "0.0", "--layer", "1"), "named and chosen"),
        (("explain", "0.0", "--no-trace", "--model", "x"), "--no-trace"),
        (("score", "0.0", "--judge", "x", "--no-trace", "--model", "x"), "--no-trace"),
        (("explain", "0.0", "--judge", "x"), "neuronagent score"),
        (("explain", "0.0", "--dry-run"), "--llm"),
        (("explain", "0.0", "--candidates", "2"), "--candidates"),
        (("explain", "0.0", "--base-url", NOBODY), "--base-url"),
        (("explain", "0.0", "--budget-tokens", "5"), "--budget-tokens"),
        (("explain", "0.0", "--llm", "x", "--judge-url", NOBODY), "--judge-url"),
        (("explain", "0.0", "--llm", "x", "--size", "huge"), "allowed: quick"),
        (("explain", "0.0", "--llm", "x", "--scores", "beauty"), "allowed: detection"),
        (("explain", "0.0", "--llm", "x", "--budget", "1"), "--prices"),
        (("explain", "0.0", "--llm", "x", "--base-url", "nonsense"), "http://host:port/v1"),
        (("explain", "0.0", "--llm", "local:x"), "it does not write"),
        (("explain", "0.0", "--llm", "x", "--prices", "no-such.json"), "no-such.json"),
        (("explain", "0.0", "--llm", "x", "--concurrency", "0"), "concurrency"),
        (("score", "0.0"), "--judge"),
        (("judge-check",), "--judge"),
    ],
)
@pytest.mark.usefixtures("db")
def test_options_that_contradict_each_other_are_refused_before_anything_is_sent(
    cli: Cli, arguments: tuple[str, ...], word: str
) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert word in ran.err.splitlines()[-1]


@pytest.mark.usefixtures("db")
def test_prices_without_the_model_are_refused(cli: Cli, words: Scripted, tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"other": {"input": 1, "output": 1}}))
    ran = cli("explain", "0.0", "--llm", "words", "--prices", str(prices), "--budget", "1", *QUICK)
    assert ran.code == 2
    assert "it knows: other" in ran.err
    assert words.requests == []
