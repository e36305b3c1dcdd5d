"""`post` of whole layers at the tokens of texts, batch by batch: what maps are fitted and scored on.

Texts of like length are read together, in an order that their lengths and places alone decide, so that a run that was
stopped continues with the same batches. Position 0 is left out where it is BOS (`TokenTexts.first`). Values are those
of the loaded model in its dtype, widened to float32, in the model's own signs.

With a context window of w tokens every token is read anew at the end of its last w tokens (BOS before them, as before
any text), so that nothing earlier can have reached it: w forward passes' worth of tokens for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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


def plan_batches(
    texts: TokenTexts, batch_tokens: int = BATCH_TOKENS, *, by_document: bool = False
) -> list[NDArray[np.int64]]:
    """Places of texts by batch, texts × longest ≤ `batch_tokens` unless a text is alone; texts without a token that
    counts are in none. `by_document`: the texts of a document follow each other, at the cost of some padding."""
    lengths = np.array([len(text.ids) for text in texts.texts], dtype=np.int64)
    order = _by_document(texts, lengths) if by_document else np.argsort(lengths, kind="stable")
    found: list[NDArray[np.int64]] = []
    batch: list[int] = []
    longest = 0
    for place in order.tolist():
        if lengths[place] <= texts.first:
            continue
        longest = max(longest, int(lengths[place]))
        if batch and (len(batch) + 1) * longest > batch_tokens:
            found.append(np.array(batch))
            batch, longest = [], int(lengths[place])
        batch.append(place)
    return [*found, np.array(batch)] if batch else found


def _by_document(texts: TokenTexts, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of texts by the longest text of their document, by document, by length."""
    documents = np.array([text.document for text in texts.texts], dtype=np.int64)
    _, own = np.unique(documents, return_inverse=True)
    longest = np.zeros(len(lengths), dtype=np.int64)
    np.maximum.at(longest, own, lengths)
    return np.lexsort((lengths, documents, longest[own]))


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


def _taking(kept: NDArray[np.bool_]) -> Callable[[Tensor], Tensor]:
    """Takes the places that count out of `[B, T, N]`, row by row: as `[B, T − first, N]` without a copy where nothing
    is padded, else as `[places, N]`."""
    first = int(kept[0].argmax())
    if kept[:, first:].all() and not kept[:, :first].any():
        return lambda values: values[:, first:]
    places = torch.from_numpy(np.flatnonzero(kept))
    return lambda values: values.flatten(0, 1).index_select(0, places.to(values.device))


class _AllSeen(Exception):
    """The last layer that is wanted has been read: the rest of the forward pass is not needed."""


def run_batch(model: GatedModel, batch: Batch, layers: Collection[int]) -> Activations:
    """One forward pass, as far as the last of `layers`.

    Raises:
        ModelError: values that are not finite, or too little memory.
    """
    found: dict[int, Tensor] = {}
    last = max(layers)
    taken = _taking(batch.kept)

    def sink(layer: int, x_gate: Tensor, x_in: Tensor) -> None:
        if layer in layers:
            # The product of a fresh tensor in place: what the model computes itself, without another copy.
            post = model.activate(taken(x_gate)).mul_(taken(x_in)).float().flatten(0, -2)
            if not math.isfinite(sum(float(end) for end in torch.aminmax(post))):
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
            for part in parts(texts, batch, context, batch_tokens):
                yield run_batch(model, part, layers)


def parts(texts: TokenTexts, batch: NDArray[np.int64], context: int | None, batch_tokens: int) -> Iterator[Batch]:
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
