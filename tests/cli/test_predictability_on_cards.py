"""Predictability at the terminal: a sentence and a small table in `show`, nothing without a fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.service.predict.scored_sample import DEAD, sample_index, scored


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return sample_index(tmp_path)


def test_show_says_it_in_a_sentence_and_a_few_rows(cli: Cli, db: Path) -> None:
    scored(db, "second")
    scored(db)
    ran = cli("show", "1.8", "--db", db)
    said = " ".join(ran.out.split())
    assert "Layer 0 foretells 40 % of its variance on held-out text (R² .40 [.35–.45], r .63); its token alone" in said
    rows = {line.split("  ")[0]: line for line in ran.out.splitlines()}
    assert "+.30 [+.25, +.35]" in rows["layer 0, the one before"]
    assert ".10 [.050–.15]" in rows["token"]
    assert "900 tokens of 7 documents" in said
    assert "other fits: second" in said
    assert max(len(line) for line in ran.out.splitlines() if "--db" not in line) <= 100
    assert cli("show", "1.8", "--db", db, "--json").json["predictability"]["headline"]["r2"] == 0.4
    assert cli("show", "1.8", "--db", db, "--fit", "second", "--json").json["predictability"]["fit"] == "second"


def test_without_scores_the_card_has_no_word_of_it_and_the_json_a_reason(cli: Cli, db: Path) -> None:
    assert "foretold" not in cli("show", "1.8", "--db", db).out
    found = cli("show", "1.8", "--db", db, "--json").json["predictability"]
    assert (found["available"], found["reason"]) == (False, "no maps are fitted")
    scored(db)
    assert (
        "No predictability: layer 0 is no target of the fit default."
        in cli("show", "0.8", "--db", db, "--fit", "default").out
    )
    refused = cli("show", "1.8", "--db", db, "--fit", "nope\x1b[31m")
    assert refused.code
    assert "this index has no fit 'nope" in refused.err
    assert "\x1b" not in refused.err


def test_a_neuron_that_never_varies_is_said_to(cli: Cli, db: Path) -> None:
    scored(db)
    ran = cli("show", f"1.{DEAD}", "--db", db)
    assert "No predictability: it never varies on these tokens." in ran.out
    assert "foretold from" not in ran.out


def test_an_index_made_by_others_prints_the_names_of_its_fits_and_nothing_that_a_terminal_obeys(
    cli: Cli, db: Path
) -> None:
    name = "<b>\x1b[31m\u202e"
    scored(db, name)
    scored(db, name + "2")
    for command in (
        ("show", "1.8"), ("predict", "scores", "--stored", "--fit", name),
        ("predict", "scores", "--stored", "--fit", name, "--neuron", "1.8"), ("show", "1.8", "--fit", "none"),
    ):  # fmt: skip
        ran = cli(*command, "--db", db)
        assert not set(ran.out + ran.err) & set("\x1b\u202e"), command
    assert "fit <b>␛[31m⟨U+202E⟩" in cli("show", "1.8", "--db", db).out
