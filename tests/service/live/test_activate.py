"""Neurons on a text of one's own, against plain Hugging Face modules, the index, and what was planted."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from neuronagent.domain import COMBINATIONS, NeuronId, Quantity
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.explain.evidence import threshold
from neuronagent.service.live.activate import activate, top_neurons
from tests.known_index import world
from tests.planted import BOS, DIGITS
from tests.service.live.live_world import live

TEXT = "not 3 Anna cold, 5 river David not green!"
FLIPPED = "1.15"
"""The one neuron whose signs the index turns."""


def plain(text: str) -> tuple[list[int], Tensor, Tensor, Tensor]:
    """Token ids, and x_gate, x_in and post `[layers, tokens, N]` in the model's signs, by hooks of one's own."""
    ids = world().model.ids(text)
    seen: dict[str, Tensor] = {}

    def keep(name: str, place: int) -> object:
        def hook(_module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = inputs[0][0] if place == 0 else output[0]

        return hook

    layers = list(live().model.live.get_submodule("model.layers").children())
    handles = [
        layer.get_submodule(f"mlp.{name}").register_forward_hook(keep(f"{n}{name}", place))  # pyright: ignore
        for n, layer in enumerate(layers)
        for name, place in (("gate_proj", 1), ("up_proj", 1), ("down_proj", 0))
    ]
    with torch.no_grad():
        live().model.live(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    gate, into, post = (
        torch.stack([seen[f"{n}{name}"] for n in range(len(layers))]) for name in ("gate_proj", "up_proj", "down_proj")
    )
    return ids, gate, into, post


def test_values_are_those_of_plain_modules_in_the_signs_of_the_index() -> None:
    ids, gate, into, post = plain(TEXT)
    neurons = ["0.0", "0.3", "1.4", FLIPPED]
    found = activate(live(), TEXT, neurons=neurons)
    assert len(found.tokens) == len(ids)
    assert (found.tokens[0], found.first) == (BOS, 1)
    signs = {name: live().sign(NeuronId.parse(name)) for name in neurons}
    assert signs[FLIPPED] == -1
    for values in found.neurons:
        place = NeuronId.parse(values.neuron)
        own = (slice(None), place.index)
        np.testing.assert_allclose(values.x_gate, gate[place.layer][own], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(values.x_in, into[place.layer][own] * signs[values.neuron], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(values.post, post[place.layer][own] * signs[values.neuron], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.multiply(values.act, values.x_in), values.post, rtol=1e-6)


def test_combinations_are_those_that_were_planted_and_none_at_an_exact_zero() -> None:
    found = activate(live(), TEXT, neurons=["0.0", "0.1", "0.2", "0.4", "1.13"])
    for values in found.neurons:
        truth = world().model.truth[NeuronId.parse(values.neuron)]
        for token, name in list(zip(found.tokens, values.combinations, strict=True))[1:]:
            expected = truth.combinations.get(token)
            assert name == (expected.value if expected else None), (values.neuron, token)
    zeros = world().model.truth[NeuronId(1, 13)].zeros
    assert zeros & set(DIGITS)
    assert None in found.neurons[-1].combinations


def test_values_at_stored_examples_are_those_that_the_index_stores() -> None:
    index, compared = live().index, 0
    for name in ("0.0", "0.3", FLIPPED):
        neuron = index.neuron(name)
        for c, own in neuron.record.combinations.items():
            for entry in own.top[Quantity.POST][:3]:
                text_id, position = index.reader.locate(entry.token_number)
                ids = index.reader.text(text_id).token_ids[1 : position + 1]
                found = activate(live(), index.decode(ids).removeprefix(" "), neurons=[name])
                assert len(found.tokens) == position + 1
                assert found.neurons[0].post[-1] == pytest.approx(entry.value, rel=1e-5)
                assert found.neurons[0].combinations[-1] == c.value
                compared += 1
    assert compared > 20


def test_frequency_and_tau_are_those_of_the_index() -> None:
    record = live().index.neuron("0.2").record
    values = activate(live(), TEXT, neurons=["L0.N2"]).neurons[0]
    assert (values.neuron, values.io_class) == ("0.2", str(record.io_class))
    for c in COMBINATIONS:
        assert values.frequency[c.value] == pytest.approx(record.frequency(c))
        assert values.tau[c.value] == threshold(record.combinations[c])


@pytest.mark.parametrize("combination", [None, "gate+_in-", "--"])
@pytest.mark.parametrize("layers", [None, [1], [0, 1]])
def test_the_strongest_neurons_of_a_token_are_found_in_order(combination: str | None, layers: list[int] | None) -> None:
    position = 4
    found = top_neurons(live(), TEXT, position=position, combination=combination, layers=layers, limit=7)
    expected: list[tuple[float, int, int]] = []
    ranked = 0
    for layer, index in product(range(2), range(16)):
        name = f"{layer}.{index}"
        values = activate(live(), TEXT, neurons=[name]).neurons[0]
        c = values.combinations[position]
        if layer in (layers or [0, 1]) and (
            combination is None or c == {"--": "gate-_in-"}.get(combination, combination)
        ):
            ranked += 1
            if values.post[position]:
                expected.append((-abs(values.post[position]), layer, index))
    assert found.total == ranked
    assert [row.neuron for row in found.neurons] == [f"{layer}.{index}" for _, layer, index in sorted(expected)[:7]]
    assert (found.by, found.position, found.tokens[-1]) == ("post", position, " cold")
    for row in found.neurons:
        record = live().index.neuron(row.neuron).record
        c = next((c for c in COMBINATIONS if c.value == row.combination), None)
        assert c is not None
        assert row.written == pytest.approx(abs(row.post) * record.geometry.norm_out)
        assert row.frequency == pytest.approx(record.frequency(c))
        tau = threshold(record.combinations[c])
        assert row.strong == (None if tau is None else abs(row.post) >= tau)


def test_the_last_token_is_the_default_and_minus_one() -> None:
    last = top_neurons(live(), TEXT)
    assert last == top_neurons(live(), TEXT, position=-1) == top_neurons(live(), TEXT, position=len(last.tokens) - 1)
    assert last.tokens[-1] == "!"


def test_a_token_does_not_see_what_follows() -> None:
    whole = top_neurons(live(), TEXT, position=3)
    assert [r.neuron for r in whole.neurons] == [r.neuron for r in top_neurons(live(), "not 3 Anna").neurons]


def test_bos_is_shown_and_never_ranked() -> None:
    with pytest.raises(UsageError, match="position 0 is BOS, at which nothing is ranked; allowed: 1–11"):
        top_neurons(live(), TEXT, position=0)
    with pytest.raises(UsageError, match="position 12 is not in the text"):
        top_neurons(live(), TEXT, position=12)
    with pytest.raises(UsageError, match="position -13 is not in the text"):
        top_neurons(live(), TEXT, position=-13)


def test_what_cannot_be_asked_is_said_in_one_line() -> None:
    for text, said in (
        ("", "the text is empty"),
        ("a " * 400, r"40\d tokens; allowed: 256"),
        ("x" * 10**7, "characters"),
    ):
        with pytest.raises(UsageError, match=said):
            activate(live(), text, neurons=["0.0"])
    with pytest.raises(UsageError, match="0 neurons are asked for; allowed: 1–64"):
        activate(live(), TEXT, neurons=[])
    with pytest.raises(NotFoundError, match=r"neuron 7\.1 is not in this index"):
        activate(live(), TEXT, neurons=["7.1"])
    with pytest.raises(UsageError, match="there is no layer 2; layers: 0–1"):
        top_neurons(live(), TEXT, layers=[0, 2])
    with pytest.raises(UsageError, match="limit is 0"):
        top_neurons(live(), TEXT, limit=0)
    with pytest.raises(UsageError, match="name a target"):
        top_neurons(live(), TEXT, by="effect")
    with pytest.raises(UsageError, match="leave target out"):
        top_neurons(live(), TEXT, by="post", target=" 3")


def test_a_neuron_named_twice_is_one() -> None:
    assert [v.neuron for v in activate(live(), TEXT, neurons=["0.1", "L0N1", "0.2"]).neurons] == ["0.1", "0.2"]
