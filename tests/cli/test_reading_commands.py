"""Every reading command, for people and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronagent.service import demo
from neuronagent.service.progress import Progress
from tests.cli.conftest import Cli

COMBINATIONS = {"gate+_in+", "gate+_in-", "gate-_in+", "gate-_in-"}


def test_info_tells_model_corpus_and_classes(cli: Cli, planted_db: Path) -> None:
    ran = cli("info", "--db", planted_db)
    assert ran.code == 0
    assert "2 layers × 16 neurons" in ran.out
    assert "normalised" in ran.out
    assert "layer" in ran.out
    view = cli("info", "--db", planted_db, "--json").json
    assert view["schema_version"] == 1
    assert view["model"]["n_layers"] == 2
    assert sum(view["io_classes"].values()) == 32
    assert view["io_classes_by_layer"]["0"]["orthogonal output"] == 16


def test_show_json_has_every_key_that_programs_rely_on(cli: Cli, planted_db: Path) -> None:
    view = cli("show", "0.0", "--db", planted_db, "--json").json
    assert view["schema_version"] == 1
    assert view["neuron"] == "0.0"
    assert view["sign_convention"] == "normalised"
    assert view["model"]["fingerprint"]
    assert set(view["geometry"]) == {"cos_gate_in", "cos_gate_out", "cos_in_out", "norm_gate", "norm_in", "norm_out"}
    assert view["io_class"] == "orthogonal output"
    for vector in ("out", "gate", "in"):
        for side in ("top", "bottom"):
            assert {"token", "score", "cosine"} <= set(view["vocabulary"][vector][side][0])
    assert set(view["combinations"]) == COMBINATIONS
    for own in view["combinations"].values():
        assert {"count", "frequency", "mass_share"} <= set(own)
        for quantity in ("post", "x_in", "x_gate", "act"):
            assert {"mean", "min", "max"} <= set(own[quantity])
        assert set(own["examples"]) == {"post", "x_in", "x_gate"}
        for example in own["examples"]["post"]:
            assert {"value", "text", "position", "token", "split"} <= set(example)
    assert sum(own["count"] for own in view["combinations"].values()) + view["zeros"] == view["tokens"]


def test_show_filters_combination_quantity_split_and_length(cli: Cli, planted_db: Path) -> None:
    options = ("--combination", "+-", "--quantity", "x_in", "--split", "test", "--limit", "2", "--json")
    view = cli("show", "L0.N0", "--db", planted_db, *options).json
    assert set(view["combinations"]) == {"gate+_in-"}
    examples = view["combinations"]["gate+_in-"]["examples"]
    assert set(examples) == {"x_in"}
    assert 0 < len(examples["x_in"]) <= 2
    assert {example["split"] for example in examples["x_in"]} == {"test"}


@pytest.mark.parametrize("columns", ["72", "80", "100", "140"])
def test_cards_fit_their_width_and_mark_the_token(
    cli: Cli, planted_db: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for command, neuron in (("show", "0.0"), ("explain", "0.4"), ("explain", "0.2")):
        ran = cli(command, neuron, "--db", planted_db)
        assert ran.code == 0
        assert "…" not in ran.out.partition("\ngate+ in+  post")[0]  # tables are whole
        lines = ran.out.partition("\nnext: ")[0].splitlines()  # commands are whole, to be copied
        assert max(map(len, lines)) <= int(columns)
        assert "⟦" in ran.out
        assert "\x1b" not in ran.out
        assert not any(line != line.rstrip() for line in ran.out.splitlines())


def test_the_explain_card_says_the_job_before_the_numbers(cli: Cli, planted_db: Path) -> None:
    out = cli("explain", "0.4", "--db", planted_db).out
    sentence, table = out.index("it fires"), out.index("what makes it fire")
    assert sentence < table < out.index("vs random") < out.index("Told apart") < out.index("next: ")
    assert "gate+ in−" in out
    assert "[" in out[out.index("vs random") :]
    assert "chance" in out
    assert "signs normalised" in out


def test_explain_json_has_every_key_that_programs_rely_on(cli: Cli, planted_db: Path) -> None:
    view = cli("explain", "0.4", "--db", planted_db, "--json").json
    assert view["neuron"] == "0.4"
    assert set(view["combinations"]) == COMBINATIONS
    assert view["cross_combination"]["available"] in (True, False)
    explained = [own for own in view["combinations"].values() if own["explanation"]]
    assert explained
    for own in explained:
        assert {"text", "source"} <= set(own["explanation"])
        assert isinstance(own["verdict"], str)
        assert own["scores"]
        for score in own["scores"]:
            assert {"metric", "negative_set", "value", "lo", "hi", "n_pos", "n_neg", "reason"} <= set(score)
            for control in score["controls"]:
                assert {"kind", "value", "lift", "lift_lo", "lift_hi"} <= set(control)


@pytest.mark.slow
def test_explain_takes_several_neurons_and_files(cli: Cli, planted_db: Path, tmp_path: Path) -> None:
    listed = tmp_path / "neurons.txt"
    listed.write_text("# mine\n0.1\n\nL0.N2  # another form\n0.1\n")
    ran = cli("explain", "0.0", f"@{listed}", "--db", planted_db, "--json")
    assert [view["neuron"] for view in ran.json] == ["0.0", "0.1", "0.2"]
    assert "3 of 3: 0.2" in ran.err
    one = tmp_path / "one.txt"
    one.write_text("0.1\n")
    assert isinstance(cli("explain", f"@{one}", "--db", planted_db, "--json").json, list)


def test_a_made_index_without_strong_tokens_says_so(cli: Cli, made_db: Path, tmp_path: Path) -> None:
    ran = cli("explain", "0.1", "--db", made_db)
    assert ran.code == 0
    assert "not enough examples" in ran.out
    assert "Nothing was scored" in ran.out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--layers", "1", "--limit", "100"], 16),
        (["--layers", "0,1", "--limit", "100"], 32),
        (["--layers", "0-1", "--io-class", "weakening", "--typical"], 1),
        (["--io-class", "atypical depletion"], 1),
        (["--io-class", "depletion", "--io-class", "enrichment"], 4),
        (["--cos-in-out=-1..-0.6", "--layers", "1"], None),
        (["--cos-in-out", "-1..-0.6", "--mass", "gate+_in-:0.2..", "--frequency", "++:..0.9"], None),
        (["--token", "apple"], None),
        (["--token", ".", "--in", "examples"], None),
        (["--token", ".", "--in", "gate-_in-", "--sort", "mass_pp", "--desc"], None),
    ],
)
def test_search_finds(cli: Cli, planted_db: Path, options: list[str], expected: int | None) -> None:
    view = cli("search", "--db", planted_db, *options, "--json").json
    assert view["schema_version"] == 1
    assert expected is None or view["total"] == len(view["neurons"]) == expected
    assert view["neurons"]
    assert {"neuron", "io_class", "cos_in_out", "mass_share", "frequency"} <= set(view["neurons"][0])
    ran = cli("search", "--db", planted_db, *options)
    assert ran.code == 0
    assert view["neurons"][0]["neuron"] in ran.out


def test_search_finds_a_neuron_by_what_it_promotes_and_where_it_peaks(cli: Cli, planted_db: Path) -> None:
    promoted = cli("search", "--token", "apple", "--db", planted_db, "--json").json["neurons"]
    assert promoted[0]["neuron"] == "0.0"
    peaks = cli("search", "--token", "not", "--in", "examples", "--layers", "0", "--db", planted_db, "--json").json
    assert "0.1" in [row["neuron"] for row in peaks["neurons"]]


def test_search_pages_with_the_token_anywhere_join_to_all_of_it(cli: Cli, planted_db: Path) -> None:
    search = ("search", "--token", ".", "--in", "examples", "--db", str(planted_db), "--json")
    everything = cli(*search, "--limit", "100").json
    pages = [cli(*search, "--limit", "2", "--offset", str(offset)).json for offset in range(0, everything["total"], 2)]
    assert [row for page in pages for row in page["neurons"]] == everything["neurons"]
    assert pages[0]["next_offset"] == 2
    assert pages[-1]["next_offset"] is None


def test_search_tells_the_next_page(cli: Cli, planted_db: Path) -> None:
    out = cli("search", "--limit", "5", "--db", planted_db).out
    assert "1–5 of 32 neurons" in out
    assert "--offset 5" in out
    assert "no neuron meets" in cli("search", "--cos-in-out", "2..3", "--db", planted_db).out


def test_search_by_explanation(cli: Cli, planted_db: Path) -> None:
    cli("explain", "0.4", "--db", planted_db)
    found = cli("search", "--explanation", "FIRES ON", "--db", planted_db, "--json").json
    assert "0.4" in [row["neuron"] for row in found["neurons"]]


@pytest.mark.slow
def test_check_of_a_sound_index_holds_and_counts(cli: Cli, planted_db: Path) -> None:
    ran = cli("check", planted_db)
    assert ran.code == 0, ran.out
    assert "all hold" in ran.out
    view = cli("check", "--db", planted_db, "--json").json
    assert view["ok"]
    assert all(check["checked"] for check in view["checks"])


def test_check_of_a_made_up_index_fails(cli: Cli, made_db: Path) -> None:
    ran = cli("check", made_db)
    assert ran.code == 1
    assert "do not hold" in ran.out
    assert ran.err.strip() in ("", "checking neurons …")


def test_upgrade_of_a_new_index_does_nothing(cli: Cli, planted_db: Path) -> None:
    assert cli("upgrade", planted_db).err.startswith("nothing to do")


def test_index_says_what_it_made_and_what_to_type_next(
    cli: Cli, planted_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONAGENT_K", "3")
    text = str(planted_folder / "corpus.jsonl")
    ran = cli("index", planted_folder / "model", "--text", text, "--token-budget", "500")
    assert ran.code == 0, ran.err
    assert "32 neurons of 2 layers over 500 tokens" in ran.out
    assert "next: neuronagent info --db" in ran.out
    assert "recording neurons" in ran.err
    view = cli("info", "--json").json  # the only one in the data folder
    assert view["k"] == 3


@pytest.mark.slow
def test_what_to_type_next_is_about_the_same_index(cli: Cli, planted_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"neuronagent explain 0.0 --db {planted_db}" in cli("show", "0.0", "--db", planted_db).out
    monkeypatch.setenv("NEURONAGENT_DB", str(planted_db))
    for command in (("show", "0.0"), ("explain", "0.0"), ("info",), ("search",)):
        out = cli(*command).out
        assert "next: neuronagent " in out
        assert "--db" not in out


def test_demo_prints_the_cards_of_what_it_explained(
    cli: Cli, planted_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, int]] = []

    def run_demo(db: str | None = None, progress: Progress | None = None, *, tokens: int = 7) -> list[str]:
        asked.append((db, tokens))
        return ["0.4", "0.2"]

    monkeypatch.setattr(demo, "run_demo", run_demo)
    ran = cli("demo", "--tokens", "5000", "--db", planted_db)
    assert ran.code == 0, ran.err
    assert asked == [(str(planted_db), 5000)]
    assert ran.out.index("0.4 · ") < ran.out.index("0.2 · ") < ran.out.index(f"neuronagent info --db {planted_db}")
