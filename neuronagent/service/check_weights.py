"""The identities of what the weights tell, for a block of neurons at once.

The IO class is read here off its definition, sign by sign, not by the code that classified.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COSINES, VECTORS, VOCABULARY_MATRICES
from neuronagent.service.check_corpus import Facts, Floats
from neuronagent.service.ledger import Ledger
from neuronagent.store.blocks import NeuronBlock

_NORMS = ("norm_gate", "norm_in", "norm_out")
_SIDES = ("+", "−")
_ROUNDING = 1e-3
"""A cosine made of a float32 dot product and two norms is off by some float32 roundings."""


def label(gate_in: int, gate_out: int, in_out: int) -> str:
    """The IO class of neurons whose three cosines are strongly positive (1), negative (−1) or weak (0)."""
    if in_out and gate_out:
        typical = gate_in == in_out * gate_out
        name = "enrichment" if in_out > 0 else "depletion"
    elif in_out:
        typical = gate_in == 0
        name = "conditional enrichment" if in_out > 0 else "conditional depletion"
    elif gate_out:
        typical, name = gate_in == 0, "proportional change"
    else:
        typical, name = True, "orthogonal output"
    return name if typical else f"atypical {name}"


_LABELS = np.array([label(*signs) for signs in product((-1, 0, 1), repeat=3)])


def check_weights(block: NeuronBlock, facts: Facts, ledger: Ledger) -> None:
    """Everything that must hold of geometry, class, nearest tokens and double checking."""

    def neuron(n: int, *_: int) -> str:
        return f"{block.layer}.{block.first + n}"

    columns = block.columns
    cosines, norms = (np.stack([columns[name] for name in names], axis=1) for names in (COSINES, _NORMS))
    holds = (np.abs(cosines) <= 1 + 1e-9).all(axis=1) & (norms >= 0).all(axis=1) & np.isfinite(norms).all(axis=1)
    ledger.each("cosines lie in −1…1 and norms are not negative", holds, neuron, cosines, norms)
    signs = np.where(np.abs(cosines) > facts.threshold, np.sign(cosines), 0).astype(int)
    expected = _LABELS[(signs + 1) @ np.array([9, 3, 1])]
    found = np.array(block.io_class)
    ledger.each("the IO class is what the cosines make it", expected == found, neuron, found, expected)
    if facts.normalised:
        name = "with normalised signs gate and in do not point apart"
        ledger.each(name, columns["cos_gate_in"] >= 0, neuron, columns["cos_gate_in"])
    allowed = np.isin(columns["sign"], (-1, 1)) if facts.normalised else columns["sign"] == 1
    ledger.each("signs are those of the convention", allowed, neuron, columns["sign"])
    _check_moments(block, ledger)
    _check_nearest(block, norms, facts, ledger)


def _check_moments(block: NeuronBlock, ledger: Ledger) -> None:
    def place(n: int, m: int, v: int) -> str:
        return f"{block.layer}.{block.first + n} {VECTORS[v].value} {VOCABULARY_MATRICES[m].value}"

    def neuron(n: int) -> str:
        return f"{block.layer}.{block.first + n}"

    moments = block.moments.astype(np.float64)
    variance, skew, kurtosis = (moments[..., i] for i in range(3))
    # Of any distribution: kurtosis ≥ skew² + 1, the excess 3 less.
    bound = skew**2 - 2
    holds = (variance >= 0) & (variance <= 1) & (kurtosis >= bound - _ROUNDING * np.maximum(1, np.abs(bound)))
    ledger.each("moments are those of a distribution of cosines", holds, place, variance, skew, kurtosis)
    searched = np.stack([block.columns[name] for name in ("variance", "skew", "kurtosis")], axis=1)
    holds = (searched == moments[:, 0, 2]).all(axis=1)
    ledger.each("what a search sorts by is what the neuron says", holds, neuron, searched)


def _check_nearest(block: NeuronBlock, norms: Floats, facts: Facts, ledger: Ledger) -> None:
    """The nearest tokens `[N, matrix, vector, side, k]`, and double checking, which they bound."""

    def place(n: int, m: int, v: int, side: int) -> str:
        name = f"{block.layer}.{block.first + n} {_SIDES[side]}{VECTORS[v].value}"
        return f"{name} {VOCABULARY_MATRICES[m].value}"

    ids, scores = block.ids, block.scores
    present = ids >= 0
    upwards = np.array([-1, 1], np.float32)[:, None]  # −v: ascending
    gaps = np.diff(scores * upwards, axis=4)
    ledger.each("nearest tokens are sorted", ((gaps >= 0) | ~present[..., 1:]).all(axis=4), place)
    inside = ids < len(facts.norms)
    apart = -1 - np.arange(ids.shape[4])
    ordered = np.sort(np.where(present, ids, apart), axis=4)
    holds = inside.all(axis=4) & (ordered[..., 1:] != ordered[..., :-1]).all(axis=4)
    ledger.each("nearest tokens are different tokens of the vocabulary", holds, place)
    columns = facts.norms[np.where(present & inside, ids, 0)]  # (…, k, 2)
    lengths = norms[:, None, :, None, None] * np.stack([columns[:, m, ..., m] for m in range(2)], axis=1)
    cosines = np.where(present & inside, np.abs(scores) / np.where(lengths > 0, lengths, np.inf), 0.0)
    ledger.each("nearest tokens' cosines lie in −1…1", (cosines <= 1 + _ROUNDING).all(axis=4), place)
    _check_double(block, ids[:, 0], cosines[:, 0], facts, ledger)


def _check_double(block: NeuronBlock, ids: NDArray[np.int64], cosines: Floats, facts: Facts, ledger: Ledger) -> None:
    """The score is the largest over all tokens: at least what the tokens show that gate and in both list."""

    def neuron(n: int) -> str:
        return f"{block.layer}.{block.first + n}"

    score, token = block.columns["double_checking"], block.columns["double_checking_token"]
    known = ~np.isnan(score)
    if not known.any():
        return
    holds = ~np.isnan(token) & (token >= 0) & (token < len(facts.norms)) & (score >= 0) & (score <= 1)
    name = "double checking is a cosine and a token of the vocabulary"
    ledger.each(name, holds, neuron, score, token, applies=known)
    gate, inner = (ids[:, v].reshape(len(ids), -1) for v in (0, 1))
    both = (gate[:, :, None] == inner[:, None, :]) & (gate >= 0)[:, :, None]
    seen = np.minimum(cosines[:, 0].reshape(len(ids), -1)[:, :, None], cosines[:, 1].reshape(len(ids), -1)[:, None, :])
    least = np.where(both, seen, 0).max(axis=(1, 2))
    name = "double checking is not below what the nearest tokens show"
    ledger.each(name, score >= least - _ROUNDING, neuron, score, least, applies=known)
