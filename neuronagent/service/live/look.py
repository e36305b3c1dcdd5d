"""A text at a glance: the strongest neurons of one of its tokens and chosen neurons along it, in one question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuronagent.service.live.activate import NeuronValues, TopNeurons, activate, top_neurons

if TYPE_CHECKING:
    from neuronagent.service.live.model import LiveModel


@dataclass(frozen=True, kw_only=True)
class Look:
    """`tokens`: of the whole text; `first` is 1 where token 0 is BOS. `top` reads no further than its token."""

    tokens: tuple[str, ...]
    first: int
    top: TopNeurons
    followed: tuple[NeuronValues, ...]


def look(
    live: LiveModel,
    text: str,
    *,
    follow: Sequence[str] = (),
    position: int | None = None,
    combination: str | None = None,
    layers: Sequence[int] | None = None,
    limit: int = 20,
) -> Look:
    """As `top_neurons` by |post| and `activate` of `follow`, which may be empty.

    Raises:
        UsageError, NotFoundError, ModelError: as these.
    """
    top = top_neurons(live, text, position=position, combination=combination, layers=layers, limit=limit)
    read = live.text(text)
    followed = activate(live, text, neurons=follow).neurons if follow else ()
    return Look(tokens=read.tokens, first=read.first, top=top, followed=followed)
