"""`explain --llm`, `score` and `judge-check` against a real server on loopback whose answers are foreseeable."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from neuronagent.cli import run
from tests.cli.conftest import Cli, Ran
from tests.cli.test_errors import refused
from tests.servers.scripted import Scripted, fails
from tests.servers.word_model import CARELESS, SUMMARY, word_model

pytestmark = pytest.mark.slow  # a server, a campaign and its index: the parts have quick tests of their own

QUICK = ("--size", "quick", "--scores", "", "--no-trace")
NOBODY = "http://127.0.0.1:9/v1"
EXPLAIN = ("explain", "0.1", "--llm", "words", "--candidates", "1", *QUICK)


def copied(db: Path, folder: Path) -> Path:
    """A copy of an index, with what is still in its journal."""
    copy = folder / "copy.db"
    with closing(sqlite3.connect(db)) as there, closing(sqlite3.connect(copy)) as here:
        there.backup(here)
    return copy


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with word_model() as found:
        yield found


@pytest.fixture(scope="module")
def checked(planted_db: Path, tmp_path_factory: pytest.TempPathFactory, server: Scripted) -> Ran:
    """The planted index, with a judge that was checked; what the check printed."""
    copy = copied(planted_db, tmp_path_factory.mktemp("checked"))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.setenv("OPENAI_BASE_URL", server.base_url)
        code = run(["judge-check", "--judge", "words", "--db", str(copy)])
    return Ran(code, out.getvalue() + str(copy), err.getvalue())


@pytest.fixture(scope="module")
def explained(checked: Ran, tmp_path_factory: pytest.TempPathFactory, server: Scripted) -> tuple[Path, Ran]:
    """The same with 0.1 explained by a language model, and its card."""
    copy = copied(Path(checked.out.splitlines()[-1]), tmp_path_factory.mktemp("explained"))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.setenv("OPENAI_BASE_URL", server.base_url)
        patch.setenv("NEURONAGENT_DB", str(copy))
        patch.delenv("COLUMNS", raising=False)  # as wide as every test's cards
        code = run(EXPLAIN)
    return copy, Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture
def words(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The server, which every command asks, and which forgets what it was asked before."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    server.requests.clear()
    return server


def paid(server: Scripted) -> list[bytes]:
    """What was asked and answered; a refusal costs nothing."""
    return [request.raw for request in server.requests if request.path == "/v1/chat/completions"]


@pytest.fixture
def db(checked: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the planted index with a checked judge, meant by every command."""
    copy = copied(Path(checked.out.splitlines()[-1]), tmp_path)
    monkeypatch.setenv("NEURONAGENT_DB", str(copy))
    return copy


