"""The items that an explanation of combination c is scored on: which windows, and why those (scoring protocol, § 3).

    P     strong in c, at most one per text, spread over the bins of |post|
    N0    uniformly random tokens of the corpus that are weak for c: labels measured, not assumed
    N1    strong in each *other* combination of the same neuron
    N2    the same token as at the peak of some P, but weak for c
    N3    the texts that are closest to some P (BM25), weak
    same texts   weak tokens of the texts that P is from

All windows have one length. Everything comes from one split; nothing here depends on an explanation. N2, N3 and same
texts are known where the model was run for them (`trace_plan`). So is the full view of a negative window: what is shown
after the marked token and before it must be weak too, or a judge would rightly say that the window fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import SignCombination, Split, View
from neuronagent.explain.evidence import CombinationEvidence, NeuronEvidence, Strength, Window
from neuronagent.explain.traced import TracedTokens
from neuronagent.layout import HISTOGRAM_EDGES

N0, N1, N2, N3 = "N0", "N1", "N2", "N3"
SAME_TEXTS = "N0 same texts"
"""Weak tokens of the texts that P is from: a harder N0, and the only one where the corpus is not there."""
FURTHER = (N2, N3, SAME_TEXTS)
"""The sets that need the model."""
UNTRACED = "the model was not run for this neuron: neuronagent explain --model FOLDER"


@dataclass(frozen=True, kw_only=True)
class ItemSizes:
    """How many windows of each set; N1 counts per other combination. `name` is how a protocol's version calls them."""

    name: str
    positive: int = 20
    random: int = 20
    per_other: int = 7
    same_token: int = 10
    similar: int = 10
    same_texts: int = 20

    def further(self, name: str) -> int:
        """The size of one of the sets in `FURTHER`."""
        return {N2: self.same_token, N3: self.similar, SAME_TEXTS: self.same_texts}[name]


DEFAULT_SIZES = ItemSizes(name="default")
QUICK_SIZES = ItemSizes(
    name="quick", positive=10, random=10, per_other=4, same_token=5, similar=5, same_texts=10
)  # fmt: skip
FULL_SIZES = ItemSizes(
    name="full", positive=50, random=50, per_other=50, same_token=50, similar=50, same_texts=50
)  # fmt: skip
SIZES: Mapping[str, ItemSizes] = {sizes.name: sizes for sizes in (QUICK_SIZES, DEFAULT_SIZES, FULL_SIZES)}


@dataclass(frozen=True, kw_only=True)
class ItemSets:
    """The windows of one combination in one split; a negative set without windows is missing for `missing[set]`."""

    positive: tuple[Window, ...]
    negative: Mapping[str, tuple[Window, ...]]
    missing: Mapping[str, str]


def item_sets(
    evidence: NeuronEvidence,
    combination: SignCombination,
    split: Split,
    sizes: ItemSizes = DEFAULT_SIZES,
    view: View = View.CAUSAL,
) -> ItemSets:
    """The item sets of `combination` from `split`, as `view` shows them."""
    own = evidence.combinations[combination]
    found = {N0: _random(evidence, own, split), **_others(evidence, own, split, sizes)}
    found |= {name: _further(evidence, own, split, name) for name in FURTHER}
    limits = {N0: sizes.random, N1: len(found[N1])} | {name: sizes.further(name) for name in FURTHER}
    if view is View.FULL:
        found = {
            name: [w for w in windows if shows_nothing(evidence.traced, own, w)] for name, windows in found.items()
        }
    return ItemSets(
        positive=spread(own.strong[split], sizes.positive),
        negative={name: tuple(windows[: limits[name]]) for name, windows in found.items() if windows},
        missing={name: _reason(evidence, name, split, view) for name, windows in found.items() if not windows},
    )


def _random(evidence: NeuronEvidence, own: CombinationEvidence, split: Split) -> list[Window]:
    return [w for w in evidence.random[split] if own.strength(w) is Strength.WEAK]


def _others(
    evidence: NeuronEvidence, own: CombinationEvidence, split: Split, sizes: ItemSizes
) -> dict[str, list[Window]]:
    others = [other for c, other in evidence.combinations.items() if c is not own.combination]
    return {N1: [window for other in others for window in spread(other.strong[split], sizes.per_other)]}


def _further(evidence: NeuronEvidence, own: CombinationEvidence, split: Split, name: str) -> list[Window]:
    windows = unlike(evidence.further.get(split, {}).get(own.combination, {}).get(name, ()))
    if name == N3:  # the passage that was found is what is shown, in either view
        return [replace(window, shown=window.span(View.CAUSAL)) for window in windows]
    return list(windows)


def unlike(windows: Iterable[Window]) -> list[Window]:
    """The windows without near-duplicates of earlier ones."""
    first: dict[tuple[int, ...], Window] = {}
    for window in windows:
        first.setdefault(window.fingerprint, window)
    return list(first.values())


