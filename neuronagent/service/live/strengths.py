"""How strongly texts make a neuron fire in each combination: the largest |post| at any token that is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    import torch

    from neuronagent.service.live.model import LiveModel, LiveText

LONGEST = 256
"""Tokens of a text, BOS included: these are sentences that somebody wrote, not documents."""
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Of one text, by combination: the largest |post| and the place of that token; 0 and None where no token of it is
    in the combination. `reason` says why it was not run; then there is nothing else."""

    values: tuple[float, ...] = (0.0,) * len(COMBINATIONS)
    positions: tuple[int | None, ...] = (None,) * len(COMBINATIONS)
    tokens: tuple[str, ...] = ()
    reason: str | None = None

    def of(self, combination: SignCombination) -> float:
        """The largest |post| in `combination`."""
        return self.values[combination.position]


def strengths(live: LiveModel, neuron: NeuronId, texts: Sequence[str]) -> list[Strengths]:
    """The strengths of each text, in their order; position 0 is left out where it is BOS.

    Raises:
        NotFoundError: no such neuron.
    """
    neuron = live.neuron_id(neuron)
    read: dict[int, LiveText] = {}
    found: dict[int, Strengths] = {}
    for place, text in enumerate(texts):
        try:
            read[place] = live.text(text, max_tokens=min(LONGEST, live.max_tokens))
        except UsageError as error:
            found[place] = Strengths(reason=error.message)
    places = sorted(read, key=lambda place: len(read[place].ids))
    for start in range(0, len(places), _BATCH):
        batch = places[start : start + _BATCH]
        found |= zip(batch, _run(live, neuron, [read[place] for place in batch]), strict=True)
    return [found[place] for place in range(len(texts))]


def _run(live: LiveModel, neuron: NeuronId, texts: list[LiveText]) -> list[Strengths]:
    from neuronagent.index.activation import activation_of

    kept: list[torch.Tensor] = []

    def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor) -> None:
        if layer == neuron.layer:
            kept.extend((x_gate[..., neuron.index].float().cpu(), x_in[..., neuron.index].float().cpu()))

    live.model.run(live.batch(texts), sink=sink)
    gate, into = kept[0], kept[1] * live.sign(neuron)
    post = (activation_of(live.model.activation)(gate) * into).abs()
    return [
        _of(text, gate[row, : len(text.ids)], into[row, : len(text.ids)], post[row, : len(text.ids)])
        for row, text in enumerate(texts)
    ]


def _of(text: LiveText, gate: torch.Tensor, into: torch.Tensor, post: torch.Tensor) -> Strengths:
    values: list[float] = []
    positions: list[int | None] = []
    for c in COMBINATIONS:
        inside = (gate * c.gate_sign > 0) & (into * c.in_sign > 0)
        inside[: text.first] = False
        masked = post.masked_fill(~inside, -1.0)
        place = int(masked.argmax())
        there = bool(inside.any())
        values.append(float(masked[place]) if there else 0.0)
        positions.append(place if there else None)
    return Strengths(values=tuple(values), positions=tuple(positions), tokens=text.tokens)
