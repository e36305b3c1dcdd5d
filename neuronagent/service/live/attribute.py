"""Which neurons raise or lower the logit of a token directly, at one position of a text (`models.direct_effect`).

Effects are on the logit less the mean logit of the vocabulary, before a soft-cap, with the norms' scales frozen. They
add up: embedding, attention, biases and neurons give the logit, and `residual` is what is missing. An effect by way of
a later layer is none of the neuron that began it, so that a small direct effect does not make a neuron unimportant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId
from neuronagent.service.live.token_neurons import (
    Floats,
    TokenNeuron,
    TokenValues,
    all_signs,
    check_finite,
    checked_limit,
    checked_position,
    eligible,
    strongest,
)

if TYPE_CHECKING:
    from neuronagent.models.direct_effect import DirectEffects
    from neuronagent.service.live.model import LiveModel
    from neuronagent.store.facts import NeuronFacts


@dataclass(frozen=True, kw_only=True)
class LayerTotal:
    """What a layer writes towards the target: all its neurons, its attention, and the bias of its MLP."""

    layer: int
    neurons: float
    attention: float
    bias: float


@dataclass(frozen=True, kw_only=True)
class CombinationTotal:
    """All neurons that are in one combination at this token (None: at an exact zero): how many, the sum of their
    effects and of the effects' magnitudes."""

    combination: str | None
    neurons: int
    effect: float
    magnitude: float


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Direct effects on the logit of `target` as the token after `position`; `tokens`: the text as far as it was read.

    `logit` is the model's own; `centred_logit` that less the mean logit, before a soft-cap: embedding + attention +
    neurons + bias + residual. `rank` (1: most likely), `probability` and `predicted` are of the model's next token.
    `neurons` are by |effect|, `promoting` and `suppressing` by signed effect, of the `ranked` neurons that layers and
    combination leave; totals and shares are of all.
    """

    tokens: tuple[str, ...]
    first: int
    position: int
    target: str
    target_id: int
    logit: float
    centred_logit: float
    rank: int
    probability: float
    predicted: str
    predicted_probability: float
    neurons: tuple[TokenNeuron, ...]
    promoting: tuple[TokenNeuron, ...]
    suppressing: tuple[TokenNeuron, ...]
    ranked: int
    magnitude: float
    by_layer: tuple[LayerTotal, ...]
    by_combination: tuple[CombinationTotal, ...]
    from_embedding: float
    from_attention: float
    from_neurons: float
    from_bias: float
    residual: float
    dtype: str


def attribute(
    live: LiveModel,
    text: str,
    target: str,
    *,
    position: int | None = None,
    limit: int = 20,
    layers: Sequence[int] | None = None,
    combination: str | None = None,
) -> Attribution:
    """The neurons with the largest direct effect on the logit of the token `target` after `position` (default: the
    last token of `text`).

    Raises:
        UsageError: a target that is no single token, a position or a layer that does not exist.
        ModelError: values that are not finite.
    """
    import torch

    from neuronagent.models.direct_effect import direct_effects, target_ranks

    checked_limit(limit)
    read, target_id = live.text(text), live.token_id(target)
    place = checked_position(read, position)
    effects = direct_effects(live.model, torch.tensor([read.ids[: place + 1]]), target_id)
    signs, found, logits = all_signs(live), effects.neurons.numpy(), effects.logits.double().numpy()
    values = TokenValues(effects.x_gate.numpy(), effects.x_in.numpy() * signs, effects.post.numpy() * signs)
    check_finite(live, values.x_gate, values.x_in, values.post, found, logits)
    among = eligible(live, values, layers, combination)
    magnitude = float(np.abs(found).sum(dtype=np.float64))
    lists = (
        strongest(np.abs(found), among & (found != 0), limit),
        strongest(found, among & (found > 0), limit),
        strongest(-found, among & (found < 0), limit),
    )
    shown = list(dict.fromkeys(neuron for listed in lists for neuron in listed))
    ranks = target_ranks(live.model, effects, [(neuron.layer, neuron.index) for neuron in shown])
    facts = live.index.reader.facts(shown)
    rows = {
        neuron: _row(values, neuron, facts[neuron], float(found[neuron.layer, neuron.index]), magnitude, rank)
        for neuron, rank in zip(shown, ranks, strict=True)
    }
    neurons, promoting, suppressing = (tuple(rows[neuron] for neuron in listed) for listed in lists)
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    best = int(logits.argmax())
    return Attribution(
        tokens=read.tokens[: place + 1],
        first=read.first,
        position=place,
        target=live.tokens([target_id])[0],
        target_id=target_id,
        logit=float(logits[target_id]),
        centred_logit=effects.centred_logit,
        rank=1 + int((logits > logits[target_id]).sum()),
        probability=float(shares[target_id]),
        predicted=live.tokens([best])[0],
        predicted_probability=float(shares[best]),
        neurons=neurons,
        promoting=promoting,
        suppressing=suppressing,
        ranked=int(among.sum()),
        magnitude=magnitude,
        by_layer=_by_layer(effects),
        by_combination=_by_combination(values, found),
        from_embedding=effects.embedding,
        from_attention=float(effects.attention.double().sum()),
        from_neurons=float(effects.neurons.double().sum()),
        from_bias=float(effects.mlp_bias.double().sum()) + effects.head_bias,
        residual=effects.residual,
        dtype=live.model.dtype,
    )


def _row(
    values: TokenValues, neuron: NeuronId, facts: NeuronFacts, effect: float, magnitude: float, rank: int
) -> TokenNeuron:
    return values.neuron(neuron, facts, effect=effect, share=abs(effect) / magnitude, target_rank=rank)


def _by_layer(effects: DirectEffects) -> tuple[LayerTotal, ...]:
    neurons = effects.neurons.double().sum(dim=1).tolist()
    rows = zip(neurons, effects.attention.tolist(), effects.mlp_bias.tolist(), strict=True)
    return tuple(LayerTotal(layer=n, neurons=a, attention=b, bias=c) for n, (a, b, c) in enumerate(rows))


def _by_combination(values: TokenValues, found: Floats) -> tuple[CombinationTotal, ...]:
    places, effects = values.combinations, found.astype(np.float64)

    def total(name: str | None, held: NDArray[np.bool_]) -> CombinationTotal:
        own = effects[held]
        return CombinationTotal(
            combination=name, neurons=len(own), effect=float(own.sum()), magnitude=float(np.abs(own).sum())
        )

    rows = [total(c.value, places == c.position) for c in COMBINATIONS]
    return (*rows, total(None, places == -1)) if (places == -1).any() else tuple(rows)
