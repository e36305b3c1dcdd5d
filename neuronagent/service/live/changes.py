"""Changes to what neurons write: `post` set to a value, added to or scaled, on its way to the out projection.

An *edit* says what is done to which neurons, in the index's signs; *at work* it is what `GatedModel.run` takes. The
gate is never touched, nor is x_in: a neuron is in the same sign combination as before, at the layer that is changed.
Position 0 where it is BOS is left as it is. With a combination, only tokens are changed at which the neuron is in it,
by the strict signs of x_gate and x_in of that very run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import UsageError
from neuronagent.service.live.model import LiveModel

if TYPE_CHECKING:
    import torch

    from neuronagent.models.gated import Change, Changes

How = Literal["set", "add", "scale"]
Neurons = Mapping[int, NDArray[np.intp]]
"""Indices of neurons by layer."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What is done to `post` of `neurons`: set to `values`, or those are added or multiplied with, `[n]` by layer, in
    the index's signs. `combination` None: at every token."""

    neurons: Neurons
    how: How
    values: Mapping[int, NDArray[np.float64]]
    combination: SignCombination | None


def by_layer(neurons: Iterable[NeuronId]) -> Neurons:
    """Neurons as indices by layer, each once, in order."""
    found: dict[int, set[int]] = {}
    for neuron in neurons:
        found.setdefault(neuron.layer, set()).add(neuron.index)
    return {layer: np.array(sorted(own), dtype=np.intp) for layer, own in sorted(found.items())}


def parse_combination(given: SignCombination | str | None) -> SignCombination | None:
    """A combination by its name. Errors as `SignCombination.parse`."""
    return SignCombination.parse(given) if isinstance(given, str) else given


def zeroed(neurons: Neurons, combination: SignCombination | None = None) -> Edit:
    """Zero ablation."""
    values = {layer: np.zeros(len(own)) for layer, own in neurons.items()}
    return Edit(neurons=neurons, how="set", values=values, combination=combination)


def averaged(
    averages: Mapping[int, NDArray[np.float64]], neurons: Neurons, combination: SignCombination | None = None
) -> Edit:
    """Mean ablation, by the means of whole layers (`means`); a neuron that has none is set to 0."""
    values = {layer: np.nan_to_num(averages[layer][own]) for layer, own in neurons.items()}
    return Edit(neurons=neurons, how="set", values=values, combination=combination)


def means(
    live: LiveModel, layers: Iterable[int], combination: SignCombination | None
) -> dict[int, NDArray[np.float64]]:
    """The mean of `post` of every neuron `[N]` by layer, over the corpus without position 0, or over its tokens in
    `combination`; NaN for a neuron that is at none.

    Raises:
        UsageError: an index without a corpus.
    """
    if live.index.info.get("weights_only"):
        raise UsageError(
            "this index was made without a corpus: it has no means", remedy="use zero ablation, or index a text"
        )
    found: dict[int, NDArray[np.float64]] = {}
    for layer in layers:
        sums, counts, tokens = live.index.reader.post_sums(layer)
        total = sums.sum(axis=1) if combination is None else sums[:, combination.position]
        count = tokens if combination is None else counts[:, combination.position]
        found[layer] = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return found


class AtWork:
    """An edit at work on texts that are read from position 0, `first` as of `LiveText`: `changes` for the model, and
    what they did, if they are watched. Padding counts as changed: `touched` and `moved` are for a single text."""

    def __init__(self, live: LiveModel, edit: Edit, first: int, *, watched: bool = True) -> None:
        self._live, self._edit, self._first, self._watched = live, edit, first, watched
        self._touched: dict[int, list[torch.Tensor]] = {}
        self._moved: dict[int, list[torch.Tensor]] = {}
        self.changes: Changes = {layer: self._change(layer) for layer, own in edit.neurons.items() if len(own)}

    def touched(self) -> NDArray[np.bool_]:
        """At which positions a neuron was changed, in any text `[tokens read]`."""
        layers = [np.concatenate([part.cpu().numpy() for part in parts]) for parts in self._touched.values()]
        return np.logical_or.reduce(layers) if layers else np.zeros(0, dtype=np.bool_)

    def moved(self) -> float:
        """Σ |change of post| · ‖w_out‖ over all neurons and positions, `w_out` as the index has it: how much was
        written differently. For one neuron this is the length of what was added to the residual stream."""
        total = 0.0
        for layer, parts in self._moved.items():
            norms = self._live.index.reader.layer_numbers(layer, ["norm_out"])[self._edit.neurons[layer], 0]
            total += float(np.sum([part.cpu().double().numpy() for part in parts], axis=0) @ norms)
        return total

    def _change(self, layer: int) -> Change:
        import torch

        edit, numbers = self._edit, self._edit.neurons[layer]
        signs = torch.from_numpy(self._live.signs(layer)[numbers].astype(np.float64))
        values = torch.from_numpy(np.asarray(edit.values[layer], dtype=np.float64))
        values = values if edit.how == "scale" else values * signs
        indices = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
        touched, moved = self._touched.setdefault(layer, []), self._moved.setdefault(layer, [])

        def change(post: torch.Tensor, x_gate: torch.Tensor, x_in: torch.Tensor, start: int) -> torch.Tensor:
            own = indices.to(post.device)
            before = post.index_select(-1, own)  # (texts, tokens, n)
            after = values.to(post)
            after = before + after if edit.how == "add" else before * after if edit.how == "scale" else after
            where = self._where(x_gate, x_in, own, signs, start)
            after = torch.where(where, after, before)
            if self._watched:
                touched.append(where.expand_as(before).any(-1).any(0))
                moved.append((after - before).abs().float().sum((0, 1)))
            return post.index_copy(-1, own, after)

        return change

    def _where(
        self, x_gate: torch.Tensor, x_in: torch.Tensor, own: torch.Tensor, signs: torch.Tensor, start: int
    ) -> torch.Tensor:
        """What is changed, `[tokens, 1]` or `[texts, tokens, n]`."""
        import torch

        c = self._edit.combination
        behind = (torch.arange(x_gate.shape[1], device=x_gate.device) + start >= self._first)[:, None]
        if c is None:
            return behind
        gate, linear = x_gate.index_select(-1, own), x_in.index_select(-1, own) * signs.to(x_in)
        return (gate * c.gate_sign > 0) & (linear * c.in_sign > 0) & behind


def identifiers(neurons: Neurons) -> list[NeuronId]:
    """The neurons by name, in order."""
    return [NeuronId(layer, int(index)) for layer, own in neurons.items() for index in own]


MOST_NEURONS = 256
"""Neurons that one question about a text may change: a class of neurons is changed over many texts."""


def checked_neurons(live: LiveModel, given: Sequence[str | NeuronId]) -> list[NeuronId]:
    """The neurons that a question names, each once, in order.

    Raises:
        UsageError, NotFoundError: none, too many, or one that does not exist.
    """
    neurons = sorted({live.neuron_id(neuron) for neuron in given})
    if not neurons:
        raise UsageError("no neuron is named", remedy="name one, such as 31.9634")
    if len(neurons) > MOST_NEURONS:
        raise UsageError(
            f"{len(neurons):,} neurons are changed at once",
            remedy=f"allowed: {MOST_NEURONS}; for a class of neurons use `neuronagent ablate --io-class`",
        )
    return neurons
