"""Explaining stores once, reads `test` once, and says the same to everyone."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination, Split
from neuronagent.errors import NotFoundError, StorageError
from neuronagent.explain.evidence import MINIMUM_STRONG
from neuronagent.explain.verdict import Verdict
from neuronagent.service import explain as module
from neuronagent.service.explain import PROTOCOL, Explainer, ensure_explained, is_explained
from neuronagent.service.lookup import Index
from neuronagent.store.engine import open_reader
from neuronagent.store.explanations import StoredScore
from neuronagent.store.reader import IndexReader
from tests import planted
from tests.known_index import build, world, write_texts

NEURON = NeuronId(0, 0)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A copy of the planted index in which nothing is explained."""
    return Path(shutil.copy(world().db, tmp_path / "planted.db"))


@pytest.fixture(scope="module")
def explained_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with `NEURON` explained; not to be written to."""
    path = Path(shutil.copy(world().db, tmp_path_factory.mktemp("explained") / "planted.db"))
    explain(path)
    return path


def rows(db: Path) -> dict[str, int]:
    with closing(sqlite3.connect(db)) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("explanation", "score", "score_control")
        }


def stored(db: Path, neuron: NeuronId = NEURON) -> dict[SignCombination, tuple[str, list[StoredScore]]]:
    with IndexReader.open(db) as reader:
        return {
            s.explanation.combination: (s.explanation.text, reader.scores(s.id)) for s in reader.explanations(neuron)
        }


def explain(db: Path, neuron: NeuronId = NEURON) -> dict[str, Any]:
    """As a new process would: opens the index, explains, closes it."""
    with Index(str(db)) as index:
        return index.explain(neuron)


def without_times(view: Any) -> Any:
    """The view without ids and the time of writing."""
    if isinstance(view, dict):
        return {key: without_times(value) for key, value in view.items() if key not in ("created", "id")}
    return [without_times(value) for value in view] if isinstance(view, list) else view


# Once


def test_text_and_scores_of_each_combination_are_stored(explained_db: Path) -> None:
    found = stored(explained_db)
    assert set(found) == set(COMBINATIONS)
    for text, scores in found.values():
        assert text.startswith("Fires on ")
        assert {s.score.metric for s in scores} >= {"detection", "balanced_accuracy", "recall", "which_combination"}
        assert all(s.protocol_version == PROTOCOL and s.score.split is Split.TEST for s in scores)


def test_what_is_stored_is_what_is_computed_anew(explained_db: Path) -> None:
    with IndexReader.open(explained_db) as reader:
        explainer = Explainer(reader)
        computed = explainer.explain(NEURON)
        tau = {c: own.tau for c, own in explainer.evidence(NEURON).combinations.items()}
    for c, (text, scores) in stored(explained_db).items():
        assert text == computed[c].text
        assert [(s.score.metric, s.score.negative_set, s.score.value, s.score.lo, s.score.hi) for s in scores] == [
            (s.metric, s.negative_set, s.value, s.lo, s.hi) for s in computed[c].scores
        ]
        assert {s.tau for s in scores} == {tau[c]}


def test_asking_again_reads_test_no_second_time_and_returns_the_same(
    explained_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, written = explain(explained_db), rows(explained_db)

    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(Explainer, "explain", refuse)
    assert explain(explained_db) == first
    assert rows(explained_db) == written
    assert {s.reading for _, scores in stored(explained_db).values() for s in scores} == {1}


def test_one_neuron_explained_is_not_another_one(db: Path) -> None:
    with IndexReader.open(db) as reader:
        explainer = Explainer(reader)
        assert not is_explained(explainer, NEURON)
        ensure_explained(explainer, str(db), NEURON)
        assert is_explained(explainer, NEURON)
        assert not is_explained(explainer, NeuronId(0, 3))


def test_a_neuron_is_stored_whole_or_not_at_all(db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON score WHEN (SELECT count(*) FROM explanation) = 3 "
            "BEGIN SELECT raise(ABORT, 'no room'); END"
        )
    with pytest.raises(StorageError):
        explain(db)
    assert set(rows(db).values()) == {0}
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("DROP TRIGGER full")
    view = explain(db)
    assert all(view["combinations"][c.value]["scores"] for c in COMBINATIONS)
    assert rows(db)["explanation"] == len(COMBINATIONS)
    assert {s.reading for _, scores in stored(db).values() for s in scores} == {1}


def test_what_is_missing_of_a_neuron_is_added_and_the_rest_is_left_alone(db: Path, explained_db: Path) -> None:
    shutil.copy(explained_db, db)
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(
            "DELETE FROM score_control WHERE score_id IN "
            "(SELECT s.id FROM score s JOIN explanation e ON s.explanation_id = e.id WHERE e.combination = 2)"
        )
        connection.execute(
            "DELETE FROM score WHERE explanation_id IN (SELECT id FROM explanation WHERE combination = 2)"
        )
        connection.execute("DELETE FROM explanation WHERE combination = 2")
    before = stored(db)
    explain(db)
    after = stored(db)
    assert set(after) - set(before) == {COMBINATIONS[2]}
    assert {c: after[c] for c in before} == before
    assert rows(db) == rows(explained_db)


# The same for everyone


@pytest.mark.slow
def test_another_process_gives_the_same_texts_scores_and_intervals(db: Path, explained_db: Path) -> None:
    code = "import json, sys, neuronagent; print(json.dumps(neuronagent.open(sys.argv[1]).explain(sys.argv[2])))"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(db), str(NEURON)],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert without_times(json.loads(ran.stdout)) == without_times(explain(explained_db))


@pytest.mark.slow
def test_the_order_in_which_neurons_are_explained_does_not_matter(db: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(db, tmp_path / "other.db"))
    neurons = [NEURON, NeuronId(0, 2)]
    forwards = [explain(db, neuron) for neuron in neurons]
    with Index(str(other)) as index:
        backwards = [index.explain(neuron) for neuron in reversed(neurons)]
    assert without_times(forwards) == without_times(backwards[::-1])


# What is shown


def test_the_view_has_the_documented_keys_and_is_plain_json(explained_db: Path) -> None:
    view = explain(explained_db)
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    keys = {"schema_version", "model", "neuron", "io_class", "meaning", "summary", "combinations", "cross_combination"}
    keys |= {"hypotheses", "predictability"}
    assert keys == set(view)
    assert view["neuron"] == "0.0"
    assert list(view["combinations"]) == [c.value for c in COMBINATIONS]
    for found in view["combinations"].values():
        assert {"explanation", "scores", "verdict", "reason", "frequency", "mass_share", "write_sign"} <= set(found)
        assert {"text", "source", "label", "claims"} <= set(found["explanation"])
        assert found["explanation"]["source"] == "rule"
        assert found["verdict"] in [verdict.value for verdict in Verdict]
        for score in found["scores"]:
            assert {"metric", "negative_set", "value", "lo", "hi", "n_pos", "n_neg", "reason", "controls"} <= set(score)
            assert score["reading"] == 1
            assert (score["value"] is None) == (score["reason"] is not None)
            for control in score["controls"]:
                assert set(control) == {"kind", "value", "lift", "lift_lo", "lift_hi"}
    cross = view["cross_combination"]
    assert cross["available"]
    assert cross["chance"] == 0.25
    assert cross["lo"] <= cross["value"] <= cross["hi"]
    assert set(cross["confusion"]) == {c.value for c in COMBINATIONS}
    for shares in cross["confusion"].values():
        assert sum(shares.values()) == pytest.approx(1)


def test_a_combination_without_enough_test_windows_has_no_scores_and_says_so(db: Path) -> None:
    view = explain(db, NeuronId(0, 1))
    for c in (SignCombination.GATE_POS_IN_NEG, SignCombination.GATE_NEG_IN_POS):
        found = view["combinations"][c.value]
        assert (found["explanation"], found["scores"], found["verdict"]) == (None, [], "not enough examples")
        assert str(MINIMUM_STRONG) in found["reason"]


def test_a_unit_with_a_rule_but_too_few_test_windows_is_not_scored_against_others_either(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven of its strong test windows are left: the rule stands on `explain`, and no score may come of `test`."""
    c = SignCombination.GATE_POS_IN_NEG
    with Index(str(db)) as index:
        explainer = index.explainer
        evidence = explainer.evidence(NEURON)
        own = evidence.combinations[c]
        few = replace(own, strong={**own.strong, Split.TEST: own.strong[Split.TEST][: MINIMUM_STRONG - 1]})
        poor = replace(evidence, combinations={**evidence.combinations, c: few})
        monkeypatch.setattr(
            explainer,
            "evidence",
            lambda neuron: poor if neuron == NEURON else explainer._evidence(neuron),  # pyright: ignore
        )
        view = index.explain(NEURON)
    assert (view["combinations"][c.value]["verdict"], view["combinations"][c.value]["scores"]) == (
        "not enough examples", [],
    )  # fmt: skip
    for other in COMBINATIONS:
        which = [
            s for s in view["combinations"][other.value]["scores"] if s["metric"] in ("which_combination", "pairwise")
        ]
        assert c.value not in {s["negative_set"] for s in which}
        assert bool(which) == (other is not c)


def test_where_nothing_is_to_be_said_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of a few texts answers too when it cannot be written."""

    def refuse(target: str) -> None:
        raise StorageError(f"{target} is read-only", remedy="")

    small = tmp_path / "small.db"
    build(world().model, write_texts(tmp_path / "few.jsonl", planted.corpus(8)), small)
    monkeypatch.setattr(module, "open_writer", refuse)
    view = explain(small)
    assert {found["verdict"] for found in view["combinations"].values()} == {"not enough examples"}
    assert not view["cross_combination"]["available"]


# Refusals


def test_an_index_that_cannot_be_written_is_a_storage_error(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_writer", open_reader)
    with pytest.raises(StorageError):
        explain(db)
    assert rows(db)["explanation"] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_a_storage_error(db: Path) -> None:
    db.chmod(0o444)
    db.parent.chmod(0o555)
    try:
        with pytest.raises(StorageError):
            explain(db)
    finally:
        db.parent.chmod(0o755)


def test_a_neuron_that_is_not_there_is_not_found(db: Path) -> None:
    with pytest.raises(NotFoundError):
        explain(db, NeuronId(7, 0))
    assert rows(db)["explanation"] == 0
