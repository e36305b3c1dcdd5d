"""`neuronagent plot`: figures as files, their numbers as JSON, and what is refused before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neuronagent.report.figures import FIGURES
from tests.cli.conftest import Cli


@pytest.mark.slow
def test_the_numbers_of_a_figure_are_json_and_say_where_they_are_from(cli: Cli, made_db: Path) -> None:
    for name in ("classes", "cosines", "medians", "frequency"):
        ran = cli("plot", name, "--json", "--db", made_db)
        assert (ran.code, ran.err) == (0, "")
        assert (ran.json["figure"], ran.json["provenance"]["fingerprint"]) == (name, "made-0")
    scatter = cli("plot", "scatter", "--layers", "1", "--json", "--db", made_db).json
    assert [(own["layer"], len(own["points"])) for own in scatter["layers"]] == [(1, 12)]
    assert scatter["columns"] == ["cos_gate_in", "cos_gate_out", "cos_in_out"]


@pytest.mark.slow
def test_a_picture_is_drawn_replaced_and_the_same_again(cli: Cli, made_db: Path, tmp_path: Path) -> None:
    file = tmp_path / "a picture.svg"
    ran = cli("plot", "Classes", "--layer", "0", "--out", file, "--db", made_db)
    assert (ran.code, ran.out, ran.err) == (0, f"drawn: {file}\n", "")
    first = file.read_bytes()
    ran = cli("plot", "classes", "--layers", "0", "--out", file, "--json", "--db", made_db)
    assert (ran.json["layers"][0]["neurons"], ran.err) == (12, f"drawn: {file}\n")
    assert file.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a picture.svg"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("plot nothing --out x.svg", 2, "there is no figure 'nothing'; allowed: classes, cosines"),
        ("plot classes", 2, "no file is named; name an .svg or .png: --out FILE (or --json"),
        ("plot classes --out x.pdf", 2, "x.pdf is no picture; name a file that ends in .svg or .png"),
        ("plot classes --out no/such/x.svg", 2, "there is no folder no/such"),
        ("plot classes --out ~nobody-of-this-name/x.svg", 2, "there is no folder ~nobody-of-this-name"),
        ("plot classes 0.1 --out x.svg", 2, "the figure classes is of the whole model; leave out '0.1'"),
        ("plot neuron --out x.svg", 2, "no neuron is named"),
        ("plot neuron nonsense --out x.svg", 2, "'nonsense' is not a neuron"),
        ("plot neuron 0.1 --json", 2, "neuronagent show 0.1 --json has its numbers"),
        ("plot neuron 0.99 --out x.svg", 3, "0.99"),
        ("plot classes --layers 7 --json", 3, "layer 7 is not in this index; layers: 0–1"),
        ("plot classes --layers a --json", 2, "'a' are no layers"),
        ("plot scatter --layers 0-12 --json", 2, "a scatter shows 12 layers at most, not 13"),
        ("plot roles --json", 2, "the figure roles cannot be drawn; this index was made without functional roles"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_with_what_to_do(
    cli: Cli, made_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    ran = cli(*arguments.split(), "--db", made_db)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_not_writable_is_no_traceback(cli: Cli, made_db: Path, tmp_path: Path) -> None:
    (tmp_path / "x.svg").mkdir()
    ran = cli("plot", "classes", "--out", tmp_path / "x.svg", "--db", made_db)
    assert (ran.code, ran.out) == (2, "")
    assert "is a folder" in ran.err


@pytest.mark.slow
def test_every_figure_and_a_neuron_become_files_of_both_kinds(cli: Cli, planted_db: Path, tmp_path: Path) -> None:
    for name in FIGURES:
        for suffix, begins in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
            file = tmp_path / f"{name}{suffix}"
            assert cli("plot", name, "--out", file, "--db", planted_db).code == 0
            assert file.read_bytes().startswith(begins)
    assert cli("plot", "neuron", "L1.N3", "--out", tmp_path / "n.png", "--db", planted_db).code == 0
    assert (tmp_path / "n.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_without_matplotlib_numbers_are_printed_and_pictures_say_what_to_install(made_db: Path, tmp_path: Path) -> None:
    def without(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = (
            "import sys; sys.modules['matplotlib'] = None\nfrom neuronagent.cli import run\nsys.exit(run(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", program, *arguments, "--db", str(made_db)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    shown = without("plot", "frequency", "--json")
    assert json.loads(shown.stdout)["figure"] == "frequency"
    for arguments in (
        ["plot", "classes", "--out", str(tmp_path / "x.svg")],
        ["report", "--model", "--out", str(tmp_path / "r")],
    ):
        done = without(*arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith("a picture needs matplotlib; pip install 'neuronagent[plot]'")
    assert not list(tmp_path.glob("*/*"))
    assert not (tmp_path / "x.svg").exists()
