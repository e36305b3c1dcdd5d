"""Items are made one ahead, in order, and what goes wrong is told to the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from neuronagent.service.ahead import ahead


def test_items_come_in_order() -> None:
    assert list(ahead(range(50))) == list(range(50))
    assert list(ahead([])) == []


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        made.set()
        yield 2

    found = ahead(items())
    assert next(found) == 1
    assert made.wait(5)
    assert list(found) == [2]


def test_what_the_maker_raises_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_a_caller_that_stops_early_leaves_no_thread_behind() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    found = ahead(items())
    assert next(found) == 0
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("neuronagent-ahead")]
    count = len(made)
    time.sleep(0.05)
    assert len(made) == count < 10
