"""`neuronagent predict functional` on a model whose neurons were built: what it finds, keeps, and says to mistakes."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from neuronagent.domain import NeuronId, Split
from neuronagent.errors import Interrupted
from neuronagent.predictability.functional import (
    KIND,
    NEURONS_KIND,
    TOTAL_VARIANCE,
    is_background,
    layer_key,
    sensitive_to,
)
from neuronagent.service.live.model import open_live
from neuronagent.service.lookup import open_index
from neuronagent.service.predict.fit import FitOptions, fit
from neuronagent.service.predict.functional import FunctionalOptions, functional
from neuronagent.service.predict.functional_passes import Reading, values_at_bos
from neuronagent.service.predict.losses import token_losses
from neuronagent.service.predict.properties import Flat, make_properties
from neuronagent.service.predict.texts import corpus_texts
from tests.cli.conftest import Cli, Ran
from tests.predictable import Kind, of_kind, scored

FEW = ("--ngrams", "40", "--seeds", "20", "--device", "cpu")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a scored fit of neighbouring layers."""
    return scored(tmp_path_factory.mktemp("functional"))


def run(cli: Cli, db: Path, *given: str) -> Ran:
    ran = cli("predict", "functional", "--db", db, *FEW, *given)
    assert ran.code == 0, ran.err
    return ran


def test_planted_neurons_are_found_and_dead_ones_have_no_score(cli: Cli, db: Path) -> None:
    view = run(cli, db, "--json").json
    assert [layer["layer"] for layer in view["layers"]] == [0, 1, 2]
    assert [layer["constant"] for layer in view["layers"]] == [1, 1, 1]
    assert [layer["predictor"] for layer in view["layers"]] == [None, "layer 0", "layer 1"]
    assert view["layers"][0]["reason"] == "the fit has no map to it from a layer below"
    assert view["layers"][0]["families"][TOTAL_VARIANCE]["hard"]["l2"]["score"] is None
    with open_index(str(db)) as index:
        fit_id = index.reader.fits()[0].id
        for layer in (1, 2):
            found = index.reader.prediction_results(fit_id, NEURONS_KIND, layer_key(layer))[layer_key(layer)]
            (position,) = of_kind(layer, Kind.POSITION)
            assert "successive positions" in sensitive_to(found, position)
            assert position in found["families"]["successive"]["most"]
            assert found["never_vary"] == of_kind(layer, Kind.DEAD)
            own = index.reader.prediction_results(fit_id, KIND, layer_key(layer))[layer_key(layer)]
            rmse = index.reader.layer_predictions(fit_id, layer)[own["predictor"]].rmse
            count = sum(bool(is_background(own, float(value))) for value in rmse)
            assert count == own["background"]["count"]
    exact = view["layers"][1]["all_l2"]
    assert exact == pytest.approx(float(np.mean(_rmse(db, 1))))
    cells = view["summary"]["contingency"]
    assert all((cell["p"] is None) == (cell["q"] is None) for cell in cells)


def _rmse(db: Path, layer: int) -> list[float]:
    with open_index(str(db)) as index:
        return index.reader.layer_predictions(index.reader.fits()[0].id, layer)[f"layer {layer - 1}"].rmse.tolist()


def test_the_card_has_families_background_neurons_and_what_comes_next(cli: Cli, db: Path) -> None:
    said = run(cli, db).out
    assert said.startswith("default, looked at on ")
    for title in ("L2 of the neurons that properties select, weighting: total variance", "background neurons: ",
                  "the neuron that each family says most of", "--weighting paper"):  # fmt: skip
        assert title in said
    assert "weighting: paper" in run(cli, db, "--weighting", "paper").out
    assert max(map(len, said.splitlines())) <= 130


@pytest.mark.slow
def test_what_is_stored_is_not_computed_again_unless_settings_differ(cli: Cli, db: Path) -> None:
    run(cli, db)
    assert "sums of" not in run(cli, db).err
    assert "sums of" in run(cli, db, "--seeds", "21").err


class _StopsAfter:
    """Progress that is interrupted when a stage begins for the n-th time."""

    def __init__(self, stage: str, times: int) -> None:
        self.stage, self.times = stage, times

    def start(self, stage: str, total: int, unit: str) -> None:
        if stage.startswith(self.stage):
            self.times -= 1
            if not self.times:
                signal.raise_signal(signal.SIGINT)

    def advance(self, done: int) -> None: ...
    def note(self, line: str) -> None: ...


