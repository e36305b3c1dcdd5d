"""Tasks share the cores of a CPU, keep their order where one waits for another, and leave torch's settings alone."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch

from neuronagent.index.workers import Inline, worker_count, workers
from tests.index.cores import cores

CPU = torch.device("cpu")


def share(_: int) -> int:
    return torch.get_num_threads()


def inverse(number: int) -> int:
    return 1 // number


@pytest.mark.parametrize(("available", "most", "count"), [(1, 9, 1), (2, 9, 2), (4, 3, 3), (4, 0, 1)])
def test_there_is_a_worker_per_core_but_none_without_a_task(available: int, most: int, count: int) -> None:
    with cores(available):
        assert worker_count(CPU, most) == count
        assert worker_count(torch.device("cuda"), most) == 1


def test_a_worker_has_its_share_of_the_cores_and_others_have_what_they_had() -> None:
    with cores(6):
        with workers(CPU, 3) as pool:
            shares = list(pool.map(share, range(5)))
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 6
        assert torch.get_num_threads() == 6
    assert shares == [2] * 5


def test_workers_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=20)  # seconds; either alone would wait for ever
    with cores(2), workers(CPU, 2) as pool:
        tasks = [pool.submit(meeting.wait) for _ in range(2)]
        assert sorted(task.result() for task in tasks) == [0, 1]


@pytest.mark.parametrize("available", [1, 2, 3])
def test_a_task_may_wait_for_one_that_was_submitted_before(available: int) -> None:
    done: list[int] = []

    def after(before: Future[None], number: int) -> None:
        before.result()
        done.append(number)

    with cores(available), workers(CPU, 5) as pool:
        tasks = [pool.submit(done.append, 0)]
        for number in range(1, 40):
            tasks.append(pool.submit(after, tasks[-1], number))
        for task in tasks:
            task.result()
    assert done == list(range(40))


@pytest.mark.parametrize("available", [1, 2])
def test_what_a_task_raises_reaches_the_caller_and_the_cores_come_back(available: int) -> None:
    with cores(available):
        with pytest.raises(ZeroDivisionError), workers(CPU, 2) as pool:
            list(pool.map(inverse, [1, 0, 1]))
        assert torch.get_num_threads() == available


def test_a_task_without_workers_is_done_when_it_is_submitted() -> None:
    assert Inline().submit(divmod, 7, 2).result() == (3, 1)
