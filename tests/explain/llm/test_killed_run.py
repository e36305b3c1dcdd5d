"""A run that is killed in the middle pays for nothing twice but what was on its way."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.explain.llm.askers import echo
from tests.servers.scripted import Body, Response, Scripted
from tests.store.made_index import make_index

COUNT, KILLED_AT, AT_ONCE = 60, 31, 4


@pytest.mark.slow
def test_a_killed_run_repeats_no_request_but_those_on_their_way(tmp_path: Path) -> None:
    index = tmp_path / "made.db"
    make_index().write(index)
    command = [sys.executable, "-m", "tests.explain.llm.asking_process"]

    with Scripted() as server:
        runs = [*command, server.base_url, str(index), str(COUNT)]

        def kill(body: Body, number: int) -> Response:
            if number == KILLED_AT:
                process.kill()
            return replace(echo(body, number), delay=0.01)

        server.chat = kill
        process = subprocess.Popen(runs)
        assert process.wait(timeout=60) == -9
        before = len(server.requests)
        assert KILLED_AT <= before < COUNT

        finished = subprocess.run(runs, capture_output=True, text=True, timeout=60, check=True)
        assert finished.stdout == f"{COUNT} answered\n"
        asked = Counter(body["messages"][0]["content"] for body in server.bodies)
        assert len(asked) == COUNT
        twice = [question for question, times in asked.items() if times > 1]
        assert len(twice) <= AT_ONCE
        # Only what the killed run had not finished yet can have been asked again.
        last = {body["messages"][0]["content"] for body in server.bodies[before - AT_ONCE : before]}
        assert set(twice) <= last

        again = subprocess.run(runs, capture_output=True, text=True, timeout=60, check=True)
        assert again.stdout == f"{COUNT} answered\n"
        assert len(server.requests) == sum(asked.values())
