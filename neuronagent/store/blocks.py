"""Whole stretches of a layer as arrays, for what goes over every neuron of an index: a thousand neurons at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, RowMapping, func, select

from neuronagent.domain import COMBINATIONS, QUANTITIES, SPLITS
from neuronagent.errors import StorageError
from neuronagent.layout import LayerNeighbours
from neuronagent.store import schema
from neuronagent.store.blobs import unpack_histograms, unpack_ids, unpack_lists, unpack_scores, unpack_statistics
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors
from neuronagent.store.inverted import KINDS, split
from neuronagent.store.neighbours import unpack_neighbours
from neuronagent.store.packing import unpack_array

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_TEXTS = 500


@dataclass(frozen=True, kw_only=True)
class RecordedBlock:
    """What the corpus told of N neurons: `layout.LayerActivations`, a combination's lists together.

    `counts`, `first_counts`, `mass`, `tau` `[N, 4]`, NaN for no τ; `statistics` `[N, 4, 3, 4]`: sums, minima, maxima by
    quantity; `histograms` `[N, 4, splits, bins]`; `lists` `[N, 4, 11, k]` as in `blobs.LISTS`; `first_values` `[N, 4]`,
    NaN where texts do not share their first token.
    """

    counts: Integers
    first_counts: Integers
    mass: Floats
    tau: Floats
    statistics: Floats
    histograms: Integers
    lists: Integers
    first_values: Floats


@dataclass(frozen=True, kw_only=True)
class NeuronBlock:
    """N neurons of a layer, from `first`. `columns`: the numeric columns of `neuron` `[N]` by name, NaN for null;
    `ids` and `scores` `[N, 2, 3, 2, k]`, `moments` `[N, 2, 3, 3]`; `recorded` is None without a corpus."""

    layer: int
    first: int
    columns: Mapping[str, Floats]
    io_class: list[str]
    role: list[str | None]
    ids: Integers
    scores: NDArray[np.float32]
    moments: NDArray[np.float32]
    recorded: RecordedBlock | None

    def __len__(self) -> int:
        return len(self.io_class)


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """A text as it is stored: its place in the corpus and its token ids."""

    text_id: int
    split: int
    first_token: int
    n_tokens: int
    tokens: NDArray[np.uint32]


class BlockReader:
    """An open index, block by block. Every method raises StorageError where it cannot be read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def neurons(self, layer: int, start: int, stop: int) -> NeuronBlock:
        """The neurons `start` to `stop` − 1 of `layer`.

        Raises:
            StorageError: one of them is missing or damaged.
        """
        with self._connect() as connection:
            neurons, projections, combinations = (
                _rows(connection, table, layer, start, stop)
                for table in (schema.neuron, schema.projection, schema.combination)
            )
        wanted = list(range(start, stop))
        recorded = neurons and neurons[0]["tokens"] is not None
        places = [(row["neuron"], row["combination"]) for row in combinations]
        expected = [(neuron, c) for neuron in wanted for c in range(len(COMBINATIONS))] if recorded else []
        if [row["neuron"] for row in neurons] != wanted or places != expected:
            raise _damaged("a neuron's rows are not all there")
        if [row["neuron"] for row in projections] != wanted:
            raise _damaged("a neuron's nearest tokens are not there")
        scores = unpack_scores([row["scores"] for row in projections])
        moments = np.stack([unpack_array(row["moments"], np.float32) for row in projections])
        return NeuronBlock(
            layer=layer,
            first=start,
            columns=_columns(neurons),
            io_class=[("atypical " if row["atypical"] else "") + row["io_class"] for row in neurons],
            role=[row["role"] for row in neurons],
            ids=unpack_ids([row["ids"] for row in projections]).reshape(scores.shape),
            scores=scores,
            moments=moments.reshape(len(moments), 2, 3, 3),
            recorded=_recorded(neurons, combinations) if recorded else None,
        )

    def neighbours(self, first_ordinal: int, end: int) -> LayerNeighbours | None:
        """The neighbours of the neurons from `first_ordinal` to `end` − 1; None where the index has none of them.

        Raises:
            StorageError: some are missing, or damaged.
        """
        column = schema.neighbour.c
        query = select(schema.neighbour).where(column.ordinal >= first_ordinal, column.ordinal < end)
        with self._connect() as connection:
            found = connection.execute(query.order_by(column.ordinal)).all()
        if not found:
            return None
        if [row.ordinal for row in found] != list(range(first_ordinal, end)):
            raise _damaged("neighbours of some neurons only")
        return unpack_neighbours([row.ordinals for row in found], [row.cosines for row in found])

    def texts(self) -> Iterator[TextRow]:
        """All texts, in corpus order."""
        query = select(schema.text).order_by(schema.text.c.id)
        with self._connect() as connection:
            for row in connection.execution_options(yield_per=_TEXTS).execute(query):
                tokens = unpack_array(row.tokens, np.uint32)
                yield TextRow(
                    text_id=row.id, split=row.split, first_token=row.first_token, n_tokens=row.n_tokens, tokens=tokens
                )

    def vocabulary(self) -> tuple[Floats, Integers]:
        """The norms `[V, 2]` of every token's columns in W_U and W_E, and its counts `[V, splits]` in the corpus."""
        column = schema.token.c
        counts = [column[f"count_{split.value}"] for split in SPLITS]
        query = select(column.norm_unembedding, column.norm_embedding, *counts).order_by(column.id)
        with self._connect() as connection:
            rows = np.array([tuple(row) for row in connection.execute(query)], np.float64).reshape(-1, 2 + len(counts))
        return rows[:, :2], rows[:, 2:].astype(np.int64)

    def inverted(self, kind: str, token_ids: list[int]) -> dict[int, tuple[NDArray[np.uint32], NDArray[np.float32]]]:
        """What the inverted table has under a kind and each of some tokens: ordinals and scores; none for no neuron."""
        column = schema.token_neuron.c
        mine = (column.kind == KINDS.index(kind), column.token_id.in_(token_ids))
        query = select(column.token_id, column.neurons).where(*mine).order_by(column.token_id, column.segment)
        parts: dict[int, list[NDArray[np.uint64]]] = {}
        with self._connect() as connection:
            for token_id, blob in connection.execute(query):
                parts.setdefault(token_id, []).append(unpack_array(blob, np.uint64))
        return {token_id: split(np.concatenate(blobs)) for token_id, blobs in parts.items()}

    def count(self, table_name: str) -> int:
        """How many rows a table has."""
        with self._connect() as connection:
            return (
                connection.execute(select(func.count()).select_from(schema.metadata.tables[table_name])).scalar() or 0
            )

    @contextmanager
    def _connect(self) -> Generator[Connection]:
        with storage_errors(engine_name(self.engine)), self.engine.connect() as connection:
            yield connection


