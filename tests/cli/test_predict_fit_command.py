"""`neuronagent predict fit` on the command line: cards, JSON, dry runs, and what it says to mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import predictable
from tests.cli.conftest import Cli
from tests.known_index import world as planted_world
from tests.predictable import world


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return Path(shutil.copy(world().db, tmp_path / "predictable.db"))


def test_a_fit_prints_each_map_and_what_to_do_next(cli: Cli, db: Path) -> None:
    ran = cli("predict", "fit", "--db", db, "--device", "cpu")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "default: 2 maps by least squares"
    assert [line.split()[0] for line in lines if "→" in line] == ["0→1", "1→2"]
    assert f"neuronagent predict scores --db {db}" in ran.out
    assert "R² = 1 − MSE ÷ MSE of mean" in " ".join(ran.out.split())
    again = cli("predict", "fit", "--db", db, "--device", "cpu")
    assert again.code == 0
    assert again.out == ran.out
    assert "the fit default is complete already" in again.err


@pytest.mark.slow
def test_json_is_all_that_the_fit_says_of_itself(cli: Cli, db: Path) -> None:
    ran = cli(
        "predict", "fit", "--db", db, "--device", "cpu", "--pairs", "0:1,2:0", "--name", "two", "--rank", "3", "--json"
    )
    assert ran.code == 0, ran.err
    said = ran.json
    assert said["name"] == "two"
    assert said["pairs"] == [[0, 1], [2, 0]]
    assert said["text"]["documents"]["explain"] + said["text"]["documents"]["select"] > 20
    assert 0 < said["by_pair"]["2:0"]["rank_kept"] <= 1
    assert said["seconds"].keys() >= {"forward", "products", "solving"}


@pytest.mark.slow
def test_each_window_is_a_fit_of_its_own(cli: Cli, db: Path) -> None:
    given = ("--pairs", "1:2", "--tokens", "800", "--device", "cpu", "--db", db)
    ran = cli("predict", "fit", "--context", "2,4", *given)
    assert ran.code == 0, ran.err
    folder = Path(f"{db}.maps")
    assert sorted(path.parent.name for path in folder.glob("*/fit.json")) == ["default-w2", "default-w4"]
    assert "neuronagent predict scores --fit default-w4" in ran.out
    assert "of the last 2 tokens alone" in ran.out


def test_a_dry_run_says_what_it_takes_and_writes_nothing(cli: Cli, db: Path) -> None:
    ran = cli("predict", "fit", "--db", db, "--pairs", "all", "--dry-run", "--device", "cpu", "--memory", "1GB")
    assert ran.code == 0, ran.err
    assert "read once" in ran.out
    assert "of 1 GB that are allowed" in ran.out
    assert not Path(f"{db}.maps").exists()
    ran = cli("predict", "fit", "--db", db, "--pairs", "all", "--dry-run", "--device", "cpu", "--json")
    assert ran.json["passes"] == 1
    assert ran.json["disk"] == 9 * 4 * (16 * 16 + 16)


@pytest.mark.slow
def test_the_papers_optimiser_is_fitted_beside(cli: Cli, db: Path) -> None:
    ran = cli("predict", "fit", "--db", db, "--device", "cpu", "--fit", "adagrad", "--name", "paper")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("paper: 2 maps by adagrad")
    assert "--fit paper" in ran.out


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("--fit", "books"), 2, "a fit is named by --name"),
        (("--pairs", "0:9"), 2, "there is no layer 9"),
        (("--pairs", "0-1"), 2, "is no pair of layers"),
        (("--context", "3,x"), 2, "is no number of tokens"),
        (("--context", "0"), 2, "is no number of tokens"),
        (("--memory", "lots"), 2, "is no amount of memory"),
        (("--memory", "1kB"), 2, "too little for one pair"),
        (("--name", "a/b"), 2, "is no name for a fit"),
        (("--rank", "16"), 2, "have no rank 16"),
        (("--fit", "adagrad", "--intercept"), 2, "have no intercept"),
        (("--text", "/nowhere/at/all"), 7, "/nowhere/at/all"),
        (("--text", " "), 2, "--text is empty"),
        (("--source-model", "/nowhere/at/all"), 7, "/nowhere/at/all"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    cli: Cli, db: Path, given: tuple[str, ...], code: int, said: str
) -> None:
    ran = cli("predict", "fit", "--db", db, "--device", "cpu", *given)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert ran.code == code, ran.err
    assert len(errors) == 1
    assert said in errors[0]
    assert ran.out == ""
    assert not Path(f"{db}.maps").exists()


@pytest.mark.slow
def test_what_follows_a_fit_between_two_models_are_commands_that_it_has(cli: Cli, db: Path) -> None:
    given = ("--fit", "two", "--source-model", world().model.folder, "--db", db, "--device", "cpu")
    ran = cli("predict", "fit", "--name", "two", *given[2:])
    assert ran.code == 0, ran.err
    assert "predict scores --fit two --source-model FOLDER" in ran.out
    assert "substitute" not in ran.out
    ran = cli("predict", "scores", "--layer", "0,2", *given)
    assert ran.code == 0, ran.err
    assert "layer 2" in ran.out  # of like depth


@pytest.mark.slow
def test_another_fit_of_the_same_name_is_refused_until_it_may_replace(cli: Cli, db: Path) -> None:
    given = ("predict", "fit", "--db", db, "--device", "cpu", "--pairs")
    assert cli(*given, "0:1").code == 0
    refused = cli(*given, "0:2")
    assert refused.code == 4
    assert "--name OTHER" in refused.err
    assert cli(*given, "0:2", "--replace").code == 0


@pytest.mark.slow
def test_another_model_than_the_one_that_was_indexed_is_refused(cli: Cli, db: Path) -> None:
    ran = cli("predict", "fit", "--db", db, "--device", "cpu", "--model", planted_world().model.folder)
    assert ran.code == 4
    assert "name the model that was indexed" in ran.err


@pytest.mark.slow
def test_few_documents_are_warned_of_on_stderr_and_on_the_card(cli: Cli, db: Path, tmp_path: Path) -> None:
    text = predictable.write_corpus(tmp_path / "few.jsonl", [" ".join(t.split()[:2]) for t in predictable.corpus(8)])
    ran = cli("predict", "fit", "--db", db, "--device", "cpu", "--pairs", "0:1", "--text", text)
    assert ran.code == 0, ran.err
    assert "warning: the maps are fitted on" in ran.err
    assert "warning: the maps are fitted on" in ran.out
