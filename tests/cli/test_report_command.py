"""`neuronagent report`: what it writes, says and refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuronagent.domain import NeuronId
from neuronagent.service.importing.gluscope import import_gluscope
from tests.cli.conftest import Cli
from tests.importing.made_pages import make_site

ROOT = Path(__file__).parents[2]


@pytest.fixture
def db(planted_db: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(planted_db, tmp_path / "planted.db"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_named_neurons_are_pages_and_what_to_open_is_said(cli: Cli, db: Path, folder: Path) -> None:
    ran = cli("report", "0.4", "L0.N2", "--out", folder, "--db", db, "--no-values")
    assert ran.code == 0, ran.err
    assert {"0.4.html", "0.4.json", "0.4.md", "0.2.html"} < names(folder)
    assert "index.html" not in names(folder)
    assert f"{folder}: 2 pages · 6 files, 6 written, " in ran.out
    assert f"open {folder}/0.4.html" in ran.out
    assert f"next: neuronagent explain 0.4 --db {db}" in ran.out
    again = cli("report", "0.4", "L0.N2", "--out", folder, "--db", db, "--no-values")
    assert "2 pages (2 unchanged) · 6 files, 0 written, " in again.out


def test_chosen_neurons_are_a_site(cli: Cli, db: Path, folder: Path) -> None:
    ran = cli("report", "--io-class", "depletion", "--out", folder, "--db", db, "--no-values", "--workers", "1")
    assert ran.code == 0, ran.err
    assert {"1.9.html", "1.10.html", "index.html", "neurons.csv", "summary.json"} < names(folder)
    assert f"open {folder}/index.html" in ran.out
    assert json.loads((folder / "summary.json").read_text())["selection"] == "depletion"
    few = cli("report", "--layer", "0", "--limit-neurons", "3", "--out", folder, "--db", db, "--no-values", "--json")
    assert (few.json["pages"], few.json["others"]) == (3, 2)
    assert {"0.0.html", "index.html", "neurons.parquet"} < set(few.json["files"])


@pytest.mark.slow
def test_a_file_of_names_is_a_site_even_of_one(cli: Cli, db: Path, folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "neurons.txt"
    listed.write_text("# mine\n0.1\n0.1\n9.9\n")
    ran = cli("report", f"@{listed}", "--out", folder, "--db", db, "--no-values", "--workers", "1")
    assert ran.code == 0, ran.err
    assert {"0.1.html", "index.html"} < names(folder)
    assert "failed: 1 neurons (9.9): neuron 9.9 is not in this index" in ran.err


@pytest.mark.slow
def test_the_models_map_stands_alone_or_beside_neurons(cli: Cli, db: Path, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    ran = cli("report", "--model", "--out", folder, "--db", db)
    assert ran.code == 0, ran.err
    assert {"model.html", "figures/classes.svg", "figures/classes.png"} < names(folder)
    assert f"open {folder}/model.html" in ran.out
    assert "the model's map" in ran.out
    cli("report", "--io-class", "depletion", "--out", folder, "--db", db, "--no-values", "--workers", "1")
    assert 'href="model.html"' in (folder / "index.html").read_text()


@pytest.mark.slow
def test_the_model_is_run_for_values_unless_it_is_not_wanted(cli: Cli, db: Path, folder: Path) -> None:
    without = cli("report", "0.4", "--out", folder, "--db", db, "--no-values", "--json")
    assert without.json["valued"] == 0
    ran = cli("report", "0.4", "--out", folder, "--db", db, "--device", "cpu", "--json")
    assert (ran.json["valued"], ran.json["written"]) == (1, 1)
    assert "running the model" in ran.err


@pytest.mark.slow
def test_markdown_is_printed_and_nothing_is_written(
    cli: Cli, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ran = cli("report", "0.4", "--markdown", "--db", db)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("#")
    assert "0.4" in ran.out.splitlines()[0]
    assert not any(Path().iterdir())


@pytest.mark.slow
def test_nothing_of_a_corpus_reaches_the_terminal_raw(cli: Cli, made_db: Path, folder: Path) -> None:
    ran = cli("report", "0.1", "--markdown", "--db", made_db)
    assert ran.code == 0, ran.err
    assert not {"\x1b", "\u202e", "\u200b"} & set(ran.out)
    assert cli("report", "0.1", "1.2", "--out", folder, "--db", made_db, "--no-values").code == 0
    assert b"\x1b" not in (folder / "0.1.html").read_bytes()


@pytest.mark.slow
def test_a_folder_whose_name_does_not_print_is_not_to_be_typed_again(cli: Cli, db: Path, tmp_path: Path) -> None:
    ran = cli("report", "0.4", "--out", tmp_path / "two\nlines\x1b[31m", "--db", db, "--no-values")
    assert (ran.code, "two⏎lines␛[31m/0.4.html" in ran.out) == (0, True)
    assert "--model" not in ran.out
    assert "\x1b" not in ran.out


def test_an_imported_neuron_is_a_page(cli: Cli, folder: Path, tmp_path: Path) -> None:
    db = tmp_path / "imported.db"
    import_gluscope(str(make_site(tmp_path / "docs", [NeuronId(3, 1)])), str(db))
    ran = cli("report", "3.1", "--out", folder, "--db", db)
    assert ran.code == 0, ran.err
    assert "the model" not in ran.err
    assert cli("report", "--io-class", "depletion", "--out", folder, "--db", db).code == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no neuron is named"),
        (["0.4"], "there is no folder to write to; name one: --out DIR"),
        (["--model"], "there is no folder to write to"),
        (["0.4", "--out", ""], "there is no folder to write to"),
        (["0.4", "--layer", "1", "--out", "report"], "neurons are named and chosen"),
        (["0.4", "--markdown", "--out", "report"], "--markdown prints, and --out writes"),
        (["0.4", "--markdown", "--json"], "--markdown prints Markdown, and --json prints JSON"),
        (["0.4", "0.5", "--markdown"], "--markdown prints one neuron"),
        (["--layer", "1", "--markdown"], "--markdown prints one neuron"),
        (["0.4", "--out", "report", "--no-values", "--model-folder", "m"], "--no-values runs no model"),
        (["four", "--out", "report"], "four"),
        (["0.4", "--out", "report", "--split", "dev"], "--split"),
        (["0.4", "--out", "report", "--examples", "-1"], "--examples"),
        (["--layer", "x", "--out", "report"], "no layers"),
        (["--io-class", "digestion", "--out", "report"], "class"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_that_writes_nothing(
    cli: Cli, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli("report", *options, "--db", db)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert not (tmp_path / "report").exists()


def test_an_empty_selection_says_so_and_writes_nothing(cli: Cli, db: Path, folder: Path) -> None:
    ran = cli("report", "--io-class", "enrichment", "--layer", "0", "--out", folder, "--db", db)
    assert ran.code == 3
    assert "no neuron of this index meets these criteria" in ran.err
    assert not folder.exists()
    absent = cli("report", "0.4", "7.7", "--out", folder, "--db", db, "--no-values")
    assert (absent.code, "7.7" in absent.err) == (3, True)
    assert not folder.exists()


def test_a_folder_that_holds_something_else_is_one_line_and_an_exit_code(cli: Cli, db: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    ran = cli("report", "0.4", "--out", folder, "--db", db, "--no-values")
    assert ran.code == 8
    assert ran.err == (
        f"error: {folder} holds something else than a report (thesis.tex); "
        "name a new or an empty folder: nothing there is overwritten\n"
    )
    assert names(folder) == {"thesis.tex"}
    file = cli("report", "0.4", "--out", folder / "thesis.tex", "--db", db, "--no-values")
    assert (file.code, "is no folder" in file.err) == (8, True)


# Stopped in the middle


def started(db: Path, folder: Path, *, pages: int) -> subprocess.Popen[str]:
    """A report of everything in a process group of its own, as soon as it has written some pages."""
    command = [sys.executable, "-m", "neuronagent", "report", "--layer", "0-1", "--out", str(folder), "--db", str(db)]
    child = subprocess.Popen(
        [*command, "--no-values", "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    while child.poll() is None and len(list(folder.glob("*.html"))) < pages:
        time.sleep(0.002)
    return child


def whole(cli: Cli, db: Path, folder: Path) -> dict[str, bytes]:
    """Everything written by one process, without a break."""
    assert cli("report", "--layer", "0-1", "--out", folder, "--db", db, "--no-values", "--workers", "1").code == 0
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".jsonl"}


@pytest.mark.slow
def test_ctrl_c_keeps_whole_pages_and_the_next_run_finishes(cli: Cli, db: Path, folder: Path, tmp_path: Path) -> None:
    child = started(db, folder, pages=5)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 130
    assert "the report was stopped" in said
    there = {path.name: path.read_bytes() for path in folder.glob("*.html")}
    assert 5 <= len(there) < 32
    complete = whole(cli, db, tmp_path / "complete")
    assert there.items() <= complete.items()
    assert whole(cli, db, folder) == complete


@pytest.mark.slow
@pytest.mark.parametrize("pages", [1, 9, 20])
def test_a_report_that_is_killed_is_finished_by_the_next_run_and_leaves_no_process(
    cli: Cli, db: Path, folder: Path, tmp_path: Path, pages: int
) -> None:
    child = started(db, folder, pages=pages)
    tasks = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    workers = [int(process) for process in tasks.read_text().split()] if tasks.exists() else []
    child.kill()
    child.communicate()
    there = {path.name: path.read_bytes() for path in folder.glob("*.html")}
    complete = whole(cli, db, tmp_path / "complete")
    assert 1 <= len(there) < 33
    assert there.items() <= complete.items()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.01)
    assert whole(cli, db, folder) == complete


@pytest.mark.slow
def test_two_reports_into_one_folder_are_one_report_and_a_refusal(cli: Cli, db: Path, folder: Path) -> None:
    child = started(db, folder, pages=1)
    ran = cli("report", "0.4", "--out", folder, "--db", db, "--no-values")
    _, said = child.communicate()
    assert (ran.code, child.returncode) == (8, 0), said
    assert "another process is writing a report" in ran.err
    assert len(list(folder.glob("*.html"))) == 33
