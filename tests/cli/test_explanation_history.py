"""`neuronagent explanations`: what was said of a neuron, and texts of people."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.store.engine import open_writer
from neuronagent.store.hypotheses import Supposed, predict, settle
from tests.cli.conftest import Cli
from tests.cli.test_errors import refused


@pytest.fixture
def db(planted_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the planted index, meant by every command."""
    copy = Path(shutil.copy(planted_db, tmp_path / "planted.db"))
    monkeypatch.setenv("NEURONAGENT_DB", str(copy))
    return copy


@pytest.mark.usefixtures("db")
def test_a_persons_text_is_listed_with_its_author_beside_the_rules(cli: Cli) -> None:
    assert cli("explain", "0.4", "--no-trace").code == 0
    added = cli("explanations", "add", "0.4", "gate+_in+", "The word [red]apple[/red].", "--author", "Ada")
    assert added.code == 0, added.err
    assert "gate+ in+: stored" in added.out
    assert "neuronagent score" in added.err
    out = cli("explanations", "0.4").out
    assert "human Ada" in out
    assert "may have seen the test items · not scored" in out
    assert "The word [red]apple[/red]." in out
    assert "(rule)" in out
    assert out == cli("explanations", "list", "0.4").out


@pytest.mark.usefixtures("db")
def test_a_replaced_text_is_shown_on_request(cli: Cli) -> None:
    for said in ("First.", "Second.", "Second."):
        cli("explanations", "add", "0.4", "++", said, "--author", "Ada")
    assert "First." not in cli("explanations", "0.4").out
    everything = cli("explanations", "--all", "0.4")
    assert "replaced by" in everything.out
    assert everything.out.count("Second.") == 1
    view = cli("explanations", "0.4", "--all", "--json").json
    # The rule's own texts may be there too: other tests explain neurons of the index that this one is a copy of.
    first, second = (e for e in view["explanations"] if e["author"] == "Ada")
    assert [first["text"], second["text"]] == ["First.", "Second."]
    assert first["superseded_by"] == second["id"]


@pytest.mark.usefixtures("db")
def test_adding_says_in_json_whether_it_is_new(cli: Cli) -> None:
    add = ("explanations", "add", "0.4", "+-", "Commas.", "--author", "Ada", "--json")
    first, again = cli(*add).json, cli(*add).json
    assert first["new"]
    assert not again["new"]
    assert first["id"] == again["id"]


@pytest.mark.usefixtures("db")
def test_a_persons_text_stands_on_the_card_until_it_is_scored_as_something_else_that_was_said(cli: Cli) -> None:
    cli("explanations", "add", "0.4", "++", "Commas.", "--author", "Ada")
    out = cli("explain", "0.4", "--no-trace").out
    assert "also human Ada: not scored" in out
    assert "neuronagent explanations 0.4" in out


@pytest.mark.slow
def test_a_text_can_be_piped_in(db: Path) -> None:
    add = ["explanations", "add", "0.1", "gate-_in-", "-", "--author", "Ada", "--db", str(db), "--json"]
    command = [sys.executable, "-m", "neuronagent", *add]
    ran = subprocess.run(command, input=b"two\nlines\n", capture_output=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["new"]
    broken = subprocess.run(command, input=b"\xff\xfe", capture_output=True, check=False, timeout=60)
    assert broken.returncode == 2
    assert b"UTF-8" in broken.stderr


@pytest.mark.usefixtures("db")
def test_a_neuron_of_which_nothing_was_said(cli: Cli) -> None:
    ran = cli("explanations", "1.3")
    assert ran.code == 0
    assert "nothing was said of it yet" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("explanations",), 2, "NEURON"),
        (("explanations", "nonsense"), 2, "not a neuron"),
        (("explanations", "9.1"), 3, "layers: 0–1"),
        (("explanations", "add", "9.1", "++", "x", "--author", "a"), 3, "layers: 0–1"),
        (("explanations", "add", "0.1", "both", "x", "--author", "a"), 2, "allowed: gate+_in+"),
        (("explanations", "add", "0.1", "++", "x"), 2, "--author"),
        (("explanations", "add", "0.1", "++", " ", "--author", "a"), 2, "empty"),
        (("explanations", "add", "0.1", "++", "x" * 2001, "--author", "a"), 2, "2,000"),
        (("explanations", "add", "0.1", "++", "\x1b[2J", "--author", "a"), 2, "U+001B"),
    ],
)
@pytest.mark.usefixtures("db")
def test_what_cannot_be_meant_is_refused(cli: Cli, arguments: tuple[str, ...], code: int, word: str) -> None:
    refused(cli(*arguments), code, word)


def test_what_the_agent_supposed_is_shown_with_what_came_of_it(cli: Cli, db: Path) -> None:
    pairs = [{"fires": f"a [b]{n}[/b]", "edited": f"b {n}"} for n in range(2)]
    supposed = [
        Supposed(
            run="r", round=number, neuron=NeuronId(0, 4), combination=SignCombination.GATE_POS_IN_NEG, text=text,
            claims={}, prediction={"pairs": pairs}, model="m", server="s", prompt_version="v",
        )
        for number, text in enumerate(("It is birds.", "It is books."))
    ]  # fmt: skip
    engine = open_writer(str(db))
    first, second = predict(engine, supposed)
    assert predict(engine, supposed) == [first, second]
    measured = [
        p | {"fires_value": 2.0, "edited_value": None, "right": None, "reason": "the text is empty"} for p in pairs
    ]
    settle(engine, first, "refuted", {"n": 2, "right": 0, "p": 1.0, "reach": 1, "pairs": measured})
    settle(engine, first, "held", {"n": 2, "right": 2, "p": 0.25, "reach": 2, "pairs": []})
    engine.dispose()
    assert cli("explain", "0.4", "--no-trace").out.count("Hypotheses of the agent: 1 predicted, 1 refuted.") == 1
    out = cli("explanations", "0.4", "--all").out
    assert "gate+ in−: what the agent supposed" in out
    assert "round 1 refuted · 0 of 2 pairs as predicted (p = 1) · 1 of 2 reach the median" in out
    assert "It is birds." in out
    assert "round 2 predicted · the model was not run" in out
    assert out.count("not run b") == 2
    assert "a [b]1[/b]" in out
    view = cli("explanations", "0.4", "--json").json
    assert [h["status"] for h in view["hypotheses"]] == ["refuted", "predicted"]
    assert view["hypotheses"][1]["outcome"] is None
