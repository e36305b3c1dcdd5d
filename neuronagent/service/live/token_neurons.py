"""Which neurons are strongest at one token of a text: what is shared by ranking them by activation and by effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.errors import ModelError, UsageError

if TYPE_CHECKING:
    from neuronagent.service.live.model import LiveModel, LiveText
    from neuronagent.store.facts import NeuronFacts

MAX_LIMIT = 1_000
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TokenNeuron:
    """A neuron at one token, in the index's signs; `combination` is None at an exact zero.

    `written`: |post|·‖w_out‖, how long a vector it writes. `frequency`: share of the corpus's tokens in this
    combination; `strong`: |post| is above what 1 % of them reach (τ); both None without a corpus. With a target token:
    `effect` on its logit, `share` of the sum of |effect| over all neurons, and `target_rank`, the target's place among
    the tokens that the neuron moves in the same direction here (1: none more).
    """

    neuron: str
    io_class: str
    combination: str | None
    x_gate: float
    x_in: float
    post: float
    written: float
    frequency: float | None
    strong: bool | None
    effect: float | None = None
    share: float | None = None
    target_rank: int | None = None


@dataclass(frozen=True)
class TokenValues:
    """All neurons at one token, `[layers, N]`, in the index's signs."""

    x_gate: Floats
    x_in: Floats
    post: Floats

    @cached_property
    def combinations(self) -> NDArray[np.int64]:
        """The place in `COMBINATIONS` of each neuron, −1 at an exact zero."""
        found = np.full(self.post.shape, -1)
        for c in COMBINATIONS:
            found[(self.x_gate * c.gate_sign > 0) & (self.x_in * c.in_sign > 0)] = c.position
        return found

    def neuron(self, neuron: NeuronId, facts: NeuronFacts, **more: Any) -> TokenNeuron:
        """What is said of one of them."""
        place = (neuron.layer, neuron.index)
        post, position = float(self.post[place]), int(self.combinations[place])
        c = COMBINATIONS[position] if position >= 0 else None
        tau = facts.tau.get(c) if c is not None else None
        return TokenNeuron(
            neuron=str(neuron),
            io_class=str(facts.io_class),
            combination=None if c is None else c.value,
            x_gate=float(self.x_gate[place]),
            x_in=float(self.x_in[place]),
            post=post,
            written=abs(post) * facts.norm_out,
            frequency=facts.frequency.get(c) if c is not None else None,
            strong=None if tau is None else abs(post) >= tau,
            **more,
        )


def all_signs(live: LiveModel) -> Floats:
    """The factors of all neurons, `[layers, N]`."""
    return np.stack([live.signs(layer) for layer in range(live.model.n_layers)]).astype(np.float32)


def eligible(
    live: LiveModel, values: TokenValues, layers: Sequence[int] | None, combination: str | None
) -> NDArray[np.bool_]:
    """Which neurons `[layers, N]` are in `layers` and in `combination`.

    Raises:
        UsageError: a layer that does not exist, or no combination.
    """
    found = np.ones(values.post.shape, dtype=np.bool_)
    if layers is not None:
        wrong = [layer for layer in layers if not 0 <= layer < live.model.n_layers]
        if wrong:
            raise UsageError(f"there is no layer {wrong[0]}", remedy=f"layers: 0–{live.model.n_layers - 1}")
        found[[layer for layer in range(live.model.n_layers) if layer not in set(layers)]] = False
    if combination is not None:
        found &= values.combinations == SignCombination.parse(combination).position
    return found


def strongest(scores: NDArray[Any], among: NDArray[np.bool_], limit: int) -> list[NeuronId]:
    """At most `limit` neurons with the highest scores `[layers, N]`, of those `among`; ties by layer and index."""
    places = np.flatnonzero(among)
    order = np.argsort(-scores.reshape(-1)[places], kind="stable")[:limit]
    width = scores.shape[1]
    return [NeuronId(int(place) // width, int(place) % width) for place in places[order]]


def checked_limit(limit: int) -> int:
    """Raises UsageError: less than one, or more than `MAX_LIMIT`."""
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"limit is {limit}", remedy=f"allowed: 1–{MAX_LIMIT:,}")
    return limit


def checked_position(text: LiveText, position: int | None) -> int:
    """The place of a token that the text has, counted from 0 (BOS included) or, below 0, from the end; None: the last.

    Raises:
        UsageError: there is none, or it is BOS, which is never ranked.
    """
    length = len(text.ids)
    place = length - 1 if position is None else position + length if position < 0 else position
    if text.first <= place < length:
        return place
    what = "is BOS, at which nothing is ranked" if place == 0 and text.first else "is not in the text"
    raise UsageError(
        f"position {str(position)[:20]} {what}",
        remedy=f"allowed: {text.first}–{length - 1}, or −1 for the last token; BOS is position 0"
        if text.first
        else f"allowed: 0–{length - 1}, or −1 for the last token",
    )


def check_finite(live: LiveModel, *values: NDArray[Any]) -> None:
    """Raises ModelError: the model gives numbers that are none."""
    if not all(np.isfinite(each).all() for each in values):
        raise ModelError(
            f"{live.model.name} gives activations that are not finite", remedy="use another dtype or device"
        )
