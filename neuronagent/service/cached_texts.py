"""The texts that neurons are read with: those read lately are kept, since neurons share the texts of their samples."""

from __future__ import annotations

from neuronagent.domain import NeuronId, NeuronRecord, Text
from neuronagent.store.reader import IndexReader
from neuronagent.store.traced import StoredTokens

_TEXTS_KEPT = 4096


class CachedTexts:
    """An index as `evidence.Corpus`. Without `traced`, nothing that was traced before is seen."""

    def __init__(self, reader: IndexReader, *, traced: bool = True) -> None:
        self.locate, self._traced = reader.locate, traced
        self._reader = reader
        self._texts: dict[int, Text] = {}

    def neuron(self, neuron: NeuronId) -> NeuronRecord:
        """The record; the texts of its lists and samples are read with it, all at once."""
        record = self._reader.neuron(neuron)
        entries = (
            entry
            for own in record.combinations.values()
            for lists in (own.post_by_split, own.uniform, own.weighted)
            for found in lists.values()
            for entry in found
        )
        self._load({self.locate(entry.token_number)[0] for entry in entries})
        return record

    def traced_tokens(self, neuron: NeuronId) -> StoredTokens | None:
        return self._reader.traced_tokens(neuron) if self._traced else None

    def text(self, text_id: int) -> Text:
        if text_id not in self._texts:
            self._load({text_id})
        return self._texts[text_id]

    def _load(self, ids: set[int]) -> None:
        known = {text_id: self._texts.pop(text_id) for text_id in ids & self._texts.keys()}
        self._texts |= known | self._reader.texts_of(ids - known.keys())  # what was asked for last is last
        for text_id in list(self._texts)[: max(0, len(self._texts) - _TEXTS_KEPT)]:
            del self._texts[text_id]
