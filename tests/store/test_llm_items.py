"""Answers that were paid for: kept one by one, found in bulk, summed up; on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from neuronagent.errors import StorageError
from neuronagent.store.engine import open_reader, open_writer
from neuronagent.store.llm_items import StoredItem, add_item, find_items, spent, summary
from neuronagent.store.schema import llm_item
from tests.store.made_index import Made


def item(number: int, **changes: object) -> StoredItem:
    made = StoredItem(
        request_hash=f"{number:064x}",
        purpose="judge",
        status="ok",
        response='{"text": "Yes \\ud800 \\u0000"}',
        prompt_tokens=100,
        completion_tokens=1,
        cost=0.25,
        latency=0.5,
        attempt=1,
        model="m",
        server="localhost:1/v1",
        prompt_version="judge-1",
    )
    return replace(made, **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def engine(target: str, made: Made) -> Iterator[Engine]:
    made.write(target)
    opened = open_writer(target)
    yield opened
    opened.dispose()


def test_an_item_comes_back_as_it_was_kept(engine: Engine) -> None:
    kept = [item(1), item(2, prompt_tokens=None, completion_tokens=None, cost=None, status="refusal")]
    for one in kept:
        add_item(engine, one)
    with engine.connect() as connection:
        found = find_items(connection, [one.request_hash for one in kept] + ["0" * 64])
    assert found == {one.request_hash: one for one in kept}


def test_the_first_answer_to_a_request_stays(engine: Engine) -> None:
    add_item(engine, item(1, response='{"text": "first"}'))
    add_item(engine, item(1, response='{"text": "second"}'))
    with engine.connect() as connection:
        assert find_items(connection, [item(1).request_hash])[item(1).request_hash].response == '{"text": "first"}'


def test_a_summary_counts_and_sums_by_purpose_and_status(engine: Engine) -> None:
    for number in range(5):
        add_item(engine, item(number))
    add_item(engine, item(5, status="parse_error", cost=None))
    add_item(engine, item(6, purpose="draft", prompt_tokens=None, completion_tokens=None))
    with engine.connect() as connection:
        rows = summary(connection)
    assert [(row.purpose, row.status, row.count, row.prompt_tokens, row.cost) for row in rows] == [
        ("draft", "ok", 1, 0, 0.25),
        ("judge", "ok", 5, 500, 1.25),
        ("judge", "parse_error", 1, 100, None),
    ]
    assert spent(rows) == (606, 1.5)


def test_an_index_without_items_has_an_empty_summary(engine: Engine) -> None:
    with engine.connect() as connection:
        assert summary(connection) == []
        assert find_items(connection, []) == {}


def test_a_read_only_index_takes_no_item(index_file: Path) -> None:
    engine = open_reader(index_file)
    with pytest.raises(StorageError, match="read-only"):
        add_item(engine, item(1))
    engine.dispose()


def test_more_items_than_one_query_can_name_are_found(engine: Engine) -> None:
    many = [item(number) for number in range(2_500)]
    rows = [{name: getattr(one, name) for name in StoredItem.__slots__} | {"created": "now"} for one in many]
    with engine.begin() as connection:
        connection.execute(llm_item.insert(), rows)
    with engine.connect() as connection:
        found = find_items(connection, [one.request_hash for one in many] * 2)
    assert found == {one.request_hash: one for one in many}
