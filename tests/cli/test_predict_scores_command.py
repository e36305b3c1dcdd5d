"""`neuronagent predict scores` on the command line: layers, neurons, JSON, and what it says to mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronagent.service.predict.fit import FitOptions, fit
from tests.cli.conftest import Cli
from tests.predictable import Kind, of_kind, scored


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a scored fit of neighbouring layers."""
    return scored(tmp_path_factory.mktemp("scored"))


def shown(cli: Cli, db: Path, *given: str) -> str:
    ran = cli("predict", "scores", "--db", db, "--stored", *given)
    assert ran.code == 0, ran.err
    return ran.out


def test_a_row_per_layer_where_each_is_foretold_from_one(cli: Cli, db: Path) -> None:
    ran = cli("predict", "scores", "--db", db, "--device", "cpu", "--again")
    assert ran.code == 0, ran.err
    said = ran.out
    lines = said.splitlines()
    assert lines[0].startswith("default, scored on ")
    assert "of the test documents of documents.jsonl" in lines[0]
    rows = [line.split() for line in lines if line[:2] in ("1 ", "2 ")]
    assert [row[:2] for row in rows] == [["1", "0"], ["2", "1"]]
    assert "never vary on these tokens, so that no R² exists: 1 of layer 1, 1 of layer 2" in said
    assert "scoring layers 1 to 2" in ran.err  # --again: what was there is computed
    assert shown(cli, db) == said


@pytest.mark.slow
def test_a_matrix_per_score_where_there_are_several_sources(cli: Cli, db: Path) -> None:
    fit(FitOptions(db=str(db), name="every", pairs="all"))
    said = cli("predict", "scores", "--db", db, "--device", "cpu", "--fit", "every").out
    assert said.count("from ↓ to →") == 3
    assert "R² without another layer, median over neurons" in said
    assert "shallow → deep" in said
    assert "neuronagent predict scores --fit every --layer 2" in said


def test_neurons_of_a_layer_the_best_and_the_worst_first(cli: Cli, db: Path) -> None:
    best = shown(cli, db, "--layer", "1", "--limit", "8").splitlines()
    assert {int(line.split()[0].split(".")[1]) for line in best[1:9]} == set(of_kind(1, Kind.FROM_0))
    assert "8 of 15 neurons, by r2, best first; intervals over documents; lift: R² less that of the token alone" in best
    worst = shown(cli, db, "--layer", "1", "--limit", "1", "--reverse", "--sort", "rmse").splitlines()
    assert worst[1].startswith("1.")
    token = shown(cli, db, "--layer", "1", "--predictor", "token", "--limit", "4").splitlines()
    assert {int(line.split()[0].split(".")[1]) for line in token[1:5]} == set(of_kind(1, Kind.TOKEN))


def test_one_neuron_with_all_its_predictors_and_a_dead_one_with_its_reason(cli: Cli, db: Path) -> None:
    said = shown(cli, db, "--neuron", "1.0")
    assert [line.split()[0] for line in said.splitlines()[2:7]] == ["layer", "mean", "token", "previous", "position"]
    dead = shown(cli, db, "--neuron", "1.15")
    assert "no R², no r and no lift: it never varies on these tokens" in dead


def test_json_has_null_with_a_reason_and_every_neuron_only_if_asked(cli: Cli, db: Path) -> None:
    run = ("predict", "scores", "--db", db, "--stored", "--json")
    layers = cli(*run).json
    assert "scores" not in layers["layers"][0]
    whole = cli(*run, "--neurons").json
    assert whole["layers"][0]["scores"]["layer 0"]["r2"][15] is None
    assert whole["layers"][0]["never_vary"] == [15]
    one = cli(*run, "--neuron", "1.15").json["predictors"]
    assert {row["reason"] for row in one} == {"it never varies on these tokens"}
    rows = cli(*run, "--layer", "1,2", "--limit", "3").json
    assert (len(rows["neurons"]), rows["total"], rows["without_score"]) == (3, 30, 2)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("--fit", "other"), 3, "there is no complete fit other"),
        (("--layer", "1", "--neuron", "1.0"), 2, "do not go together"),
        (("--neurons",), 2, "--neurons needs --json"),
        (("--predictor", "token"), 2, "name it with --layer"),
        (("--stored", "--again"), 2, "do not go together"),
        (("--stored", "--layer", "0"), 3, "layer 0 is not scored"),
        (("--stored", "--layer", "1", "--predictor", "layer 7"), 3, "choose with --predictor: layer 0, mean"),
        (("--stored", "--layer", "1", "--sort", "size"), 2, "allowed: r2, pearson, rmse, lift"),
        (("--stored", "--neuron", "one"), 2, "is not a neuron"),
        (("--stored", "--text", "elsewhere"), 3, "is not scored on elsewhere"),
        (("--memory", "much", "--again"), 2, "no amount of memory"),
    ],
)
def test_mistakes_are_told_in_a_line(cli: Cli, db: Path, given: tuple[str, ...], code: int, said: str) -> None:
    ran = cli("predict", "scores", "--db", db, "--device", "cpu", *given)
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("given", [(), ("--layer", "1"), ("--neuron", "1.0")])
def test_a_narrow_terminal_cuts_no_number(
    cli: Cli, db: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[str]] = []
    for columns in ("72", "160"):
        monkeypatch.setenv("COLUMNS", columns)
        said.append(sorted(shown(cli, db, *given).split()))
    assert said[0] == said[1]
