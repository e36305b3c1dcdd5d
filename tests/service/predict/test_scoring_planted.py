"""`neuronagent predict scores` on a model whose neurons' predictability is known because it was built."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from neuronagent.domain import NeuronId
from neuronagent.errors import CorpusError, IndexMismatchError, Interrupted, NotFoundError, UsageError
from neuronagent.predictability.scores import (
    BASELINES,
    COLUMNS,
    MEAN,
    OWN_TEST,
    POSITION,
    PREVIOUS_TOKEN,
    TOKEN,
    PredictorScores,
    text_key,
)
from neuronagent.service.check import check_index
from neuronagent.service.check_predictability import check_predictability
from neuronagent.service.ledger import Ledger
from neuronagent.service.lookup import Index
from neuronagent.service.predict import score_views as views
from neuronagent.service.predict.fit import FitOptions, fit
from neuronagent.service.predict.fits import fit_folder
from neuronagent.service.predict.scoring import groups_within, score
from tests import predictable
from tests.predictable import Kind, of_kind

EXACT = 1 - 1e-5
"""All neurons of a layer share one ridge, which those that are not linear in the source ask for."""


class Told:
    """Progress that remembers, and may stop a stage by Ctrl-C."""

    def __init__(self, stop_in: str | None = None) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.stop_in = stop_in

    def start(self, stage: str, total: int, unit: str) -> None:
        self.stages.append(stage)
        if stage == self.stop_in:
            signal.raise_signal(signal.SIGINT)

    def advance(self, done: int) -> None: ...

    def note(self, line: str) -> None:
        self.notes.append(line)


def copied(db: Path, to: Path) -> Path:
    """An index with all that is still in its log."""
    with closing(sqlite3.connect(db)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted index with a scored fit of all pairs."""
    path = copied(predictable.world().db, tmp_path_factory.mktemp("scored") / "model.db")
    fit(FitOptions(db=str(path), pairs="all"))
    score(str(path))
    return path


@pytest.fixture
def copy(db: Path, tmp_path: Path) -> Path:
    """The same index and fit, to be changed."""
    copied(db, tmp_path / "model.db")
    shutil.copytree(fit_folder(str(db), "default"), fit_folder(str(tmp_path / "model.db"), "default"))
    return tmp_path / "model.db"


def stored(db: Path, layer: int, text: str = OWN_TEST) -> dict[str, PredictorScores]:
    with Index(str(db)) as index:
        return index.reader.layer_predictions(views.find_fit(index, "default").id, layer, text)


def test_neurons_that_are_linear_in_a_layer_are_foretold_from_it_exactly(db: Path) -> None:
    for target, source, kind in ((1, 0, Kind.FROM_0), (2, 0, Kind.FROM_0), (2, 1, Kind.FROM_1)):
        found = stored(db, target)[f"layer {source}"]
        rows = of_kind(target, kind)
        assert found.r2[rows].min() >= EXACT
        assert found.r2_lo[rows].min() >= EXACT
        assert found.pearson[rows].min() >= EXACT


def test_a_layer_foretells_itself_exactly(db: Path) -> None:
    for layer in range(3):
        found = stored(db, layer)[f"layer {layer}"]
        assert np.nanmin(found.r2) >= 1 - 1e-6


def test_neurons_of_the_token_alone_are_told_apart_from_those_of_a_layer(db: Path) -> None:
    first, second = stored(db, 0), stored(db, 1)
    assert first[TOKEN].r2[of_kind(0, Kind.TOKEN)].min() > 0.9999
    rows = of_kind(1, Kind.TOKEN)
    assert second[TOKEN].r2[rows].min() > 0.9999
    assert second["layer 0"].r2[rows].max() < 0.1  # nothing that layer 0 has
    assert second["layer 0"].lift_hi[rows].max() < -0.5
    linear = of_kind(1, Kind.FROM_0)
    assert second["layer 0"].lift_lo[linear].min() > 0.1  # the token alone does not have the context
    assert first["layer 0"].lift[of_kind(0, Kind.CONTEXT)].min() > 0.5


def test_what_neither_token_nor_layer_has_is_foretold_by_nothing(db: Path) -> None:
    found, rows = stored(db, 1), of_kind(1, Kind.CONTEXT)
    for name in ("layer 0", TOKEN, PREVIOUS_TOKEN, POSITION, MEAN):
        assert found[name].r2[rows].max() < 0.1, name


def test_a_neuron_of_the_position_is_foretold_by_the_position(db: Path) -> None:
    for layer in (1, 2):
        rows = of_kind(layer, Kind.POSITION)
        assert stored(db, layer)[POSITION].r2[rows].min() > 0.999
        assert stored(db, layer)[TOKEN].r2[rows].max() < 0.05


