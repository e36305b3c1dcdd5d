"""`post` of whole layers at the tokens of texts, batch by batch: what maps are fitted and scored on.

Texts of like length are read together, in an order that their lengths and places alone decide, so that a run that was
stopped continues with the same batches. Position 0 is left out where it is BOS (`TokenTexts.first`). Values are those
of the loaded model in its dtype, widened to float32, in the model's own signs.

With a context window of w tokens every token is read anew at the end of its last w tokens (BOS before them, as before
any text), so that nothing earlier can have reached it: w forward passes' worth of tokens for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.errors import ModelError
from neuronagent.models.gated import GatedModel
from neuronagent.service.devices import products
from neuronagent.service.predict.texts import TokenTexts

BATCH_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class TokenPlaces:
    """Where the T tokens of a batch are, `[T]` each, on the CPU: their ids, the ids before them (−1: none), positions
    in the text, places of the text in `TokenTexts.texts`, and numbers of the document."""

    ids: NDArray[np.int64]
    previous: NDArray[np.int64]
    positions: NDArray[np.int64]
    texts: NDArray[np.int64]
    documents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Activations:
    """`post` `[T, N]` float32 of each wanted layer at the tokens of one batch, on the layer's device."""

    places: TokenPlaces
    post: Mapping[int, Tensor]


@dataclass(frozen=True)
class Batch:
    """Rows of ids that are run together: `ids` `[B, T]` padded on the right, `kept` `[B, T]` which places count."""

    ids: NDArray[np.int64]
    kept: NDArray[np.bool_]
    places: TokenPlaces


def plan_batches(texts: TokenTexts, batch_tokens: int = BATCH_TOKENS) -> list[NDArray[np.int64]]:
    """Places of texts by batch, texts × longest ≤ `batch_tokens` unless a text is alone; texts without a token that
    counts are in none."""
    lengths = np.array([len(text.ids) for text in texts.texts], dtype=np.int64)
    found: list[NDArray[np.int64]] = []
    batch: list[int] = []
    for place in np.argsort(lengths, kind="stable").tolist():
        if lengths[place] <= texts.first:
            continue
        if batch and (len(batch) + 1) * lengths[place] > batch_tokens:
            found.append(np.array(batch))
            batch = []
        batch.append(place)
    return [*found, np.array(batch)] if batch else found


def make_batch(texts: TokenTexts, batch: NDArray[np.int64], context: int | None = None) -> Batch:
    """The rows of the texts `batch`: one per text, or with `context` one per token that counts."""
    rows = [(int(place), 0, len(texts.texts[place].ids)) for place in batch]
    if context is not None:
        first = texts.first
        rows = [
            (place, max(first, end - context), end) for place, _, length in rows for end in range(first + 1, length + 1)
        ]
    bos = texts.first if context is not None else 0
    ids = np.zeros((len(rows), max(end - start + bos for _, start, end in rows)), dtype=np.int64)
    kept = np.zeros(ids.shape, dtype=np.bool_)
    own: list[NDArray[np.int64]] = []
    for row, (place, start, end) in enumerate(rows):
        text = texts.texts[place]
        filled = end - start + bos
        ids[row, :bos] = text.ids[:bos]
        ids[row, bos:filled] = text.ids[start:end]
        counted = np.arange(texts.first, end) if context is None else np.array([end - 1])
        kept[row, filled - len(counted) : filled] = True
        before = np.where(counted > 0, text.ids[counted - 1], -1)
        named = (np.full(len(counted), number) for number in (place, text.document))
        own.append(np.stack([text.ids[counted], before, counted, *named]))
    read, previous, positions, where, documents = np.concatenate(own, axis=1)
    places = TokenPlaces(ids=read, previous=previous, positions=positions, texts=where, documents=documents)
    return Batch(ids, kept, places)


class _AllSeen(Exception):
    """The last layer that is wanted has been read: the rest of the forward pass is not needed."""


def run_batch(model: GatedModel, batch: Batch, layers: Collection[int]) -> Activations:
    """One forward pass, as far as the last of `layers`.

    Raises:
        ModelError: values that are not finite, or too little memory.
    """
    kept = torch.from_numpy(batch.kept)
    found: dict[int, Tensor] = {}
    last = max(layers)

    def sink(layer: int, x_gate: Tensor, x_in: Tensor) -> None:
        if layer in layers:
            there = kept.to(x_gate.device)
            post = (model.activate(x_gate[there]) * x_in[there]).float()
            if not bool(post.isfinite().all()):
                raise ModelError(f"layer {layer} of {model.name} has values that are not finite", remedy="use float32")
            found[layer] = post
        if layer == last:
            raise _AllSeen

    try:
        model.record(torch.from_numpy(batch.ids), sink)
    except _AllSeen:
        pass
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} ran out of memory on a batch of {batch.ids.size:,} tokens", remedy="lower --batch-tokens"
        ) from error
    return Activations(places=batch.places, post=found)


def activations(
    model: GatedModel,
    texts: TokenTexts,
    layers: Collection[int],
    *,
    context: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    batches: Sequence[NDArray[np.int64]] | None = None,
) -> Iterator[Activations]:
    """`post` of `layers` at all tokens of `texts`, or of those `batches` of it (`plan_batches`)."""
    planned: Iterable[NDArray[np.int64]] = plan_batches(texts, batch_tokens) if batches is None else batches
    with products("float32"):
        for batch in planned:
            for part in _parts(texts, batch, context, batch_tokens):
                yield run_batch(model, part, layers)


def _parts(texts: TokenTexts, batch: NDArray[np.int64], context: int | None, batch_tokens: int) -> Iterator[Batch]:
    """A batch of texts as it is; with a context window cut into rows that fit."""
    whole = make_batch(texts, batch, context)
    rows = max(1, batch_tokens // whole.ids.shape[1])
    if context is None or len(whole.ids) <= rows:
        yield whole
        return
    for start in range(0, len(whole.ids), rows):
        own = slice(start, start + rows)  # one kept place per row
        p = whole.places
        places = TokenPlaces(
            ids=p.ids[own], previous=p.previous[own], positions=p.positions[own], texts=p.texts[own],
            documents=p.documents[own],
        )  # fmt: skip
        yield Batch(whole.ids[own], whole.kept[own], places)
