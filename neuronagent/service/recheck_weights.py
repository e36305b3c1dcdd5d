"""Computes what the weights tell of a few neurons again, in float64: cosines, norms, signs, nearest tokens, neighbours.

Stored cosines come from float32 weights by sums in float64: 1e-6. Dot products with W_U are float32: 1e-4 of the
product of the norms. Neighbours' cosines are kept to 1/32767 and may be rounded either way.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import VECTORS, VOCABULARY_MATRICES, Neighbour, NeighbourList, NeuronId, NeuronRecord
from neuronagent.layout import COSINE_STEPS
from neuronagent.models.weights import ModelWeights
from neuronagent.service.ledger import Ledger
from neuronagent.service.lookup import Index

SAMPLED = 16
_COSINE, _SCORE = 1e-6, 1e-4
_GATE, _IN, _OUT = range(3)
_L = NeighbourList
_SIDES = {
    _L.SIMILAR_OUT: (_OUT, _OUT),
    _L.SIMILAR_GATE: (_GATE, _GATE),
    _L.SIMILAR_IN: (_IN, _IN),
    _L.OPPOSITE_OUT: (_OUT, _OUT),
    _L.OPPOSITE_GATE: (_GATE, _GATE),
    _L.OPPOSITE_IN: (_IN, _IN),
    _L.READERS_GATE: (_OUT, _GATE),
    _L.READERS_IN: (_OUT, _IN),
    _L.WRITERS_GATE: (_GATE, _OUT),
    _L.WRITERS_IN: (_IN, _OUT),
}
"""Which vector of the neuron is compared with which of its neighbour."""

Vectors = NDArray[np.float64]
"""Gate, in and out `[3, d_model]` of one neuron, in the index's sign convention."""


def check_live_weights(index: Index, model: ModelWeights, ledger: Ledger) -> None:
    """Compare a sample of neurons, the same every time, with `model`, which is the one that was indexed.

    Raises:
        StorageError: the index cannot be read.
    """
    draw, layers = random.Random(1), index.reader.layers()
    chosen = [NeuronId(layer, draw.randrange(layers[layer])) for layer in draw.choices(sorted(layers), k=SAMPLED)]
    listed = {neuron: index.reader.neighbours(neuron) or {} for neuron in chosen}
    wanted = {n.neuron for found in listed.values() for entries in found.values() for n in entries} | set(chosen)
    vectors, signs = _vectors(index, model, wanted)
    matrices = [model.unembedding().numpy(), model.embedding().numpy()]
    for neuron in chosen:
        record = index.neuron(neuron).record
        ledger("stored signs are those of the live model", record.sign == signs[neuron], str(neuron), record.sign)
        _check_geometry(record, vectors[neuron], ledger)
        _check_nearest(record, vectors[neuron], matrices, ledger)
        for kind, entries in listed[neuron].items():
            for entry in entries:
                _check_neighbour(neuron, kind, entry, vectors, ledger)


def _vectors(
    index: Index, model: ModelWeights, wanted: set[NeuronId]
) -> tuple[dict[NeuronId, Vectors], dict[NeuronId, int]]:
    """The signed vectors of the neurons `wanted`, and their signs; each layer is read once."""
    vectors: dict[NeuronId, Vectors] = {}
    signs: dict[NeuronId, int] = {}
    normalised = index.info["sign_convention"] == "normalised"
    for layer in sorted({neuron.layer for neuron in wanted}):
        weights = model.processed_layer(layer, post_norm=index.info["post_norm"])
        for neuron in (neuron for neuron in wanted if neuron.layer == layer):
            rows = (weights.w_gate, weights.w_in, weights.w_out)
            own = np.stack([row[neuron.index].double().numpy() for row in rows])
            sign = -1 if normalised and own[_GATE] @ own[_IN] < 0 else 1
            own[[_IN, _OUT]] *= sign
            vectors[neuron], signs[neuron] = own, sign
    return vectors, signs


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def _check_geometry(record: NeuronRecord, own: Vectors, ledger: Ledger) -> None:
    g = record.geometry
    stored = (g.cos_gate_in, g.cos_gate_out, g.cos_in_out)
    found = (_cosine(own[_GATE], own[_IN]), _cosine(own[_GATE], own[_OUT]), _cosine(own[_IN], own[_OUT]))
    holds = np.allclose(stored, found, rtol=0, atol=_COSINE)
    ledger("stored cosines are those of the live model", bool(holds), str(record.neuron), stored, found)
    lengths = np.linalg.norm(own, axis=1)
    holds = np.allclose((g.norm_gate, g.norm_in, g.norm_out), lengths, rtol=_COSINE)
    ledger("stored norms are those of the live model", bool(holds), str(record.neuron), lengths)


def _check_nearest(record: NeuronRecord, own: Vectors, matrices: list[NDArray[Any]], ledger: Ledger) -> None:
    for place, vector in enumerate(VECTORS):
        for matrix, rows in zip(VOCABULARY_MATRICES, matrices, strict=True):
            lists = record.vocabulary[matrix][vector]
            for entry in (*lists.top, *lists.bottom):
                column = rows[entry.token_id].astype(np.float64)
                found = float(own[place] @ column)
                slack = _SCORE * float(np.linalg.norm(own[place]) * np.linalg.norm(column))
                where = f"{record.neuron} {vector.value} {matrix.value} token {entry.token_id}"
                holds = abs(entry.score - found) <= slack
                ledger("nearest tokens' scores are those of the live model", holds, where, entry.score, found)


def _check_neighbour(
    neuron: NeuronId, kind: NeighbourList, entry: Neighbour, vectors: dict[NeuronId, Vectors], ledger: Ledger
) -> None:
    own, other = _SIDES[kind]
    found = _cosine(vectors[neuron][own], vectors[entry.neuron][other])
    holds = abs(entry.cosine - found) <= 1.01 / COSINE_STEPS
    where = f"{neuron} {kind.value} {entry.neuron}"
    ledger("neighbours' cosines are those of the live model", holds, where, entry.cosine, found)
