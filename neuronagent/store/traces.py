"""Traces: what a neuron did at every token of a text, for the neurons and texts that somebody asked for.

One row per neuron and text, its values packed. An index computed by a model gets them when they are asked for; imported
pages bring their own. Written in place, by the one writer that an index may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
from sqlalchemy import Connection, Engine, bindparam, delete, select

from neuronagent.domain import QUANTITIES, NeuronId
from neuronagent.errors import StorageError
from neuronagent.published import Trace
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors
from neuronagent.store.packing import pack, unpack_array
from neuronagent.store.rows import Row

_trace = schema.trace.c
_IDS = 10_000  # ids in one statement: SQLite takes 32,766 parameters
_KEYS = ("layer", "neuron", "text_id")
_SAME = delete(schema.trace).where(*(_trace[key] == bindparam(f"same_{key}") for key in _KEYS))


def add_traces(engine: Engine, neuron: NeuronId, traces: Iterable[Trace]) -> None:
    """Store traces of `neuron`, all or none; one of a text that has a trace already takes its place.

    Raises:
        StorageError: they cannot be written.
    """
    set_traces(engine, [(neuron, traces)])


def set_traces(engine: Engine, found: Iterable[tuple[NeuronId, Iterable[Trace]]]) -> None:
    """`add_traces` for many neurons: all of them or none.

    Raises:
        StorageError: they cannot be written.
    """
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        for neuron, traces in found:
            rows = list({row["text_id"]: row for row in trace_rows(neuron, traces)}.values())
            if rows:
                connection.execute(_SAME, [{f"same_{key}": row[key] for key in _KEYS} for row in rows])
                connection.execute(schema.trace.insert(), rows)


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


def find_many_traces(connection: Connection, neurons: Iterable[NeuronId]) -> dict[NeuronId, list[Trace]]:
    """All traces of each of `neurons` that has some, by text."""
    found: dict[NeuronId, list[Trace]] = {}
    for layer, members in groupby(sorted(set(neurons)), key=lambda neuron: neuron.layer):
        indices = [neuron.index for neuron in members]
        for start in range(0, len(indices), _IDS):
            query = select(schema.trace).where(_trace.layer == layer, _trace.neuron.in_(indices[start : start + _IDS]))
            for row in connection.execute(query.order_by(_trace.neuron, _trace.text_id)):
                trace = Trace(text=row.text_id, start=row.start, values=_values(row.values))
                found.setdefault(NeuronId(layer, row.neuron), []).append(trace)
    return found


def find_traced(connection: Connection) -> list[NeuronId]:
    """The neurons that have a trace, in order."""
    query = select(_trace.layer, _trace.neuron).distinct().order_by(_trace.layer, _trace.neuron)
    return [NeuronId(row.layer, row.neuron) for row in connection.execute(query)]


def _values(blob: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    flat = unpack_array(blob, np.float32)
    if len(flat) % len(QUANTITIES):
        raise StorageError(
            f"the index is damaged: a trace has {len(flat)} values", remedy="restore it from a copy, or build it again"
        )
    return np.ascontiguousarray(flat.reshape(len(QUANTITIES), -1).T)
