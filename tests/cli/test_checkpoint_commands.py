"""`index --checkpoint`, `evolution` and `compare`: what they print, and the codes that they end with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from neuronagent.cli import run
from neuronagent.domain import IO_CLASSES
from tests.cli.conftest import Cli
from tests.service.turned import NEURONS, turned_checkpoint

LABELS = [str(label) for label in IO_CLASSES]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three checkpoints, and their indexes in the folder `indexes` in it, made by the command."""
    folder = tmp_path_factory.mktemp("training")
    for step, progress in ((500, 0.01), (1000, 0.6), (20000, 1.0)):
        turned_checkpoint(folder / f"checkpoint-{step}", progress)
    names = [part for step in (20000, 500, 1000) for part in ("--checkpoint", f"checkpoint-{step}")]
    assert run(["index", str(folder), *names, "--weights-only", "--db", str(folder / "indexes")]) == 0
    return folder


def reference(folder: Path, *, orthogonal: int = 24) -> Path:
    """The tables of the last checkpoint; with another number of `orthogonal` neurons they are wrong."""
    rows = [[0] * len(LABELS) for _ in range(2)]
    for row, label in zip(rows, ("conditional enrichment", "conditional depletion"), strict=True):
        row[LABELS.index(label)], row[LABELS.index("orthogonal output")] = NEURONS - orthogonal, orthogonal
    content: dict[str, Any] = {
        "source": "made \x1b[31mup",
        "models": {"me/end": {"columns": LABELS, "per_layer": rows}},
        "median_cos_in_out_by_layer": {"me/end": [0.5, -0.5]},
    }
    file = folder / "reference.json"
    file.write_text(json.dumps(content))
    return file


def test_indexing_several_checkpoints_says_where_they_are_and_what_is_next(cli: Cli, training: Path) -> None:
    ran = cli("index", training, "--checkpoint", "checkpoint-500", "--checkpoint", "checkpoint-1000", "--weights-only",
              "--db", training / "indexes")  # fmt: skip
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"{training}/indexes/checkpoint-500.db (")
    assert lines[-1] == f"next: neuronagent evolution {training}/indexes"
    assert "checkpoint 2 of 2: checkpoint-1000" in ran.err
    assert ran.err.count("is complete already") == 2


def test_without_db_the_folder_is_in_the_data_folder(cli: Cli, training: Path, tmp_path: Path) -> None:
    ran = cli("index", training, "--checkpoint", "checkpoint-500", "--weights-only")
    assert ran.code == 0
    (folder,) = (tmp_path / "data").iterdir()
    assert folder.name.endswith(".weights.checkpoints")
    assert [path.name for path in folder.iterdir()] == ["checkpoint-500.db"]


def test_the_card_has_a_row_per_checkpoint_in_order_of_training(cli: Cli, training: Path) -> None:
    ran = cli("evolution", training / "indexes")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines() if line.startswith("checkpoint-")]
    assert [row[0] for row in rows] == ["checkpoint-500", "checkpoint-1000", "checkpoint-20000"] * 2
    assert rows[2][1:] == ["0", "%", "25.0", "%", "0", "%", "50.0", "%", "25.0", "%", "0", "%"]
    assert rows[4][1:] == ["+0.30", "−0.30"]


def test_the_json_has_the_same_numbers(cli: Cli, training: Path) -> None:
    found = cli("evolution", training / "indexes", "--json").json
    assert [checkpoint["step"] for checkpoint in found["checkpoints"]] == [500, 1000, 20000]
    assert found["checkpoints"][2]["io_class_shares"]["conditional enrichment"] == 0.25


