"""The identities of what was recorded over a corpus, for a block of neurons at once.

Tolerances: integers must agree exactly. Sums are float64 over float32 values (1e-5 relative). An activation that is
computed here from a stored float32 agrees to float32's rounding (1e-5 of the value plus 1e-6).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, QUANTITIES, SPLITS, Quantity
from neuronagent.layout import HISTOGRAM_EDGES
from neuronagent.service.check_corpus import Facts, Floats, Integers
from neuronagent.service.ledger import Ledger
from neuronagent.store.blocks import NeuronBlock, RecordedBlock
from neuronagent.store.schema import COMBINATION_SUFFIXES

RELATIVE, ABSOLUTE = 1e-5, 1e-6
_ACT_MINIMUM = {"silu": -0.278465, "gelu": -0.169971, "gelu_pytorch_tanh": -0.170041}
_EDGES = HISTOGRAM_EDGES.astype(np.float64)
_POST, _X_IN, _X_GATE, _ACT = (
    QUANTITIES.index(q) for q in (Quantity.POST, Quantity.X_IN, Quantity.X_GATE, Quantity.ACT)
)
_GATE_SIGNS = np.array([c.gate_sign for c in COMBINATIONS])
_IN_SIGNS = np.array([c.in_sign for c in COMBINATIONS])
_SIGNS = np.stack([_GATE_SIGNS * _IN_SIGNS, _IN_SIGNS, _GATE_SIGNS], axis=1)  # (4, 3): post, x_in, x_gate
_NAMES = (
    *(f"post {split.value}" for split in SPLITS),
    Quantity.X_IN.value,
    Quantity.X_GATE.value,
    *(f"{sample} sample {split.value}" for sample in ("uniform", "weighted") for split in SPLITS),
)
_TOP, _UNIFORM, _WEIGHTED = slice(0, 5), slice(5, 8), slice(8, 11)
_OF_A_SPLIT = (0, 1, 2, 5, 6, 7, 8, 9, 10)
_EMPTY_NUMBER = -1


def check_recorded(block: NeuronBlock, recorded: RecordedBlock, facts: Facts, ledger: Ledger) -> None:
    """Everything that must hold of the counts, statistics, histograms, lists and samples of `block`."""

    def neuron(n: int, *_: int) -> str:
        return f"{block.layer}.{block.first + n}"

    def combination(n: int, c: int, *_: int) -> str:
        return f"{neuron(n)} {COMBINATIONS[c].value}"

    _check_totals(block, recorded, facts, ledger, neuron, combination)
    _check_first(recorded, facts, ledger, neuron, combination)
    lists = _Lists(recorded.lists)
    _check_statistics(recorded, lists, facts, ledger, combination)
    _check_histograms(recorded, ledger, combination)

    def listed(n: int, c: int, place: int) -> str:
        return f"{combination(n, c)} {_NAMES[place]}"

    _check_lists(recorded, lists, facts, ledger, listed)
    _check_products(lists, facts, ledger, neuron)


class _Lists:
    """Packed entries `[N, 4, 11, k]` taken apart: `values` are magnitudes, 0 where a place is empty; `numbers` −1."""

    def __init__(self, entries: Integers) -> None:
        self.present = entries >= 0
        bits = np.where(self.present, entries >> 32, 0).astype(np.uint32)
        self.values = bits.view(np.float32)
        self.numbers = np.where(self.present, (entries & 0xFFFFFFFF) ^ 0xFFFFFFFF, _EMPTY_NUMBER)


Where = Callable[..., str]


def _check_totals(
    block: NeuronBlock, recorded: RecordedBlock, facts: Facts, ledger: Ledger, neuron: Where, combination: Where
) -> None:
    columns, corpus = block.columns, len(facts.tokens)
    counted = recorded.counts.sum(axis=1) + columns["zeros"]
    holds = (counted == columns["tokens"]) & (columns["tokens"] == corpus)
    ledger.each("the four counts and the zeros add up to the tokens", holds, neuron, counted, columns["tokens"])
    total = recorded.mass.sum(axis=1)
    shares = recorded.mass / np.where(total != 0, total, 1)[:, None]
    holds = (np.abs(shares.sum(axis=1) - 1) < 1e-9) | ~shares.any(axis=1)
    ledger.each("mass shares sum to 1", holds & (shares >= 0).all(axis=1), neuron, shares.sum(axis=1))
    ledger.each("what a search sorts by is what the neuron says", _near(columns["mass"], total), neuron, total)
    frequency, mass = (
        np.stack([columns[f"{name}_{suffix}"] for suffix in COMBINATION_SUFFIXES], axis=1)
        for name in ("frequency", "mass")
    )
    expected = recorded.counts / np.maximum(columns["tokens"], 1)[:, None]
    holds = _near(frequency, expected) & _near(mass, shares)
    ledger.each("what a search filters by is what the neuron says", holds, combination, frequency, expected)


def _check_first(recorded: RecordedBlock, facts: Facts, ledger: Ledger, neuron: Where, combination: Where) -> None:
    """Position 0, where all four values are known."""
    first = recorded.first_values
    known = np.asarray(~np.isnan(first).any(axis=1))
    if not known.any():
        return

    def place(n: int) -> str:
        return f"{neuron(n)} position 0"

    gate, inner, post, act = (first[:, q] for q in (_X_GATE, _X_IN, _POST, _ACT))
    ledger.each("post = act(x_gate)·x_in", close(post, act * inner), place, post, act * inner, applies=known)
    expected = activate(facts.activation, gate)
    if expected is not None:
        name = "act is the model's activation of x_gate"
        ledger.each(name, close(act, expected), place, act, expected, applies=known)
    member = (gate[:, None] * _GATE_SIGNS > 0) & (inner[:, None] * _IN_SIGNS > 0)
    holds = recorded.first_counts == np.where(member, len(facts.first), 0)
    applies = np.broadcast_to(known[:, None], holds.shape)
    ledger.each("position 0 counts in the combination of its values", holds, combination, applies=applies)


def _check_statistics(recorded: RecordedBlock, lists: _Lists, facts: Facts, ledger: Ledger, combination: Where) -> None:
    counts, occurs = recorded.counts, recorded.counts > 0
    sums, low, high = (recorded.statistics[:, :, i] for i in range(3))  # (N, 4, quantities)
    mean = sums / np.maximum(counts, 1)[..., None]
    slack = RELATIVE * np.maximum(np.abs(low), np.abs(high)) + ABSOLUTE
    every = np.broadcast_to(occurs[..., None], mean.shape)

    def quantity(n: int, c: int, q: int) -> str:
        return f"{combination(n, c)} {QUANTITIES[q].value}"

    holds = (low - slack <= mean) & (mean <= high + slack)
    ledger.each("min ≤ mean ≤ max", holds, quantity, low, mean, high, applies=every)
    least = _ACT_MINIMUM.get(facts.activation, -math.inf)
    holds = low[..., _ACT] >= least - ABSOLUTE
    ledger.each("act is not below its minimum", holds, combination, low[..., _ACT], applies=occurs)
    ends = np.stack([low[..., :3], high[..., :3]]) * _SIGNS
    near, far = ends.min(axis=0), ends.max(axis=0)  # magnitudes, if the signs are right
    ledger.each("extremes have the sign of the combination", near >= 0, quantity, near, applies=every[..., :3])
    best = lists.values.max(axis=3)  # (N, 4, 11)
    listed = np.stack([best[:, :, :3].max(axis=2), best[:, :, 3], best[:, :, 4]], axis=2)
    holds = listed <= far * (1 + RELATIVE)
    ledger.each("no example is beyond the extremes", holds, quantity, listed, far, applies=every[..., :3])
    known = np.abs(recorded.first_values[:, None, _POST]) * recorded.first_counts
    total = np.abs(sums[..., _POST])
    holds = np.abs(recorded.mass + known - total) <= 1e-4 * total + ABSOLUTE
    name, applies = "Σ|post| is the mean times the count, less position 0", occurs & ~np.isnan(known)
    ledger.each(name, holds, combination, recorded.mass, total, applies=applies)


def _check_histograms(recorded: RecordedBlock, ledger: Ledger, combination: Where) -> None:
    bins = recorded.histograms.sum(axis=2)  # (N, 4, bins)
    counted, expected = bins.sum(axis=2), recorded.counts - recorded.first_counts
    ledger.each("histograms add up to the counts less position 0", counted == expected, combination, counted, expected)
    tau = thresholds(bins)
    holds = (tau == recorded.tau) | (np.isnan(tau) & np.isnan(recorded.tau))
    ledger.each("τ is the smallest edge with at most 1 % above it", holds, combination, recorded.tau, tau)
    least = bins[..., 1:] @ _EDGES
    most = np.where(bins[..., -1] > 0, math.inf, bins[..., :-1] @ _EDGES)
    mass = recorded.mass
    holds = (least * (1 - RELATIVE) - ABSOLUTE <= mass) & (mass <= most * (1 + RELATIVE) + ABSOLUTE)
    ledger.each("Σ|post| fits the histogram", holds, combination, mass, least, most)


def thresholds(bins: Integers) -> Floats:
    """τ of histograms `[…, bins]`: the smallest edge with at most 1 % of the tokens at or above it, NaN without tokens.

    The last edge where even that has more above it: the histogram cannot tell what lies beyond.
    """
    total = bins.sum(axis=-1, keepdims=True)
    few = (total - np.cumsum(bins, axis=-1)[..., :-1]) * 100 <= total
    few[..., -1] = True
    return np.where(total[..., 0] > 0, _EDGES[few.argmax(axis=-1)], np.nan)


def _check_lists(recorded: RecordedBlock, lists: _Lists, facts: Facts, ledger: Ledger, listed: Where) -> None:
    present, values, numbers = lists.present, lists.values, lists.numbers
    holds = (present[..., :-1] | ~present[..., 1:]).all(axis=3)
    ledger.each("lists have no empty places but at their end", holds, listed)
    top, later = (values[:, :, _TOP], numbers[:, :, _TOP]), present[:, :, _TOP, 1:]
    falls = top[0][..., :-1] > top[0][..., 1:]
    tied = (top[0][..., :-1] == top[0][..., 1:]) & (top[1][..., :-1] < top[1][..., 1:])
    holds = (falls | tied | ~later).all(axis=3)
    ledger.each("|values| of a list are sorted, ties by token number", holds, listed)
    holds = (((top[0] > 0) & np.isfinite(top[0])) | ~present[:, :, _TOP]).all(axis=3)
    ledger.each("listed values have the sign of the combination", holds, listed)
    inside = (numbers < len(facts.tokens)) | ~present
    ledger.each("entries point into the corpus", inside.all(axis=3), listed)
    texts, positions = facts.locate(np.where(present & inside, numbers, 0))
    held = present & inside
    ledger.each("position 0 is in no list and no sample", ((positions != 0) | ~held).all(axis=3), listed)

    def split_list(n: int, c: int, place: int) -> str:
        return listed(n, c, _OF_A_SPLIT[place])

    splits = facts.splits[texts[:, :, _OF_A_SPLIT]].reshape(*texts.shape[:2], 3, len(SPLITS), -1)
    mine = (splits == np.arange(len(SPLITS))[:, None]).reshape(*texts.shape[:2], len(_OF_A_SPLIT), -1)
    holds = (mine | ~held[:, :, _OF_A_SPLIT]).all(axis=3)
    ledger.each("lists and samples of a split lie in its texts", holds, split_list)
    apart = -1 - np.arange(numbers.shape[3])  # so that empty places are never equal
    holds = _distinct(np.where(held, texts, apart)[:, :, _TOP])
    ledger.each("texts are unique in a list", holds, listed)

    def sampled(n: int, c: int, place: int) -> str:
        return listed(n, c, place + _UNIFORM.start)

    holds = _distinct(np.where(present, numbers, apart)[:, :, _UNIFORM.start :])
    ledger.each("a token is at most once in a sample", holds, sampled)
    _check_sizes(recorded, present, facts, ledger, sampled)


def _check_sizes(
    recorded: RecordedBlock, present: NDArray[np.bool_], facts: Facts, ledger: Ledger, sampled: Where
) -> None:
    k = present.shape[3]
    if facts.k:
        ledger("lists have the length k that the index states", k == facts.k, f"k {facts.k}", k)
    wanted = np.minimum(k, recorded.histograms.sum(axis=3))  # (N, 4, splits)
    uniform, weighted = (present[:, :, part].sum(axis=3) for part in (_UNIFORM, _WEIGHTED))
    found = np.concatenate([uniform, weighted], axis=2)
    both = np.concatenate([wanted, wanted], axis=2)
    holds = np.concatenate([uniform == wanted, weighted <= wanted], axis=2)
    ledger.each("samples are as large as they can be", holds, sampled, found, both)


def _check_products(lists: _Lists, facts: Facts, ledger: Ledger, neuron: Where) -> None:
    """At a token that is in lists of all three quantities, all values are known."""
    n, c = lists.numbers.shape[:2]
    posts = lists.numbers[:, :, :3].reshape(n, c, -1)
    at = [posts[..., None] == lists.numbers[:, :, place, None, :] for place in (3, 4)]  # (N, 4, 3 k, k)
    shared = at[0].any(axis=3) & at[1].any(axis=3) & (posts >= 0)
    found = np.argwhere(shared)
    if not len(found):
        return
    rows = tuple(found.T)
    inner, gate = (
        lists.values[rows[0], rows[1], place, which[rows].argmax(axis=1)].astype(np.float64) * _SIGNS[rows[1], q]
        for place, which, q in ((3, at[0], 1), (4, at[1], 2))
    )
    act = activate(facts.activation, gate)
    if act is None:
        return
    post = lists.values[:, :, :3].reshape(n, c, -1)[rows].astype(np.float64) * _SIGNS[rows[1], 0]
    numbers = posts[rows]

    def where(place: int) -> str:
        return f"{neuron(int(rows[0][place]))} {COMBINATIONS[rows[1][place]].value} token {numbers[place]}"

    ledger.each("post = act(x_gate)·x_in", close(post, act * inner), where, post, act * inner)


_ERFC = np.vectorize(math.erfc, otypes=[np.float64])


def activate(name: str, x: Floats) -> Floats | None:
    """The activation `name` of `x` in float64; None for one that is not known here."""
    if name == "silu":
        return x / (1 + np.exp(-np.maximum(x, -700)))
    if name == "gelu":
        return x * 0.5 * _ERFC(-x / math.sqrt(2)) if x.size else x
    if name == "gelu_pytorch_tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return None


def close(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Whether two float32 values agree but for rounding."""
    return np.abs(a - b) <= RELATIVE * np.maximum(np.abs(a), np.abs(b)) + ABSOLUTE


def _near(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Whether float64 values agree but for rounding; what is missing agrees with nothing."""
    return np.abs(a - b) <= np.maximum(1e-9 * np.maximum(np.abs(a), np.abs(b)), 1e-12)


def _distinct(numbers: Integers) -> NDArray[np.bool_]:
    """Whether the last axis repeats nothing."""
    ordered = np.sort(numbers, axis=-1)
    return (ordered[..., 1:] != ordered[..., :-1]).all(axis=-1)
