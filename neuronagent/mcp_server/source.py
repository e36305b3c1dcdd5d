"""The index that a server reads: opened once, shared by all worker threads, watched for being replaced.

A call gets a view of its own, since `Index` caches what it reads without locks; connections and metadata are shared.
A file that was replaced by the same index (a copy, a restore), or changed in place, is opened again; one that holds
another index is refused, because a client that compares numbers must not get those of two models unawares.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from neuronagent.domain import NeuronId, NeuronRecord
from neuronagent.errors import IndexMismatchError
from neuronagent.published import IMPORTED
from neuronagent.service.lookup import Index, Neuron
from neuronagent.service.untrusted import clean
from neuronagent.store.engine import identity, is_url
from neuronagent.store.reader import IndexReader

_REMEMBERED = 64  # neurons, of about 100 kB each


class _View(Index):
    """An index for one call, over what all calls share; never closed."""

    def __init__(self, target: str, opened: _Opened) -> None:
        self.target, self.reader, self.info = target, opened.reader, opened.info
        self._record = opened.record
        self._texts, self._reading_texts = {}, threading.Lock()
        self._token_bytes = {}

    def neuron(self, neuron: str | NeuronId) -> Neuron:
        identifier = neuron if isinstance(neuron, NeuronId) else NeuronId.parse(neuron)
        return Neuron(self, self._record(identifier))


@dataclass(frozen=True)
class _Opened:
    """An open index; `record` remembers the neurons asked for last, which never change while it is open."""

    reader: IndexReader
    info: dict[str, Any]
    record: Callable[[NeuronId], NeuronRecord]
    identity: tuple[int | None, ...] | None


class IndexSource:
    """Hands out views of the index at `db`."""

    def __init__(self, db: str) -> None:
        self.db = db
        self._path = None if is_url(db) else Path(db).expanduser().absolute()
        self._lock = threading.Lock()
        self._opened: _Opened | None = None

    def view(self) -> Index:
        """The index as one call sees it.

        Raises:
            NeuronagentError: it cannot be opened, is gone, or is another one than at first.
        """
        opened = self._opened
        if opened is None or opened.identity != identity(self.db):
            with self._lock:
                opened = self._opened
                if opened is None or opened.identity != identity(self.db):
                    opened = self._opened = self._open(opened)
        return _View(self.db, opened)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.reader.close()

    def _open(self, before: _Opened | None) -> _Opened:
        if before is not None:
            before.reader.close()  # first: connections of one process share what they know of the write-ahead log
        reader = IndexReader.open(self.db)  # says what is wrong with a file better than its identity would
        try:
            seen = identity(self.db)  # before anything is read that a later change would make wrong
            info = reader.info()
            if info.get("protocol") == IMPORTED:
                raise IndexMismatchError(
                    "this index holds imported numbers, which the tools do not know",
                    remedy="use `neuronagent show` and `neuronagent explain`",
                )
            if before is not None and info.get("fingerprint") != before.info.get("fingerprint"):
                name = self._path.name if self._path else "the index"
                raise IndexMismatchError(
                    f"{name} was replaced by another index ({clean(str(info.get('fingerprint')), 20)}) while the "
                    "server ran",
                    remedy="restart the server to read that one, or put the earlier one back",
                )
        except BaseException:
            reader.close()
            raise
        return _Opened(reader, info, lru_cache(maxsize=_REMEMBERED)(reader.neuron), seen)
