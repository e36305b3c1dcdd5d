"""What is true of the planted model and its corpus, computed from how it was built and never from the tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination, Split
from tests.known_index import known, world
from tests.planted import LAYERS, NEURONS, TOKENS

Array = NDArray[np.float64]


def neurons(layer: int) -> list[NeuronId]:
    return [NeuronId(layer, index) for index in range(NEURONS)]


def everything() -> list[NeuronId]:
    return [neuron for layer in range(LAYERS) for neuron in neurons(layer)]


def of_class(io_class: str, layer: int) -> list[NeuronId]:
    return [n for n in neurons(layer) if str(world().model.truth[n].io_class) == io_class]


def only(found: list[NeuronId]) -> NeuronId:
    """The one neuron that a question is about: a question with two answers is none."""
    assert len(found) == 1
    return found[0]


def vector(which: str, neuron: NeuronId) -> Array:
    """A weight vector in the index's sign convention."""
    planted = world().model
    table = {"gate": planted.gate, "in": planted.input, "out": planted.out}[which]
    return table[neuron.layer, neuron.index] * (1 if which == "gate" else planted.truth[neuron].sign)


def cosine(u: Array, v: Array) -> float:
    return float(u @ v / np.sqrt((u @ u) * (v @ v)))


def cosines(pair: tuple[str, str], layer: int) -> list[float]:
    return [cosine(vector(pair[0], n), vector(pair[1], n)) for n in neurons(layer)]


def logits(neuron: NeuronId) -> Array:
    """w_out on the unembedding, centred over the vocabulary `[V]`."""
    unembedding = world().model.unembedding
    return (unembedding - unembedding.mean(axis=0)) @ vector("out", neuron)


def best(of: list[NeuronId], value: Callable[[NeuronId], float]) -> NeuronId:
    """The one with the largest value, which must be so by more than rounding."""
    ordered = sorted(of, key=value, reverse=True)
    assert value(ordered[0]) > value(ordered[1]) + 1e-3 * abs(value(ordered[0]))
    return ordered[0]


@cache
def counts(neuron: NeuronId) -> Counter[SignCombination | None]:
    """How many tokens are in each combination, None for an exact zero, position 0 included."""
    planted = world().model
    gate, into = (side[neuron.layer, 0, neuron.index] for side in planted.pre_activations([0]))
    into *= planted.truth[neuron].sign
    first = next((c for c in COMBINATIONS if gate * c.gate_sign > 0 and into * c.in_sign > 0), None)
    numbered = Counter(known(neuron).combination.tolist())
    found: Counter[SignCombination | None] = Counter({c: numbered[c.position] for c in COMBINATIONS})
    found[None] = numbered[-1]
    found[first] += len(world().texts)
    return found


def frequency(neuron: NeuronId, c: SignCombination) -> float:
    return counts(neuron)[c] / sum(counts(neuron).values())


@cache
def masses(neuron: NeuronId) -> dict[SignCombination, float]:
    """Σ|post| of each combination, position 0 left out."""
    truth = known(neuron)
    return {c: float(np.abs(truth.post[truth.combination == c.position]).sum()) for c in COMBINATIONS}


def main_combination(neuron: NeuronId) -> SignCombination:
    found = masses(neuron)
    ordered = sorted(found, key=lambda c: found[c], reverse=True)
    assert found[ordered[0]] > 1.01 * found[ordered[1]]
    return ordered[0]


def strongest_token(neuron: NeuronId, c: SignCombination) -> str:
    """The token at which |post| is largest in the explain split."""
    truth = known(neuron)
    strengths = np.where(truth.within(Split.EXPLAIN, c), np.abs(truth.post), -1.0)
    return TOKENS[int(truth.token[int(strengths.argmax())])]
