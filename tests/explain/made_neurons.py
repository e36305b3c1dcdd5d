"""Neurons made up over the corpus of the planted model: what they do at each token is decided here, not by weights.

The record of such a neuron is what the recorder would have made of it, by the definitions: counts, histograms by split,
top lists with each text at most once, and the two samples. So activity can be planted that no weights give, such as one
that is random at every occurrence of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import (
    COMBINATIONS,
    SPLITS,
    CombinationRecord,
    ListEntry,
    NeuronId,
    NeuronRecord,
    Quantity,
    Text,
)
from neuronagent.explain.evidence import NeuronEvidence, StoredTokens, gather
from neuronagent.hashing import uniform_bits, uniform_hash
from neuronagent.layout import HISTOGRAM_BINS, HISTOGRAM_EDGES
from neuronagent.service.explain import Explainer
from neuronagent.store.reader import IndexReader
from tests.known_index import SALT, Known, known, world
from tests.planted import CAPITALS, DIGITS, PUNCTUATION, TOKENS

K = 16
Array = NDArray[np.float64]
_ANY = NeuronId(0, 0)


def chance(name: str, corpus: Known) -> Array:
    """A number in (0, 1) for each token of the corpus that nothing else knows."""
    return uniform_hash(f"made\0{name}", corpus.number)


def at_random(name: str) -> tuple[NDArray[np.int64], Array]:
    """Combination and |post| of each token, both by chance: nothing in the text has to do with them."""
    corpus = known(_ANY)
    return (4 * chance(f"{name} c", corpus)).astype(np.int64), np.exp(3 * chance(f"{name} post", corpus) - 3)


def on_tokens(name: str, strong: Mapping[int, tuple[str, ...]]) -> tuple[NDArray[np.int64], Array]:
    """As `at_random` but weak, and strong in a combination at its tokens; chance decides between several of a token."""
    corpus = known(_ANY)
    combination, weak = at_random(name)
    places = np.full((len(COMBINATIONS), len(corpus.token)), -1.0)
    for c, tokens in strong.items():
        held = np.isin(corpus.token, [TOKENS.index(token) for token in tokens])
        places[c, held] = chance(f"{name} {c}", corpus)[held]
    chosen = (places >= 0).any(axis=0)
    combination = np.where(chosen, places.argmax(axis=0), combination)
    return combination, np.where(chosen, 4 * np.exp(3 * chance(f"{name} strong", corpus)), weak / 8)


RANDOM = range(100, 104)
"""Random at each occurrence of a token, in every combination."""
EQUAL, EACH = 110, 111
STRONG: Mapping[int, Mapping[int, tuple[str, ...]]] = {
    EQUAL: {0: DIGITS, 1: DIGITS, 2: CAPITALS},
    EACH: {0: DIGITS, 1: CAPITALS, 2: PUNCTUATION, 3: (" not", " river", " water")},
}
"""By the place of a combination, the tokens that a made neuron is strong at."""


@cache
def made() -> dict[int, tuple[NDArray[np.int64], Array]]:
    """By index in layer 0, beyond the neurons that the model has: combination and |post| of each token."""
    return {i: at_random(f"random {i}") for i in RANDOM} | {i: on_tokens(f"{i}", own) for i, own in STRONG.items()}


def record(index: int, base: NeuronRecord) -> NeuronRecord:
    """What an index would hold of a made neuron; geometry and vocabulary are those of `base`."""
    corpus = known(_ANY)
    combination, magnitude = made()[index]
    magnitude = magnitude.astype(np.float32).astype(np.float64)
    own = {
        c: _combination(base.combinations[c], corpus, combination == c.position, magnitude * c.write_sign)
        for c in COMBINATIONS
    }
    return replace(base, neuron=NeuronId(0, index), tokens=len(corpus.token), zeros=0, combinations=own)


def _combination(base: CombinationRecord, corpus: Known, held: NDArray[np.bool_], post: Array) -> CombinationRecord:
    bits, u = uniform_bits(SALT, corpus.number), uniform_hash(SALT, corpus.number)

    def entries(order: NDArray[np.intp]) -> tuple[ListEntry, ...]:
        return tuple(ListEntry(float(post[i]), int(corpus.number[i])) for i in order)

    def listed(there: NDArray[np.intp]) -> tuple[ListEntry, ...]:
        order = there[np.lexsort((corpus.number[there], -np.abs(post[there])))]
        _, first = np.unique(corpus.text[order], return_index=True)
        return entries(order[np.sort(first)][:K])

    there = {split: np.flatnonzero(held & (corpus.split == split.position)) for split in SPLITS}
    bins = {
        s: np.searchsorted(HISTOGRAM_EDGES, np.abs(post[i]).astype(np.float32), side="right") for s, i in there.items()
    }
    return replace(
        base,
        count=int(held.sum()),
        first_count=0,
        mass=float(np.abs(post[held]).sum()),
        histogram={s: tuple(np.bincount(found, minlength=HISTOGRAM_BINS).tolist()) for s, found in bins.items()},
        top=dict.fromkeys(Quantity, ()),
        post_by_split={s: listed(i) for s, i in there.items()},
        uniform={s: entries(i[np.argsort(bits[i], kind="stable")][:K]) for s, i in there.items()},
        weighted={s: entries(i[np.argsort(-np.abs(post[i]) / u[i], kind="stable")][:K]) for s, i in there.items()},
    )


class MadeCorpus:
    """The planted index with the made neurons beside its own: what `evidence.gather` reads."""

    def __init__(self, reader: IndexReader) -> None:
        self.reader = reader
        self.texts = {text.text_id: text for text in world().texts}

    def neuron(self, neuron: NeuronId) -> NeuronRecord:
        if neuron.index not in made():
            return self.reader.neuron(neuron)
        return record(neuron.index, self.reader.neuron(_ANY))

    def text(self, text_id: int) -> Text:
        return self.texts[text_id]

    def locate(self, token_number: int) -> tuple[int, int]:
        return self.reader.locate(token_number)

    def traced_tokens(self, neuron: NeuronId) -> StoredTokens | None:
        return None


class MadeExplainer(Explainer):
    """The explainer over the planted index and the made neurons."""

    def _evidence(self, neuron: NeuronId) -> NeuronEvidence:
        return gather(MadeCorpus(self.reader), neuron, salt=self.salt)
