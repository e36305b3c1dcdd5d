"""The half that is searched: which neurons are tried, in how many passes over the texts, and how each ranks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.errors import NotFoundError
from neuronagent.service.live.concept_statistics import Floats, distances, rank
from neuronagent.service.live.concept_values import Piece
from neuronagent.service.live.model import LiveModel

_POOL = 32
"""Neurons of a layer that are run beside the chosen ones where not all are, to find an ordinary one among."""
Values = Callable[[str, Sequence[Piece]], list[Floats]]
"""Runs the texts of the search half for pieces; the name of the stage comes first."""
_Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Of each layer the neurons that are run `[N]` and which of them are tried `[N]`, in `combinations` (places)."""

    neurons: Mapping[int, NDArray[np.intp]]
    tried: Mapping[int, _Bools]
    combinations: tuple[int, ...]

    @property
    def n_neurons(self) -> int:
        """How many are tried."""
        return sum(int(own.sum()) for own in self.tried.values())


@dataclass(frozen=True)
class Column:
    """A neuron × combination that is tried: its layer, its place in `Candidates.neurons`, and its S."""

    layer: int
    place: int
    combination: int
    total: float


@dataclass(frozen=True)
class Searched:
    """S of all that was run and where it was present, `[N, 4]` by layer; the labels, true and permuted
    `[1 + permutations, n]`; the largest |AUROC − ½| of each permutation."""

    candidates: Candidates
    labels: _Bools
    sums: Mapping[int, NDArray[np.float64]]
    present: Mapping[int, _Bools]
    highest: NDArray[np.float64]
    passes: int

    @property
    def counted(self) -> int:
        """How many neuron × combination were tried and are in some text."""
        tried = self.candidates.tried
        return sum(int((own & tried[layer][:, None]).sum()) for layer, own in self.present.items())

    def best(self, limit: int) -> list[Column]:
        """The largest |S|, ties in the model's order."""
        tables: list[NDArray[np.float64]] = []
        for layer, own in self.present.items():
            places, combinations = np.nonzero(own & self.candidates.tried[layer][:, None])
            found = self.sums[layer][places, combinations]
            columns = np.full(len(places), layer), places, combinations, found
            tables.append(np.stack([column.astype(np.float64) for column in columns], axis=1))
        table = np.concatenate(tables)
        first = np.argsort(-np.abs(table[:, 3]), kind="stable")[:limit]
        return [Column(int(layer), int(place), int(c), total) for layer, place, c, total in table[first].tolist()]


def candidates(
    live: LiveModel,
    layers: Collection[int] | None,
    among: Collection[NeuronId] | None,
    combination: SignCombination | None,
    seed: int,
) -> Candidates:
    """All neurons, those of `layers` or those of `among`, in all combinations or one.

    Raises:
        NotFoundError: a layer or a neuron that is not there, or none is left.
    """
    sizes = live.index.reader.layers()
    for layer in layers or ():
        if layer not in sizes:
            raise NotFoundError(f"layer {layer} is not in this index", remedy=f"layers: {min(sizes)} to {max(sizes)}")
    wanted = sorted(set(layers) if layers else sizes)
    tried_in = tuple(c.position for c in COMBINATIONS) if combination is None else (combination.position,)
    if among is None:
        neurons = {layer: np.arange(sizes[layer], dtype=np.intp) for layer in wanted}
        return Candidates(neurons, {layer: np.ones(len(own), np.bool_) for layer, own in neurons.items()}, tried_in)
    own = {layer: {n.index for n in map(live.neuron_id, among) if n.layer == layer} for layer in wanted}
    own = {layer: indices for layer, indices in own.items() if indices}
    if not own:
        raise NotFoundError("there is no neuron to try", remedy="leave criteria out, or name other layers")
    pools = {layer: np.random.default_rng((seed, layer)).permutation(sizes[layer])[:_POOL].tolist() for layer in own}
    neurons = {layer: np.array(sorted(ids.union(pools[layer])), dtype=np.intp) for layer, ids in own.items()}
    return Candidates(neurons, {layer: np.isin(neurons[layer], list(ids)) for layer, ids in own.items()}, tried_in)


def search(run: Values, chosen: Candidates, labels: _Bools, memory: int) -> Searched:
    """Rank `chosen` by `labels` `[1 + permutations, n]`, in as many passes as fit `memory` bytes each."""
    sums = {layer: np.zeros((len(own), 4)) for layer, own in chosen.neurons.items()}
    present = {layer: np.zeros((len(own), 4), dtype=np.bool_) for layer, own in chosen.neurons.items()}
    highest = np.zeros(len(labels) - 1)
    passes = _passes(chosen, labels.shape[1], memory)
    for number, parts in enumerate(passes, start=1):
        stage = "searching" if len(passes) == 1 else f"searching, pass {number} of {len(passes)}"
        values = run(stage, [Piece(layer, chosen.neurons[layer][part]) for layer, part in parts])
        for (layer, part), own in zip(parts, values, strict=True):
            for c in chosen.combinations:
                ranked = rank(own[:, :, c], labels, chosen.tried[layer][part])
                sums[layer][part, c], present[layer][part, c] = ranked.sums, ranked.present
                np.maximum(highest, ranked.highest, out=highest)
    return Searched(chosen, labels, sums, present, distances(highest, labels[1:]), len(passes))


def _passes(chosen: Candidates, items: int, memory: int) -> list[list[tuple[int, slice]]]:
    """Parts of layers, by the pass that they are run in."""
    most = max(1, memory // (16 * items))  # neurons: four values of four bytes for each item
    passes: list[list[tuple[int, slice]]] = [[]]
    room = most
    for layer, own in chosen.neurons.items():
        start = 0
        while start < len(own):
            size = min(most, len(own) - start)
            if size > room:
                passes.append([])
                room = most
            passes[-1].append((layer, slice(start, start + size)))
            room, start = room - size, start + size
    return passes
