"""How strongly neurons fire in labelled texts, by sign combination: forward passes of which little is kept.

s = |post| in a combination, else 0. A text's value is its strongest token's, BOS left out; a labelled token's is its
own. Since post has the sign of act(x_gate)·x_in, the four maxima of a neuron over the tokens of a text are the largest
and smallest products of x_in with the positive and with the negative part of act(x_gate).

Texts are sorted by length and each is run once per call, only as far as the last layer that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.errors import InputError, ModelError, UsageError
from neuronagent.service.live.concept_items import LabelledText, named
from neuronagent.service.live.concept_statistics import Floats, rounded
from neuronagent.service.live.model import LiveModel, LiveText

if TYPE_CHECKING:
    from torch import Tensor

_SAME_WITH_THE_OTHER_IN = [1, 0, 3, 2]
"""The place of each combination when the sign of x_in is the other one."""


@dataclass(frozen=True)
class Placed:
    """A labelled text as the model reads it, and the place of the labelled token in it, None for the whole text."""

    text: LiveText
    token: int | None


@dataclass(frozen=True)
class Piece:
    """Neurons of a layer, in order."""

    layer: int
    neurons: NDArray[np.intp]


def place(live: LiveModel, items: Sequence[LabelledText]) -> list[Placed]:
    """The items as the model reads them.

    Raises:
        InputError: a text that is too long, or whose labelled token cannot be found; the item is named.
    """
    pieces = live.model.token_bytes() if items and items[0].span is not None else []
    found: list[Placed] = []
    for item in items:
        try:
            text = live.text(item.text)
        except UsageError as error:
            raise InputError(f"{named(item)}: {error.message}", remedy=error.remedy) from error
        token = None if item.span is None else token_at(text, [pieces[i] or b"" for i in text.ids], item)
        if item.span is not None and token is None:
            raise InputError(
                f"{named(item)}: the tokenizer changes this text, so that no token of it has a place",
                remedy="write the text in Unicode's form NFC and without special tokens, or label it as a whole",
            )
        found.append(Placed(text, token))
    return found


def token_at(text: LiveText, pieces: Sequence[bytes], item: LabelledText) -> int | None:
    """The last token of `text` that has a byte of the item's span; None where the tokens `pieces` are not the text."""
    assert item.span is not None
    whole, joined = _bytes(item.text), b"".join(pieces[text.first :])
    end = len(_bytes(item.text[: item.span[1]]))
    if joined != whole:
        if joined != b" " + whole:  # many tokenizers put a space in front
            return None
        end += 1
    ends = np.cumsum([len(piece) for piece in pieces[text.first :]])
    return text.first + int(np.searchsorted(ends, end))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


class _LastLayer(Exception):
    """Nothing is asked of the layers that follow."""


def values_of(
    live: LiveModel,
    items: Sequence[Placed],
    pieces: Sequence[Piece],
    *,
    batch_tokens: int | None = None,
    proceed: Callable[[], None] | None = None,
    told: Callable[[int], None] | None = None,
) -> list[Floats]:
    """What the neurons of each piece do in each item, `[items, neurons, 4]`, combinations of the index's signs.

    `proceed` is called before each batch, and may raise; `told` gets the number of tokens that were run with it.

    Raises:
        ModelError: a value is not finite, or the device has too little memory.
    """
    import torch

    values = [np.zeros((len(items), len(piece.neurons), 4), dtype=np.float32) for piece in pieces]
    work = _Work(live, pieces, values)
    for batch in _batches(items, batch_tokens or (32_768 if live.model.device.type == "cuda" else 4096)):
        if proceed is not None:
            proceed()
        try:
            work.run(batch)
        except torch.OutOfMemoryError as error:
            raise ModelError(f"{live.model.device} ran out of memory", remedy="use shorter texts or the cpu") from error
        if told is not None:
            told(sum(len(text.ids) for text in batch.texts))
    return values


@dataclass(frozen=True)
class _Batch:
    """Texts that are run together. `items` are places among all items, `rows` their texts' in the batch, `tokens` the
    labelled tokens, None where texts are labelled as a whole."""

    texts: list[LiveText]
    items: NDArray[np.intp]
    rows: NDArray[np.intp]
    tokens: NDArray[np.intp] | None


