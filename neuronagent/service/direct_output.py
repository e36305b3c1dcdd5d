"""What a neuron adds to the logits directly, sign · W_U·w_out, for the score of claimed output tokens.

Weights are read from the model's files, where they still are: an index keeps only the tokens at both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, Score, SignCombination, Split
from neuronagent.explain.scorers.output import output_score, output_unknown
from neuronagent.service.indexed_model import check_same, model_at_hand
from neuronagent.service.lookup import Index
from neuronagent.service.scoring import seed_of

if TYPE_CHECKING:
    from neuronagent.models.weights import ModelWeights

_NO_TEXT = "\ufffd"  # in place of bytes that are none: many ids would read the same
NO_MODEL = "the model's files are not at hand: their weights say what is promoted"


class OutputTokens:
    """The tokens of an index, as what a neuron may be claimed to promote."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each token occurs in the corpus `[V]`."""
        return np.stack([self._index.reader.token_counts(split) for split in Split]).sum(axis=0)

    @cached_property
    def unknown(self) -> NDArray[np.bool_]:
        """Which ids are no token `[V]`."""
        return np.array([token is None for token in self._tokens], dtype=np.bool_)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token ids by their text; of several with one text the first. What is no text on its own is not among them."""
        ids: dict[str, int] = {}
        for number, token in enumerate(self._tokens):
            text = "" if token is None else token.decode("utf-8", errors="replace")
            if text and _NO_TEXT not in text:
                ids.setdefault(text, number)
        return ids

    @cached_property
    def _tokens(self) -> list[bytes | None]:
        return self._index.reader.token_bytes(range(len(self.counts)))


class DirectOutput:
    """The direct effects of an index's neurons."""

    def __init__(self, index: Index) -> None:
        self._index, self._tokens = index, OutputTokens(index)
        self._layer = lru_cache(maxsize=1)(self._read_layer)

    def scores(
        self, neuron: NeuronId, c: SignCombination, promoted: Sequence[str], suppressed: Sequence[str]
    ) -> list[Score]:
        """The scores of tokens that are claimed to be promoted and suppressed in a combination."""
        if self._index.is_imported or self._model is None:
            return output_unknown(NO_MODEL, seed=seed_of(neuron, c))
        sign = self._index.reader.neuron(neuron).sign * c.write_sign
        logits = sign * self._unembedding @ self._layer(neuron.layer)[neuron.index]
        logits[self._tokens.unknown] = np.nan
        up, down = ([self._tokens.ids.get(token) for token in tokens] for tokens in (promoted, suppressed))
        return output_score(up, down, logits, self._tokens.counts, seed=seed_of(neuron, c))

    @cached_property
    def _model(self) -> str | None:
        return model_at_hand(self._index.info)

    @cached_property
    def _weights(self) -> ModelWeights:
        from neuronagent.models.bridge import open_model

        weights = open_model(self._model or "")
        check_same(self._index.info, weights, self._model or "")
        return weights

    @cached_property
    def _unembedding(self) -> NDArray[np.float32]:
        return self._weights.unembedding().numpy()

    def _read_layer(self, layer: int) -> NDArray[np.float32]:
        return self._weights.processed_layer(layer, post_norm=self._index.info["post_norm"]).w_out.numpy()
