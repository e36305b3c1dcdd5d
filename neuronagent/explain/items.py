"""The items that an explanation of combination c is scored on: which windows, and why those (scoring protocol, § 3).

    P    strong in c, at most one per text, spread over the bins of |post|
    N0   uniformly random tokens of the corpus that are weak for c: labels measured, not assumed
    N1   strong in each *other* combination of the same neuron

All windows have one length. Everything comes from one split; nothing here depends on an explanation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from neuronagent.domain import SignCombination, Split
from neuronagent.explain.evidence import NeuronEvidence, Strength, Window
from neuronagent.layout import HISTOGRAM_EDGES

N0, N1 = "N0", "N1"
SAME_TEXTS = "N0 same texts"
"""In place of N0 where the corpus is not there: weak tokens of the texts that P is from, which is harder."""


@dataclass(frozen=True, kw_only=True)
class ItemSizes:
    """How many windows of each set; N1 counts per other combination."""

    positive: int = 20
    random: int = 20
    per_other: int = 7


DEFAULT_SIZES = ItemSizes()


@dataclass(frozen=True, kw_only=True)
class ItemSets:
    """The windows of one combination in one split; a negative set without windows is missing for `missing[set]`."""

    positive: tuple[Window, ...]
    negative: Mapping[str, tuple[Window, ...]]
    missing: Mapping[str, str]


def item_sets(
    evidence: NeuronEvidence, combination: SignCombination, split: Split, sizes: ItemSizes = DEFAULT_SIZES
) -> ItemSets:
    """The item sets of `combination` from `split`."""
    own = evidence.combinations[combination]
    random = [w for w in evidence.random[split] if own.strength(w) is Strength.WEAK][: sizes.random]
    others = [
        window
        for c, other in evidence.combinations.items()
        if c is not combination
        for window in spread(other.strong[split], sizes.per_other)
    ]
    negative = {N0: tuple(random), N1: tuple(others)}
    reasons = {
        N0: f"no random token of {split.value} is weak for this combination",
        N1: f"no other combination has strong tokens in {split.value}",
    }
    return ItemSets(
        positive=spread(own.strong[split], sizes.positive),
        negative={name: windows for name, windows in negative.items() if windows},
        missing={name: reasons[name] for name, windows in negative.items() if not windows},
    )


def spread(windows: Sequence[Window], n: int) -> tuple[Window, ...]:
    """At most n windows, taken in turn from the bins of |post|, the highest bin first."""
    by_bin: dict[int, list[Window]] = {}
    for window in windows:
        by_bin.setdefault(magnitude_bin(window), []).append(window)
    turns: Iterable[tuple[Window | None, ...]] = zip_longest(*(by_bin[b] for b in sorted(by_bin, reverse=True)))
    return tuple(window for turn in turns for window in turn if window is not None)[:n]


def magnitude_bin(window: Window) -> int:
    """The histogram bin of |post|."""
    return int(np.searchsorted(HISTOGRAM_EDGES, np.float32(abs(window.post)), side="right"))
