"""The evidence that published lists give, under the protocol `imported-v1` (scoring protocol, § 2).

A list has at most 16 texts; there are no samples, no counts and no τ. Of each list of `post`:

- near-duplicates (equal 16 tokens round the peak) are merged, the strongest stays;
- even places of what is left are `explain`, odd ones `test`; there is no `select`;
- **strong** is what is listed; **weak** are tokens of the same texts with |post| below 5 % of the peak.

No text is on both sides of a neuron: a `test` entry whose text, or the 16 tokens round whose peak, any combination has
in `explain` is dropped. Texts are printed up to the peak, so one text that begins another is taken for the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, QUANTITIES, NeuronId, Quantity, SignCombination, Split, Text
from neuronagent.errors import NotFoundError
from neuronagent.explain.evidence import Window
from neuronagent.hashing import uniform_bits
from neuronagent.published import IMPORTED, PublishedExample, PublishedNeuron, Trace

MINIMUM_LISTED = 6
"""Strong tokens that a side needs: a list of 16 gives 8 at most, and each merged or dropped entry takes one away."""
WEAK_SHARE = 0.05
_WEAK_PER_TEXT: Mapping[Split, int] = {Split.EXPLAIN: 8, Split.TEST: 3}
SIDES = (Split.EXPLAIN, Split.TEST)
_POST, _X_IN, _X_GATE = (QUANTITIES.index(q) for q in (Quantity.POST, Quantity.X_IN, Quantity.X_GATE))
_TEXT_SPAN = 2**20  # more tokens than a text has: makes a number of (text, position)

Windows = Mapping[SignCombination, Mapping[Split, tuple[Window, ...]]]


class PublishedTexts(Protocol):
    """The part of an index of published numbers that evidence needs."""

    def neuron(self, neuron: NeuronId) -> PublishedNeuron: ...
    def text(self, text_id: int) -> tuple[int, ...]: ...


@dataclass(frozen=True, kw_only=True)
class ImportedEvidence:
    """The windows of one neuron, by combination and side. `sides` says for each entry of a list of `post` where it
    went: None for one that entered no set."""

    published: PublishedNeuron
    strong: Windows
    weak: Windows
    sides: Mapping[SignCombination, tuple[Split | None, ...]]

    @property
    def neuron(self) -> NeuronId:
        return self.published.neuron

    def enough(self, combination: SignCombination) -> bool:
        """Whether both sides have enough strong tokens."""
        return all(len(self.strong[combination][side]) >= MINIMUM_LISTED for side in SIDES)

    def others(self, combination: SignCombination, side: Split) -> list[Window]:
        """The strong windows of all other combinations."""
        return [w for c, own in self.strong.items() if c is not combination for w in own[side]]


def gather_imported(texts: PublishedTexts, neuron: NeuronId, traces: Sequence[Trace]) -> ImportedEvidence:
    """The evidence about `neuron`; `traces` are all that the index has of it.

    Raises:
        NotFoundError: it was not imported.
    """
    published = texts.neuron(neuron)
    by_text = {trace.text: trace for trace in traces}
    strong: dict[SignCombination, dict[Split, list[Window]]] = {}
    for c in COMBINATIONS:
        strong[c] = _split(c, published.combinations[c].lists.get(Quantity.POST, ()), texts)
    learnt = [w for own in strong.values() for w in own[Split.EXPLAIN]]
    kept = {
        c: {
            Split.EXPLAIN: tuple(own[Split.EXPLAIN]),
            Split.TEST: tuple(w for w in own[Split.TEST] if not any(_overlap(w, seen) for seen in learnt)),
        }
        for c, own in strong.items()
    }
    weak = {c: {side: _weak(own[side], by_text, side) for side in SIDES} for c, own in kept.items()}
    return ImportedEvidence(
        published=published,
        strong=kept,
        weak=weak,
        sides={c: _sides(published.combinations[c].lists.get(Quantity.POST, ()), kept[c]) for c in COMBINATIONS},
    )


def _split(
    combination: SignCombination, entries: Sequence[PublishedExample], texts: PublishedTexts
) -> dict[Split, list[Window]]:
    """Windows of a list without near-duplicates, in turn for `explain` and `test`."""
    found: dict[Split, list[Window]] = {side: [] for side in SIDES}
    seen: set[tuple[int, ...]] = set()
    for entry in entries:
        if not entry.position:  # unknown, or 0: the same in every text
            continue
        try:
            token_ids = texts.text(entry.text)
        except NotFoundError:  # a data set's text: only its place in the corpus is known
            continue
        side = SIDES[len(seen) % 2]
        window = _window(entry.text, token_ids, side, entry.position, combination, entry.value)
        if window.fingerprint not in seen:
            seen.add(window.fingerprint)
            found[side].append(window)
    return found


def _window(
    text_id: int, token_ids: tuple[int, ...], side: Split, position: int, combination: SignCombination, post: float
) -> Window:
    text = Text(text_id=text_id, document="", split=side, first_token=text_id * _TEXT_SPAN, token_ids=token_ids)
    return Window(text=text, position=position, combination=combination, post=post)


def _overlap(a: Window, b: Window) -> bool:
    """Whether two windows have a text in common, as far as it was printed, or the tokens round the peak."""
    shorter, longer = sorted((a.text.token_ids, b.text.token_ids), key=len)
    return longer[: len(shorter)] == shorter or a.fingerprint == b.fingerprint


def _sides(entries: Sequence[PublishedExample], kept: Mapping[Split, Sequence[Window]]) -> tuple[Split | None, ...]:
    where = {(w.text.text_id, w.position): side for side, windows in kept.items() for w in windows}
    return tuple(where.get((entry.text, entry.position or 0)) for entry in entries)


def _weak(strong: Sequence[Window], traces: Mapping[int, Trace], side: Split) -> tuple[Window, ...]:
    """Weak tokens of the texts of `strong`, in an order that a hash gives, one text after another in turn."""
    ranked: list[tuple[int, int, Window]] = []
    for number, window in enumerate(strong):
        trace = traces.get(window.text.text_id)
        if trace is None or trace.start:
            continue
        candidates = _weak_positions(trace.values, abs(window.post))
        order = np.argsort(uniform_bits(IMPORTED, window.text.first_token + candidates), kind="stable")
        for turn, position in enumerate(candidates[order][: _WEAK_PER_TEXT[side]].tolist()):
            combination = _combination(trace.values[position])
            post = float(trace.values[position, _POST])
            weak = _window(window.text.text_id, window.text.token_ids, side, position, combination, post)
            ranked.append((turn, number, weak))
    return tuple(weak for _, _, weak in sorted(ranked, key=lambda item: item[:2]))


def _weak_positions(values: NDArray[np.float32], peak: float) -> NDArray[np.int64]:
    """Where |post| is below 5 % of the peak; not position 0, nor a token with an exact zero."""
    weak = (np.abs(values[:, _POST]) < WEAK_SHARE * peak) & (values[:, _X_GATE] != 0) & (values[:, _X_IN] != 0)
    weak[0] = False
    return np.flatnonzero(weak).astype(np.int64)


def _combination(values: NDArray[np.float32]) -> SignCombination:
    signs = (values[_X_GATE] > 0, values[_X_IN] > 0)
    return next(c for c in COMBINATIONS if (c.gate_sign > 0, c.in_sign > 0) == signs)
