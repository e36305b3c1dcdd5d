"""Whether the neighbours of a whole index fit together: order, layers, and each list with those of the neurons in it.

A cosine is the same from either side: where both of two neurons list each other their cosines agree, and a neuron that
is listed but does not list back has a full list of stronger ones. Two computations of one cosine may round to
neighbouring steps of 1/32767.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NEIGHBOUR_LISTS, NeighbourList
from neuronagent.layout import COSINE_STEPS
from neuronagent.service.ledger import Ledger
from neuronagent.service.progress import Progress
from neuronagent.store.blocks import BlockReader

Steps = NDArray[np.int64]
_BLOCK = 2000
_L = NeighbourList
_SIMILAR = (_L.SIMILAR_OUT, _L.SIMILAR_GATE, _L.SIMILAR_IN)
_OPPOSITE = (_L.OPPOSITE_OUT, _L.OPPOSITE_GATE, _L.OPPOSITE_IN)
_READERS = (_L.READERS_GATE, _L.READERS_IN)
_MIRROR = {kind: kind for kind in (*_SIMILAR, *_OPPOSITE)} | {
    _L.READERS_GATE: _L.WRITERS_GATE,
    _L.READERS_IN: _L.WRITERS_IN,
    _L.WRITERS_GATE: _L.READERS_GATE,
    _L.WRITERS_IN: _L.READERS_IN,
}
"""In which list of the other neuron the same cosine would be."""


def check_neighbours(
    reader: BlockReader,
    info: Mapping[str, Any] | None,
    layers: Sequence[tuple[int, int, int]],
    ledger: Ledger,
    progress: Progress,
) -> None:
    """Check all lists; `info`: what the index says of them, None for nothing; `layers`: number, first ordinal, neurons.

    Raises:
        StorageError: the index cannot be read.
    """
    total, rows = sum(neurons for *_, neurons in layers), reader.count("neighbour")
    expected = total if info is not None and info["k"] else 0
    ledger("neighbours are there exactly if the index says so", rows == expected, "the index", rows, expected)
    if info is None or rows != expected or not rows:
        return
    progress.start("checking neighbours", total + len(NEIGHBOUR_LISTS), "")
    ordinals, steps = _read(reader, total, progress)
    names = [(first, number) for number, first, _ in sorted(layers, key=lambda layer: layer[1])]
    firsts = np.array([first for first, _ in names])
    numbers = np.array([number for _, number in names])
    of_neuron = numbers[np.searchsorted(firsts, np.arange(total), side="right") - 1]  # layer of each ordinal
    place_of = np.arange(total) - firsts[np.searchsorted(firsts, np.arange(total), side="right") - 1]
    lists = _Lists(ordinals, steps, of_neuron, place_of)
    lists.check_order(info["k"], ledger)
    for done, kind in enumerate(NEIGHBOUR_LISTS, 1):
        lists.check_sides(kind, ledger)
        lists.check_mirror(kind, ledger)
        progress.advance(total + done)


def _read(reader: BlockReader, total: int, progress: Progress) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    ordinals: list[NDArray[np.int32]] = []
    steps: list[NDArray[np.int16]] = []
    for start in range(0, total, _BLOCK):
        found = reader.neighbours(start, min(start + _BLOCK, total))
        assert found is not None  # every row was counted
        ordinals.append(found.ordinals)
        steps.append(found.cosines)
        progress.advance(start)
    return np.concatenate(ordinals), np.concatenate(steps)


class _Lists:
    """All lists `[T, 10, k]` of a model of T neurons."""

    def __init__(self, ordinals: NDArray[np.int32], steps: NDArray[np.int16], layer_of: Steps, place_of: Steps) -> None:
        self._ordinals, self._steps, self._layer_of, self._place_of = ordinals, steps, layer_of, place_of
        self._total, _, self._k = ordinals.shape

    def _name(self, ordinal: int) -> str:
        return f"{int(self._layer_of[ordinal])}.{int(self._place_of[ordinal])}"

    def check_order(self, k: int, ledger: Ledger) -> None:
        """What can be seen of each list on its own."""
        ledger("neighbours are as many as the index says", self._k == k, "the index", self._k, k)
        for kind in NEIGHBOUR_LISTS:
            own, strength = self._ordinals[:, kind.position], np.abs(self._steps[:, kind.position].astype(np.int32))
            present = own >= 0

            def where(n: int, kind: NeighbourList = kind) -> str:
                return f"{self._name(n)} {kind.value}"

            later = present[:, 1:]
            falls = strength[:, :-1] > strength[:, 1:]
            tied = (strength[:, :-1] == strength[:, 1:]) & (own[:, :-1] < own[:, 1:])
            holds = ((falls | tied) & present[:, :-1] | ~later).all(axis=1)
            ledger.each("neighbours are sorted by |cosine|, ties by neuron", holds, where)
            inside = (own < self._total) & (own != np.arange(self._total)[:, None])
            apart = np.sort(np.where(present, own, -1 - np.arange(self._k)), axis=1)
            holds = (inside | ~present).all(axis=1) & (apart[:, 1:] != apart[:, :-1]).all(axis=1)
            ledger.each("neighbours are different neurons, not the neuron itself", holds, where)
            holds = (((strength > 0) & (strength <= COSINE_STEPS)) | ~present).all(axis=1)
            ledger.each("neighbours' cosines are not 0 and lie in −1…1", holds, where)

    def check_sides(self, kind: NeighbourList, ledger: Ledger) -> None:
        """Signs of similar and opposite neurons, layers of readers and writers."""
        own, steps = self._ordinals[:, kind.position], self._steps[:, kind.position]
        present = (own >= 0) & (own < self._total)

        def where(n: int, place: int) -> str:
            return f"{self._name(n)} {kind.value} {self._name(int(own[n, place]))}"

        if kind in _SIMILAR or kind in _OPPOSITE:
            holds = steps > 0 if kind in _SIMILAR else steps < 0
            ledger.each("similar neurons' cosines are positive, opposite ones' negative", holds, where, applies=present)
            return
        mine, others = self._layer_of[:, None], self._layer_of[np.where(present, own, 0)]
        holds = others > mine if kind in _READERS else others < mine
        ledger.each("readers lie in later layers, writers in earlier ones", holds, where, applies=present)

    def check_mirror(self, kind: NeighbourList, ledger: Ledger) -> None:
        """Each cosine from its other side."""
        own, back = kind.position, _MIRROR[kind].position
        present = (self._ordinals[:, own] >= 0) & (self._ordinals[:, own] < self._total)
        neurons, places = np.nonzero(present)
        others = self._ordinals[neurons, own, places].astype(np.int64)
        steps = self._steps[neurons, own, places].astype(np.int64)
        theirs = self._ordinals[others, back] == neurons[:, None]  # (pairs, k)
        mutual = theirs.any(axis=1)

        def where(pair: int) -> str:
            return f"{self._name(int(neurons[pair]))} {kind.value} {self._name(int(others[pair]))}"

        answer = self._steps[others, back, theirs.argmax(axis=1)].astype(np.int64)
        name = "neurons that list each other have one cosine"
        ledger.each(name, np.abs(answer - steps) <= 1, where, steps, answer, applies=mutual)
        full, last = self._ordinals[others, back, -1] >= 0, np.abs(self._steps[others, back, -1].astype(np.int64))
        holds = full & (last >= np.abs(steps) - 1)
        name = "a neuron that does not list back has stronger neighbours"
        ledger.each(name, holds, where, steps, last, applies=~mutual)