def _rows(connection: Connection, table: Any, layer: int, start: int, stop: int) -> list[RowMapping]:
    mine = (table.c.layer == layer, table.c.neuron >= start, table.c.neuron < stop)
    return list(connection.execute(select(table).where(*mine).order_by(*table.primary_key)).mappings())


_TEXTUAL = ("io_class", "role", "first_values")


def _columns(neurons: list[RowMapping]) -> dict[str, Floats]:
    names = [column.name for column in schema.neuron.columns if column.name not in _TEXTUAL]
    values = np.array([[row[name] for name in names] for row in neurons], np.float64)  # None becomes NaN
    return dict(zip(names, np.ascontiguousarray(values.T), strict=True))


def _recorded(neurons: list[RowMapping], combinations: list[RowMapping]) -> RecordedBlock:
    shape = (len(neurons), len(COMBINATIONS))

    def numbers(name: str, kind: Any) -> NDArray[Any]:
        return np.array([row[name] for row in combinations], kind).reshape(shape)

    def blobs(name: str) -> list[bytes]:
        return [row[name] for row in combinations]

    none = np.full(len(QUANTITIES), np.nan, np.float32)
    first = [row["first_values"] for row in neurons]
    statistics, histograms = unpack_statistics(blobs("statistics")), unpack_histograms(blobs("histogram"))
    lists = unpack_lists(blobs("lists"))
    return RecordedBlock(
        counts=numbers("count", np.int64),
        first_counts=numbers("first_count", np.int64),
        mass=numbers("mass", np.float64),
        tau=numbers("tau", np.float64),
        statistics=statistics.reshape(*shape, *statistics.shape[1:]),
        histograms=histograms.reshape(*shape, *histograms.shape[1:]),
        lists=lists.reshape(*shape, *lists.shape[1:]),
        first_values=np.stack([none if b is None else unpack_array(b, np.float32) for b in first]).astype(np.float64),
    )


def _damaged(what: str) -> StorageError:
    return StorageError(f"the index is damaged: {what}", remedy="restore it from a copy, or build the index again")