def test_a_dead_neuron_has_no_score_but_an_error_and_says_why(db: Path) -> None:
    for layer in range(3):
        found = stored(db, layer)
        assert set(found) == {*BASELINES, "layer 0", "layer 1", "layer 2"}
        for scores in found.values():
            for n in of_kind(layer, Kind.DEAD):
                one = scores.of(n)
                assert np.isnan([one.r2, one.pearson, one.lift, one.r2_lo]).all()
                assert one.rmse < 1e-6
                assert one.reason == "it never varies on these tokens"


def test_every_identity_of_the_scores_holds(db: Path) -> None:
    with Index(str(db)) as index:
        findings = {finding.name: finding for finding in check_index(index)}
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert findings["R² is 1 − squared RMSE ÷ variance"].checked == 3 * 7 * 15
    assert findings["scores lie in their intervals"].checked > 1000


DAMAGES: list[tuple[str, str, float, str]] = [
    ("layer 0", "r2", 0.5, "R² is 1 − squared RMSE"),
    (TOKEN, "pearson", 0.1, "R² is not above Pearson's square"),
    ("layer 0", "pearson", 1.5, "|Pearson| is not above 1"),
    ("layer 0", "pearson_hi", 1.5, "|Pearson| is not above 1"),
    ("layer 0", "rmse_lo", 9.0, "scores lie in their intervals"),
    ("layer 0", "r2_hi", -3.0, "scores lie in their intervals"),
    ("layer 0", "lift", 0.9, "lift is R² less that of the token"),
    ("layer 0", "variance", -1.0, "errors and variances are not below 0"),
    ("layer 0", "variance", 0.0, "R² exists exactly where a neuron varies"),
    ("layer 0", "mean", 7.0, "mean and variance are those of the neuron"),
    (MEAN, "r2", 0.2, "the mean explains nothing"),
    (MEAN, "pearson", 0.2, "the mean does not correlate"),
]


@pytest.mark.parametrize(("predictor", "column", "value", "name"), DAMAGES)
def test_a_score_that_cannot_be_is_found(copy: Path, predictor: str, column: str, value: float, name: str) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        key = f"layer = 1 AND text = '' AND predictor = '{predictor}'"
        (blob,) = connection.execute(f'SELECT "values" FROM prediction_score WHERE {key}').fetchone()
        values = np.frombuffer(blob, "<f4").reshape(-1, len(COLUMNS)).copy()
        values[8, COLUMNS.index(column)] = value  # a neuron of the token, which layer 0 does not foretell
        connection.execute(f'UPDATE prediction_score SET "values" = ? WHERE {key}', (values.tobytes(),))
    assert_found(copy, name, "1.8")


STATEMENTS: list[tuple[str, str]] = [
    ("UPDATE prediction_score SET layer = 7 WHERE layer = 2", "a scored layer exists"),
    ('UPDATE prediction_score SET "values" = substr("values", 1, 56) WHERE layer = 2', "a scored layer exists"),
    ('UPDATE prediction_score SET "values" = substr("values", 1, 57) WHERE layer = 2', "scores of predictability can"),
    ("DELETE FROM prediction_score WHERE layer = 2 AND predictor = 'token'", "a scored layer has all its"),
    ("UPDATE prediction_score SET predictor = 'layer 9' WHERE predictor = 'layer 2'", "scored predictors are maps"),
    ("UPDATE prediction_score SET about = '{\"tokens\": 0}'", "scores are made on tokens of documents"),
]


@pytest.mark.parametrize(("statement", "name"), STATEMENTS)
def test_scores_that_belong_to_nothing_are_found(copy: Path, statement: str, name: str) -> None:
    with closing(sqlite3.connect(copy)) as connection, connection:
        assert connection.execute(statement).rowcount
    assert_found(copy, name, "layer")


def assert_found(db: Path, name: str, where: str) -> None:
    ledger = Ledger()
    with Index(str(db)) as index:
        check_predictability(index, ledger)
    findings = [finding for finding in ledger.findings.values() if finding.name.startswith(name)]
    assert findings
    assert not findings[0].ok
    assert where in findings[0].examples[0]


def test_what_is_stored_is_not_computed_again_but_for_another_part_of_the_text(copy: Path) -> None:
    same = score(str(copy))
    assert (same.computed, same.kept) == ((), (0, 1, 2))
    part = score(str(copy), tokens=500)
    assert part.computed == (0, 1, 2)
    assert part.tokens < same.tokens
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DELETE FROM prediction_score WHERE layer = 1 AND predictor = 'mean'")
    assert score(str(copy), tokens=500).computed == (1,)


