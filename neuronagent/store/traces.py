"""Traces: what a neuron did at every token of a text, for the neurons and texts that somebody asked for.

One row per neuron and text, its values packed. An index computed by a model gets them when they are asked for; imported
pages bring their own. Written in place, by the one writer that an index may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from sqlalchemy import Connection, Engine, delete, select

from neuronagent.domain import QUANTITIES, NeuronId
from neuronagent.published import Trace
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors
from neuronagent.store.packing import pack, unpack_array
from neuronagent.store.rows import Row

_trace = schema.trace.c


def add_traces(engine: Engine, neuron: NeuronId, traces: Iterable[Trace]) -> None:
    """Store traces of `neuron`, all or none; one of a text that has a trace already takes its place.

    Raises:
        StorageError: they cannot be written.
    """
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        for row in trace_rows(neuron, traces):
            same = (_trace.layer == row["layer"], _trace.neuron == row["neuron"], _trace.text_id == row["text_id"])
            connection.execute(delete(schema.trace).where(*same))
            connection.execute(schema.trace.insert().values(**row))


def trace_rows(neuron: NeuronId, traces: Iterable[Trace]) -> Iterator[Row]:
    """One row per trace."""
    for trace in traces:
        yield {
            "layer": neuron.layer,
            "neuron": neuron.index,
            "text_id": trace.text,
            "start": trace.start,
            # Quantities one behind the other: values of one kind share their upper bytes, which packing can use.
            "values": pack(np.ascontiguousarray(trace.values.T, dtype=np.float32)),
        }


def find_trace(connection: Connection, neuron: NeuronId, text_id: int) -> Trace | None:
    """The trace of `neuron` in a text; None where there is none."""
    mine = (_trace.layer == neuron.layer, _trace.neuron == neuron.index, _trace.text_id == text_id)
    row = connection.execute(select(schema.trace).where(*mine)).first()
    return None if row is None else Trace(text=row.text_id, start=row.start, values=_values(row.values))


def find_traces(connection: Connection, neuron: NeuronId) -> list[Trace]:
    """All traces of `neuron`, by text."""
    query = select(schema.trace).where(_trace.layer == neuron.layer, _trace.neuron == neuron.index)
    rows = connection.execute(query.order_by(_trace.text_id))
    return [Trace(text=row.text_id, start=row.start, values=_values(row.values)) for row in rows]


def find_traced(connection: Connection) -> list[NeuronId]:
    """The neurons that have a trace, in order."""
    query = select(_trace.layer, _trace.neuron).distinct().order_by(_trace.layer, _trace.neuron)
    return [NeuronId(row.layer, row.neuron) for row in connection.execute(query)]


def _values(blob: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ascontiguousarray(unpack_array(blob, np.float32).reshape(len(QUANTITIES), -1).T)
