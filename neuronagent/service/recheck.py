"""Runs a sample of an index's stored values through the live model again: (text, position, neuron) must reproduce them.

A stored post, x_in or x_gate is compared with that of a fresh forward pass over its text, in the index's sign
convention. Other batches round differently: float32 agrees to 1e-4 of the value and of the typical size of the
neuron's values at that text, half precision to 5e-2.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuronagent.domain import COMBINATIONS, LISTED, NeuronId, Quantity
from neuronagent.service.indexed_model import check_same
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress

if TYPE_CHECKING:
    from neuronagent.models.gated import GatedModel
    from neuronagent.service.ledger import Ledger

SAMPLED = 48
"""Neurons and combinations looked at; one entry of each of its three lists."""
_TOLERANCE = {"float32": 1e-4}
_HALF = 5e-2
NAME = "stored values are those of the live model"


@dataclass(frozen=True, kw_only=True)
class _Stored:
    neuron: NeuronId
    quantity: Quantity
    value: float
    sign: int
    position: int


def check_live(index: Index, model_folder: str, ledger: Ledger, progress: Progress) -> None:
    """Compare a sample, the same every time, with the model in `model_folder`.

    Raises:
        IndexMismatchError: another model than the one that was indexed.
        ModelError: it cannot be loaded.
    """
    from neuronagent.models.bridge import load_model
    from neuronagent.service.recheck_weights import check_live_weights

    said = index.info["model"]
    progress.start("loading the model", 0, "")
    model = load_model(model_folder, dtype=said["dtype"])
    check_same(index.info, model, model_folder)
    progress.start("weights again", 0, "")
    check_live_weights(index, model, ledger)
    by_text = _sample(index)
    if not by_text:  # no text was recorded
        return
    progress.start("running texts again", len(by_text), "texts")
    tolerance = _TOLERANCE.get(index.info["identity"].get("dtype"), _HALF)
    for done, (text_id, wanted) in enumerate(sorted(by_text.items()), 1):
        for stored, found, scale in _again(index, model, text_id, wanted):
            holds = abs(stored.value - found) <= tolerance * max(abs(stored.value), scale)
            where = f"{stored.neuron} {stored.quantity.value} at position {stored.position} of text {text_id}"
            ledger(NAME, holds, where, stored.value, found)
        progress.advance(done)


def _sample(index: Index) -> dict[int, list[_Stored]]:
    """Stored values by text, of neurons drawn with a fixed seed."""
    draw = random.Random(0)
    layers = index.reader.layers()
    chosen: dict[int, list[_Stored]] = {}
    for _ in range(SAMPLED):
        layer = draw.choice(sorted(layers))
        record = index.neuron(NeuronId(layer, draw.randrange(layers[layer]))).record
        own = record.combinations.get(draw.choice(COMBINATIONS))
        for quantity in LISTED if own is not None else ():
            if own is not None and own.top[quantity]:
                entry = draw.choice(own.top[quantity])
                text_id, position = index.reader.locate(entry.token_number)
                stored = _Stored(
                    neuron=record.neuron, quantity=quantity, value=entry.value, sign=record.sign, position=position
                )
                chosen.setdefault(text_id, []).append(stored)
    return chosen


def _again(index: Index, model: GatedModel, text_id: int, wanted: list[_Stored]) -> list[tuple[_Stored, float, float]]:
    """Each wanted value as the live model has it now, and the mean magnitude of that quantity over the text."""
    import torch

    ids = torch.tensor([index.reader.text(text_id).token_ids])
    found: list[tuple[_Stored, float, float]] = []

    def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor) -> None:
        for stored in (s for s in wanted if s.neuron.layer == layer):
            gate = x_gate[0, :, stored.neuron.index].float()
            inner = x_in[0, :, stored.neuron.index].float() * stored.sign
            post = model.activate(gate) * inner
            values = {Quantity.X_GATE: gate, Quantity.X_IN: inner, Quantity.POST: post}[stored.quantity]
            found.append((stored, float(values[stored.position]), float(values.abs().mean())))

    model.record(ids, sink)
    return found
