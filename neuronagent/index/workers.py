"""Independent tasks on all cores of a CPU: a thread per core, each of which computes on its core alone.

torch would rather divide each operation between the cores. For large products that does as well; for the many small
operations around them it costs more than it gains, and where something else uses a core each of them waits for it.
While torch computes it lets go of Python's lock, so that threads do run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


class Inline(Executor):
    """Runs a task when it is submitted: for a GPU, which has work in order anyway, and for a single core."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future that is done; what the task raises is raised here."""
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def worker_count(device: torch.device, most: int) -> int:
    """How many tasks `workers` runs at a time, of `most` that there may be: 1 on a GPU. Not for a worker to ask."""
    return max(1, min(most, torch.get_num_threads())) if device.type == "cpu" else 1


@contextmanager
def workers(device: torch.device, most: int) -> Generator[Executor]:
    """An executor for up to `most` tasks at a time, which share torch's cores evenly.

    Tasks begin in the order of submission, so that one may wait for another that was submitted before it.
    """
    cores, count = torch.get_num_threads(), worker_count(device, most)
    if count == 1:
        yield Inline()
        return
    try:
        with ThreadPoolExecutor(count, "neuronagent-worker", torch.set_num_threads, (cores // count,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)  # the last setting anywhere is that of threads yet to be started
