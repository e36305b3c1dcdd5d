"""Direct effects on a token's logit, against the planted model's weights in float64."""

from __future__ import annotations

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId
from neuronagent.errors import UsageError
from neuronagent.service.live.activate import top_neurons
from neuronagent.service.live.attribute import Attribution, attribute
from tests.known_index import world
from tests.planted import LAYERS, NEURONS, TOKENS
from tests.service.live.live_world import live

TEXT = "not 3 Anna cold, 5"
TARGET = " river"


@pytest.fixture(scope="module")
def found() -> Attribution:
    return attribute(live(), TEXT, TARGET, limit=LAYERS * NEURONS)


def closed_form() -> tuple[np.ndarray, float, float]:
    """Effects `[layers, N]`, the centred logit and the embedding's part, from the planted weights alone."""
    model = world().model
    ids = model.ids(TEXT)
    gate, into = model.pre_activations(ids)
    post = (gate / (1 + np.exp(-gate)) * into)[:, -1]
    residual = model.embedding[ids[-1]].copy()
    hidden = model.embedding[ids] / np.sqrt((model.embedding[ids] ** 2).mean(axis=1, keepdims=True) + 1e-6)
    residual[7] += 8.0 * hidden[:, 5].mean()
    residual += np.einsum("ln,lnd->d", post, model.out)
    scale = 1 / np.sqrt((residual**2).mean() + 1e-6)
    towards = (model.unembedding[TOKENS.index(TARGET)] - model.unembedding.mean(axis=0)) * scale
    return post[:, :, None] * model.out @ towards, float(residual @ towards), float(model.embedding[ids[-1]] @ towards)


def test_effects_are_post_times_what_w_out_does_to_the_centred_logit(found: Attribution) -> None:
    effects, logit, embedding = closed_form()
    assert found.centred_logit == pytest.approx(logit, abs=1e-4)
    assert found.from_embedding == pytest.approx(embedding, abs=1e-4)
    for row in found.neurons:
        neuron = NeuronId.parse(row.neuron)
        assert row.effect == pytest.approx(float(effects[neuron.layer, neuron.index]), rel=1e-3, abs=1e-5)
    assert found.magnitude == pytest.approx(float(np.abs(effects).sum()), rel=1e-4)


def test_the_parts_add_up_and_what_is_left_over_is_rounding(found: Attribution) -> None:
    total = found.from_embedding + found.from_attention + found.from_neurons + found.from_bias + found.residual
    assert total == pytest.approx(found.centred_logit, abs=1e-6)
    assert abs(found.residual) < 1e-4
    assert found.from_neurons == pytest.approx(sum(row.neurons for row in found.by_layer), abs=1e-5)
    assert found.from_neurons == pytest.approx(sum(row.effect for row in found.by_combination), abs=1e-5)
    assert found.magnitude == pytest.approx(sum(row.magnitude for row in found.by_combination), rel=1e-5)
    assert sum(row.neurons for row in found.by_combination) == LAYERS * NEURONS
    assert sum(row.share or 0 for row in found.neurons) == pytest.approx(1, abs=1e-5)


def test_rows_are_ranked_by_size_and_by_sign(found: Attribution) -> None:
    sizes = [abs(row.effect or 0) for row in found.neurons]
    assert sizes == sorted(sizes, reverse=True)
    ups, downs = ([row.effect or 0 for row in rows] for rows in (found.promoting, found.suppressing))
    assert ups == sorted(ups, reverse=True)
    assert downs == sorted(downs)
    assert min(ups) > 0 > max(downs)
    assert len(ups) + len(downs) == len(found.neurons)


def test_the_planted_neuron_that_promotes_the_target_stands_out_where_it_writes() -> None:
    """0.1 is in gate+_in+ at `not` and promotes ` river`; before it `not` must be the last token."""
    row = next(row for row in attribute(live(), "old not", TARGET).promoting if row.neuron == "0.1")
    assert row.combination == "gate+_in+"
    assert row.target_rank is not None
    assert row.target_rank <= 3
    assert row.post > 0


def test_each_row_has_the_combination_and_sign_of_the_index(found: Attribution) -> None:
    flipped = next(row for row in found.neurons if row.neuron == "1.15")
    assert live().sign(NeuronId(1, 15)) == -1
    same = next(row for row in top_neurons(live(), TEXT, limit=32).neurons if row.neuron == "1.15")
    assert (flipped.combination, flipped.frequency, flipped.strong) == (same.combination, same.frequency, same.strong)
    assert flipped.post == pytest.approx(same.post, rel=1e-5)


def test_only_some_layers_and_one_combination_are_ranked_and_totals_stay(found: Attribution) -> None:
    some = attribute(live(), TEXT, TARGET, layers=[1], combination="+-", limit=50)
    expected = [r.neuron for r in found.neurons if r.neuron.startswith("1.") and r.combination == "gate+_in-"]
    assert [row.neuron for row in some.neurons] == expected
    assert some.by_combination == found.by_combination
    assert some.magnitude == found.magnitude
    assert some.ranked <= NEURONS


def test_logit_rank_and_probability_are_those_of_the_models_next_token(found: Attribution) -> None:
    import torch

    ids = world().model.ids(TEXT)
    with torch.no_grad():
        logits = live().model.live(input_ids=torch.tensor([ids])).logits[0, -1].double()
    target = TOKENS.index(TARGET)
    assert found.target_id == target
    assert found.logit == pytest.approx(float(logits[target]), abs=1e-5)
    assert found.probability == pytest.approx(float(logits.softmax(0)[target]), rel=1e-4)
    assert found.rank == 1 + int((logits > logits[target]).sum())
    assert found.predicted == TOKENS[int(logits.argmax())]


def test_an_earlier_position_is_what_the_text_up_to_it_gives() -> None:
    early, alone = attribute(live(), TEXT, TARGET, position=3), attribute(live(), "not 3 Anna", TARGET)
    assert early.tokens == alone.tokens
    assert early.centred_logit == pytest.approx(alone.centred_logit, abs=1e-6)


def test_ranking_by_effect_is_the_same_ranking() -> None:
    ranked = top_neurons(live(), TEXT, target=TARGET, limit=5)
    assert (ranked.by, ranked.target) == ("effect", TARGET)
    assert ranked.neurons == attribute(live(), TEXT, TARGET, limit=5).neurons


@pytest.mark.parametrize("target", ["", " river water", "xyzzy"])
def test_a_target_that_is_no_single_token_is_refused(target: str) -> None:
    if target == "xyzzy":  # the planted tokenizer reads it as <unk>, which is a token
        assert attribute(live(), TEXT, target).target == "<unk>"
        return
    with pytest.raises(UsageError, match="no single token"):
        attribute(live(), TEXT, target)


def test_every_combination_has_a_total(found: Attribution) -> None:
    assert [row.combination for row in found.by_combination][:4] == [c.value for c in COMBINATIONS]
