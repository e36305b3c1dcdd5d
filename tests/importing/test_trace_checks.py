"""Traces in a computed index: those that a model gives pass the check, others do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, QUANTITIES, NeuronId, Quantity
from neuronagent.published import Trace
from neuronagent.service.check import check_index
from neuronagent.service.lookup import Index
from neuronagent.store.engine import open_writer
from neuronagent.store.reader import IndexReader
from neuronagent.store.traces import add_traces
from tests import known_index


def recomputed(reader: IndexReader, neuron: NeuronId, text_id: int) -> Trace:
    """The trace of a text by the planted model's float64 oracle."""
    model = known_index.world().model
    gate, inner = (
        side[neuron.layer, :, neuron.index] for side in model.pre_activations(list(reader.text(text_id).token_ids))
    )
    inner = inner * model.truth[neuron].sign
    act = gate / (1 + np.exp(-gate))
    columns = {Quantity.X_GATE: gate, Quantity.X_IN: inner, Quantity.ACT: act, Quantity.POST: act * inner}
    values = np.stack([columns[q] for q in QUANTITIES], axis=1).astype(np.float32)
    return Trace(text=text_id, start=0, values=values)


def wrong(db: Path) -> set[str]:
    with Index(str(db)) as index:
        return {finding.name for finding in check_index(index) if not finding.ok}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return Path(shutil.copy(known_index.world().db, tmp_path / "copy.db"))


def test_recomputed_traces_agree_with_the_lists_and_broken_ones_do_not(db: Path) -> None:
    neuron = next(iter(known_index.world().model.truth))
    with IndexReader.open(db) as reader:
        entries = [e for c in COMBINATIONS for e in reader.neuron(neuron).combinations[c].top[Quantity.POST]]
        trace = recomputed(reader, neuron, reader.locate(entries[0].token_number)[0])
        position = reader.locate(entries[0].token_number)[1]
    engine = open_writer(db)
    add_traces(engine, neuron, [trace])
    assert wrong(db) == set()
    with IndexReader.open(db) as reader:
        assert reader.traced() == [neuron]
    halved = Trace(text=trace.text, start=0, values=trace.values.copy())
    halved.values[position, [QUANTITIES.index(Quantity.POST), QUANTITIES.index(Quantity.X_IN)]] /= 2
    add_traces(engine, neuron, [halved])
    assert wrong(db) == {"listed values are those of the trace"}
    add_traces(engine, neuron, [Trace(text=trace.text, start=10_000, values=trace.values)])
    assert wrong(db) == {"traces lie in their texts"}
    engine.dispose()
