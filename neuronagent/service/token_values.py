"""What chosen neurons do at chosen tokens: grouped forward passes, of which only those values are kept.

Every text is run once for all neurons, from position 0 and only as far as something is asked of it: a causal model's
tokens do not see what follows. Texts are sorted by that length, so that there is little padding. Values are taken as
the recorder takes them (`index.activation`): float32, x_in in the index's sign convention.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, Text
from neuronagent.errors import ModelError
from neuronagent.index.activation import activation_of
from neuronagent.models.gated import GatedModel
from neuronagent.service.devices import products
from neuronagent.service.options import BuildOptions

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Values:
    """`x_gate`, `x_in` and `act` of a neuron at its tokens, `[n]` each."""

    x_gate: Floats
    x_in: Floats
    act: Floats


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A neuron, its sign, and the corpus token numbers `[n]` that it is asked about."""

    neuron: NeuronId
    sign: int
    numbers: NDArray[np.int64]


class _LastLayer(Exception):
    """Nothing is asked of the layers that follow."""


def values_at(
    model: GatedModel,
    texts: Mapping[int, Text],
    asked: Sequence[Asked],
    *,
    batch_tokens: int,
    stop: threading.Event | None = None,
    told: Callable[[float], None] | None = None,
) -> list[Values] | None:
    """The values of each of `asked`; `texts` has all their tokens. None if `stop` was set before it was done.

    `told` gets the share of the tokens that were run.

    Raises:
        ModelError: a value is not finite, or the device has too little memory.
    """
    work = Work(list(texts.values()), asked, model.n_layers, batch_tokens)
    activate, done = activation_of(model.activation), 0
    for batch in range(len(work.batches)):
        if stop is not None and stop.is_set():
            return None
        _run(model, work, batch, activate)
        done += int(work.lengths[work.batches[batch]].sum())
        if told is not None:
            told(done / max(1, int(work.lengths.sum())))
    if not np.isfinite(work.values).all():
        raise ModelError(f"{model.name} gives activations that are not finite", remedy="use another dtype or device")
    found = np.split(work.values, np.cumsum([len(each.numbers) for each in asked])[:-1], axis=1)
    return [Values(x_gate=gate, x_in=into, act=act) for gate, into, act in found]


def values_of_index(
    model: GatedModel,
    info: Mapping[str, Any],
    texts: Mapping[int, Text],
    asked: Sequence[Asked],
    *,
    stop: threading.Event | None = None,
    told: Callable[[float], None] | None = None,
) -> list[Values] | None:
    """`values_at` as the index was made: in batches of its size for the device, its products as precise."""
    on_cuda = model.device.type == "cuda"
    options = BuildOptions(model="", text="", db="", device=str(model.device))
    with products(str(info["identity"]["dtype"]) if on_cuda else "float32"):
        return values_at(model, texts, asked, batch_tokens=options.tokens_per_batch, stop=stop, told=told)


class Work:
    """All that is asked, in the order in which it is run: `entries(batch, layer)` are places in `values` `[3, M]`."""

    def __init__(self, texts: list[Text], asked: Sequence[Asked], layers: int, batch_tokens: int) -> None:
        texts.sort(key=lambda text: text.first_token)
        self._texts = texts
        first = np.array([text.first_token for text in texts], dtype=np.int64)
        numbers = np.concatenate([np.empty(0, np.int64), *(each.numbers for each in asked)])
        sizes = [len(each.numbers) for each in asked]
        text = np.searchsorted(first, numbers, side="right") - 1
        self.position = (numbers - first[text]).astype(np.int32)
        self.lengths = np.zeros(len(texts), dtype=np.int64)
        np.maximum.at(self.lengths, text, self.position + 1)
        self.index = np.repeat(np.array([each.neuron.index for each in asked], dtype=np.int32), sizes)
        self.sign = np.repeat(np.array([each.sign for each in asked], dtype=np.float32), sizes)
        self.values = np.empty((3, len(numbers)), dtype=np.float32)
        self.batches = _batches(self.lengths, batch_tokens)
        batch, row = np.zeros((2, len(texts)), dtype=np.int32)
        for number, members in enumerate(self.batches):
            batch[members], row[members] = number, np.arange(len(members))
        self.row = row[text]
        layer = np.repeat(np.array([each.neuron.layer for each in asked], dtype=np.int32), sizes)
        key = batch[text] * layers + layer
        self._order = np.argsort(key, kind="stable")
        self._bounds = np.searchsorted(key[self._order], np.arange(len(self.batches) * layers + 1))
        self._layers = layers

    def entries(self, batch: int, layer: int) -> NDArray[np.int64]:
        start, end = self._bounds[batch * self._layers + layer :][:2]
        return self._order[start:end]

    def last_layer(self, batch: int) -> int:
        return max(layer for layer in range(self._layers) if len(self.entries(batch, layer)))

    def padded(self, batch: int) -> NDArray[np.int64]:
        members = self.batches[batch]
        ids = np.zeros((len(members), int(self.lengths[members].max())), dtype=np.int64)
        for row, text in enumerate(members.tolist()):
            length = int(self.lengths[text])
            ids[row, :length] = self._texts[text].token_ids[:length]
        return ids


def _run(model: GatedModel, work: Work, batch: int, activate: Callable[[torch.Tensor], torch.Tensor]) -> None:
    last = work.last_layer(batch)

    def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor) -> None:
        entries = work.entries(batch, layer)
        if len(entries):
            place = tuple(
                torch.from_numpy(array[entries].astype(np.int64)).to(x_gate.device)
                for array in (work.row, work.position, work.index)
            )
            gate = x_gate[place].float()
            into = x_in[place].float() * torch.from_numpy(work.sign[entries]).to(x_in.device)
            work.values[:, entries] = torch.stack([gate, into, activate(gate)]).cpu().numpy()
        if layer == last:
            raise _LastLayer

    ids = work.padded(batch)
    try:
        model.record(torch.from_numpy(ids), sink)
    except _LastLayer:
        pass
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} ran out of memory on a batch of {ids.size:,} tokens", remedy="use the cpu"
        ) from error


def _batches(lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Places of texts by batch, of like length; texts × longest ≤ `batch_tokens` unless a text is alone."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    starts = [0] if len(order) else []
    for place, longest in enumerate(lengths[order].tolist()):
        if place > starts[-1] and (place + 1 - starts[-1]) * longest > batch_tokens:
            starts.append(place)
    return [order[start:end] for start, end in pairwise([*starts, len(order)])]
