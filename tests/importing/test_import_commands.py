"""The commands: import, and what info, show, search, explain and check say of imported numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuronagent.cli import run
from neuronagent.domain import COMBINATIONS, NeuronId
from tests.importing import made_pages

FIRST, SECOND = NeuronId(3, 14), NeuronId(1, 59)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("site")
    made_pages.make_site(folder / "docs", [FIRST, SECOND])
    assert run(["import", "gluscope", str(folder / "docs"), "--db", str(folder / "theirs.db")]) == 0
    return str(folder / "theirs.db")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_import_says_what_it_read_and_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = made_pages.make_site(tmp_path / "docs", [FIRST], examples=2)
    (site / "made-7b/L3/N14/gate+_in+_hook_post_example_1.json").write_text("{")
    found = printed(capsys, "import", "gluscope", str(site), "--db", str(tmp_path / "new.db"), "--revision", "abc")
    assert (found["neurons"], found["examples"]) == (1, 27)
    assert [(p["what"], p["count"]) for p in found["problems"]] == [("broken JSON", 1)]
    said = printed(capsys, "info", "--db", str(tmp_path / "new.db"))
    assert said["model"] == {"name": made_pages.MODEL, "revision": "abc", "activation": "silu"}
    assert said["provenance"]["problems"][0]["what"] == "broken JSON"
    assert run(["import", "gluscope", str(site), "--db", str(tmp_path / "again.db")]) == 0
    assert "left out: 1 × broken JSON" in capsys.readouterr().out


def test_without_db_the_index_goes_to_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEURONAGENT_DATA", str(tmp_path / "data"))
    made_pages.make_site(tmp_path / "docs", [FIRST], examples=1)
    assert run(["import", "gluscope", str(tmp_path / "docs")]) == 0
    assert len(list((tmp_path / "data").glob("*.db"))) == 1
    assert run(["show", "3.14"]) == 0  # the only index there
    assert "imported" in capsys.readouterr().out


def test_cards_say_that_numbers_are_imported_and_what_is_absent(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["show", "3.14"], ["explain", "3.14"], ["info"]):
        assert run([*command, "--db", db]) == 0
        card = " ".join(capsys.readouterr().out.split())
        assert "imported" in card
        assert "no threshold τ and no base rate" in card
        assert "no geometry" in card
    assert run(["show", "3.14", "--db", db]) == 0
    assert "40.25 %" in capsys.readouterr().out


def test_a_planted_trigger_is_found_and_scored_on_the_held_out_side(
    db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every example of a combination peaks at a token that it alone has."""
    view = printed(capsys, "explain", "3.14", "--db", db)
    for c in COMBINATIONS:
        own = view["combinations"][c.value]
        assert f"`{made_pages.trigger(FIRST, c)}`" in own["explanation"]["text"]
        assert own["verdict"] == "supported"
        assert own["sides"] == {"explain": 8, "test": 8}
        found = {s["negative_set"]: s["value"] for s in own["scores"] if s["metric"] == "detection"}
        assert found == {"N0 same texts": 1.0, "N1": 1.0}
    assert view["cross_combination"]["value"] == 1.0


def test_show_gives_traces_when_they_are_asked_for(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain = printed(capsys, "show", "3.14", "-c", "+-", "-q", "post", "--limit", "2", "--db", db)
    shown = printed(capsys, "show", "3.14", "-c", "+-", "-q", "post", "--limit", "2", "--trace", "--db", db)
    examples = shown["combinations"]["gate+_in-"]["examples"]["post"]
    assert len(examples) == 2
    for example, without in zip(examples, plain["combinations"]["gate+_in-"]["examples"]["post"], strict=True):
        trace = example.pop("trace")
        assert example == without
        assert trace["post"][example["position"]] == pytest.approx(example["value"])
        assert trace["tokens"][example["position"]] == example["token"]
        assert len(trace["tokens"]) == len(trace["post"]) == len(trace["x_gate"])


def test_search_filters_by_what_was_published_and_refuses_the_rest(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "search", "--layers", "3", "--frequency", "gate+_in+:0.4..0.41", "--db", db)
    assert [row["neuron"] for row in found["neurons"]] == ["3.14"]
    assert found["neurons"][0]["frequency"]["gate-_in-"] == 0.0925
    assert printed(capsys, "search", "--frequency", "gate+_in+:0.5..", "--db", db)["total"] == 0
    for criterion in (["--io-class", "depletion"], ["--token", "x"], ["--cos-in-out", "0.."], ["--sort", "mass_pp"]):
        assert run(["search", *criterion, "--db", db]) == 2
    capsys.readouterr()


def test_what_only_computed_numbers_have_is_refused_in_one_line(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--db", db]) == 0
    assert run(["show", "0.0", "--db", db]) == 3
    assert run(["export", "--parquet", "x", "--db", db]) == 2
    assert run(["check", "--model", "x", "--db", db]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 3


@pytest.mark.parametrize("source", ["nowhere", "ftp://host/x", "http://127.0.0.1:9/"])
def test_a_source_that_cannot_be_read_is_one_line(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", "gluscope", source, "--db", str(tmp_path / "new.db")]) in (2, 3, 7)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert not list(tmp_path.iterdir())
