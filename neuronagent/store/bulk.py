"""Reads a whole index in order, many neurons per query, for exports; in memory is only the part that is asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, RowMapping, Table, func, select

from neuronagent.domain import SPLITS, NeuronRecord, Text, token_text
from neuronagent.store import records, schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors
from neuronagent.store.packing import unpack_array

_ROWS = 2000
TABLES = (schema.explanation, schema.score, schema.score_control)
"""The flat tables that `table` gives."""


class BulkReader:
    """Everything that an open index holds, from the start. Every method raises StorageError where it cannot be read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def neurons(self, layer: int, start: int, stop: int) -> list[NeuronRecord]:
        """The records of the neurons `start` to `stop` − 1 of `layer`, in order."""
        found: dict[str, dict[int, list[RowMapping]]] = {}
        with self._connect() as connection:
            for table in (schema.neuron, schema.projection, schema.combination):
                mine = (table.c.layer == layer, table.c.neuron >= start, table.c.neuron < stop)
                own = found[table.name] = {}
                for row in connection.execute(select(table).where(*mine).order_by(*table.primary_key)).mappings():
                    own.setdefault(row["neuron"], []).append(row)
        return [
            records.neuron_record(
                rows[0], found["projection"][index][0], found["combination"].get(index, []), self._token_facts
            )
            for index, rows in found["neuron"].items()
        ]

    def tokens(self) -> Iterator[dict[str, Any]]:
        """The rows of the vocabulary."""
        return self._rows(schema.token, schema.token.c.id)

    def texts(self) -> Iterator[Text]:
        """All texts, in corpus order."""
        joined = schema.text.join(schema.document, schema.text.c.document_id == schema.document.c.id)
        query = select(schema.text, schema.document.c.name).select_from(joined).order_by(schema.text.c.id)
        with self._connect() as connection:
            for row in connection.execution_options(yield_per=_ROWS).execute(query):
                yield Text(
                    text_id=row.id,
                    document=row.name,
                    split=SPLITS[row.split],
                    first_token=row.first_token,
                    token_ids=tuple(unpack_array(row.tokens, np.uint32).tolist()),
                )

    def table(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of one of `TABLES`, as they are stored."""
        table = next(table for table in TABLES if table.name == name)
        return self._rows(table, *table.primary_key)

    def locate(self, numbers: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The text of each corpus token number, and the token's position in it."""
        wanted = np.array(numbers, np.int64)
        texts = np.searchsorted(self._first_tokens, wanted, side="right") - 1
        return texts, wanted - self._first_tokens[texts] if len(wanted) else wanted

    def count(self, name: str) -> int:
        """How many rows one of `TABLES` has."""
        table = next(table for table in TABLES if table.name == name)
        with self._connect() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar() or 0

    def _rows(self, table: Table, *order: Any) -> Iterator[dict[str, Any]]:
        with self._connect() as connection:
            found = connection.execution_options(yield_per=_ROWS).execute(select(table).order_by(*order))
            for row in found.mappings():
                yield dict(row)

    @cached_property
    def _token_facts(self) -> records.TokenFacts:
        rows: Iterable[dict[str, Any]] = self.tokens()
        return {row["id"]: (token_text(row["bytes"]), row["norm_unembedding"], row["norm_embedding"]) for row in rows}

    @cached_property
    def _first_tokens(self) -> NDArray[np.int64]:
        column = schema.text.c.first_token
        with self._connect() as connection:
            return np.array(connection.execute(select(column).order_by(column)).scalars().all(), np.int64)

    @contextmanager
    def _connect(self) -> Generator[Connection]:
        with storage_errors(engine_name(self.engine)), self.engine.connect() as connection:
            yield connection
