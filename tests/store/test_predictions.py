"""Fits, scores and results of neuron predictability come back as they were stored, from either database."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import Engine

from neuronagent.domain import NeuronId
from neuronagent.errors import IndexMismatchError, StorageError
from neuronagent.predictability.scores import COLUMNS, OWN_TEST, TOKEN
from neuronagent.store.engine import open_writer
from neuronagent.store.predictions import save_fit, save_result, save_scores
from neuronagent.store.reader import IndexReader
from tests.store.made_index import Made
from tests.store.made_scores import made_info, random_scores, scores_of

ABOUT = {"tokens": 900, "documents": 7}


@pytest.fixture
def writer(target: str, reader: IndexReader) -> Iterator[Engine]:
    """The same index, open to write; `reader` reads it."""
    assert reader.fits() == []
    engine = open_writer(target)
    yield engine
    engine.dispose()


def test_scores_come_back_as_float32_and_nothing_stays_nothing(writer: Engine, reader: IndexReader) -> None:
    fit, scores = save_fit(writer, "default", made_info()), random_scores(12)
    save_scores(writer, fit, 1, "layer 0", scores, text=OWN_TEST, about=ABOUT)
    (back,) = reader.layer_predictions(fit, 1).values()
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(scores, name).astype(np.float32))
        assert np.isnan(getattr(back, name)).any()
    assert reader.scored(fit) == {(OWN_TEST, 1, "layer 0"): ABOUT}


def test_one_neuron_is_its_row_of_the_layer(writer: Engine, reader: IndexReader) -> None:
    fit = save_fit(writer, "default", made_info())
    stored = {name: random_scores(12, seed) for seed, name in enumerate(("layer 0", TOKEN, "layer 1"))}
    for name, scores in stored.items():
        save_scores(writer, fit, 1, name, scores, text=OWN_TEST, about=ABOUT)
    save_scores(writer, fit, 1, TOKEN, random_scores(12, 9), text="other", about={})
    for index in (0, 7, 11):
        found = reader.neuron_predictions(fit, NeuronId(1, index))
        assert list(found) == ["layer 0", "layer 1", TOKEN]
        for name, own in found.items():
            np.testing.assert_allclose(own, stored[name].of(index), rtol=1e-6)
        everywhere = reader.neuron_predictions_by_text(fit, NeuronId(1, index))
        assert list(everywhere) == [OWN_TEST, "other"]
        assert everywhere[OWN_TEST][TOKEN].about == ABOUT
        np.testing.assert_array_equal(everywhere[OWN_TEST][TOKEN].scores, found[TOKEN])
    assert reader.neuron_predictions(fit, NeuronId(1, 12)) == {}  # beyond the layer
    assert reader.neuron_predictions(fit, NeuronId(0, 0)) == {}
    assert list(reader.layer_predictions(fit, 1, predictor="layer 1")) == ["layer 1"]


def test_scoring_again_takes_the_place_of_the_old_scores(writer: Engine, reader: IndexReader) -> None:
    fit, neuron = save_fit(writer, "default", made_info()), NeuronId(0, 2)
    for r2 in (0.5, 0.75):
        save_scores(writer, fit, 0, TOKEN, scores_of([r2] * 12), text=OWN_TEST, about=ABOUT)
    assert reader.neuron_predictions(fit, neuron)[TOKEN].r2 == 0.75
    assert len(reader.scored(fit)) == 1


def test_the_same_fit_keeps_what_it_has_and_another_of_its_name_loses_it(writer: Engine, reader: IndexReader) -> None:
    other = save_fit(writer, "other", made_info("other"))
    save_result(writer, other, "halves", "k", {"kept": True})
    fit = save_fit(writer, "default", made_info())
    save_scores(writer, fit, 0, TOKEN, scores_of([0.5] * 12), text=OWN_TEST, about=ABOUT)
    save_result(writer, fit, "substitution", "k", {"a": 1})
    assert save_fit(writer, "default", made_info()) == fit
    assert reader.scored_fits() == {fit}
    anew = save_fit(writer, "default", made_info(identity="two"))
    assert reader.scored(anew) == reader.prediction_results(anew, "substitution") == {}
    assert reader.scored_fits() == set()
    assert [(each.name, each.info["identity"]) for each in reader.fits()] == [("other", "one"), ("default", "two")]
    assert reader.prediction_results(other, "halves") == {"k": {"kept": True}}


def test_results_come_oldest_first_and_refuse_what_json_does_not_know(writer: Engine, reader: IndexReader) -> None:
    fit = save_fit(writer, "default", made_info())
    for key in ("z", "a", "m", "z"):
        save_result(writer, fit, "substitution", key, {"key": key, "none": None, "text": 'héllo\n"⏎'})
    assert list(reader.prediction_results(fit, "substitution")) == ["a", "m", "z"]
    assert reader.prediction_results(fit, "substitution")["a"] == {"key": "a", "none": None, "text": 'héllo\n"⏎'}
    assert reader.prediction_results(fit, "halves") == {}
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_result(writer, fit, "substitution", "z", {"value": math.nan})
    assert reader.prediction_results(fit, "substitution")["z"]["key"] == "z"


def test_scores_of_a_fit_that_is_not_there_are_refused(writer: Engine, reader: IndexReader) -> None:
    with pytest.raises(StorageError):
        save_scores(writer, 77, 0, TOKEN, scores_of([0.5]), text=OWN_TEST, about=ABOUT)
    assert reader.scored_fits() == set()


def test_scores_and_results_of_a_fit_that_was_replaced_are_not_taken_for_those_of_the_new_one(
    writer: Engine, reader: IndexReader
) -> None:
    old = save_fit(writer, "default", made_info(identity="one"))
    anew = save_fit(writer, "default", made_info(identity="two"))
    # Whether or not the new row has the id of the old one (in SQLite it has).
    for fit in (old, anew):
        with pytest.raises(IndexMismatchError, match="took the place"):
            save_scores(writer, fit, 0, TOKEN, scores_of([0.5]), text=OWN_TEST, about=ABOUT, identity="one")
        with pytest.raises(IndexMismatchError, match="took the place"):
            save_result(writer, fit, "functional", "0", {}, identity="one")
    assert reader.scored_fits() == set()
    save_scores(writer, anew, 0, TOKEN, scores_of([0.5]), text=OWN_TEST, about=ABOUT, identity="two")
    save_result(writer, anew, "functional", "0", {}, identity="two")
    assert reader.scored_fits() == {anew}


def test_building_an_index_again_keeps_fits_scores_and_results(target: str, made: Made) -> None:
    made.write(target)
    engine = open_writer(target)
    fit = save_fit(engine, "default", made_info())
    save_scores(engine, fit, 1, "layer 0", random_scores(12), text=OWN_TEST, about=ABOUT)
    save_result(engine, fit, "functional", "0", {"n": 1})
    engine.dispose()

    def everything() -> tuple[object, ...]:
        with IndexReader.open(target) as reader:
            neurons = [reader.neuron_predictions(fit, NeuronId(1, index)) for index in range(12)]
            return reader.fits(), repr(neurons), reader.prediction_results(fit, "functional"), reader.scored(fit)

    before = everything()
    made.write(target)
    assert everything() == before


def test_whatever_happens_to_a_layer_s_predictability_changes_the_state_of_its_neurons(
    writer: Engine, reader: IndexReader
) -> None:
    mine, elsewhere = NeuronId(1, 3), NeuronId(0, 3)
    ids: list[int] = []

    def score(r2: float) -> None:
        save_scores(writer, ids[0], 1, TOKEN, scores_of([r2] * 12), text=OWN_TEST, about=ABOUT)

    happens = [
        lambda: ids.append(save_fit(writer, "default", made_info())),
        lambda: score(0.5),
        lambda: score(0.6),  # other numbers from the same tokens
        lambda: save_result(writer, ids[0], "functional", "0", {}),
        lambda: save_result(writer, ids[0], "functional", "0", {"anew": True}),
        lambda: ids.insert(0, save_fit(writer, "default", made_info(identity="two"))),
    ]
    seen = [reader.states([mine])[mine]]
    assert seen == [[]]
    for happened in happens:
        happened()
        seen.append(reader.states([elsewhere, mine])[mine])
        assert seen[-1] != seen[-2]
    score(0.5)
    once, other = reader.states([mine])[mine], reader.states([elsewhere])[elsewhere]
    score(0.5)
    assert reader.states([mine])[mine] == once  # the same scores, stored again
    score(0.25)
    assert reader.states([mine])[mine] != once
    assert reader.states([elsewhere])[elsewhere] == other
