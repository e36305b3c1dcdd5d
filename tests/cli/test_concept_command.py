"""`neuronagent search --concept`: a card or JSON from a file of labels, or one line of what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.service.live.concept_texts import made_texts


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty texts, labelled 1 where there is a digit."""
    file = tmp_path_factory.mktemp("labels") / "digits.jsonl"
    lines = ({"text": text, "label": any(c.isdigit() for c in text)} for text in made_texts(60))
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def test_a_card_says_what_was_found_tried_and_due_to_chance(
    cli: Cli, planted_db: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    ran = cli("search", "--concept", labels, "--db", planted_db, "-n", "3")
    assert ran.code == 0
    assert "15 : 15 texts (label 1 : 0) are searched, 15 : 15 held out." in ran.out
    assert "of 32 neurons were tried" in ran.out
    assert "By chance the best" in ran.out
    assert "1.0 [" in ran.out
    assert "supported" in ran.out
    assert "next: neuronagent explain 0.0" in ran.out
    assert max(map(len, ran.out.partition("\nnext: ")[0].splitlines())) <= 72
    assert "loading the model" in ran.err


def test_json_has_every_row_with_its_controls(cli: Cli, planted_db: Path, labels: Path) -> None:
    options = ("--layers", "0", "--combination", "++", "--limit", "2", "--device", "cpu", "--json")
    view = cli("search", "--concept", labels, "--db", planted_db, *options).json
    assert view["schema_version"] == 1
    assert view["model"]["fingerprint"]
    assert view["tried"] + view["absent"] == view["neurons"] == 16
    first, second = view["rows"]
    assert (first["neuron"], first["combination"], first["auroc"]) == ("0.0", "gate+_in+", 1.0)
    assert {control["kind"] for control in second["controls"]} == {"length", "token", "ordinary neuron"}
    assert {"value", "lo", "hi"} == set(first["lift"])


def test_a_card_of_few_groups_has_no_p_and_says_why(
    cli: Cli, planted_db: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = [json.loads(line) for line in labels.read_text().splitlines()]
    file = tmp_path / "grouped.jsonl"
    file.write_text("\n".join(json.dumps({**line, "group": n % 8}) for n, line in enumerate(lines)))
    ran = cli("search", "--concept", file, "--db", planted_db, "-n", "1")
    assert ran.code == 0
    assert "The 4 groups searched can exchange their labels in 3 ways only: no p there, at least 20" in ran.out
    assert "The 4 groups held out" in ran.out
    assert "too few groups for a p" in ran.out
    assert "By chance" not in ran.out


def test_criteria_of_a_search_say_which_neurons_are_tried(cli: Cli, planted_db: Path, labels: Path) -> None:
    view = cli("search", "--concept", labels, "--io-class", "depletion", "--db", planted_db, "--json").json
    assert view["neurons"] == 2
    assert {row["neuron"] for row in view["rows"]} <= {"1.9", "1.10"}
    ran = cli("search", "--concept", labels, "--io-class", "depletion", "-l", "0", "--db", planted_db)
    assert (ran.code, ran.out) == (3, "")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--combination", "++"), 2, "belong to --concept"),
        (("--model", "x"), 2, "belong to --concept"),
        (("--device", "cpu"), 2, "belong to --concept"),
        (("--concept", "FILE", "--sort", "mass"), 2, "an order of its own"),
        (("--concept", "FILE", "--offset", "3"), 2, "an order of its own"),
        (("--concept", "FILE", "--asc"), 2, "an order of its own"),
        (("--concept", "FILE", "--limit", "201"), 2, "201 rows are not scored"),
        (("--concept", "FILE", "--combination", "+"), 2, "is not a sign combination"),
        (("--concept", "FILE", "--model", "/nowhere"), 7, "/nowhere"),
        (("--concept", "no-such-file"), 3, "no-such-file is no file"),
        (("--concept", ""), 3, "is no file"),
        (("--concept", "BAD"), 7, "bad.jsonl:2 has no `label`; allowed: 1, 0, true or false"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    cli: Cli, planted_db: Path, labels: Path, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": "yes"}\n')
    places = {"FILE": str(labels), "BAD": str(bad)}
    ran = cli("search", *(places.get(option, option) for option in options), "--db", planted_db)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in ran.err


def test_nothing_in_a_text_reaches_the_terminal_as_it_is(
    cli: Cli, planted_db: Path, labels: Path, tmp_path: Path
) -> None:
    file = tmp_path / "\x1b[31mred.jsonl"
    lines = labels.read_text().splitlines()
    file.write_text("\n".join([*lines, json.dumps({"text": "\x1b[2Jred", "label": 1, "group": "\x1b"}), "{"]))
    ran = cli("search", "--concept", file, "--db", planted_db)
    assert (ran.code, "\x1b" in ran.err) == (7, False)
    file.write_text("\n".join([*lines, json.dumps({"text": "\x1b[2Jred", "label": 1})]))
    ran = cli("search", "--concept", file, "--db", planted_db, "-n", "1")
    assert (ran.code, "\x1b" in ran.out + ran.err) == (0, False)