def _batches(items: Sequence[Placed], batch_tokens: int) -> Iterator[_Batch]:
    """Every text once, of like length; texts × longest ≤ `batch_tokens` unless a text is alone."""
    places: dict[tuple[int, ...], list[int]] = {}
    for number, item in enumerate(items):
        places.setdefault(item.text.ids, []).append(number)
    order = sorted(places, key=len)
    start = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and (end + 1 - start) * len(order[end]) <= batch_tokens:
            continue
        own = [(number, row) for row, ids in enumerate(order[start:end]) for number in places[ids]]
        numbers, rows = np.array(own, dtype=np.intp).T
        tokens = [items[number].token for number, _ in own]
        yield _Batch(
            texts=[items[places[ids][0]].text for ids in order[start:end]],
            items=numbers,
            rows=rows,
            tokens=None if tokens[0] is None else np.array(tokens, dtype=np.intp),
        )
        start = end


class _Work:
    """Runs batches and writes what is asked for into `values`."""

    def __init__(self, live: LiveModel, pieces: Sequence[Piece], values: Sequence[Floats]) -> None:
        self._live, self._last = live, max(piece.layer for piece in pieces)
        self._pieces: dict[int, list[tuple[Piece, Floats]]] = {}
        for piece, found in zip(pieces, values, strict=True):
            self._pieces.setdefault(piece.layer, []).append((piece, found))

    def run(self, batch: _Batch) -> None:
        first, lengths = batch.texts[0].first, [len(text.ids) for text in batch.texts]
        ids = self._live.batch(batch.texts)
        padding = None if min(lengths) == max(lengths) else _padding(lengths, first)

        def sink(layer: int, x_gate: Tensor, x_in: Tensor) -> None:
            for piece, found in self._pieces.get(layer, ()):
                gate, into = _chosen(x_gate, piece), _chosen(x_in, piece)
                found[batch.items] = self._settled(piece, self._values(batch, gate, into, first, padding))
            if layer == self._last:
                raise _LastLayer

        with suppress(_LastLayer):
            self._live.model.record(ids, sink)

    def _settled(self, piece: Piece, values: Floats) -> Floats:
        """`values` `[items, neurons, 4]` by the index's signs, and rounded."""
        if not np.isfinite(values).all():
            raise ModelError(
                f"{self._live.model.name} gives activations that are not finite", remedy="use another dtype or device"
            )
        flipped = np.flatnonzero(self._live.signs(piece.layer)[piece.neurons] < 0)
        values[:, flipped] = values[:, flipped][:, :, _SAME_WITH_THE_OTHER_IN]
        return rounded(values)

    def _values(self, batch: _Batch, gate: Tensor, into: Tensor, first: int, padding: Tensor | None) -> Floats:
        """`[items of the batch, neurons, 4]`."""
        import torch

        if batch.tokens is not None:
            place = tuple(torch.from_numpy(each).to(gate.device) for each in (batch.rows, batch.tokens))
            gate, into = gate[place][:, None], into[place][:, None]
            return self._strongest(gate, into).cpu().numpy()
        gate, into = gate[:, first:], into[:, first:]
        if padding is not None:
            into = into.masked_fill(padding.to(into.device), 0)
        return self._strongest(gate, into).cpu().numpy()[batch.rows]

    def _strongest(self, gate: Tensor, into: Tensor) -> Tensor:
        """Maxima over tokens: `[texts, tokens, neurons]` to `[texts, neurons, 4]`."""
        import torch

        act, into = self._live.model.activate(gate.float()), into.float()
        up, down = act.clamp(min=0) * into, act.clamp(max=0) * into
        sides = [up.amax(1), -up.amin(1), -down.amin(1), down.amax(1)]
        return torch.stack(sides, dim=-1).clamp_(min=0)


def _chosen(values: Tensor, piece: Piece) -> Tensor:
    import torch

    if len(piece.neurons) == values.shape[-1]:
        return values
    return values[..., torch.from_numpy(piece.neurons).to(values.device)]


def _padding(lengths: Sequence[int], first: int) -> Tensor:
    """Which tokens from `first` on are none, `[texts, tokens, 1]`."""
    import torch

    places = torch.arange(first, max(lengths))
    return (places[None, :] >= torch.tensor(lengths)[:, None])[:, :, None]
