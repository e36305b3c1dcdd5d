"""Steering on the planted model: what is set, where, with which sign, and what is refused."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.explain.quantiles import signed_quantile
from neuronagent.service.live.steer import QUANTILE, Steering, steer
from tests.known_index import known, world
from tests.planted import PROMOTED, TOKENS, Array
from tests.service.live.reference import as_it_is, hooked_logits, live, log_softmax

TEXT = "old bird 3 see Anna 5"
IDS = [0, *(TOKENS.index(f" {word}") for word in TEXT.split())]
PLUS_PLUS, PLUS_MINUS, MINUS_PLUS, MINUS_MINUS = SignCombination


Where = Callable[[float, float], bool]


def everywhere(_gate: float, _into: float) -> bool:
    return True


def in_plus_plus(gate: float, into: float) -> bool:
    return gate > 0 and into > 0


def shifts(value: float, neuron: NeuronId, where: Where = everywhere) -> list[float]:
    """Changes of the log-probabilities of the token after `TEXT`, by hooks of the test's own; `value` in the model's
    signs."""

    def change(layer: int, post: Array, gate: Array, into: Array) -> Array:
        written = post.copy()
        for position in range(1, len(post)):
            if layer == neuron.layer and where(gate[position, neuron.index], into[position, neuron.index]):
                written[position, neuron.index] = value
        return written

    rows = (hooked_logits(IDS, each)[-1] for each in (as_it_is, change))
    before, after = (log_softmax(row) for row in rows)
    return [b - a for a, b in zip(before, after, strict=True)]


def check(found: Steering, wanted: list[float]) -> None:
    promoted = sorted(wanted, reverse=True)[: len(found.steered.promoted)]
    assert [each.shift for each in found.steered.promoted] == pytest.approx(promoted, abs=2e-5)
    assert [each.shift for each in found.steered.suppressed] == pytest.approx(
        sorted(wanted)[: len(found.steered.suppressed)], abs=2e-5
    )
    for each in (*found.steered.promoted, *found.steered.suppressed):
        assert each.shift == pytest.approx(wanted[TOKENS.index(each.token)], abs=2e-5)
        assert each.after == pytest.approx(each.before * math.exp(each.shift), rel=1e-4)


def test_setting_post_promotes_what_the_neuron_writes_and_a_negative_value_suppresses_it() -> None:
    up, down = (steer(live(), TEXT, ["0.0"], value=value) for value in (6.0, -6.0))
    assert {each.token for each in up.steered.promoted[:3]} == set(PROMOTED[0])
    assert {each.token for each in down.steered.suppressed[:3]} == set(PROMOTED[0])
    check(up, shifts(6.0, NeuronId(0, 0)))
    assert set(up.steered.tokens) <= set(PROMOTED[0])
    assert up.steered.values == (6.0,)
    assert up.steered.tokens_changed == up.steered.tokens_read == len(IDS) - 1 + len(up.steered.tokens) - 1


def test_values_have_the_signs_of_the_index() -> None:
    flipped = NeuronId(1, 15)
    assert live().sign(flipped) == -1
    check(steer(live(), TEXT, [flipped], value=5.0), shifts(-5.0, flipped))


def test_without_a_value_a_neuron_writes_what_a_strong_token_of_the_combination_does() -> None:
    for combination in (PLUS_PLUS, PLUS_MINUS, MINUS_PLUS):
        found = steer(live(), TEXT, ["0.0"], combination=combination, new_tokens=1)
        record = live().index.neuron("0.0").record.combinations[combination]
        assert found.steered.values == (signed_quantile(record, QUANTILE),)
        assert np.sign(found.steered.values[0]) == combination.write_sign
        assert found.steered.combinations == (combination.value,)
        truth = known(NeuronId(0, 0))
        own = np.abs(truth.post[truth.combination == combination.position])
        assert abs(found.steered.values[0]) == pytest.approx(np.quantile(own, QUANTILE), rel=0.4)
    most = steer(live(), TEXT, ["0.0"], new_tokens=1)
    record = live().index.neuron("0.0").record
    assert most.steered.combinations == (max(record.combinations, key=record.mass_share).value,)


def test_a_change_within_a_combination_is_made_only_there() -> None:
    found = steer(live(), TEXT, ["0.0"], value=6.0, combination=PLUS_PLUS, within=True, new_tokens=1)
    assert (found.within, found.steered.tokens_changed, found.steered.tokens_read) == (True, 2, 6)
    check(found, shifts(6.0, NeuronId(0, 0), in_plus_plus))
    elsewhere = steer(live(), "old bird", ["0.1"], value=6.0, combination=PLUS_PLUS, within=True, new_tokens=1)
    assert (elsewhere.steered.tokens_changed, elsewhere.same, elsewhere.steered.kl) == (0, True, 0.0)
    assert elsewhere.steered.promoted == ()
    scaled = steer(live(), TEXT, ["0.0"], mode="scale", value=3.0, combination=PLUS_PLUS, new_tokens=1)
    assert (scaled.within, scaled.steered.tokens_changed) == (True, 2)


def test_scaling_by_one_and_adding_nothing_change_nothing() -> None:
    for mode, value in (("scale", 1.0), ("add", 0.0)):
        found = steer(live(), TEXT, ["0.0", "1.9"], mode=mode, value=value)  # pyright: ignore[reportArgumentType]
        assert found.same
        assert found.steered.continuation == found.base
        assert found.steered.kl == 0.0


def test_adding_and_scaling_act_on_what_was_there() -> None:
    gate, into = (values[0, -1, 0] for values in world().model.pre_activations(IDS))
    post = gate / (1 + np.exp(-gate)) * into

    def at_the_end(x_gate: float, _into: float) -> bool:
        return abs(x_gate - gate) < 1e-4

    wanted = shifts(post + 2.0, NeuronId(0, 0), at_the_end)
    added = steer(live(), TEXT, ["0.0"], mode="add", value=2.0, combination=PLUS_PLUS, new_tokens=1)
    check(added, wanted)
    assert added.mode == "add"
    scaled = steer(live(), TEXT, ["0.0"], mode="scale", value=(post + 2.0) / post, combination=PLUS_PLUS, new_tokens=1)
    check(scaled, wanted)


def test_the_control_is_another_neuron_changed_likewise() -> None:
    found = steer(live(), TEXT, ["0.0"], value=6.0, seed=3)
    assert found.control is not None
    assert found.control.neurons != ("0.0",)
    assert found.control.neurons[0].startswith("0.")
    assert found.control.values == (6.0,)
    own = steer(live(), TEXT, ["0.0"], seed=3).control
    assert own is not None
    assert own.combinations[0] is not None
    record = live().index.neuron(own.neurons[0]).record
    assert own.values == (signed_quantile(record.combinations[SignCombination(own.combinations[0])], QUANTILE),)
    assert found.matching.draws == 1


def test_drawn_text_follows_the_seed_and_the_process_keeps_its_random_numbers() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, same, other = (steer(live(), TEXT, ["0.0"], temperature=3.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one == same
    assert one.base_tokens != other.base_tokens
    assert len(one.base_tokens) == 24
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("nan is no value", {"value": math.nan}),
        ("inf is no value", {"value": math.inf}),
        ("too much to steer 0.0 by; allowed: up to ±", {"value": 1e30}),
        ("too much to steer 0.0 by; allowed: up to ±", {"value": -1e30, "mode": "add"}),
        ("up to ±100", {"value": 101.0, "mode": "scale"}),
        ("`add` needs a value", {"mode": "add"}),
        ("no way to steer", {"mode": "clamp", "value": 1.0}),
        ("0 new tokens", {"new_tokens": 0}),
        ("allowed: 1 to 256", {"new_tokens": 10**9}),
        ("nan is no temperature", {"temperature": math.nan}),
        ("-1 is no temperature", {"temperature": -1}),
        ("within a combination needs one", {"within": True}),
        ("not a sign combination", {"combination": "gate"}),
    ],
)
def test_what_cannot_be_steered_by_is_refused_with_what_is_allowed(line: str, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=line.replace("±", ".")):
        steer(live(), TEXT, ["0.0"], **more)


def test_texts_and_neurons_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="allowed: 232 tokens"):
        steer(live(), "bird " * 240, ["0.0"])
    with pytest.raises(NotFoundError, match="layers: 0–1"):
        steer(live(), TEXT, ["9.0"])
    with pytest.raises(UsageError, match=r"at no token of the corpus in gate\+_in-"):
        steer(live(), TEXT, ["0.1"], combination=PLUS_MINUS)
