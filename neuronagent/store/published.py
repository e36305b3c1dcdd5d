"""Published numbers in an index: written whole, read by neuron. Computed numbers have tables of their own.

A neuron is one row: frequencies as columns, since a search filters by them, statistics and lists packed. The arrays
have axes combinations, quantities (as in `domain.QUANTITIES`), and mean, min, max or the places of a list. Texts are
ids of the token strings that the publisher printed: the tokenizer's own ids are not published.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, Row, exists, func, select

from neuronagent.domain import (
    COMBINATIONS,
    QUANTITIES,
    NeuronId,
    QuantityStatistics,
    SignCombination,
    clip,
)
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.published import (
    NO_EXAMPLE,
    UNKNOWN_POSITION,
    PublishedBatch,
    PublishedCombination,
    PublishedExample,
    PublishedNeuron,
    Trace,
)
from neuronagent.store import rows, schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors
from neuronagent.store.packing import pack, pack_rows, unpack_array
from neuronagent.store.schema import COMBINATION_SUFFIXES
from neuronagent.store.search import Range
from neuronagent.store.traces import trace_rows
from neuronagent.store.writer import insert_rows, write_whole

_neuron = schema.published_neuron.c
_FREQUENCIES = [_neuron[f"frequency_{suffix}"] for suffix in COMBINATION_SUFFIXES]
_BATCH = 500  # neurons read at a time


@dataclass(frozen=True, kw_only=True)
class PublishedQuery:
    """What to look for among published neurons; `explanation`: text that a current explanation contains; `sort`:
    `neuron`, or a column `frequency_pm`, …"""

    layers: tuple[int, ...] = ()
    frequency: Mapping[SignCombination, Range] = field(default_factory=dict[SignCombination, Range])
    explanation: str = ""
    sort: str = "neuron"
    descending: bool = False
    limit: int = 20
    offset: int = 0


def write_published(
    target: str | Path,
    *,
    info: Mapping[str, object],
    batches: Iterable[PublishedBatch],
    tokens: Iterable[str] = (),
    texts: Iterable[Sequence[int]] = (),
    traces: Iterable[tuple[NeuronId, Iterable[Trace]]] = (),
) -> None:
    """Write an index of published numbers to `target`, all of it or nothing; `info` is read when all else is written.

    `texts`: for each text of the index the places of its tokens in `tokens`. Batches are taken one at a time.

    Raises:
        IndexMismatchError: what is there must not be replaced; computed numbers never are.
        StorageError: no room, locked, or read-only.
    """

    def insert(connection: Connection) -> None:
        strings = ({"id": place, "bytes": encoded(string)} for place, string in enumerate(tokens))
        insert_rows(connection, schema.published_token, strings)
        packed = ({"id": place, "tokens": pack(np.array(ids, np.uint32))} for place, ids in enumerate(texts))
        insert_rows(connection, schema.published_text, packed)
        for batch in batches:
            insert_rows(connection, schema.published_neuron, batch_rows(batch))
        for neuron, own in traces:
            insert_rows(connection, schema.trace, trace_rows(neuron, own))

    write_whole(target, info, insert)


def encoded(string: str) -> bytes:
    """A published token string as bytes: JSON can spell half a character, and databases take neither that nor NUL."""
    return string.encode("utf-8", errors="surrogatepass")


def batch_of(neurons: Sequence[PublishedNeuron]) -> PublishedBatch:
    """`neurons` as arrays."""
    lists = [entries for n in neurons for c in n.combinations.values() for entries in c.lists.values()]
    shape = (len(neurons), len(COMBINATIONS), len(QUANTITIES), max(map(len, lists), default=0))
    frequency, statistics = np.full(shape[:2], np.nan), np.full((*shape[:3], 3), np.nan)
    values, texts = np.zeros(shape, np.float32), np.full(shape, NO_EXAMPLE, np.int32)
    positions = np.full(shape, UNKNOWN_POSITION, np.int32)
    for n, neuron in enumerate(neurons):
        for combination, own in neuron.combinations.items():
            c = combination.position
            frequency[n, c] = _nan(own.frequency)
            for quantity, found in own.statistics.items():
                statistics[n, c, QUANTITIES.index(quantity)] = [_nan(x) for x in (found.mean, found.min, found.max)]
            for quantity, entries in own.lists.items():
                for place, entry in enumerate(entries):
                    at = (n, c, QUANTITIES.index(quantity), place)
                    values[at], texts[at] = entry.value, entry.text
                    positions[at] = UNKNOWN_POSITION if entry.position is None else entry.position
    return PublishedBatch(
        layers=np.array([n.neuron.layer for n in neurons], np.int64),
        indices=np.array([n.neuron.index for n in neurons], np.int64),
        frequency=frequency,
        statistics=statistics,
        values=values,
        texts=texts,
        positions=positions if (positions != UNKNOWN_POSITION).any() else None,
        repaired=[n.repaired for n in neurons],
    )


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def batch_rows(batch: PublishedBatch) -> Iterator[rows.Row]:
    """A row of `published_neuron` for each neuron of a batch."""
    n = len(batch.layers)
    positions = [None] * n if batch.positions is None else pack_rows(batch.positions)
    columns = zip(
        batch.layers.tolist(),
        batch.indices.tolist(),
        batch.frequency.tolist(),
        pack_rows(batch.statistics),
        pack_rows(batch.values),
        pack_rows(batch.texts),
        positions,
        batch.repaired,
        strict=True,
    )
    names = [f"frequency_{suffix}" for suffix in COMBINATION_SUFFIXES]
    for layer, index, frequency, statistics, values, texts, places, repaired in columns:
        yield {
            "layer": layer,
            "neuron": index,
            **{name: None if math.isnan(share) else share for name, share in zip(names, frequency, strict=True)},
            "statistics": statistics,
            "list_values": values,
            "list_texts": texts,
            "list_positions": places,
            "repaired": json.dumps(repaired),
        }


class PublishedReader:
    """The published numbers of an open index. Every method raises StorageError where it cannot be read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def neuron(self, neuron: NeuronId) -> PublishedNeuron:
        """All that was published of `neuron`.

        Raises:
            NotFoundError: nothing was; the message says what the index has.
        """
        query = select(schema.published_neuron).where(_neuron.layer == neuron.layer, _neuron.neuron == neuron.index)
        with self._connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            layers = ", ".join(f"{layer} ({count})" for layer, count in self.layers().items())
            raise NotFoundError(f"neuron {neuron} was not imported", remedy=f"layers with imported neurons: {layers}")
        return _published(row)

    def neurons(self) -> Iterator[PublishedNeuron]:
        """Every neuron, in order, a few in memory at a time."""
        query = select(schema.published_neuron).order_by(_neuron.layer, _neuron.neuron)
        with self._connect() as connection:
            for row in connection.execution_options(yield_per=_BATCH).execute(query):
                yield _published(row)

    def search(self, query: PublishedQuery) -> tuple[list[PublishedNeuron], int]:
        """The neurons that meet every criterion, those from `offset` on, and how many there are in all.

        Raises:
            UsageError: an unknown sort key, or a limit or offset that is none.
        """
        keys = ("neuron", *(column.name for column in _FREQUENCIES))
        if query.sort not in keys:
            raise UsageError(f"{clip(query.sort)!r} is no sort key", remedy=f"allowed: {', '.join(keys)}")
        if query.limit < 1 or query.offset < 0:
            raise UsageError("a search needs a limit of at least 1 and an offset of at least 0")
        conditions = _conditions(query)
        order: list[ColumnElement[Any]] = [_neuron.layer, _neuron.neuron]
        if query.sort != "neuron":
            key = _neuron[query.sort]
            order.insert(0, (key.desc() if query.descending else key.asc()).nulls_last())
        elif query.descending:
            order = [column.desc() for column in order]
        counted = select(func.count()).select_from(schema.published_neuron).where(*conditions)
        statement = select(schema.published_neuron).where(*conditions).order_by(*order)
        with self._connect() as connection:
            total = connection.execute(counted).scalar() or 0
            found = connection.execute(statement.limit(query.limit).offset(query.offset))
            return [_published(row) for row in found], total

    def layers(self) -> dict[int, int]:
        """How many neurons of each layer were published."""
        query = select(_neuron.layer, func.count()).group_by(_neuron.layer).order_by(_neuron.layer)
        with self._connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def text(self, text_id: int) -> tuple[int, ...]:
        """The token ids, places in `tokens`, of a text.

        Raises:
            NotFoundError: the index does not have it.
        """
        column = schema.published_text.c
        with self._connect() as connection:
            blob = connection.execute(select(column.tokens).where(column.id == text_id)).scalar()
        if blob is None:
            raise NotFoundError(f"text {text_id} was not published with the numbers")
        return tuple(unpack_array(blob, np.uint32).tolist())

    @cached_property
    def tokens(self) -> list[str]:
        """The strings of all tokens that texts have, by id: those that were published, not a whole vocabulary."""
        column = schema.published_token.c
        with self._connect() as connection:
            found = connection.execute(select(column.bytes).order_by(column.id)).scalars()
            return [data.decode("utf-8", errors="surrogatepass") for data in found]

    @contextmanager
    def _connect(self) -> Generator[Connection]:
        with storage_errors(engine_name(self.engine)), self.engine.connect() as connection:
            yield connection


