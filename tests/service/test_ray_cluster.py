"""A real Ray cluster on this machine: its shards make the index of a single run, also when a worker is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuronagent.errors import Interrupted, ModelError, StorageError, UsageError
from neuronagent.index import checkpoint
from neuronagent.models.bridge import open_model
from neuronagent.service.build import Prepared, build_index, prepare
from neuronagent.service.progress import Silent
from neuronagent.service.ray_cluster import Job, build_on_ray, record_shard
from neuronagent.service.shards import Shard
from tests.service.worlds import Rows, World, assert_same, random_world, rows

pytestmark = [pytest.mark.slow, pytest.mark.ray]
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray: Any = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return random_world(tmp_path_factory.mktemp("world"), layers=3, texts=300)


@pytest.fixture(scope="module")
def single(world: World, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    db = tmp_path_factory.mktemp("single") / "whole.db"
    build_index(world.options(db))
    return rows(db)


@pytest.mark.parametrize("shards", [None, 1, 2, 5])
def test_any_number_of_shards_on_a_cluster_is_the_single_run(
    cluster: Any, world: World, single: Rows, tmp_path: Path, shards: int | None
) -> None:
    built = build_on_ray(world.options(tmp_path / "index.db", passes=shards or 1), "local", shards)
    assert built.waiting == ""
    assert_same(rows(tmp_path / "index.db"), single)
    assert [path.name for path in tmp_path.iterdir()] == ["index.db"]
    assert cluster.is_initialized(), "a cluster that was there is left alone"


@dataclass
class Killer(threading.Thread):
    """Kills the process that records a shard once it has written a checkpoint, `times` times."""

    folder: Path
    shard: str
    times: int
    killed: list[int] = field(default_factory=list[int])
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while len(self.killed) < self.times and not self.over.is_set():
            time.sleep(0.002)
            process = self.recording()
            if process is not None and process not in self.killed:
                os.kill(process, signal.SIGKILL)
                self.killed.append(process)

    def recording(self) -> int | None:
        """Whose shard is begun and not complete."""
        try:
            found = re.match(r"process (\d+) on ", (self.folder / f"{self.shard}.lock").read_text())
            state = checkpoint.read(self.folder / f"{self.shard}.layer-0.safetensors")
        except (OSError, StorageError):
            return None
        return int(found[1]) if found and state is not None and not state.complete else None


def test_a_worker_killed_in_the_middle_twice_is_replaced_and_the_index_is_the_same(
    cluster: Any, world: World, single: Rows, tmp_path: Path
) -> None:
    options = world.options(tmp_path / "index.db", checkpoint_seconds=0.0)
    killer = Killer(tmp_path / "index.db.partial", "shard-1-of-3", times=2)
    killer.start()
    build_on_ray(options, "local", 3)
    killer.over.set()
    killer.join()
    assert len(set(killer.killed)) == 2
    assert os.getpid() not in killer.killed
    assert_same(rows(tmp_path / "index.db"), single)


class Stopping(Silent):
    """Presses Ctrl-C when the first shard is done."""

    def __init__(self) -> None:
        self.stage = ""

    def start(self, stage: str, total: int, unit: str) -> None:
        self.stage = stage

    def advance(self, done: int) -> None:
        if self.stage == "recording neurons" and done > 0:
            self.stage = ""
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_keeps_what_the_shards_have_recorded(cluster: Any, world: World, single: Rows, tmp_path: Path) -> None:
    options = world.options(tmp_path / "index.db")
    with pytest.raises(Interrupted, match="the same command continues"):
        build_on_ray(options, "local", 7, Stopping())
    done = [checkpoint.read(path) for path in (tmp_path / "index.db.partial").glob("shard-*-of-7.layer-0.safetensors")]
    assert any(state is not None and state.complete for state in done)
    assert not Path(options.db).exists()
    build_on_ray(options, "local", 7)
    assert_same(rows(tmp_path / "index.db"), single)


def test_a_node_that_does_not_see_the_working_folder_records_in_one_of_its_own(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "node"
    own.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(own))
    options = world.options(tmp_path / "index.db", device="cpu", dtype="float32")
    model = open_model(options.model)
    prepared = prepare(options, model, Silent())
    assert isinstance(prepared, Prepared)
    there = Job(options=options, fingerprint="f", signs=prepared.signs, folder=prepared.folder, cpus=1)
    shard = Shard(index=1, count=2)
    seen = record_shard(there, prepared.corpus, shard)
    unseen = record_shard(replace(there, folder=tmp_path / "elsewhere"), prepared.corpus, shard)
    assert seen[0] == unseen[0]
    for one, other in zip(seen[1:], unseen[1:], strict=True):
        assert one.keys() == other.keys()
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert list(own.iterdir()) == []
    assert not (tmp_path / "elsewhere").exists()


CLOSED = """
import sys
from neuronagent.errors import UsageError
from neuronagent.service.options import BuildOptions
from neuronagent.service.ray_cluster import build_on_ray
try:
    build_on_ray(BuildOptions(model="m", text="t", db=sys.argv[1]), "127.0.0.1:1")
except UsageError as error:
    print(error)
"""


def test_an_address_where_nobody_listens_is_told_at_once(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CLOSED, str(tmp_path / "x.db")], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.startswith("there is no Ray cluster at 127.0.0.1:1: "), ran.stderr
    assert "local to start one here" in ran.stdout


def test_what_goes_wrong_on_a_worker_is_told_as_it_was_there(cluster: Any, tmp_path: Path) -> None:
    world = random_world(tmp_path / "world", texts=8)
    weights = load_file(world.model / "model.safetensors")
    weights["model.layers.1.mlp.gate_proj.weight"][3] = float("nan")
    save_file(weights, world.model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"^activations of layer 1 are not finite"):
        build_on_ray(world.options(tmp_path / "index.db"), "local", 2)
    assert not (tmp_path / "index.db").exists()


def test_options_that_need_one_process_are_refused(world: World, tmp_path: Path) -> None:
    for change in ({"layers": (0,)}, {"device_map": "auto"}):
        with pytest.raises(UsageError, match="do not go with --ray"):
            build_on_ray(world.options(tmp_path / "index.db", **change), "local")
    assert list(tmp_path.iterdir()) == []