@pytest.fixture
def done(explained: tuple[Path, Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """A copy of it with 0.1 explained, meant by every command, and the card."""
    monkeypatch.setenv("NEURONAGENT_DB", str(copied(explained[0], tmp_path)))
    return explained[1]


@pytest.fixture(autouse=True)
def no_server_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEURONAGENT_LLM", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", NOBODY)


def test_a_good_judge_passes_its_check_with_a_row_per_concept(checked: Ran) -> None:
    assert checked.code == 0, checked.err
    for concept in ("digits", "capital after a full stop", "`not` shortly before", "dates against prices"):
        assert re.search(rf"^{concept} +1.0 \[.*passed$", checked.out, re.MULTILINE)
    assert "words @ 127.0.0.1" in checked.out
    assert "NOT" not in checked.out


@pytest.mark.usefixtures("db")
def test_a_check_that_is_repeated_is_not_paid_again(cli: Cli, words: Scripted) -> None:
    view = cli("judge-check", "--judge", "words", "--json").json
    assert (view["passed"], view["stored"], len(view["concepts"])) == (True, True, 4)
    assert paid(words) == []


def test_a_careless_judge_fails_its_check_and_its_scores_are_marked(
    cli: Cli, words: Scripted, tmp_path: Path, planted_db: Path
) -> None:
    ran = cli("judge-check", "--llm", CARELESS)
    assert ran.code == 1
    assert "NOT passed" in ran.out
    assert "the outcome is not kept" in ran.err
    copy = copied(planted_db, tmp_path)
    card = cli("explain", "0.1", "--llm", CARELESS, *QUICK, "--db", copy)
    assert card.code == 0, card.err
    assert "FAILED its check" in " ".join(card.out.split())
    assert "judge unfit" in card.out
    assert card.out.index("supported") < card.out.index("judge unfit")  # the rules' own verdicts stand
    assert paid(words)


def test_a_model_writes_a_judge_reads_and_the_card_names_it(cli: Cli, done: Ran) -> None:
    assert done.code == 0, done.err
    card = " ".join(done.out.split())
    assert "Judged by words @ 127.0.0.1" in card
    assert "which passed its check" in card
    assert "Asked: " in done.err
    assert "writing (words): 1 requests" in done.err
    view = cli("explain", "0.1", "--json", "--no-trace").json
    judged = [own for own in view["combinations"].values() if own["judge"] not in (None, "rule")]
    assert [own["judge_fit"] for own in judged] == [True, True]
    sources = {own["explanation"]["source"] for own in judged}
    assert ("llm" in sources) == (SUMMARY in done.out)


def test_what_is_stored_is_shown_again_without_a_paid_question(cli: Cli, done: Ran, words: Scripted) -> None:
    again = cli(*EXPLAIN)
    assert again.out.splitlines() == done.out.splitlines()
    assert again.code == 0
    assert paid(words) == []


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
    assert paid(words) == []  # what this server can do is known
    view = cli(*command, "--json").json["preview"]
    assert view["draft_requests"] == 3
    assert view["cost_bound"] >= view["cost"] > 0
    assert "nothing was said" in cli("explanations", "0.0").out


@pytest.mark.usefixtures("db")
def test_a_batch_stops_after_the_preview_until_it_is_agreed_to(cli: Cli, words: Scripted) -> None:
    ran = cli("explain", "--layer", "0", "--limit-neurons", "3", "--llm", "words", *QUICK)
    assert (ran.code, ran.out) == (2, "")
    assert "judging" in ran.err
    assert "--yes" in ran.err.splitlines()[-1]
    assert paid(words) == []
    assert "nothing was said" in cli("explanations", "0.0").out


def test_a_batch_by_rules_prints_one_table_and_asks_nobody(
    cli: Cli, done: Ran, words: Scripted, tmp_path: Path
) -> None:
    assert done.code == 0
    (tmp_path / "many.txt").write_text("0.1\n" + "".join(f"1.{i}\n" for i in range(4, 13)))
    ran = cli("explain", f"@{tmp_path}/many.txt", "--workers", "1", "--no-trace")
    assert ran.code == 0, ran.err
    assert "10 neurons" in ran.out
    assert "combinations explained and scored" in ran.out
    report = cli("explain", f"@{tmp_path}/many.txt", "--workers", "1", "--no-trace", "--json").json
    assert report["reports"]["rule"]["neurons"] == 10
    assert report["llm"] is None
    assert paid(words) == []


@pytest.mark.usefixtures("db")
def test_a_batch_with_a_model_goes_on_where_it_was_stopped(cli: Cli, words: Scripted) -> None:
    chosen = ("--layer", "0", "--limit-neurons", "3", "--workers", "1")
    command = ("explain", *chosen, *EXPLAIN[2:], "--yes")
    stopped = cli(*command, "--budget-tokens", "60000")
    assert stopped.code == 6
    assert "budget" in stopped.err.splitlines()[-1]
    ran = cli(*command)
    assert ran.code == 0, ran.err
    assert "3 neurons" in ran.out
    assert "judged: what words @" in ran.out
    assert "Asked: " in ran.out
    asked = paid(words)
    assert len(set(asked)) == len(asked)
    report = cli(*command, "--json").json
    assert paid(words) == asked
    assert set(report["reports"]) == {"judged", "rule"}
    assert report["reports"]["judged"]["explanations"] == report["reports"]["rule"]["explanations"] > 0
    assert report["llm"]["requests"] == 0


@pytest.mark.usefixtures("db")
def test_a_budget_of_nothing_sends_nothing(cli: Cli, words: Scripted, tmp_path: Path) -> None:
    ran = cli(*EXPLAIN, "--budget-tokens", "0")
    assert (ran.code, ran.out) == (6, "")
    assert "budget" in ran.err.splitlines()[-1]
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"words": {"input": 1.0, "output": 2.0}}))
    assert cli(*EXPLAIN, "--budget", "0", "--prices", str(prices)).code == 6
    assert paid(words) == []


@pytest.mark.usefixtures("db")
def test_a_persons_text_is_scored_by_a_judge(cli: Cli, words: Scripted) -> None:
    added = cli("explanations", "add", "0.2", "++", "Names such as ` Hugo`.", "--author", "Ada", "--json").json
    command = ("score", "0.2", "--judge", "words", "--id", str(added["id"]), *QUICK)
    ran = cli(*command)
    assert ran.code == 0, ran.err
    assert "Names such as ` Hugo`. (human Ada)".replace(" Hugo", "␣Hugo") in ran.out
    assert "vs random" in ran.out
    (said,) = [e for e in cli("explanations", "0.2", "--json").json["explanations"] if e["author"]]
    assert list(said["by_judge"])
    assert said["verdict"] != "not scored"
    asked = paid(words)
    assert cli(*command).out == ran.out
    assert paid(words) == asked


@pytest.mark.usefixtures("db")
def test_score_refuses_what_is_not_there(cli: Cli, words: Scripted) -> None:
    cli("explanations", "add", "0.0", "++", "Apples.", "--author", "Ada")
    (one,) = cli("explanations", "0.0", "--json").json["explanations"]
    refused(cli("score", "0.0", "--judge", "words", "--id", "999"), 3, "explanation 999")
    refused(cli("score", "0.1", "--judge", "words", "--id", str(one["id"])), 2, "is of 0.0")
    refused(cli("score", "0.0", "0.1", "--judge", "words", "--id", "1"), 2, "alone")
    assert words.requests == []


def test_a_neuron_without_examples_is_not_asked_about(cli: Cli, made_db: Path, tmp_path: Path, words: Scripted) -> None:
    copy = copied(made_db, tmp_path)
    ran = cli("explain", "0.1", "--llm", "words", "--dry-run", "--json", "--db", copy)
    assert ran.code == 0, ran.err
    assert ran.json["preview"]["draft_requests"] == 0
    assert not any("Passage" in str(body) and "neuron_summary" in str(body) for body in words.bodies)


@pytest.mark.usefixtures("db")
def test_a_missing_key_and_a_missing_server_are_one_line_each(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (("score", "0.0"), ("judge-check",)):
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
