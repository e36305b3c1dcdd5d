"""A run of its own process, for a test to kill: asks `count` questions of a server and keeps the answers in an index.

python -m tests.explain.llm.asking_process BASE_URL INDEX COUNT
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields

from sqlalchemy import Engine

from neuronagent.explain.llm.asking import Asker
from neuronagent.explain.llm.client import Client
from neuronagent.explain.llm.items import Item
from neuronagent.explain.llm.server import Server
from neuronagent.store.engine import open_writer
from neuronagent.store.llm_items import StoredItem, add_item, find_items
from tests.explain.llm.askers import plain

_NAMES = [field.name for field in fields(Item)]


class Stored:
    """A cache in an index."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, hashes: Sequence[str]) -> Mapping[str, Item]:
        with self._engine.connect() as connection:
            found = find_items(connection, hashes)
        return {key: Item(**{name: getattr(item, name) for name in _NAMES}) for key, item in found.items()}

    def put(self, item: Item) -> None:
        add_item(self._engine, StoredItem(**{name: getattr(item, name) for name in _NAMES}))


def main(base_url: str, index: str, count: str) -> None:
    cache = Stored(open_writer(index))
    items = Asker(Client(Server.of(base_url, "m")), cache=cache, concurrency=4).ask(
        [plain(str(n)) for n in range(int(count))]
    )
    sys.stdout.write(f"{sum(item.status == 'ok' for item in items)} answered\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
