"""Work ahead: the next item is made while the last one is used.

Numbers of the weights keep torch busy, which lets go of Python's lock, and so do compression and SQLite: on two cores
one layer can be computed while the one before it is written.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Generator[Item]:
    """The same items in the same order, one made ahead in a thread of its own; what that raises is raised here.

    A caller that stops early waits for the item that is being made.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="neuronagent-ahead") as pool:
        coming = pool.submit(_next, source)
        while item := coming.result():
            coming = pool.submit(_next, source)
            yield item[0]


def _next(source: Iterator[Item]) -> tuple[Item] | None:
    """The next item, None after the last: StopIteration does not survive a thread."""
    for item in source:
        return (item,)
    return None