@pytest.mark.slow
def test_layers_that_were_scored_before_ctrl_c_are_kept_and_the_rest_follows(copy: Path) -> None:
    before = stored(copy, 1)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DELETE FROM prediction_score")
    with pytest.raises(Interrupted, match="the same command continues"):
        score(str(copy), memory=1, progress=Told(stop_in="scoring layer 1"))
    told = Told()
    found = score(str(copy), memory=1, progress=told)
    assert (found.computed, found.kept) == ((1, 2), (0,))
    assert told.stages[-1] == "scoring layer 2"  # one layer at a time, as memory is short
    for name, scores in stored(copy, 1).items():
        for column in COLUMNS:
            mine, there = getattr(scores, column), getattr(before[name], column)
            np.testing.assert_allclose(mine, there, rtol=1e-4, atol=1e-6, err_msg=f"{name} {column}")


@pytest.mark.slow
def test_another_text_is_scored_whole_and_what_was_fitted_on_is_left_out(copy: Path, tmp_path: Path) -> None:
    other = predictable.write_corpus(tmp_path / "other.jsonl", predictable.corpus(12, seed=5))
    found = score(str(copy), text=str(other))
    assert found.documents == 12
    assert np.nanmin(stored(copy, 1, str(other))["layer 0"].r2[of_kind(1, Kind.FROM_0)]) > EXACT
    told = Told()
    own = score(str(copy), text=str(predictable.world().source), progress=told)
    assert own.tokens == score(str(copy)).tokens  # the test documents are left
    assert "fitted on and are left out" in told.notes[0]
    with Index(str(copy)) as index:
        known = views.scored_texts(index, views.find_fit(index, "default"))
    assert set(known) == {OWN_TEST, str(other), str(predictable.world().source)}


def test_one_document_is_scored_without_intervals(copy: Path, tmp_path: Path) -> None:
    one = predictable.write_corpus(tmp_path / "one.jsonl", predictable.corpus(1, seed=9))
    told = Told()
    score(str(copy), text=str(one), progress=told)
    assert told.notes == ["1 document to score on: intervals over documents are not to be had"]
    found = stored(copy, 1, str(one))["layer 0"].of(0)
    assert found.r2 > EXACT
    assert np.isnan(found.r2_lo)
    assert found.interval_reason


