"""The loaded model beside its index: what every live question is asked of.

The index's conventions apply on the way in and out: texts begin with BOS as the corpus's did, and x_in and post have
the index's signs. Nothing here writes to the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, token_text
from neuronagent.errors import UsageError
from neuronagent.service.indexed_model import indexed_model
from neuronagent.service.lookup import Index

if TYPE_CHECKING:
    import torch

    from neuronagent.models.gated import GatedModel

MAX_TOKENS = 1_024
"""Of a text, BOS included, if the model does not read fewer."""
_LONGEST_TOKEN = 64
"""Bytes of a token, generously: a text that must be too long is refused before it is tokenised."""


@dataclass(frozen=True)
class LiveText:
    """A text as the model reads it: `ids` and what each stands for; `first` is 1 where position 0 is BOS, else 0."""

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    first: int


class LiveModel:
    """An open index and the model that it was made from."""

    def __init__(self, index: Index, model: GatedModel) -> None:
        self.index, self.model = index, model
        self._signs: dict[int, NDArray[np.int8]] = {}
        self._frequencies: dict[int, NDArray[np.float64]] = {}

    @property
    def bos(self) -> int | None:
        """What every text begins with, as the corpus's texts did."""
        return None if str(self.index.info.get("bos")) == "none" else self.model.bos_id

    @property
    def max_tokens(self) -> int:
        return min(MAX_TOKENS, self.model.max_positions)

    def text(self, text: str, *, max_tokens: int | None = None) -> LiveText:
        """`text` as token ids, BOS first.

        Raises:
            UsageError: nothing in it, or more than `max_tokens` (default: what a live question may have).
        """
        allowed = self.max_tokens if max_tokens is None else max_tokens
        bos = [] if self.bos is None else [self.bos]
        remedy = f"allowed: {allowed:,} tokens, BOS included"
        if len(text) > allowed * _LONGEST_TOKEN:
            raise UsageError(f"the text has {len(text):,} characters", remedy=remedy)
        ids = [*bos, *self.model.encode([text.encode("utf-8", "replace").decode()])[0]]
        if len(ids) == len(bos):
            raise UsageError("the text is empty", remedy="give at least one token")
        if len(ids) > allowed:
            raise UsageError(f"the text has {len(ids):,} tokens", remedy=remedy)
        return LiveText(tuple(ids), tuple(self.tokens(ids)), len(bos))

    def tokens(self, ids: list[int]) -> list[str]:
        """What token ids stand for; bytes that are no UTF-8 on their own as `\\xe2`."""
        return [token_text(self._token_bytes[i]) for i in ids]

    def token_id(self, text: str) -> int:
        """The id of the single token that `text` is, its spaces included.

        Raises:
            UsageError: it is none, or several.
        """
        ids = self.model.encode([text])[0] if text else []
        same = [i for i in self.index.reader.find_tokens(text) if self._token_bytes[i] == text.encode()] if text else []
        if len(ids) == 1:
            return ids[0]
        if len(same) == 1:  # a tokenizer that puts a space before everything never writes this one by itself
            return same[0]
        parts = ", ".join(repr(part) for part in self.tokens(ids)[:6])
        raise UsageError(
            f"{text[:40]!r} is no single token of this model" + (f" but {parts}" if parts else ""),
            remedy="name one token, its leading space included, such as ' again'",
        )

    def batch(self, texts: list[LiveText]) -> torch.Tensor:
        """Texts as `[texts, tokens]`, padded on the right."""
        import torch

        ids = torch.zeros((len(texts), max(len(text.ids) for text in texts)), dtype=torch.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
        return ids

    def sign(self, neuron: NeuronId) -> int:
        """The factor that takes x_in and post of the model to those of the index, and back."""
        return int(self.signs(neuron.layer)[neuron.index])

    def signs(self, layer: int) -> NDArray[np.int8]:
        """The factors of a layer's neurons, `[N]`."""
        if layer not in self._signs:
            self._signs[layer] = self.index.reader.signs(layer)
        return self._signs[layer]

    def frequencies(self, layer: int) -> NDArray[np.float64]:
        """Shares of the corpus's tokens by sign combination, `[N, 4]`; NaN where the index has no corpus."""
        if layer not in self._frequencies:
            self._frequencies[layer] = self.index.reader.frequencies(layer)
        return self._frequencies[layer]

    def neuron_id(self, neuron: str | NeuronId) -> NeuronId:
        """A neuron that exists.

        Raises:
            UsageError, NotFoundError: it is no neuron's name, or the index does not have it.
        """
        found = neuron if isinstance(neuron, NeuronId) else NeuronId.parse(neuron)
        if not 0 <= found.index < self.index.reader.layers().get(found.layer, 0):
            self.index.reader.neuron(found)  # says what there is
        return found

    @cached_property
    def _token_bytes(self) -> list[bytes | None]:
        return self.model.token_bytes()


def open_live(index: Index, model: str | None = None, *, device: str = "auto", dtype: str | None = None) -> LiveModel:
    """`index` with its model loaded: from `model` (a folder or a name on the hub), None for where it was indexed.
    `dtype` None: float32 on the CPU, where small effects then are exact, elsewhere what it was indexed in.

    Raises:
        UsageError: an index of published numbers, which no model belongs to.
        IndexMismatchError: another model than the one that was indexed.
        ModelError: it is not there any more, or cannot be loaded.
    """
    if index.is_imported:
        raise UsageError(
            "this index holds imported numbers: no model belongs to it",
            remedy="index the model itself (neuronagent index MODEL --text SOURCE)",
        )
    if dtype is None and _on_cpu(device):
        dtype = "float32"
    return LiveModel(index, indexed_model(index.info, model, device, dtype))


def _on_cpu(device: str) -> bool:
    import torch

    return device == "cpu" or (device == "auto" and not torch.cuda.is_available())
