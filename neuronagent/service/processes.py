"""Work over many neurons in worker processes: they compute, the caller alone writes, and memory does not grow."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from neuronagent.errors import NeuronagentError, UsageError

AHEAD = 3
"""So many results per process are computed before they are taken."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
T = TypeVar("T")
R = TypeVar("R")


def worker_count(asked: int | None, doing: str) -> int:
    """How many processes: as many as were asked for, else one per core.

    Raises:
        UsageError: fewer than one.
    """
    count = (os.cpu_count() or 1) if asked is None else asked
    if count < 1:
        raise UsageError(f"{count} worker processes {doing} nothing", remedy="use at least 1")
    return count


@contextmanager
def processes(workers: int, prepare: Callable[..., None], *arguments: Any) -> Generator[ProcessPoolExecutor]:
    """Worker processes that each ran `prepare(*arguments)`; one thread each, as they share the cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (prepare, *arguments))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def in_order(
    pool: ProcessPoolExecutor, work: Callable[[T], R], items: Iterable[T], ahead: int, stop: threading.Event
) -> Iterator[R]:
    """What `work` makes of each item, in their order, at most `ahead` of them before they are taken; once `stop` is
    set, only of those that are begun.

    Raises:
        NeuronagentError: a process was killed.
        Exception: what `work` raised, or the `prepare` of the process.
    """
    waiting: deque[Future[R]] = deque()
    source = iter(items)
    try:
        while True:
            while not stop.is_set() and len(waiting) < ahead:
                try:
                    waiting.append(pool.submit(_worked, work, next(source)))
                except StopIteration:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise NeuronagentError(
            "a worker process ended: it was killed, or memory is full",
            remedy="run it again with fewer workers: what is done is kept",
        ) from error


def _begin(prepare: Callable[..., None], *arguments: Any) -> None:
    """In a new worker: Ctrl-C is for the parent to handle, and a worker whose parent was killed ends too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
    try:
        prepare(*arguments)
    except Exception as error:  # noqa: BLE001 - left alone it would be a traceback, and a pool that broke for no reason
        _UNPREPARED.append(error)


_UNPREPARED: list[Exception] = []
"""In a worker: why it cannot work, which its first item says."""


def _worked(work: Callable[[T], R], item: T) -> R:
    if _UNPREPARED:
        raise _UNPREPARED[0]
    return work(item)
