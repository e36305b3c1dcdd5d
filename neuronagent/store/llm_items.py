"""Answers of language models' servers, each kept once under the sha256 of its request: what was paid for is not asked
again. An answer is written in a transaction of its own, so that it outlives whatever stops the run after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects import postgresql, sqlite

from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors

_AT_ONCE = 500

_item = schema.llm_item.c


@dataclass(frozen=True, slots=True)
class StoredItem:
    """A row of `llm_item`: the fields of `explain.llm.items.Item`."""

    request_hash: str
    purpose: str
    status: str
    response: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    latency: float
    attempt: int
    model: str
    server: str
    prompt_version: str


@dataclass(frozen=True, kw_only=True)
class ItemSummary:
    """Items of one purpose, model, server and status: how many, and sums over them."""

    purpose: str
    model: str
    server: str
    status: str
    count: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    seconds: float


_COLUMNS = [_item[field.name] for field in fields(StoredItem)]


def find_items(connection: Connection, hashes: Sequence[str]) -> dict[str, StoredItem]:
    """The items that are there, by hash."""
    found: dict[str, StoredItem] = {}
    wanted = list(dict.fromkeys(hashes))
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        for row in connection.execute(select(*_COLUMNS).where(_item.request_hash.in_(some))):
            found[row[0]] = StoredItem(*row)
    return found


def add_item(engine: Engine, item: StoredItem) -> None:
    """Keep `item`; when this returns it is on the disk. One that is there already stays as it is.

    Raises:
        StorageError: it cannot be written.
    """
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    values = asdict(item) | {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        connection.execute(insert(schema.llm_item).values(**values).on_conflict_do_nothing())


def summary(connection: Connection) -> list[ItemSummary]:
    """What was asked and what it took, by purpose, model, server and status."""
    by = (_item.purpose, _item.model, _item.server, _item.status)
    sums = (_item.prompt_tokens, _item.completion_tokens, _item.cost, _item.latency)
    query = select(*by, func.count(), *(func.sum(column) for column in sums)).group_by(*by).order_by(*by)
    return [_summed(*row) for row in connection.execute(query)]


def _summed(*row: Any) -> ItemSummary:
    return ItemSummary(
        purpose=row[0],
        model=row[1],
        server=row[2],
        status=row[3],
        count=row[4],
        prompt_tokens=int(row[5] or 0),
        completion_tokens=int(row[6] or 0),
        cost=row[7],
        seconds=float(row[8] or 0),
    )


def spent(rows: Iterable[ItemSummary]) -> tuple[int, float]:
    """Tokens and dollars of all rows together."""
    found = list(rows)
    return sum(row.prompt_tokens + row.completion_tokens for row in found), sum(row.cost or 0.0 for row in found)
