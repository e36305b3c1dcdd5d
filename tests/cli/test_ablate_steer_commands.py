"""`neuronagent ablate` and `neuronagent steer`, as they are typed."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from neuronagent.cli.class_card import print_class
from neuronagent.cli.output import PIPED_WIDTH
from neuronagent.service.live.changes import by_layer
from neuronagent.service.live.class_ablation import class_ablation
from neuronagent.service.live.class_choice import Texts
from neuronagent.service.views import model_view
from tests.cli.conftest import Cli
from tests.known_index import world
from tests.service.live.reference import live

TEXT = "old bird 3 see Anna 5, far Berlin"


def test_an_ablation_says_what_changed_beside_random_neurons(cli: Cli, planted_db: Path) -> None:
    ran = cli("ablate", TEXT, "--neuron", "0.0", "-c", "++", "--db", planted_db)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("0.0 · ")
    assert lines[0].endswith(" · zero ablation at tokens in gate+ in+")
    assert lines[1].startswith("Changed at 2 of 9 tokens. At ")
    assert "more than in each of 5 draws of random neurons" in " ".join(lines[1:3])
    row = next(line for line in lines if line.startswith("KL, mean"))
    assert " … " in row
    assert "random neurons: same layer, like frequency" in ran.out
    assert "rounding" not in ran.out  # float32
    largest = next(n for n, line in enumerate(lines) if line.split()[:3] == ["at", "token", "next"])
    assert not any("beyond" in line for line in lines[largest:])
    assert max(map(len, lines[:-1])) <= PIPED_WIDTH
    asked = cli("ablate", TEXT, "--neuron", "L0.N0", "-c", "gate+_in+", "--db", planted_db, "--json").json
    assert asked["neurons"] == ["0.0"]
    assert asked["effect"]["tokens_changed"] == 2
    assert asked["compared"]["kl_mean"]["beyond"] == row.endswith("beyond")
    assert len(asked["controls"]) == asked["matching"]["draws"] == 5
    assert asked["model"]["fingerprint"]
    mean = cli("ablate", TEXT, "--neuron", "0.0", "--mean", "--draws", "0", "--db", planted_db, "--json").json
    assert (mean["mode"], mean["controls"]) == ("mean", [])
    assert mean["values"][0] != 0


def test_nothing_to_change_is_said_and_is_no_error(cli: Cli, planted_db: Path) -> None:
    ran = cli("ablate", "old bird", "--neuron", "0.1", "-c", "++", "--db", planted_db)
    assert ran.code == 0
    assert ran.out.splitlines()[1] == "Nothing was changed: 0.1 is never in gate+_in+ in this text."


def test_a_class_is_ablated_over_the_test_split_in_float32(cli: Cli, planted_db: Path) -> None:
    command = ("ablate", "--io-class", "depletion", "--layers", "0-1", "--tokens", "400", "--draws", "4")
    ran = cli(*command, "--by-layer", "--db", planted_db)
    assert ran.code == 0
    assert ran.out.startswith("depletion, atypical too · ")
    assert "Excess: over the mean of the random sets; 95 % for other texts and other sets." in ran.out
    assert "2 neurons of layer 1 · zero ablation" in ran.out
    assert ", split test." in ran.out
    assert "run in float32" in ran.out
    assert max(map(len, ran.out.splitlines())) <= PIPED_WIDTH
    asked = cli(*command, "--typical", "--db", planted_db, "--json").json
    assert asked["whole"]["neurons"] == {"1": 1}
    assert asked["dtype"] == "float32"
    assert asked["layers"] == []
    assert set(asked["whole"]["changes"]) == {"loss", "entropy", "rank", "kl"}
    assert asked["smallest_p"] == pytest.approx(1 / (1 + asked["draws"]))


def test_a_class_is_ablated_on_texts_of_ones_own(cli: Cli, planted_db: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("old bird 3 see Anna 5.\n")
    asked = cli(
        "ablate", "--role", "prediction", "--text", tmp_path / "mine.txt", "--draws", "1", "--mean", "--db", planted_db,
        "--json",
    ).json  # fmt: skip
    assert (asked["texts"], asked["split"], asked["mode"]) == (1, None, "mean")
    assert asked["source"] == str(tmp_path / "mine.txt")
    assert asked["whole"]["changes"]["loss"]["mean_lo"] is None


def test_steering_shows_what_is_written_as_it_is_steered_and_by_a_random_neuron(cli: Cli, planted_db: Path) -> None:
    ran = cli("steer", TEXT, "--neuron", "0.0", "--set", "6", "--tokens", "4", "--db", planted_db)
    assert (ran.code, ran.err) == (0, "")
    for line in ("as it is", "steered", "Changed at 12 of 12 tokens read."):
        assert line in ran.out.splitlines()
    assert "post set to +6.00" in ran.out.splitlines()[0]
    assert "random neuron 0." in ran.out
    assert max(map(len, ran.out.splitlines()[:-1])) <= PIPED_WIDTH
    strong = cli("steer", TEXT, "--neuron", "0.0", "-c", "+-", "--db", planted_db, "--json").json
    assert strong["steered"]["combinations"] == ["gate+_in-"]
    assert strong["steered"]["values"][0] < 0
    assert len(strong["base_tokens"]) == 24
    scaled = cli("steer", TEXT, "--neuron", "0.0", "-c", "++", "--scale", "-2", "--db", planted_db, "--json").json
    assert (scaled["mode"], scaled["within"]) == ("scale", True)


def test_a_text_comes_from_stdin_or_a_file(
    cli: Cli, planted_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = cli("ablate", TEXT, "--neuron", "0.0", "--db", planted_db, "--json").json
    (tmp_path / "text").write_text(TEXT + "\n")
    assert cli("ablate", f"@{tmp_path}/text", "--neuron", "0.0", "--db", planted_db, "--json").json == given
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert cli("ablate", "-", "--neuron", "0.0", "--db", planted_db, "--json").json == given


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (("ablate",), 2, "a text is missing"),
        (("ablate", TEXT), 2, "a neuron is missing"),
        (("ablate", TEXT, "--neuron", "0.0", "--layers", "1"), 2, "--layers does not go with this"),
        (("ablate", TEXT, "--neuron", "0.0", "--by-layer"), 2, "--by-layer does not go with this"),
        (("ablate", TEXT, "--io-class", "depletion"), 2, "text does not go with this"),
        (("ablate", "--io-class", "depletion", "--neuron", "0.0"), 2, "neuron does not go with this"),
        (("ablate", "--io-class", "depletion", "--layers", "25-31"), 3, "layer 25 is not in this index; layers: 0–1"),
        (("ablate", "--io-class", "useful"), 2, "no IO class"),
        (("ablate", "--io-class", "depletion", "--text", "x", "--split", "test"), 2, "--split is about"),
        (("ablate", "@/nowhere", "--neuron", "0.0"), 3, "/nowhere cannot be read"),
        (("ablate", TEXT, "--neuron", "0.99"), 3, "neuron 0.99 is not in this index"),
        (("ablate", TEXT, "--neuron", "0.0", "--model", "/nowhere"), 7, "/nowhere"),
        (("steer", TEXT), 2, "a neuron is missing"),
        (("steer", TEXT, "--neuron", "0.0", "--set", "1", "--add", "1"), 2, "--set and --add exclude each other"),
        (("steer", TEXT, "--neuron", "0.0", "--set", "nan"), 2, "nan is no value"),
        (("steer", TEXT, "--neuron", "0.0", "--add", "1e30"), 2, "too much to steer 0.0 by"),
        (("steer", "", "--neuron", "0.0"), 2, "the text is empty"),
    ],
)
def test_what_cannot_be_is_one_line(cli: Cli, planted_db: Path, command: tuple[str, ...], code: int, line: str) -> None:
    ran = cli(*command, "--db", planted_db)
    assert (ran.code, ran.out) == (code, "")
    assert line in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_model_that_is_gone_is_one_line(cli: Cli, planted_folder: Path, planted_db: Path, tmp_path: Path) -> None:
    import sqlite3

    db = tmp_path / "moved.db"
    shutil.copy(planted_db, db)
    with sqlite3.connect(db) as connection:
        connection.execute(
            "update index_info set value = replace(value, ?, ?) where key = 'model'", (str(planted_folder), "/gone")
        )
    connection.close()
    ran = cli("ablate", TEXT, "--neuron", "0.0", "--db", db)
    assert ran.code == 7
    assert ran.err == "error: the model that was indexed is not at /gone/model any more; say where it is with --model\n"
    found = cli("ablate", TEXT, "--neuron", "0.0", "--db", db, "--model", planted_folder / "model", "--json")
    assert found.json["effect"]["tokens_changed"] == 9


def test_p_of_several_layers_is_said_to_be_uncorrected() -> None:
    neurons = by_layer([live().neuron_id(name) for name in ("0.8", "1.6")])
    ids = tuple(text.token_ids for text in world().texts[:3])
    found = class_ablation(
        live(), neurons, Texts(ids=ids, source="made", split=None), about="x", draws=3, each_layer=True
    )
    drawn = io.StringIO()
    print_class(Console(file=drawn, width=PIPED_WIDTH), found, model_view(live().index))
    said = " ".join(drawn.getvalue().split())
    assert "p by layer is uncorrected: of 2 layers 0.5 are expected at .25 by chance alone" in said
