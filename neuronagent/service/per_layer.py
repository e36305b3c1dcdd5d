"""What is read of a whole layer once and kept while its index is open, for threads that share the index."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from neuronagent.store.reader import IndexReader

T = TypeVar("T")


class PerLayer(Generic[T]):
    """`read(reader, layer)`, of which the `most` layers of an index that were asked for last are kept."""

    def __init__(self, read: Callable[[IndexReader, int], T], most: int) -> None:
        self._read, self._most = read, most
        self._kept: weakref.WeakKeyDictionary[IndexReader, dict[int, T]] = weakref.WeakKeyDictionary()
        self._keeping = threading.Lock()

    def __call__(self, reader: IndexReader, layer: int) -> T:
        """Two threads that ask at once may both read: neither waits for the other."""
        with self._keeping:
            kept = self._kept.setdefault(reader, {})
            if layer in kept:
                kept[layer] = kept.pop(layer)  # the last to go
                return kept[layer]
        found = self._read(reader, layer)
        with self._keeping:
            kept[layer] = found
            while len(kept) > self._most:
                del kept[next(iter(kept))]
        return found
