"""`neuronagent run` and `attribute`: what a person and a program read, and what is refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.known_index import world

TEXT = "not 3 Anna cold, 5 river."


@pytest.fixture(autouse=True)
def index_of_the_planted_model(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONAGENT_DB", str(world().db))


def test_run_shows_a_table_of_tokens_per_neuron(cli: Cli) -> None:
    ran = cli("run", TEXT, "--neuron", "0.1", "--neuron", "L1N13")
    assert (ran.code, ran.err) == (0, "")
    first, _, second = ran.out.partition("1.13 · ")
    assert "0.1 · model · orthogonal output · 8 tokens" in first
    line = next(line for line in first.splitlines() if "␣not" in line)
    assert "gate+ in+" in line
    assert "█" * 12 in line  # the strongest of the text
    bos = next(line for line in first.splitlines() if "<s>" in line)
    assert "not counted" in bos
    assert "exactly 0" in second
    assert "run in float32" in ran.out
    assert "next: neuronagent show 0.1" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100


def test_run_shows_the_strongest_tokens_where_there_are_many(cli: Cli) -> None:
    ran = cli("run", TEXT, "--neuron", "0.0", "--limit", "2")
    assert "the 2 tokens with the largest |post| of 8; --limit shows more" in ran.out
    only = cli("run", TEXT, "--neuron", "0.0", "--combination", "++").out
    assert "␣3" in only
    assert "<s>" not in only
    assert "no such token in this text" in cli("run", "cold.", "--neuron", "0.1", "--combination=++").out


def test_run_as_json_has_every_token(cli: Cli) -> None:
    found = cli("run", TEXT, "--neuron", "0.1", "--json").json
    assert found["tokens"][:3] == ["<s>", " not", " 3"]
    values = found["neurons"][0]
    assert len(values["post"]) == len(values["combinations"]) == len(found["tokens"])
    assert found["model"]["fingerprint"]


def test_run_reads_a_text_from_stdin_and_from_a_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cli("run", TEXT, "--top", "3", "--json").json
    (tmp_path / "text.txt").write_text(TEXT + "\n")
    assert cli("run", f"@{tmp_path}/text.txt", "--top", "3", "--json").json == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode() + b"\n")))
    assert cli("run", "-", "--top", "3", "--json").json == expected


def test_run_ranks_the_neurons_of_a_token(cli: Cli) -> None:
    ran = cli("run", TEXT, "--top", "4", "--position", "2")
    assert "⟦ 3⟧  position 2" in ran.out
    assert "4 of 32 neurons by |post|" in ran.out
    by_effect = cli("run", "old not", "--target", " river", "--top", "3", "--json").json
    assert (by_effect["by"], by_effect["target"], len(by_effect["neurons"])) == ("effect", " river", 3)


def test_attribute_shows_what_adds_up_to_the_logit(cli: Cli) -> None:
    ran = cli("attribute", "old not", "--target", " river", "--limit", "3")
    assert ran.code == 0
    assert "`␣river` next: logit" in ran.out
    assert "logit less the mean logit:" in ran.out
    assert "(left over: " in " ".join(ran.out.split())
    promoting, _, suppressing = ran.out.partition("for it")[2].partition("against it")
    assert "0.1 " in promoting
    assert "−" in suppressing
    found = cli("attribute", "old not", "--target", " river", "--json", "--combination", "++", "--layers", "0").json
    assert {row["combination"] for row in found["neurons"]} == {"gate+_in+"}
    assert all(row["neuron"].startswith("0.") for row in found["neurons"])
    parts = sum(found[f"from_{name}"] for name in ("embedding", "attention", "neurons", "bias"))
    assert parts + found["residual"] == pytest.approx(found["centred_logit"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", TEXT, "--neuron", "5.5"), 3, "neuron 5.5 is not in this index"),
        (("run", TEXT, "--neuron", "five"), 2, "is not a neuron"),
        (("run", "", "--top", "1"), 2, "the text is empty"),
        (("run", "a " * 9_000, "--top", "1"), 2, "allowed: 256 tokens, BOS included"),
        (("run", TEXT, "--top", "0"), 2, "--top is 0; allowed: 1–"),
        (("run", TEXT, "--position", "0"), 2, "position 0 is BOS"),
        (("run", TEXT, "--neuron", "0.1", "--position", "99"), 2, "position 99 is not in the text; allowed: 1–8"),
        (("run", TEXT, "--neuron", "0.1", "--top", "3"), 2, "--top ranks all neurons, and --neuron names some"),
        (("run", TEXT, "--neuron", "0.1", "--combination", "x"), 2, "is not a sign combination"),
        (("run", "@nowhere.txt", "--top", "1"), 3, "nowhere.txt cannot be read"),
        (("run", TEXT, "--model", "/nowhere/at/all"), 7, "neither a folder nor a model"),
        (("run", TEXT, "--device", "tpu"), 2, "is not a device"),
        (("attribute", TEXT), 2, "Missing option '--target'"),
        (("attribute", TEXT, "--target", " river water"), 2, "is no single token of this model"),
        (("attribute", TEXT, "--target", " river", "--layers", "9"), 2, "there is no layer 9; layers: 0–1"),
        (("attribute", TEXT, "--target", " river", "--layers", "one"), 2, "are no layers"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_one_line_with_an_exit_code(
    cli: Cli, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
