"""Worker processes that cannot begin: an index may go while a report or a batch starts them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from neuronagent.domain import NeuronId
from neuronagent.errors import NotFoundError
from neuronagent.service.processes import in_order, processes
from neuronagent.service.reporting import pages
from neuronagent.service.reporting.page_options import PageOptions


def test_a_worker_that_cannot_open_the_index_says_why_and_shows_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = str(tmp_path / "gone.db"), PageOptions(), (), False
    with (
        processes(1, pages.prepare, *arguments) as pool,
        pytest.raises(NotFoundError, match=r"gone\.db does not exist") as raised,
    ):
        list(in_order(pool, pages.attempt_here, [(NeuronId(0, 0), "")], 1, threading.Event()))
    assert "neuronagent index" in raised.value.remedy
    assert capfd.readouterr().err == ""