def _conditions(query: PublishedQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.layers:
        conditions.append(_neuron.layer.in_(query.layers))
    for combination, (low, high) in query.frequency.items():
        column = _FREQUENCIES[combination.position]
        conditions += [column >= low] if low is not None else []
        conditions += [column <= high] if high is not None else []
    if query.explanation:
        column = schema.explanation.c
        mine = (column.layer == _neuron.layer, column.neuron == _neuron.neuron, column.superseded_by.is_(None))
        contains = column.text.icontains(query.explanation, autoescape=True)
        conditions.append(exists().where(*mine, contains))
    return conditions


def _published(row: Row[Any]) -> PublishedNeuron:
    shape = (len(COMBINATIONS), len(QUANTITIES), -1)
    statistics = unpack_array(row.statistics, np.float64).reshape(shape).tolist()
    texts = unpack_array(row.list_texts, np.int32)
    shape = (*shape[:2], texts.size // (shape[0] * shape[1]))
    values = unpack_array(row.list_values, np.float32).reshape(shape).tolist()
    unknown = row.list_positions is None
    positions = np.full(shape, UNKNOWN_POSITION) if unknown else unpack_array(row.list_positions, np.int32)
    columns = (values, texts.reshape(shape).tolist(), positions.reshape(shape).tolist())
    combinations: dict[SignCombination, PublishedCombination] = {}
    for c, (combination, suffix) in enumerate(zip(COMBINATIONS, COMBINATION_SUFFIXES, strict=True)):
        combinations[combination] = PublishedCombination(
            combination=combination,
            frequency=getattr(row, f"frequency_{suffix}"),
            statistics={q: _statistics(statistics[c][place]) for place, q in enumerate(QUANTITIES)},
            lists={q: _entries(*(column[c][place] for column in columns)) for place, q in enumerate(QUANTITIES)},
        )
    repaired = tuple(json.loads(row.repaired))
    return PublishedNeuron(neuron=NeuronId(row.layer, row.neuron), combinations=combinations, repaired=repaired)


def _statistics(values: list[float]) -> QuantityStatistics:
    mean, least, most = (None if math.isnan(value) else value for value in values)
    return QuantityStatistics(mean=mean, min=least, max=most)


def _entries(values: list[float], texts: list[int], positions: list[int]) -> tuple[PublishedExample, ...]:
    return tuple(
        PublishedExample(value, text, None if position == UNKNOWN_POSITION else position)
        for value, text, position in zip(values, texts, positions, strict=True)
        if text != NO_EXAMPLE
    )
