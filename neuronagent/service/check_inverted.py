"""Whether the inverted table says what the neurons' own lists say, for a sample of tokens: each neuron that has
the token among its nearest, or as the peak of a listed example, and no other."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, VECTORS
from neuronagent.service.check_corpus import Facts
from neuronagent.service.ledger import Ledger
from neuronagent.store.blocks import BlockReader, NeuronBlock
from neuronagent.store.inverted import KINDS

SAMPLED = 24

_NOTHING = (np.zeros(0, np.uint32), np.zeros(0, np.float32))

Found = dict[tuple[int, int], float]
"""The strongest score by (token id, ordinal)."""


class InvertedCheck:
    """Takes in the blocks of an index and compares the sampled tokens, when it has seen all."""

    def __init__(self, facts: Facts) -> None:
        vocabulary = len(facts.norms)
        drawn = random.Random(0).sample(range(vocabulary), min(SAMPLED, vocabulary))
        peaks = facts.tokens[: 200 * SAMPLED]
        drawn += random.Random(0).sample(peaks.tolist(), min(SAMPLED, len(peaks)))  # nearly all of them frequent
        self._sampled = np.unique(drawn)
        self._chosen = np.zeros(vocabulary + 1, bool)  # the last place is for ids that are none
        self._chosen[self._sampled[self._sampled < vocabulary]] = True
        self._facts = facts
        self._found: dict[str, Found] = {kind: {} for kind in KINDS}

    def add(self, block: NeuronBlock) -> None:
        """Take in a block."""
        ordinals = block.columns["ordinal"].astype(np.int64)
        for place in range(len(VECTORS)):
            for side in range(2):
                self._take(
                    KINDS[2 * place + side], ordinals, block.ids[:, 0, place, side], block.scores[:, 0, place, side]
                )
        if block.recorded is None:
            return
        n, c, _, k = block.recorded.lists.shape
        posts = block.recorded.lists[:, :, :3].reshape(n, c, 3 * k)
        kept = np.sort(posts, axis=2)[:, :, ::-1][:, :, :k]  # the overall list: the k strongest of all splits
        numbers = np.where(kept >= 0, 0xFFFFFFFF - (kept & 0xFFFFFFFF), -1)
        inside = (numbers >= 0) & (numbers < len(self._facts.tokens))
        ids = np.where(inside, self._facts.tokens[np.where(inside, numbers, 0)].astype(np.int64), -1)
        values = np.where(inside, kept >> 32, 0).astype(np.uint32).view(np.float32)
        for place, combination in enumerate(COMBINATIONS):
            self._take(combination.value, ordinals, ids[:, place], values[:, place])

    def _take(
        self, kind: str, ordinals: NDArray[np.int64], ids: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> None:
        """`ids`, `scores` `[N, k]`, −1 for an empty place."""
        found, outside = self._found[kind], len(self._chosen) - 1
        rows, places = np.nonzero(self._chosen[np.where((ids >= 0) & (ids < outside), ids, outside)])
        hits = zip(ids[rows, places].tolist(), ordinals[rows].tolist(), scores[rows, places].tolist(), strict=True)
        for token, ordinal, score in hits:
            held = found.get((token, ordinal))
            if held is None or abs(score) > abs(held):
                found[token, ordinal] = score

    def compare(self, reader: BlockReader, ledger: Ledger) -> None:
        """Look every sampled token up.

        Raises:
            StorageError: the index cannot be read.
        """
        for kind, found in self._found.items():
            by_token: dict[int, dict[int, float]] = {}
            for (token, ordinal), score in found.items():
                by_token.setdefault(token, {})[ordinal] = score
            table = reader.inverted(kind, self._sampled.tolist())
            for token in self._sampled.tolist():
                ordinals, scores = table.get(token, _NOTHING)
                stored, expected = dict(zip(ordinals.tolist(), scores.tolist(), strict=True)), by_token.get(token, {})
                holds = stored == expected and len(stored) == len(ordinals)
                counts = f"{len(ordinals)} neurons in the table, {len(expected)} by their lists"
                ledger("a search by token finds what the lists hold", holds, f"token {token} {kind}", counts)
