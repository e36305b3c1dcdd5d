"""Shards as processes: begun at once, or killed at any moment and redone, they merge into the single run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from neuronagent.errors import NotFoundError
from neuronagent.service.build import build_index
from neuronagent.service.merge import merge_index
from neuronagent.service.options import BuildOptions
from tests.service.worlds import Rows, World, assert_same, random_world, rows

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return random_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def single(world: World, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What one run over everything writes."""
    db = tmp_path_factory.mktemp("single") / "whole.db"
    build_index(world.options(db))
    return rows(db)


CHILD = """
import json, sys
import torch
torch.set_num_threads(1)
from neuronagent.service.build import build_index
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Silent

class Telling(Silent):
    def start(self, stage, total, unit):
        print(stage, flush=True)
    def advance(self, done):
        print("batch", flush=True)

print(build_index(BuildOptions(**json.loads(sys.argv[1])), Telling()).waiting, flush=True)
"""


def spawn(options: BuildOptions) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(asdict(options))],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.slow
def test_shards_that_begin_at_once_share_one_reading_of_the_text(world: World, single: Rows, tmp_path: Path) -> None:
    options = world.options(tmp_path / "merged.db")
    children = [spawn(replace(options, shard=(index, 2))) for index in range(2)]
    said = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sum("all 2 shards are there; now: neuronagent merge" in each for each in said) >= 1
    merge_index(options.db)
    assert_same(rows(tmp_path / "merged.db"), single)


@pytest.mark.slow
def test_a_shard_killed_at_any_moment_is_redone_and_not_corrupted(world: World, single: Rows, tmp_path: Path) -> None:
    options = world.options(tmp_path / "merged.db", checkpoint_seconds=0.0)
    build_index(replace(options, shard=(0, 2)))
    draw = random.Random(0)
    killed = 0
    for batches in (1, 8):  # of the second shard, which has about sixteen; then at a moment of the machine's choice
        child = spawn(replace(options, shard=(1, 2)))
        assert child.stdout is not None
        for line in child.stdout:
            if line == "recording neurons\n":
                break
        for _ in range(batches):
            child.stdout.readline()
        time.sleep(draw.random() * 0.01)
        child.kill()
        killed += child.wait() == -signal.SIGKILL
        child.stdout.close()
        with pytest.raises(NotFoundError, match="not complete: 1; record them"):
            merge_index(options.db)
        assert not Path(options.db).exists()
    assert killed == 2
    build_index(replace(options, shard=(1, 2)))
    merge_index(options.db)
    assert_same(rows(tmp_path / "merged.db"), single)