def test_bad_input_is_told_in_a_line(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no complete fit other"):
        score(str(copy), "other")
    with pytest.raises(UsageError, match="--text is empty"):
        score(str(copy), text=" ")
    with pytest.raises(CorpusError, match="no file or folder"):
        score(str(copy), text=str(tmp_path / "nothing.txt"))
    with pytest.raises(UsageError, match="no fit between two models"):
        score(str(copy), source_model=str(predictable.world().model.folder), again=True)
    other = predictable.build(tmp_path / "another", seed=7)
    with pytest.raises(IndexMismatchError, match="other weights"):
        score(str(copy), model=str(other.folder), again=True)
    folder = fit_folder(str(copy), "default")
    info = json.loads((folder / "fit.json").read_text())
    info["text"]["fingerprint"] = "0" * 64
    (folder / "fit.json").write_text(json.dumps(info))
    with pytest.raises(CorpusError, match="not the text any more"):
        score(str(copy))


@pytest.mark.slow
def test_scores_of_a_fit_that_is_replaced_meanwhile_are_not_taken_for_those_of_the_new_one(copy: Path) -> None:
    class Replaced(Told):
        """When all is scored, and before it is stored, another fit takes the place of this one."""

        def start(self, stage: str, total: int, unit: str) -> None:
            super().start(stage, total, unit)
            self.left = total if stage.startswith("scoring") else None

        def advance(self, done: int) -> None:
            if done == self.left:
                fit(FitOptions(db=str(copy), pairs="0:1,1:2", intercept=True, replace=True))

    with pytest.raises(IndexMismatchError, match="took the place of this one meanwhile"):
        score(str(copy), again=True, progress=Replaced())
    with Index(str(copy)) as index:
        stored = views.find_fit(index, "default")
        assert stored.info["intercept"]
        assert index.reader.scored(stored.id) == {}
    assert score(str(copy)).computed == (1, 2)


@pytest.mark.slow
def test_a_fit_that_took_the_place_of_another_is_scored_anew(copy: Path) -> None:
    fit(FitOptions(db=str(copy), pairs="0:1", replace=True))
    found = score(str(copy))
    assert found.computed == (1,)
    assert set(stored(copy, 1)) == {*BASELINES, "layer 0"}
    assert stored(copy, 2) == {}


@pytest.mark.slow
def test_windows_of_context_are_scored_in_them(copy: Path) -> None:
    fit(FitOptions(db=str(copy), name="short", pairs="0:1", context=1, tokens=4000))
    score(str(copy), "short")
    with Index(str(copy)) as index:
        found = index.reader.layer_predictions(views.find_fit(index, "short").id, 1)
    # BOS and the token itself are all there is: the token decides everything, but for tokens that were never fitted.
    assert np.nanmin(found[TOKEN].r2[of_kind(1, Kind.FROM_0)]) > 0.9
    assert np.nanmax(stored(copy, 1)[TOKEN].r2[of_kind(1, Kind.FROM_0)]) < 0.9


@pytest.mark.slow
def test_layers_of_another_model_foretell_what_both_have_of_the_token(copy: Path, tmp_path: Path) -> None:
    other = str(predictable.build(tmp_path / "other", seed=7).folder)
    fit(FitOptions(db=str(copy), name="across", pairs="0:0,1:1", source_model=other))
    with pytest.raises(UsageError, match="say where it is with --source-model"):
        score(str(copy), "across")
    with pytest.raises(IndexMismatchError, match="start from another model than"):
        score(str(copy), "across", source_model=str(predictable.world().model.folder))
    assert score(str(copy), "across", source_model=other).computed == (0, 1)
    assert score(str(copy), "across").kept == (0, 1)  # nothing is run: no model is asked for
    with Index(str(copy)) as index:
        found = index.reader.layer_predictions(views.find_fit(index, "across").id, 1)["layer 1"]
    position = of_kind(1, Kind.POSITION)  # both models have it, exactly
    assert found.r2[position].min() > 0.999
    assert found.r2[of_kind(1, Kind.TOKEN)].max() < 0.5


def test_neurons_are_ranked_by_any_score_and_those_without_one_are_counted(db: Path) -> None:
    with Index(str(db)) as index:
        known = views.find_fit(index, "default")
        rows, total, without = views.ranked(index, known, OWN_TEST, (1, 2), limit=40)
        assert (total, without) == (30, 2)
        values = [row.scores["r2"] for row in rows]
        assert values == sorted(values, reverse=True)
        assert {row.predictor for row in rows} == {"layer 0", "layer 1"}  # the nearest below each
        worst, _, _ = views.ranked(index, known, OWN_TEST, (1,), predictor=TOKEN, sort="rmse", reverse=True, limit=1)
        assert worst[0].scores["rmse"] == np.nanmax(stored(db, 1)[TOKEN].rmse)
        one = views.one_neuron(index, known, OWN_TEST, NeuronId(1, 8))
        assert [row.predictor for row in one] == ["layer 0", "layer 1", "layer 2", *BASELINES]
        with pytest.raises(NotFoundError, match="not foretold from a layer below"):
            views.ranked(index, known, OWN_TEST, (0,))
        with pytest.raises(NotFoundError, match="layer 9 is not scored"):
            views.ranked(index, known, OWN_TEST, (9,))
        with pytest.raises(NotFoundError, match=r"1\.99 is not scored"):
            views.one_neuron(index, known, OWN_TEST, NeuronId(1, 99))
        with pytest.raises(NotFoundError, match="not scored on elsewhere"):
            views.score_view(index, known, "elsewhere")


def test_the_view_of_all_layers_says_what_the_paper_says_and_counts_the_dead(db: Path) -> None:
    with Index(str(db)) as index:
        view = views.score_view(index, views.find_fit(index, "default"), neurons=True)
    assert [layer["never_vary"] for layer in view["layers"]] == [of_kind(layer, Kind.DEAD) for layer in range(3)]
    first = next(each for each in view["layers"][1]["predictors"] if each["predictor"] == "layer 0")
    assert first["rmse_mean"] == pytest.approx(stored(db, 1)["layer 0"].rmse.mean())
    assert first["with_r2"] == 15
    assert {each["direction"]: each["pairs"] for each in view["directions"]} == {
        "shallow → deep": 3, "deep → shallow": 3, "self": 3,
    }  # fmt: skip
    assert view["directions"][2]["r2_median"] == pytest.approx(1)
    assert len(view["layers"][0]["scores"][MEAN]["r2"]) == 16


def test_layers_are_grouped_by_what_they_need() -> None:
    assert groups_within({0: 4, 1: 4, 2: 4, 5: 9, 6: 1}, 8) == [[0, 1], [2], [5], [6]]
    assert groups_within({0: 4}, 1) == [[0]]
    assert groups_within({}, 8) == []


def test_a_long_name_of_a_text_is_cut_and_stays_one_of_its_own() -> None:
    long = "/".join(["folder"] * 60)
    assert text_key("books.jsonl") == "books.jsonl"
    assert len(text_key(long)) == 255
    assert text_key(long + "a") != text_key(long + "b")