def test_a_plot_is_drawn_beside_the_card(cli: Cli, training: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ran = cli("evolution", training / "indexes", "--plot", tmp_path / "picture.svg")
    assert ran.code == 0
    assert (tmp_path / "picture.svg").read_text().startswith("<?xml")
    assert f"drawn: {tmp_path}/picture.svg" in ran.err
    assert "checkpoint-20000" in ran.out


def test_without_matplotlib_a_plot_is_refused_with_the_extra(
    cli: Cli, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    ran = cli("evolution", training / "indexes", "--plot", tmp_path / "picture.svg")
    assert (ran.code, ran.out) == (2, "")
    assert "pip install 'neuronagent[plot]'" in ran.err
    assert cli("evolution", training / "indexes").code == 0


def test_an_order_can_be_given(cli: Cli, training: Path) -> None:
    names = "checkpoint-1000,checkpoint-500,checkpoint-20000"
    found = cli("evolution", training / "indexes", "--order", names, "--json").json
    assert [checkpoint["name"] for checkpoint in found["checkpoints"]] == names.split(",")
    assert cli("evolution", training / "indexes", "--order", "checkpoint-500").code == 2


def test_the_command_line_begins_without_matplotlib_and_torch(training: Path) -> None:
    import subprocess

    code = (
        "import sys; from neuronagent.cli import run; "
        f"code = run(['evolution', {str(training / 'indexes')!r}, '--json']); "
        "heavy = [name for name in ('torch', 'transformers', 'matplotlib') if name in sys.modules]; "
        "print(heavy, file=sys.stderr); sys.exit(code or bool(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.strip()) == (0, "[]")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--revision", "r", "--checkpoint", "c", "--weights-only"), 2, "no --revision"),
        (("--checkpoint", "nothing", "--weights-only"), 3, "no folder nothing"),
        (("--revision", "r1", "--revision", "r2"), 2, "--text"),
        (("--revision", "r1", "--revision", "r1", "--weights-only"), 2, "two checkpoints would be r1.db"),
    ],
)
def test_what_cannot_be_indexed_is_refused(
    cli: Cli, training: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = cli("index", training, *arguments, "--db", tmp_path / "new")
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert not (tmp_path / "new").exists()


# compare


def test_compare_ends_with_0_where_everything_agrees(cli: Cli, training: Path, tmp_path: Path) -> None:
    db = training / "indexes" / "checkpoint-20000.db"
    ran = cli("compare", db, reference(tmp_path), "--model", "end")
    assert ran.code == 0
    assert "13 numbers within 5 neurons and 0.0001" in ran.out
    assert "all agree" in ran.out
    assert "\x1b" not in ran.out
    assert cli("compare", db, reference(tmp_path), "--model", "end", "--tolerance", "0").code == 0


def test_compare_ends_with_1_and_marks_what_differs(cli: Cli, training: Path, tmp_path: Path) -> None:
    db = training / "indexes" / "checkpoint-20000.db"
    file = reference(tmp_path, orthogonal=32)
    ran = cli("compare", db, file, "--model", "me/end")
    assert ran.code == 1
    differing = [line.split("  ")[0] for line in ran.out.splitlines() if line.endswith("differs")]
    assert differing == ["conditional enrichment", "orthogonal output", "conditional depletion"]
    assert "3 of them do not agree" in ran.out
    assert cli("compare", db, file, "--model", "me/end", "--tolerance", "16").code == 0
    found = cli("compare", db, file, "--model", "me/end", "--json")
    assert (found.code, found.json["ok"]) == (1, False)
    assert [row["difference"] for row in found.json["io_classes"] if row["difference"]] == [8, -16, 8]
    ran = cli("compare", training / "indexes" / "checkpoint-1000.db", reference(tmp_path), "--model", "end",
              "--median-tolerance", "0.5", "--tolerance", "48")  # fmt: skip
    assert ran.code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing.json", "--model", "end"), 3, "no file missing.json"),
        (("--model", "google/gemma-2-2b"), 4, "--post-norm raw"),
        (("--model", "Qwen/Qwen2.5-0.5B"), 4, "24 layers of 4864 neurons"),
        (("--model", "nobody/nothing"), 3, "no published tables of 'nobody/nothing'"),
        ((), 4, "checkpoint checkpoint-20000"),
        (("--tolerance", "-1"), 2, "--tolerance"),
    ],
)
def test_compare_refuses_what_cannot_be_meant(
    cli: Cli, training: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = cli("compare", training / "indexes" / "checkpoint-20000.db", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
