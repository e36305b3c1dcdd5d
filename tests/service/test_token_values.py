"""Chosen values are those of the whole pass, however the texts are batched; what cannot be used is not passed on."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from neuronagent.domain import NeuronId, Text
from neuronagent.errors import ModelError
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.service.token_values import Asked, Values, values_at
from tests.known_index import known, world
from tests.models.tiny_models import SPECS, save_tiny

NEURONS = [NeuronId(1, 3), NeuronId(0, 0), NeuronId(0, 15)]


@pytest.fixture(scope="module")
def model() -> GatedModel:
    return load_model(str(world().model.folder))


def asked(neuron: NeuronId, every: int = 7) -> Asked:
    return Asked(neuron=neuron, sign=world().model.truth[neuron].sign, numbers=known(neuron).number[3:2000:every])


def texts_of(*several: Asked) -> dict[int, Text]:
    numbers = {int(number) for each in several for number in each.numbers}
    return {
        text.text_id: text
        for text in world().texts
        if not numbers.isdisjoint(range(text.first_token, text.first_token + len(text.token_ids)))
    }


def run(model: GatedModel, several: list[Asked], batch_tokens: int = 500) -> list[Values]:
    found = values_at(model, texts_of(*several), several, batch_tokens=batch_tokens)
    assert found is not None
    return found


@pytest.mark.parametrize("batch_tokens", [1, 60, 333, 10_000])
def test_batches_do_not_change_values(model: GatedModel, batch_tokens: int) -> None:
    several = [asked(neuron) for neuron in NEURONS]
    for each, values in zip(several, run(model, several, batch_tokens), strict=True):
        truth = known(each.neuron)
        post = truth.post[np.searchsorted(truth.number, each.numbers)]
        assert values.act * values.x_in == pytest.approx(post, rel=1e-4, abs=1e-5)
        assert values.act == pytest.approx(values.x_gate / (1 + np.exp(-values.x_gate.astype(float))), rel=1e-5)


def test_one_token_of_one_neuron_is_enough(model: GatedModel) -> None:
    """Of the last layer, at the last position of the longest text."""
    text = max(world().texts, key=lambda t: len(t.token_ids))
    only = Asked(neuron=NeuronId(1, 0), sign=-1, numbers=np.array([text.first_token + len(text.token_ids) - 1]))
    (found,) = run(model, [only])
    gates, inputs = world().model.pre_activations(list(text.token_ids))
    assert found.x_gate[0] == pytest.approx(gates[1, -1, 0], rel=1e-4)
    assert found.x_in[0] == pytest.approx(-inputs[1, -1, 0], rel=1e-4)


def test_nothing_asked_is_nothing_run(model: GatedModel) -> None:
    nothing = Asked(neuron=NeuronId(0, 0), sign=1, numbers=np.empty(0, np.int64))
    shares: list[float] = []
    found = values_at(model, {}, [nothing, nothing], batch_tokens=100, told=shares.append)
    assert found is not None
    assert [len(values.act) for values in found] == [0, 0]
    assert shares == []


def test_texts_are_run_no_further_than_something_is_asked(model: GatedModel) -> None:
    text = world().texts[0]
    wrong = Text(
        text_id=0, document="", split=text.split, first_token=0, token_ids=(*text.token_ids[:5], *([10**9] * 5000))
    )  # ids that no model has, and more of them than this one reads
    first = Asked(neuron=NeuronId(0, 1), sign=1, numbers=np.array([1, 4]))
    found = values_at(model, {0: wrong}, [first], batch_tokens=100)
    assert found is not None
    assert found[0].act == pytest.approx(run(model, [first])[0].act, rel=1e-5)


def test_it_stops_between_two_batches(model: GatedModel) -> None:
    stop, shares = threading.Event(), list[float]()

    def told(share: float) -> None:
        shares.append(share)
        stop.set()

    several = [asked(neuron) for neuron in NEURONS]
    assert values_at(model, texts_of(*several), several, batch_tokens=200, stop=stop, told=told) is None
    assert len(shares) == 1
    assert 0 < shares[0] < 1


@pytest.mark.parametrize("family", ["phi3", "gemma2", "qwen3"])
def test_other_families_give_their_own_values(tmp_path: Path, family: str) -> None:
    """Fused projections, GELU, more layers: against the whole tensors of one text after the other."""
    model = load_model(str(save_tiny(SPECS[family], tmp_path / family)))
    rng = np.random.default_rng(0)
    texts: dict[int, Text] = {}
    for number in range(4):
        ids = tuple(rng.integers(3, 40, 6 + 3 * number).tolist())
        texts[number] = Text(
            text_id=number, document="", split=world().texts[0].split, first_token=100 * number, token_ids=ids
        )
    last = model.n_layers - 1
    several = [
        Asked(neuron=NeuronId(layer, index), sign=sign, numbers=np.array([2, 104, 105, 211, 301]))
        for layer, index, sign in ((last, 1, -1), (0, 5, 1))
    ]
    found = values_at(model, texts, several, batch_tokens=30)
    assert found is not None
    for each, values in zip(several, found, strict=True):
        for place, number in enumerate(each.numbers.tolist()):
            seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
            model.record(
                torch.tensor([texts[number // 100].token_ids]),
                lambda layer, gate, into, seen=seen: seen.update({layer: (gate.clone(), into.clone())}),
            )
            gate, into = (t[0, number % 100, each.neuron.index] for t in seen[each.neuron.layer])
            assert values.x_gate[place] == pytest.approx(float(gate), rel=1e-4, abs=1e-6)
            assert values.x_in[place] == pytest.approx(each.sign * float(into), rel=1e-4, abs=1e-6)
            assert values.act[place] == pytest.approx(float(model.activate(gate)), rel=1e-4, abs=1e-6)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = load_model(str(save_tiny(SPECS["llama"], tmp_path / "llama")))
    with torch.no_grad():
        parameters = dict(model.live.named_parameters())
        parameters["model.layers.0.mlp.gate_proj.weight"][2] = float("inf")
    text = Text(text_id=0, document="", split=world().texts[0].split, first_token=0, token_ids=(3, 4, 5))
    with pytest.raises(ModelError, match="not finite"):
        values_at(model, {0: text}, [Asked(neuron=NeuronId(0, 2), sign=1, numbers=np.array([1]))], batch_tokens=9)
