"""What neurons do on a text of the user's: values at each token, and the strongest neurons of one token.

Numbers are taken as the recorder takes them (`index.activation`): float32, x_in and post in the index's signs, so that
they compare with stored examples. Position 0 is shown where it is BOS and never ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from neuronagent.domain import COMBINATIONS, NeuronId, Split, Text
from neuronagent.errors import UsageError
from neuronagent.service.live.attribute import attribute
from neuronagent.service.live.token_neurons import (
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
    import torch

    from neuronagent.service.live.model import LiveModel, LiveText
    from neuronagent.service.token_values import Values
    from neuronagent.store.facts import NeuronFacts

MAX_NEURONS = 64


@dataclass(frozen=True, kw_only=True)
class NeuronValues:
    """One neuron at each token of a text, `[tokens]`; `combinations` has None at an exact zero.

    By combination, of the corpus: `frequency`, the share of its tokens, and `tau`, from which |post| is
    strong; both empty without a corpus.
    """

    neuron: str
    io_class: str
    x_gate: tuple[float, ...]
    x_in: tuple[float, ...]
    act: tuple[float, ...]
    post: tuple[float, ...]
    combinations: tuple[str | None, ...]
    frequency: Mapping[str, float]
    tau: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Chosen neurons on a text; `first` is 1 where token 0 is BOS, whose values are shown and count nowhere."""

    tokens: tuple[str, ...]
    first: int
    neurons: tuple[NeuronValues, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class TopNeurons:
    """The strongest neurons of the token at `position`, by |post| or by |effect| on `target`; `total` of them were
    ranked. `tokens`: the text as far as the model read it."""

    tokens: tuple[str, ...]
    first: int
    position: int
    by: Literal["post", "effect"]
    target: str | None
    neurons: tuple[TokenNeuron, ...]
    total: int
    dtype: str


def activate(live: LiveModel, text: str, *, neurons: Sequence[str]) -> Activations:
    """Gate, in, activation, post and sign combination of `neurons` at each token of `text`.

    Raises:
        UsageError: no neuron or too many, an empty text or one that is too long.
        NotFoundError: no such neuron.
        ModelError: values that are not finite.
    """
    from neuronagent.service.token_values import Asked, values_at

    if not 1 <= len(neurons) <= MAX_NEURONS:
        raise UsageError(f"{len(neurons)} neurons are asked for", remedy=f"allowed: 1–{MAX_NEURONS}")
    chosen = list(dict.fromkeys(live.neuron_id(neuron) for neuron in neurons))
    read = live.text(text)
    numbers = np.arange(len(read.ids), dtype=np.int64)
    as_corpus = Text(text_id=0, document="", split=Split.EXPLAIN, first_token=0, token_ids=read.ids)
    asked = [Asked(neuron=neuron, sign=live.sign(neuron), numbers=numbers) for neuron in chosen]
    facts = live.index.reader.facts(chosen)
    found = values_at(live.model, {0: as_corpus}, asked, batch_tokens=len(read.ids))
    assert found is not None
    return Activations(
        tokens=read.tokens,
        first=read.first,
        neurons=tuple(
            _neuron_values(neuron, facts[neuron], values) for neuron, values in zip(chosen, found, strict=True)
        ),
        dtype=live.model.dtype,
    )


def top_neurons(
    live: LiveModel,
    text: str,
    *,
    position: int | None = None,
    target: str | None = None,
    by: Literal["post", "effect"] | None = None,
    combination: str | None = None,
    layers: Sequence[int] | None = None,
    limit: int = 20,
) -> TopNeurons:
    """The neurons of one token (default: the last) with the largest |post|, or with the largest direct effect on the
    logit of `target` as the next token; `by` is `effect` where a target is given, else `post`.

    |post| does not say how much is written, since norms of w_out differ: `written` of each row does.

    Raises:
        UsageError: what cannot be understood, or a target that is no token.
        ModelError: values that are not finite.
    """
    if by == "effect" and target is None:
        raise UsageError("an effect is one on a token", remedy="name a target, such as ' again'")
    if by == "post" and target is not None:
        raise UsageError("by post no target is looked at", remedy="leave target out, or rank by effect")
    if target is not None:
        found = attribute(live, text, target, position=position, limit=limit, layers=layers, combination=combination)
        return TopNeurons(
            tokens=found.tokens, first=found.first, position=found.position, by="effect", target=found.target,
            neurons=found.neurons, total=found.ranked, dtype=found.dtype,
        )  # fmt: skip
    checked_limit(limit)
    read = live.text(text)
    place = checked_position(read, position)
    values = _values_of_token(live, read, place)
    among = eligible(live, values, layers, combination)
    chosen = strongest(np.abs(values.post), among & (values.post != 0), limit)
    facts = live.index.reader.facts(chosen)
    return TopNeurons(
        tokens=read.tokens[: place + 1],
        first=read.first,
        position=place,
        by="post",
        target=None,
        neurons=tuple(values.neuron(neuron, facts[neuron]) for neuron in chosen),
        total=int(among.sum()),
        dtype=live.model.dtype,
    )


def _values_of_token(live: LiveModel, read: LiveText, place: int) -> TokenValues:
    import torch

    from neuronagent.index.activation import activation_of

    activate_ = activation_of(live.model.activation)
    gates, ins, acts = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()

    def sink(_layer: int, x_gate: torch.Tensor, x_in: torch.Tensor) -> None:
        gate = x_gate[0, -1].float()
        gates.append(gate.cpu())
        acts.append(activate_(gate).cpu())
        ins.append(x_in[0, -1].float().cpu())

    live.model.record(torch.tensor([read.ids[: place + 1]]), sink)
    gate, into, act = (torch.stack(each).numpy() for each in (gates, ins, acts))
    check_finite(live, gate, into, act)
    into = into * all_signs(live)
    return TokenValues(gate, into, act * into)


def _neuron_values(neuron: NeuronId, facts: NeuronFacts, values: Values) -> NeuronValues:
    gate, into, act = values.x_gate, values.x_in, values.act
    combinations: list[str | None] = [None] * len(gate)
    for c in COMBINATIONS:
        for place in np.flatnonzero((gate * c.gate_sign > 0) & (into * c.in_sign > 0)).tolist():
            combinations[place] = c.value
    return NeuronValues(
        neuron=str(neuron),
        io_class=str(facts.io_class),
        x_gate=tuple(gate.tolist()),
        x_in=tuple(into.tolist()),
        act=tuple(act.tolist()),
        post=tuple((act * into).tolist()),
        combinations=tuple(combinations),
        frequency={c.value: share for c, share in facts.frequency.items()},
        tau={c.value: tau for c, tau in facts.tau.items()},
    )