@pytest.mark.slow
def test_layers_that_were_done_are_kept_by_ctrl_c_and_the_rest_is_the_same(db: Path) -> None:
    whole = FunctionalOptions(db=str(db), ngrams=30, seeds=10, device="cpu")
    expected = functional(whole)
    stored = _stored(db)
    parts = FunctionalOptions(db=str(db), ngrams=30, seeds=10, device="cpu", memory=1, again=True)
    with pytest.raises(Interrupted, match="the layers that were done are stored"):
        functional(parts, _StopsAfter("sums of", 3))
    found = functional(whole, _StopsAfter("nothing", 1))
    assert _stored(db) == stored
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}


def _stored(db: Path) -> dict[str, object]:
    with open_index(str(db)) as index:
        found = index.reader.prediction_results(index.reader.fits()[0].id, KIND)
    return {key: value for key, value in found.items() if key.startswith("layer")}


def test_losses_are_those_of_the_model_at_the_token_that_predicts(db: Path) -> None:
    with open_index(str(db)) as index:
        model, texts = open_live(index, device="cpu").model, corpus_texts(index, [Split.TEST])
    flat = Flat.of(texts)
    found = token_losses(model, texts, flat, lambda _: None, batch_tokens=300)
    for place in (0, len(texts.texts) - 1):
        ids = torch.from_numpy(texts.texts[place].ids)[None]
        with torch.inference_mode():
            logits = model.live(input_ids=ids).logits[0].double()
        expected = torch.nn.functional.cross_entropy(logits[1:-1], ids[0, 2:], reduction="none").numpy()
        own = found[flat.starts[place] : flat.starts[place + 1]]
        np.testing.assert_allclose(own[:-1], expected, rtol=1e-4, atol=1e-4)
        assert np.isnan(own[-1])


def test_values_at_bos_are_those_that_the_index_has(db: Path) -> None:
    with open_index(str(db)) as index:
        model, texts = open_live(index, device="cpu").model, corpus_texts(index, [Split.TEST])
        flat = Flat.of(texts)
        table = model.token_bytes()

        def token_bytes(ids: Sequence[int]) -> list[bytes | None]:
            return [table[number] for number in ids]

        found = make_properties(flat, np.zeros(len(flat)), token_bytes, ngrams=2, seeds=2, bos=0)
        reading = Reading(model=model, texts=texts, flat=flat, properties=found, token_bytes=token_bytes)
        at_bos = values_at_bos(reading, [0, 2])
        for layer in (0, 2):
            for place in range(4):
                first = index.reader.neuron(NeuronId(layer, place)).first_values
                assert first is not None
                own = abs(next(value for quantity, value in first.items() if quantity.value == "post"))
                assert abs(at_bos[layer][place]) == pytest.approx(own, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--fit", "other"), "there is no complete fit other"),
        (("--weighting", "none"), "no such weighting"),
        (("--source", "layer 3"), "no such source of errors"),
        (("--text", " "), "--text is empty"),
        (("--outlier", "0"), "the ratio of an outlier must be above 0"),
        (("--memory", "much"), "is no amount of memory"),
    ],
)
def test_mistakes_are_told_in_one_line(cli: Cli, db: Path, given: tuple[str, ...], said: str) -> None:
    ran = cli("predict", "functional", "--db", db, "--device", "cpu", *given)
    assert ran.code != 0
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_a_fit_without_scores_or_of_windows_says_what_to_do(cli: Cli, db: Path) -> None:
    fit(FitOptions(db=str(db), name="bare"))
    ran = cli("predict", "functional", "--db", db, "--fit", "bare", "--device", "cpu")
    assert ran.code != 0
    assert "neuronagent predict scores --fit bare" in ran.err
    fit(FitOptions(db=str(db), name="windows", context=2, pairs="0:1", tokens=600))
    ran = cli("predict", "functional", "--db", db, "--fit", "windows", "--device", "cpu")
    assert ran.code != 0
    assert "reads windows of 2 tokens" in ran.err


@pytest.mark.slow
def test_another_text_is_kept_beside_the_own_one_and_a_short_one_has_reasons(
    cli: Cli, db: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text(" bab dod bab fif" * 9)
    ran = run(cli, db, "--text", str(other), "--json")
    assert "a property of few tokens says little" in ran.err
    own = ran.json["layers"][1]["families"][TOTAL_VARIANCE]
    assert own["hard"]["properties"] == 0
    assert own["hard"]["reason"] == "the text has no such property often enough"
    assert ran.json["summary"]["documents"] == 1
    single = tmp_path / "single.txt"
    single.write_text(" bab")
    assert run(cli, db, "--text", str(single)).code == 0
    with open_index(str(db)) as index:
        keys = index.reader.prediction_results(index.reader.fits()[0].id, KIND)
    assert layer_key(1, str(other)) in keys
