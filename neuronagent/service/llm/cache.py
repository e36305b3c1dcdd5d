"""Answers of servers, kept in the index: a question that was paid for is not asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from neuronagent.explain.llm.items import Item
from neuronagent.store.engine import engine_name, open_writer
from neuronagent.store.failures import storage_errors
from neuronagent.store.llm_items import StoredItem, add_item, find_items

_FIELDS = [field.name for field in fields(Item)]


class StoredItems:
    """The kept answers of an index (`explain.llm.items.Cache`), until it is closed."""

    def __init__(self, target: str) -> None:
        """Raises `StorageError` if the index cannot be written."""
        self._engine = open_writer(target)

    def find(self, hashes: Sequence[str]) -> Mapping[str, Item]:
        """The items that are kept, by hash."""
        with storage_errors(engine_name(self._engine)), self._engine.connect() as connection:
            found = find_items(connection, hashes)
        return {key: Item(**{name: getattr(row, name) for name in _FIELDS}) for key, row in found.items()}

    def put(self, item: Item) -> None:
        """Keep one, on the disk."""
        add_item(self._engine, StoredItem(**asdict(item)))

    def close(self) -> None:
        """Let the index go."""
        self._engine.dispose()
