"""Work ahead: the next item is made while the last one is used.

Numbers of the weights keep torch busy, which lets go of Python's lock, and so do compression and SQLite: on two cores
one layer can be computed while the one before it is written.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


class _End:
    """Comes after the last item, with what the maker raised, if anything."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[Item]) -> Generator[Item]:
    """The same items in the same order, one made ahead in a thread of its own; what it raises is raised here.

    A caller that stops early waits for the item that is being made.
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def make() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                waiting.put(item)
                if stop.is_set():
                    return
        except BaseException as raised:  # handed to the caller, who raises it
            error = raised
        waiting.put(_End(error))

    thread = threading.Thread(target=make, name="neuronagent-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        while thread.is_alive():
            try:
                waiting.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()
