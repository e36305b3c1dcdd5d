"""The evidence about one neuron: from here everything downstream reads — rules, prompts, scores, cards, tools.

For each sign combination c and split, from the index alone:

- **strong** windows: |post| ≥ τ_c, from the top list of the split and its sample in proportion to |post|, at most one
  per text, near-duplicates (equal 16 tokens round the peak) dropped across and within splits;
- **random** windows: the corpus tokens with the smallest u. All samples share u, so the union of the uniform samples
  of the four combinations, cut at the smallest threshold of any that is full, is a simple random sample of *all*
  tokens, with the neuron's measured combination and post at each;
- **weak** windows: tokens of a sample in c with |post| below c's median.

τ_c and the median are taken from the histogram of `explain` alone, so that what is learnt does not depend on `test`.
Bins are half an octave wide: where a neuron fires about as hard each time, no token is above the smallest edge with at
most 1 % above it, and τ_c is then one edge lower (`threshold`).

A token is *weak for c* if it is not in c, or in c below the median; what lies between the median and τ_c is a grey zone
and enters no set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import (
    COMBINATIONS,
    SPLITS,
    CombinationRecord,
    ListEntry,
    NeuronId,
    NeuronRecord,
    SignCombination,
    Split,
    Text,
    View,
)
from neuronagent.explain.traced import PLAN_VERSION, Sets, TracedTokens
from neuronagent.hashing import uniform_bits
from neuronagent.layout import HISTOGRAM_EDGES, at_or_above, strong_edge

WINDOW = 32
"""Tokens of a causal window, the marked one included."""
FOLLOWING = 4
MINIMUM_STRONG = 8
"""Strong tokens from distinct texts that a split needs before anything is said about it."""
_DUPLICATE = 8


class Corpus(Protocol):
    """The part of an index reader that evidence needs."""

    def neuron(self, neuron: NeuronId) -> NeuronRecord: ...
    def text(self, text_id: int) -> Text: ...
    def locate(self, token_number: int) -> tuple[int, int]: ...
    def traced_tokens(self, neuron: NeuronId) -> StoredTokens | None: ...


class StoredTokens(Protocol):
    """Traced tokens as an index keeps them; `plan_version` says which plan chose them."""

    @property
    def numbers(self) -> NDArray[np.int64]: ...
    @property
    def values(self) -> NDArray[np.float32]: ...
    @property
    def sets(self) -> Sets: ...
    @property
    def plan_version(self) -> str: ...


class Strength(Enum):
    """What a token is for a combination c."""

    STRONG = "strong"
    GREY = "grey"
    WEAK = "weak"


@dataclass(frozen=True, kw_only=True)
class Window:
    """A token of the corpus where the neuron's `combination` and `post` are known, and the text that it is in.

    `shown` is what the full view shows where it is not for the marked token to say.
    """

    text: Text
    position: int
    combination: SignCombination
    post: float
    shown: tuple[int, int] | None = None

    @property
    def before(self) -> tuple[int, ...]:
        """The causal window: at most `WINDOW` token ids, the marked token last, BOS left out."""
        return self.text.token_ids[max(1, self.position + 1 - WINDOW) : self.position + 1]

    @property
    def after(self) -> tuple[int, ...]:
        """The token ids that really follow, at most `FOLLOWING`."""
        return self.text.token_ids[self.position + 1 : self.position + 1 + FOLLOWING]

    @property
    def number(self) -> int:
        """The corpus token number of the marked token."""
        return self.text.first_token + self.position

    def span(self, view: View) -> tuple[int, int]:
        """The positions `[start, end)` of the text that are shown, BOS left out: never more than `WINDOW`.

        In the full view the marked token is at a place of its own, which a hash of its number gives.
        """
        if view is View.CAUSAL:
            return max(1, self.position + 1 - WINDOW), self.position + 1
        if self.shown is not None:
            return self.shown
        place = int(uniform_bits("full view", np.array([self.number]))[0]) % WINDOW
        start = max(1, min(self.position - place, len(self.text.token_ids) - WINDOW))
        return start, min(start + WINDOW, len(self.text.token_ids))

    @property
    def fingerprint(self) -> tuple[int, ...]:
        """The 16 tokens round the peak, by which near-duplicates are known."""
        return fingerprint(self.text, self.position)


def fingerprint(text: Text, position: int) -> tuple[int, ...]:
    """The 16 tokens round a position of a text."""
    return text.token_ids[max(0, position - _DUPLICATE) : position + _DUPLICATE]


@dataclass(frozen=True, kw_only=True)
class CombinationEvidence:
    """The windows of one combination, by split: strong ones reach `tau`; `median` is a histogram edge at or below the
    median of |post|."""

    record: CombinationRecord
    tau: float | None
    median: float
    strong: Mapping[Split, tuple[Window, ...]]
    sampled: Mapping[Split, tuple[Window, ...]]

    @property
    def combination(self) -> SignCombination:
        return self.record.combination

    def strength(self, window: Window) -> Strength:
        """What a window of this neuron is for this combination."""
        if window.combination is not self.combination or abs(window.post) < self.median:
            return Strength.WEAK
        strong = self.tau is not None and abs(window.post) >= self.tau
        return Strength.STRONG if strong else Strength.GREY

    def enough(self, split: Split) -> bool:
        """Whether `split` has strong tokens from enough distinct texts."""
        return len(self.strong[split]) >= MINIMUM_STRONG

    def strong_count(self, split: Split) -> int:
        """How many tokens of the split's corpus are strong, from the exact histogram (position 0 left out)."""
        if self.tau is None:
            return 0
        return sum(self.record.histogram[split][int(np.searchsorted(HISTOGRAM_EDGES, self.tau)) + 1 :])


