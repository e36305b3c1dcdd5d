"""Which passages of a split are closest to a given one, by their words: BM25 over windows of 32 tokens.

    score(passage, query) = Σ over tokens t of the query  idf(t) · f·(k1 + 1) / (f + k1·(1 − b + b·length/average))
    idf(t) = log((N − n + ½) / (n + ½))

with f the number of t in the passage, n the passages of N that have t, k1 = 1.2, b = 0.75 (Robertson and Spärck Jones'
weight as in Okapi BM25). A token of more than half of the passages would count against them; it is left out.

A text is cut into passages from position 1 on; what is left at its end is one too if it is half a passage or the whole
text. The marked token of a passage is its last one, so that the causal view shows just what was found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.evidence import WINDOW

K1, B = 1.2, 0.75


class SimilarTexts:
    """The passages of some texts, inverted: for each token id where it occurs and what that is worth.

    Takes 8 bytes per distinct token of a passage, and 20 per passage.
    """

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        """`texts`: token ids, position 0 first, which is in no passage."""
        self.text, starts, lengths = _passages([len(ids) for ids in texts])
        self.marked = starts + lengths - 1
        """The place in its text of each passage's last token `[passages]`; `text` is the text's place in `texts`."""
        average = float(lengths.mean()) if len(lengths) else 1.0
        self._norm = (K1 * (1 - B + B * lengths / average)).astype(np.float32)
        self._invert(texts, starts, lengths)

    def __len__(self) -> int:
        return len(self.text)

    def _invert(self, texts: Sequence[Sequence[int]], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        shown = [
            np.array(texts[int(text)][start : start + length], dtype=np.int64)
            for text, start, length in zip(self.text, starts, lengths, strict=True)
        ]
        tokens = np.concatenate([np.empty(0, np.int64), *shown])
        passages = np.repeat(np.arange(len(shown)), lengths)
        keys, times = np.unique(tokens * max(1, len(shown)) + passages, return_counts=True)  # by token, then passage
        ids, self._passage = keys // max(1, len(shown)), (keys % max(1, len(shown))).astype(np.int32)
        self._ids, first, holding = np.unique(ids, return_index=True, return_counts=True)
        self._first = np.append(first, len(ids))
        idf = np.log((len(shown) - holding + 0.5) / (holding + 0.5))
        f = times.astype(np.float32)
        worth = f * np.float32(K1 + 1) / (f + self._norm[self._passage])
        self._worth = (worth * np.repeat(idf, holding)).astype(np.float32)
        self._counts = idf > 0

    def scores(self, query: Sequence[int]) -> NDArray[np.float32]:
        """The score of each passage `[passages]` for the token ids of `query`, as often as each occurs in it."""
        found = np.zeros(len(self), dtype=np.float32)
        asked, times = np.unique(np.array(query, dtype=np.int64), return_counts=True)
        places = np.searchsorted(self._ids, asked)
        for place, token, n in zip(places.tolist(), asked.tolist(), times.tolist(), strict=True):
            if place < len(self._ids) and self._ids[place] == token and self._counts[place]:
                postings = slice(int(self._first[place]), int(self._first[place + 1]))
                found[self._passage[postings]] += n * self._worth[postings]
        return found

    def closest(self, query: Sequence[int], n: int) -> NDArray[np.int64]:
        """The n passages that score highest, best first, equal ones by their place; passages that share no token that
        counts are left out."""
        scores = self.scores(query)
        if 0 < n < len(scores):
            least = np.partition(scores, len(scores) - n)[len(scores) - n]
            candidates = np.flatnonzero((scores >= least) & (scores > 0))
        else:
            candidates = np.flatnonzero(scores > 0)
        order = np.lexsort((candidates, -scores[candidates]))
        return candidates[order][:n]


def _passages(lengths: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each passage of texts of so many tokens: the text's place, the first position, the length."""
    found = [
        (text, start, min(WINDOW, length - start))
        for text, length in enumerate(lengths)
        for start in range(1, length, WINDOW)
        if start == 1 or 2 * (length - start) >= WINDOW
    ]
    text, start, length = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return text, start, length
