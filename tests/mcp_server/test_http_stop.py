"""A server over HTTP that is told to stop: what is under way is answered, the exit code says why, nothing is spilt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.mcp_server.pipe import ROOT
from tests.mcp_server.serving import Served, serving


@contextmanager
def process(stop_seconds: float) -> Generator[tuple[subprocess.Popen[str], Served]]:
    command = [sys.executable, "-m", "tests.mcp_server.serving", str(stop_seconds)]
    running = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stderr is not None
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/mcp\n", running.stderr.readline())
        assert found
        yield running, Served(int(found[1]))
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("tool", ["wait", pytest.param("work", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_sigterm_answers_what_is_under_way_and_ends_quietly(tool: str) -> None:
    with (
        process(0.5) as (running, served),
        served.connect() as short,
        served.connect() as long,
        served.connect() as idle,
    ):
        short.send(served.call("work", id="short", seconds=0.4))
        long.send(served.call(tool, id="long", modern=False, seconds=60))
        idle.send(served.call("echo", text="x"))
        assert idle.read().status == 200
        started = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert idle.closed()
        assert short.read().json["result"]["content"][0]["text"] == "done"
        told = long.read()
        assert (told.status, told.json["id"]) == (503, "long")
        assert "stopping" in told.error["message"]
        _, said = running.communicate(timeout=20)
        assert (running.returncode, said) == (0, "")
        assert time.monotonic() < started + 15


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_control_c_ends_with_130_and_twice_is_quicker(times: int) -> None:
    with process(60 if times == 2 else 0.3) as (running, served), served.connect() as wire:
        wire.send(served.call("wait", id="long", seconds=60))
        time.sleep(0.3)
        for _ in range(times):
            running.send_signal(signal.SIGINT)
            time.sleep(0.3)
        assert wire.read().status == 503
        _, said = running.communicate(timeout=20)
        assert (running.returncode, said) == (130, "")


@pytest.mark.slow
def test_sigterm_ends_a_model_that_is_still_being_loaded(index_path: Path) -> None:
    command = [sys.executable, "-m", "neuronagent", "serve", "--http", "--port", "0", "--db", str(index_path)]
    running = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    worker = None
    try:
        assert running.stderr is not None
        found = re.search(rb":(\d+)/mcp", running.stderr.readline())
        assert found
        served = Served(int(found[1]))
        with served.connect() as wire:
            wire.send(served.call("activate_text", id="live", text="Please try"))
            worker = _child(running.pid)
            os.kill(worker, signal.SIGSTOP)  # loading takes for ever
            time.sleep(0.2)
            started = time.monotonic()
            running.send_signal(signal.SIGTERM)
            told = wire.read()
            assert (told.status, told.json["id"]) == (200, "live")
            assert told.json["result"]["isError"]
            assert "ended" in told.json["result"]["content"][0]["text"]
        assert running.wait(20) == 0
        assert time.monotonic() < started + 4
        assert not Path(f"/proc/{worker}").exists()
    finally:
        if worker is not None:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)  # first: it holds stderr open
        running.kill()
        running.communicate()


def _child(parent: int) -> int:
    """The process that `parent` starts."""
    for _ in range(500):
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                    return int(status.parent.name)
        time.sleep(0.02)
    raise AssertionError("it starts no process")


def test_while_it_stops_it_takes_nothing_new() -> None:
    with serving(stop_seconds=0.6) as served:
        busy, kept = served.connect(), served.connect()
        kept.send(served.post(b"", content_length="2"))
        busy.send(served.call("wait", id=1, seconds=0.3))
    # The block has ended, which stops the server and waits for it.
    assert busy.read().json["result"]["content"][0]["text"] == "done"
    assert kept.read().status in (400, 503)
    with pytest.raises(OSError):  # noqa: PT011 - refused
        served.connect()
