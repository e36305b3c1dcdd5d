"""Which tokens of which texts a neuron is run on, so that every item set of `items` is there; and what is kept of it.

Per combination that `test` has enough strong tokens of:

1. P, and the strong tokens of the other combinations, in `test`: the full view, for wrong marks and for whether the
   other combinations' passages are free of this one; P's causal view, to simulate. Random windows: both views.
2. Some of P and of the random windows in `select`: the causal view, to fit the one calibration that there is.
3. Candidates for the sets that need the model, three times as many as wanted, each from a text of its own:
   N2 the tokens of P's peaks in other texts, by smallest u, the peaks in turn;
   N3 the passages that are closest to P's causal windows by BM25, the windows in turn;
   same texts: tokens of P's texts by smallest u, the texts in turn.

`settle` keeps, in this order, the first that are weak and the first of which the full view shows weak tokens alone.

All is a pure function of index and neuron. Candidates are looked for in at most a million tokens of the split, of texts
evenly spaced over all. A near-duplicate of a strong window is no candidate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import QUANTITIES, Quantity, SignCombination, Split, Text, View
from neuronagent.explain.evidence import CombinationEvidence, NeuronEvidence, Strength, Window, fingerprint
from neuronagent.explain.items import DEFAULT_SIZES, FURTHER, N2, N3, SAME_TEXTS, shows_nothing, spread
from neuronagent.explain.similar_texts import SimilarTexts
from neuronagent.explain.traced import TracedTokens
from neuronagent.hashing import uniform_bits

CORPUS_TOKENS = 1_000_000
SIZES = DEFAULT_SIZES
TRIED = 3
"""Candidates per wanted item."""
FITTED = 10
"""Windows of P, and random ones, that a calibration is fitted on."""
_QUERIES = 10
_POST, _X_IN, _X_GATE, _ACT = map(QUANTITIES.index, (Quantity.POST, Quantity.X_IN, Quantity.X_GATE, Quantity.ACT))


class TraceCorpus:
    """The texts of `test` in which negatives are looked for: about `CORPUS_TOKENS` of them."""

    def __init__(self, texts: Sequence[Text], salt: str) -> None:
        self.texts = texts
        self.salt = salt
        self.similar = SimilarTexts([text.token_ids for text in self.texts])
        lengths = [len(text.token_ids) - 1 for text in self.texts]
        ids = np.fromiter(chain.from_iterable(t.token_ids[1:] for t in self.texts), np.int64, sum(lengths))
        self._text = np.repeat(np.arange(len(lengths)), lengths)
        self._position = np.concatenate([np.empty(0, np.int64), *(np.arange(1, n + 1) for n in lengths)])
        first = np.array([text.first_token for text in self.texts], dtype=np.int64)
        order = np.lexsort((uniform_bits(salt, first[self._text] + self._position), ids))
        self._ids, self._text, self._position = ids[order], self._text[order], self._position[order]

    def occurrences(self, token_id: int) -> Iterator[tuple[Text, int]]:
        """Where a token occurs, smallest u first; position 0 left out."""
        start, end = np.searchsorted(self._ids, (token_id, token_id + 1))
        for place in range(start, end):
            yield self.texts[int(self._text[place])], int(self._position[place])

    def closest(self, window: Window, n: int) -> Iterator[tuple[Text, int]]:
        """The last tokens of the passages that are closest to what the causal view of `window` shows."""
        for passage in self.similar.closest(window.before, n).tolist():
            yield self.texts[int(self.similar.text[passage])], int(self.similar.marked[passage])

    def anywhere(self, text: Text) -> Iterator[tuple[Text, int]]:
        """The tokens of a text, smallest u first; position 0 left out."""
        numbers = text.first_token + np.arange(1, len(text.token_ids), dtype=np.int64)
        for place in np.argsort(uniform_bits(self.salt, numbers), kind="stable").tolist():
            yield text, place + 1


@dataclass(frozen=True, kw_only=True)
class TracePlan:
    """The tokens to run a neuron on: corpus token `numbers` `[n]`, ascending; `texts` has those that they are in.

    `wanted` are the ranges of numbers that are kept whatever they show; `candidates` the windows that may become items
    (their combination and post are not known yet), by combination and set.
    """

    evidence: NeuronEvidence
    numbers: NDArray[np.int64]
    texts: Mapping[int, Text]
    wanted: tuple[tuple[int, int], ...]
    candidates: Mapping[SignCombination, Mapping[str, tuple[Window, ...]]]


def plan(evidence: NeuronEvidence, corpus: TraceCorpus) -> TracePlan:
    """Which tokens `evidence.neuron` is to be run on. Nothing where no combination has enough examples."""
    own = {c: found for c, found in evidence.combinations.items() if found.enough(Split.TEST)}
    candidates = {c: _candidates(found, corpus) for c, found in own.items()}
    wanted = dict.fromkeys(_wanted(evidence, list(own.values()))) if own else {}
    tried = [window for sets in candidates.values() for windows in sets.values() for window in windows]
    tried += _random(evidence) if own else []
    ranges = [*wanted, *((window, View.FULL) for window in tried)]
    spans = [_numbers(window, view) for window, view in ranges]
    spans += [(window.number, window.number + 1) for window in tried]  # a passage may end before its marked token
    return TracePlan(
        evidence=evidence,
        numbers=np.unique(np.concatenate([np.empty(0, np.int64), *(np.arange(*span) for span in spans)])),
        texts={window.text.text_id: window.text for window, _ in ranges},
        wanted=tuple(_numbers(window, view) for window, view in wanted),
        candidates=candidates,
    )


def settle(
    planned: TracePlan, x_gate: NDArray[np.float32], x_in: NDArray[np.float32], act: NDArray[np.float32]
) -> TracedTokens:
    """What is kept of the values at `planned.numbers` `[n]` each, in the index's sign convention.

    They are rounded to 16 binary digits first, so that what is stored takes three quarters of the room.
    """
    values = np.empty((len(planned.numbers), len(QUANTITIES)), dtype=np.float32)
    values[:, _X_GATE], values[:, _X_IN], values[:, _ACT] = (rounded(array) for array in (x_gate, x_in, act))
    values[:, _POST] = values[:, _ACT] * values[:, _X_IN]
    everything = TracedTokens(numbers=planned.numbers, values=values, sets={})
    kept = list(planned.wanted)
    sets: dict[SignCombination, dict[str, tuple[int, ...]]] = {}
    for c, candidates in planned.candidates.items():
        own = planned.evidence.combinations[c]
        for name, windows in candidates.items():
            chosen, clear = _chosen(windows, own, everything, SIZES.further(name))
            sets.setdefault(c, {})[name] = tuple(window.number for window in chosen)
            kept += [(window.number, window.number + 1) for window in chosen]
            kept += [_numbers(window, View.FULL) for window in clear]
        random = (w for w in _random(planned.evidence) if own.strength(w) is Strength.WEAK)
        clear = (w for w in random if shows_nothing(everything, own, w))
        kept += [_numbers(window, View.FULL) for window in islice(clear, SIZES.random)]
    places = np.unique(np.concatenate([np.empty(0, np.int64), *(np.arange(*span) for span in kept)]))
    held = np.isin(planned.numbers, places, assume_unique=True)
    return TracedTokens(numbers=planned.numbers[held], values=values[held], sets={Split.TEST: sets})


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers of 16 binary digits: a float32 whose last byte is 0."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7F) + ((bits >> np.uint32(8)) & np.uint32(1))) & np.uint32(0xFFFFFF00)).view(np.float32)


def _chosen(
    windows: Sequence[Window], own: CombinationEvidence, traced: TracedTokens, n: int
) -> tuple[list[Window], list[Window]]:
    """Of the candidates those that become items, and those of them of which the full view is kept."""
    measured: list[Window] = []
    for window in windows:
        found = traced.at(window.number)
        if found is not None and found[0] is not None:
            measured.append(replace(window, combination=found[0], post=found[1]))
    weak = [window for window in measured if own.strength(window) is Strength.WEAK]
    clear = list(islice((window for window in weak if shows_nothing(traced, own, window)), n))
    first = {window.number for window in (*weak[:n], *clear)}
    return [window for window in weak if window.number in first], clear


def _wanted(evidence: NeuronEvidence, own: Sequence[CombinationEvidence]) -> Iterator[tuple[Window, View]]:
    """The windows that are known from the index and the views that are needed of them."""
    for found in evidence.combinations.values():
        n = SIZES.positive if found in own else SIZES.per_other
        yield from ((window, View.FULL) for window in spread(found.strong[Split.TEST], n))
    for found in own:
        yield from ((window, View.CAUSAL) for window in spread(found.strong[Split.TEST], SIZES.positive))
        yield from ((window, View.CAUSAL) for window in spread(found.strong[Split.SELECT], FITTED))
    yield from ((window, View.CAUSAL) for window in evidence.random[Split.TEST][: SIZES.random])
    yield from ((window, View.CAUSAL) for window in evidence.random[Split.SELECT][:FITTED])


def _random(evidence: NeuronEvidence) -> list[Window]:
    return list(evidence.random[Split.TEST][: TRIED * SIZES.random])


def _candidates(own: CombinationEvidence, corpus: TraceCorpus) -> dict[str, tuple[Window, ...]]:
    strong, c = own.strong[Split.TEST], own.combination
    positive = spread(strong, SIZES.positive)
    texts = {window.text.text_id for window in strong}
    duplicates = {window.fingerprint for windows in own.strong.values() for window in windows}
    n = {name: TRIED * SIZES.further(name) for name in FURTHER}

    def elsewhere(found: Iterable[tuple[Text, int]], *, passages: bool) -> Iterator[Window]:
        for text, position in found:
            window = Window(text=text, position=position, combination=c, post=0.0)
            window = replace(window, shown=window.span(View.CAUSAL)) if passages else window
            if text.text_id not in texts and not _is_duplicate(window, duplicates):
                yield window

    peaks = dict.fromkeys(window.text.token_ids[window.position] for window in positive)
    occurrences = {t: elsewhere(corpus.occurrences(t), passages=False) for t in peaks}
    in_turn = [occurrences[window.text.token_ids[window.position]] for window in positive]
    closest = [elsewhere(corpus.closest(w, 4 * n[N3]), passages=True) for w in positive[:_QUERIES]]
    marked = {window.number for window in strong}
    same = [
        (Window(text=text, position=position, combination=c, post=0.0) for text, position in corpus.anywhere(w.text))
        for w in positive
    ]
    return {
        N2: tuple(islice(_one_per_text(_turns(in_turn)), n[N2])),
        N3: tuple(islice(_one_per_text(_turns(closest)), n[N3])),
        SAME_TEXTS: tuple(islice((w for w in _turns(same) if w.number not in marked), n[SAME_TEXTS])),
    }


def _is_duplicate(window: Window, fingerprints: set[tuple[int, ...]]) -> bool:
    """Whether a strong window stands, word for word, round the marked token or anywhere in what `shown` says."""
    start, end = window.shown or (window.position, window.position + 1)
    return any(fingerprint(window.text, position) in fingerprints for position in range(start, end))


def _turns(several: Sequence[Iterator[Window]]) -> Iterator[Window]:
    """One of each in turn. An iterator that stands there twice has two turns."""
    for turn in zip_longest(*several):
        yield from (window for window in turn if window is not None)


def _one_per_text(windows: Iterable[Window]) -> Iterator[Window]:
    seen: set[int] = set()
    for window in windows:
        if window.text.text_id not in seen:
            seen.add(window.text.text_id)
            yield window


def _numbers(window: Window, view: View) -> tuple[int, int]:
    start, end = window.span(view)
    return window.text.first_token + start, window.text.first_token + end
