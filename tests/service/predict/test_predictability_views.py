"""What is said of one neuron's predictability: the numbers that are stored, from the right fit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from neuronagent.domain import NeuronId
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.predictability.functional import KIND, NEURONS_KIND, layer_key
from neuronagent.predictability.scores import MEAN, OWN_TEST, POSITION, PREVIOUS_TOKEN, TOKEN
from neuronagent.predictability.view import PredictabilityView, chosen
from neuronagent.report.markdown import markdown
from neuronagent.report.neuron_page import Links, neuron_page
from neuronagent.service import views
from neuronagent.service.lookup import Index
from neuronagent.service.predict import score_views
from neuronagent.service.predict.views import neuron_predictability, sentence
from neuronagent.service.reporting.content import neuron_content
from neuronagent.service.tool_predictability import neuron_predictability as tool
from neuronagent.store.engine import open_writer
from neuronagent.store.predictions import save_fit, save_result, save_scores
from tests.service.predict.scored_sample import DEAD, NEURONS, sample_index, scored
from tests.store.made_scores import made_info, random_scores


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return sample_index(tmp_path)


def test_without_a_fit_nothing_is_said_but_why_and_what_makes_one(path: Path) -> None:
    with Index(str(path)) as index:
        view = neuron_predictability(index, "1.3")
        assert view == {
            "available": False, "reason": "no maps are fitted", "command": "neuronagent predict fit", "fits": [],
        }  # fmt: skip
        assert sentence(view) is None
        assert views.neuron_view(index.neuron("1.3"))["predictability"] == view
        assert index.neuron("1.3").predictability() == view
        content = neuron_content(index, NeuronId(1, 3))
        assert content["predictability"] is None
        assert content["no_predictability"] == "no maps are fitted: `neuronagent predict fit`"
        assert "foretold" not in markdown(content)
        assert 'id="foretold"' not in neuron_page(content, Links())
        for name, error in (("1.99", NotFoundError), ("9.0", NotFoundError), ("x", UsageError)):
            with pytest.raises(error):
                neuron_predictability(index, name)


def test_what_is_shown_is_what_is_stored(path: Path) -> None:
    scored(path)
    with Index(str(path)) as index:
        view = neuron_predictability(index, "1.8")
        stored = index.reader.neuron_predictions(1, NeuronId(1, 8))
    assert view["available"]
    assert [each["predictor"] for each in view.get("predictors", [])] == [
        "layer 0", "layer 1", MEAN, TOKEN, PREVIOUS_TOKEN, POSITION
    ]  # fmt: skip
    for each in view.get("predictors", []):
        for key in ("r2", "r2_lo", "r2_hi", "pearson", "rmse", "rmse_hi", "lift", "lift_lo"):
            assert dict(each)[key] == pytest.approx(getattr(stored[each["predictor"]], key), rel=1e-5, abs=1e-9)
    headline = view.get("headline")
    assert headline is not None
    assert (headline["predictor"], headline["direction"], headline["r2"]) == ("layer 0", "previous", 0.4)
    assert (view.get("tokens"), view.get("documents"), view.get("text")) == (900, 7, "texts/books")
    assert view.get("rank") == {"neurons": 11, "above": 0.8}  # of the ten others that vary, eight are below
    (other,) = view.get("other_texts", [])
    assert (other["text"], other["r2"], other["tokens"], other["documents"]) == ("stories", 0.3, 50, None)
    assert [each["direction"] for each in chosen(view)] == ["previous", "token", "previous token", "position"]
    json.dumps(view, allow_nan=False)


def test_a_neuron_that_never_varies_has_no_r2_and_no_sentence(path: Path) -> None:
    scored(path)
    with Index(str(path)) as index:
        view = neuron_predictability(index, f"1.{DEAD}")
        assert (view["available"], view.get("reason"), view.get("sentence")) == (
            True, "it never varies on these tokens", None,
        )  # fmt: skip
        for each in view.get("predictors", []):
            assert (each["r2"], each["pearson"], each["rmse"]) == (None, None, 0.0)
            assert each["reason"] == "it never varies on these tokens"
        assert view.get("rank") is None
        content = neuron_content(index, NeuronId(1, DEAD))
        assert "No: it never varies on these tokens." in neuron_page(content, Links())
        assert "No: `it never varies on these tokens`." in markdown(content)
        answer = tool(index, f"1.{DEAD}")
        assert answer.get("reason") == "it never varies on these tokens"


def test_numbers_that_do_not_exist_are_null_with_a_reason(path: Path) -> None:
    engine = open_writer(path)
    fit = save_fit(engine, "default", made_info())
    save_scores(engine, fit, 1, "layer 0", random_scores(NEURONS), text=OWN_TEST, about={})
    engine.dispose()
    with Index(str(path)) as index:
        for number in range(NEURONS):
            view = neuron_predictability(index, NeuronId(1, number))
            stored = index.reader.neuron_predictions(fit, NeuronId(1, number))["layer 0"]
            (each,) = view.get("predictors", [])
            assert (each["r2"] is None) == math.isnan(stored.r2)
            assert each["reason"] == stored.reason
            json.dumps([view, neuron_content(index, NeuronId(1, number)), tool(index, f"1.{number}")], allow_nan=False)


def test_the_default_fit_is_shown_unless_it_does_not_reach_the_layer(path: Path) -> None:
    engine = open_writer(path)
    save_fit(engine, "default", made_info())
    engine.dispose()

    def shown(neuron: str = "1.3", fit: str | None = None) -> PredictabilityView:
        with Index(str(path)) as index:
            return neuron_predictability(index, neuron, fit)

    assert shown().get("reason") == "the fit default has no scores of layer 1"
    assert shown().get("command") == "neuronagent predict scores"
    assert shown("0.3").get("reason") == "layer 0 is no target of the fit default"
    scored(path, "zeta")
    assert shown().get("fit") == "zeta"
    scored(path, "alpha")
    assert shown().get("fit") == "alpha"  # the newest
    scored(path)
    assert (shown().get("fit"), shown().get("fits")) == ("default", ["default", "zeta", "alpha"])
    assert shown(fit="zeta").get("fit") == "zeta"
    scored(path, "all", layer=0, pairs=[[1, 0]])
    assert shown("0.3").get("fit") == "all"
    assert shown("1.3").get("fit") == "default"
    assert shown("0.3", "zeta").get("command") == "neuronagent predict fit --pairs all"
    with pytest.raises(NotFoundError, match=r"no fit 'nope'.*there are default, zeta, alpha, all"):
        shown(fit="nope")


def test_the_headline_reads_the_nearest_layer_below_and_of_another_model_the_one_of_like_depth(path: Path) -> None:
    scored(path, "up", layer=0, pairs=[[0, 0], [1, 0]])
    scored(path, "cross", source_model={"name": "other", "layers": 2}, pairs=[[0, 1], [1, 1]])
    with Index(str(path)) as index:
        view = neuron_predictability(index, "0.3", "up")
        assert (view.get("headline"), view.get("no_headline")) == (None, "no layer lies below layer 0")
        assert [each["direction"] for each in view.get("predictors", [])][:2] == ["same", "later"]
        said = view.get("sentence") or ""
        assert said.startswith("No layer lies below layer 0; its token alone foretells 10 % (R² .10")
        view = neuron_predictability(index, "1.3", "cross")
        headline = view.get("headline")
        assert headline is not None
        assert (headline["predictor"], headline["direction"]) == ("layer 1", "other model")
        assert (view.get("sentence") or "").startswith("Layer 1 of the other model foretells")
        rows, _, _ = score_views.ranked(index, score_views.find_fit(index, "cross"), OWN_TEST, (1,))
        assert {row.predictor for row in rows} == {"layer 1"}


def test_the_local_analysis_is_shown_of_the_same_predictor_only(path: Path) -> None:
    fit = scored(path)
    background = {"threshold": 1.7, "threshold_r2": 0.5}
    families = {
        "1-gram": {"neurons": [3, 8], "passed": [1, 2], "best": [1, 0], "mu": [0.2, 0.31], "names": ["`a`", "`b`"]},
        "hard": {"neurons": [8], "passed": [1], "best": [0], "mu": [0.1], "names": ["hard"]},
    }
    engine = open_writer(path)
    save_result(engine, fit, KIND, layer_key(1), {"predictor": "layer 0", "background": background})
    save_result(engine, fit, NEURONS_KIND, layer_key(1), {"layer": 1, "families": families})
    engine.dispose()
    with Index(str(path)) as index:
        easy, hard = neuron_predictability(index, "1.8"), neuron_predictability(index, "1.1")
        found = easy.get("background")
        assert found is not None
        assert (found["is_background"], found["threshold"]) == (True, 1.7)
        said = easy.get("sentence") or ""
        assert said.endswith(
            " A background neuron: a smaller error (RMSE 1.5) than those that random tokens select (1.7), but no "
            "higher R²."
        )
        assert "background" not in (hard.get("sentence") or "background")
        assert easy.get("sensitive") == ["1-gram `a` (μ 0.31)", "hard tokens"]
        assert hard.get("sensitive") == []
        assert neuron_predictability(index, "1.8", "default")["available"]
        answer = tool(index, "1.8")
        assert (answer.get("background"), answer.get("sensitive_to")) == (True, ["1-gram `a` (μ 0.31)", "hard tokens"])
    engine = open_writer(path)
    save_result(engine, fit, KIND, layer_key(1), {"predictor": "mean of layers 0, 1", "background": background})
    engine.dispose()
    with Index(str(path)) as index:
        assert neuron_predictability(index, "1.8").get("background") is None