@dataclass(frozen=True, kw_only=True)
class NeuronEvidence:
    """Everything known about one neuron; `random` are windows at uniformly random tokens of each split. `traced` are
    the tokens at which the model itself was run for scoring, None where that has not been done; `further` are the
    windows of its `sets`."""

    record: NeuronRecord
    combinations: Mapping[SignCombination, CombinationEvidence]
    random: Mapping[Split, tuple[Window, ...]]
    traced: TracedTokens | None = None
    further: Mapping[Split, Mapping[SignCombination, Mapping[str, tuple[Window, ...]]]] = field(
        default_factory=dict[Split, Mapping[SignCombination, Mapping[str, tuple[Window, ...]]]]
    )

    @property
    def neuron(self) -> NeuronId:
        return self.record.neuron

    def grey_share(self, combination: SignCombination, split: Split) -> float | None:
        """Share of the random tokens that enter no set for `combination`; None without random tokens."""
        windows = self.random[split]
        grey = [self.combinations[combination].strength(w) is Strength.GREY for w in windows]
        return sum(grey) / len(grey) if grey else None


def median_edge(histogram: Iterable[Sequence[int]]) -> float:
    """The largest histogram edge that at least half of the tokens reach; 0 if that is below the first edge."""
    total = np.sum(np.array(list(histogram), dtype=np.int64), axis=0)
    reached = np.flatnonzero(2 * at_or_above(total) >= total.sum())
    return float(HISTOGRAM_EDGES[reached[-1]]) if len(reached) and total.sum() else 0.0


def threshold(record: CombinationRecord) -> float | None:
    """τ on `explain` (`layout.strong_edge`); None for a combination that is empty."""
    return strong_edge(np.array(record.histogram[Split.EXPLAIN], dtype=np.int64))