def _reason(evidence: NeuronEvidence, name: str, split: Split, view: View) -> str:
    if evidence.traced is None and (view is View.FULL or name in FURTHER):
        return UNTRACED
    if evidence.traced is not None and name in FURTHER and split not in evidence.traced.sets:
        return f"the model is not run for this set in {split.value}"
    if view is View.FULL:
        return f"no window of this set in {split.value} is weak for this combination at every token that is shown"
    return {
        N0: f"no random token of {split.value} is weak for this combination",
        N1: f"no other combination has strong tokens in {split.value}",
        N2: f"where its peak tokens occur in other texts of {split.value}, hardly ever is it weak",
        N3: f"no close text of {split.value} is weak for this combination",
        SAME_TEXTS: f"no token that was tried in the same texts of {split.value} is weak for this combination",
    }[name]


def shows_nothing(traced: TracedTokens | None, own: CombinationEvidence, window: Window) -> bool:
    """Whether every token that the full view shows is known, and weak for the combination."""
    start, end = (window.text.first_token + place for place in window.span(View.FULL))
    strengths = None if traced is None else traced.strengths(start, end, own.combination)
    return strengths is not None and _weak(float(strengths.max(initial=0.0)), own)


def fuzzing_items(
    evidence: NeuronEvidence,
    combination: SignCombination,
    split: Split,
    counts: NDArray[np.int64],
    sizes: ItemSizes = DEFAULT_SIZES,
) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """Windows of P in the full view with the mark where it belongs, and the same passages with the mark elsewhere.

    The wrong mark is on a token of the passage that is weak for c, not the peak's token again, and of the nearest
    frequency: `counts` `[V]` says how often each id occurs. Position needs no matching, since the peak itself is at a
    random place. Pairs, in the order of P; a passage without such a token, or not traced, is left out.
    """
    own, traced = evidence.combinations[combination], evidence.traced
    pairs: list[tuple[Window, Window]] = []
    if traced is not None:
        logs = np.log(counts + 1.0)
        for window in spread(own.strong[split], sizes.positive):
            wrong = _wrong_mark(window, own, traced, logs)
            if wrong is not None:
                pairs.append((replace(window, shown=window.span(View.FULL)), wrong))
    return tuple(true for true, _ in pairs), tuple(wrong for _, wrong in pairs)


def _wrong_mark(
    window: Window,
    own: CombinationEvidence,
    traced: TracedTokens,
    logs: NDArray[np.float64],
) -> Window | None:
    """The passage of `window` with the mark on another token."""
    start, end = shown = window.span(View.FULL)
    first, ids = window.text.first_token, np.array(window.text.token_ids[start:end], dtype=np.int64)
    strengths = traced.strengths(first + start, first + end, own.combination)
    if strengths is None:
        return None
    peak = window.text.token_ids[window.position]
    apart = np.abs(logs[ids] - logs[peak])
    for place in np.argsort(apart, kind="stable").tolist():
        if ids[place] == peak or not _weak(float(strengths[place]), own):
            continue
        combination, post = traced.at(first + start + place) or (None, 0.0)
        if combination is not None:  # an exact zero is in no set
            position = start + place
            return Window(text=window.text, position=position, combination=combination, post=post, shown=shown)
    return None


def _weak(strength: float, own: CombinationEvidence) -> bool:
    """Whether |post|·1[in c] is that of a weak token."""
    return strength == 0 or strength < own.median


@dataclass(frozen=True, kw_only=True)
class SimulationItems:
    """Causal windows with the true s_t = |post|·1[in c] at each token that is shown: those of P, and random ones.

    `counts`: how many tokens of the whole split have s_t = 0, and how many lie in each bin of the histogram. Tokens at
    which gate or in is exactly 0 are in none.
    """

    positive: tuple[Window, ...]
    positive_truths: tuple[NDArray[np.float64], ...]
    random: tuple[Window, ...]
    random_truths: tuple[NDArray[np.float64], ...]
    counts: tuple[int, ...]


def simulation_items(
    evidence: NeuronEvidence, combination: SignCombination, split: Split, sizes: ItemSizes = DEFAULT_SIZES
) -> SimulationItems | None:
    """What can be simulated of `combination` in `split`: windows of which every token was traced; None without any."""
    own, traced = evidence.combinations[combination], evidence.traced
    if traced is None:
        return None
    kinds = (spread(own.strong[split], sizes.positive), evidence.random[split][: sizes.random])
    (positive, positive_truths), (random, random_truths) = (_with_truths(kind, own, traced) for kind in kinds)
    histograms = {c: other.record.histogram[split] for c, other in evidence.combinations.items()}
    elsewhere = sum(sum(histogram) for c, histogram in histograms.items() if c is not combination)
    if not positive and not random:
        return None
    return SimulationItems(
        positive=positive,
        positive_truths=positive_truths,
        random=random,
        random_truths=random_truths,
        counts=(elsewhere, *histograms[combination]),
    )


def _with_truths(
    windows: Sequence[Window], own: CombinationEvidence, traced: TracedTokens
) -> tuple[tuple[Window, ...], tuple[NDArray[np.float64], ...]]:
    kept: list[Window] = []
    truths: list[NDArray[np.float64]] = []
    for window in windows:
        start, end = (window.text.first_token + place for place in window.span(View.CAUSAL))
        strengths = traced.strengths(start, end, own.combination)
        if strengths is not None:
            kept.append(window)
            truths.append(strengths)
    return tuple(kept), tuple(truths)


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