def gather(corpus: Corpus, neuron: NeuronId, *, salt: str) -> NeuronEvidence:
    """Read the evidence about `neuron`; a pure function of the index.

    Raises:
        NotFoundError: the index has no such neuron.
    """
    record = corpus.neuron(neuron)
    read = _WindowReader(corpus)
    combinations: dict[SignCombination, CombinationEvidence] = {}
    for c in COMBINATIONS:
        own = record.combinations[c]
        tau = threshold(own)
        combinations[c] = CombinationEvidence(
            record=own,
            tau=tau,
            median=median_edge([own.histogram[Split.EXPLAIN]]),
            strong=_strong(own, tau, read),
            sampled={s: tuple(read(c, e) for e in own.uniform[s] + own.weighted[s]) for s in SPLITS},
        )
    random = {split: _random(record, split, read, salt) for split in SPLITS}
    stored = corpus.traced_tokens(neuron)
    if stored is None or stored.plan_version != PLAN_VERSION:
        return NeuronEvidence(record=record, combinations=combinations, random=random)
    traced = TracedTokens(numbers=stored.numbers, values=stored.values, sets=stored.sets)
    return NeuronEvidence(
        record=record, combinations=combinations, random=random, traced=traced, further=_further(traced, read)
    )


def _further(
    traced: TracedTokens, read: _WindowReader
) -> dict[Split, dict[SignCombination, dict[str, tuple[Window, ...]]]]:
    """The windows of the sets of traced tokens. A token with an exact zero is in no combination, and no item."""

    def windows(numbers: Iterable[int]) -> Iterable[Window]:
        for number in numbers:
            found = traced.at(number)
            if found is not None and found[0] is not None:
                yield read(found[0], ListEntry(found[1], number))

    return {
        split: {
            c: {name: tuple(windows(numbers)) for name, numbers in sets.items()} for c, sets in by_combination.items()
        }
        for split, by_combination in traced.sets.items()
    }


class _WindowReader:
    """Reads windows, each text once."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.texts: dict[int, Text] = {}

    def __call__(self, combination: SignCombination, entry: ListEntry) -> Window:
        text_id, position = self.corpus.locate(entry.token_number)
        if text_id not in self.texts:
            self.texts[text_id] = self.corpus.text(text_id)
        return Window(text=self.texts[text_id], position=position, combination=combination, post=entry.value)


def _strong(record: CombinationRecord, tau: float | None, read: _WindowReader) -> dict[Split, tuple[Window, ...]]:
    """Strong windows by split, strongest first; a near-duplicate stays in the first split that has it."""
    seen: set[tuple[int, ...]] = set()
    found: dict[Split, tuple[Window, ...]] = {}
    for split in SPLITS:
        entries = {*record.post_by_split[split], *record.weighted[split]}
        texts: set[int] = set()
        kept: list[Window] = []
        for entry in sorted(entries, key=lambda e: (-abs(e.value), e.token_number)):
            if tau is None or abs(entry.value) < tau:
                continue
            window = read(record.combination, entry)
            if window.text.text_id in texts or window.fingerprint in seen:
                continue
            texts.add(window.text.text_id)
            seen.add(window.fingerprint)
            kept.append(window)
        found[split] = tuple(kept)
    return found


def _random(record: NeuronRecord, split: Split, read: _WindowReader, salt: str) -> tuple[Window, ...]:
    """Windows at the corpus tokens of `split` with the smallest u, in that order.

    A combination whose sample is full is known only up to its largest u, so the union is complete up to the smallest
    such bound. Tokens with an exact zero belong to no combination and are missed: their number is in the record.
    """
    pool: list[tuple[int, SignCombination, ListEntry]] = []
    bound: int | None = None
    for c, own in record.combinations.items():
        entries = own.uniform[split]
        bits = _bits(entries, salt)
        pool += [(int(b), c, entry) for b, entry in zip(bits, entries, strict=True)]
        if len(entries) < sum(own.histogram[split]):
            last = int(bits.max(initial=-1))
            bound = last if bound is None else min(bound, last)
    pool.sort(key=lambda item: (item[0], item[2].token_number))
    return tuple(read(c, entry) for b, c, entry in pool if bound is None or b <= bound)


def _bits(entries: Sequence[ListEntry], salt: str) -> NDArray[np.int64]:
    return uniform_bits(salt, np.array([entry.token_number for entry in entries], dtype=np.int64))
