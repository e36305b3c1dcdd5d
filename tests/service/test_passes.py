"""Layers split over several forward passes or calls, and what goes wrong in one: the index is that of a single pass."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuronagent.errors import Interrupted, ModelError, StorageError, UsageError
from neuronagent.index.checkpoint import read
from neuronagent.service.build import build_index
from neuronagent.service.merge import merge_index
from neuronagent.service.progress import Silent
from tests.service.worlds import Rows, World, assert_same, random_world, rows

torch.set_num_threads(1)

LAYERS = 5
RECORDING = "recording neurons"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return random_world(tmp_path_factory.mktemp("world"), layers=LAYERS, texts=20)


@pytest.fixture(scope="module")
def single(world: World, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    db = tmp_path_factory.mktemp("single") / "whole.db"
    build_index(world.options(db))
    return rows(db)


class Told(Silent):
    """Remembers stages, notes and numbers, and calls `act` once `at` tokens are recorded."""

    def __init__(self, at: int = -1, act: Callable[[], object] = bool) -> None:
        self.stage, self.total, self.at, self.act = "", 0, at, act
        self.done: list[int] = []
        self.notes: list[str] = []

    def start(self, stage: str, total: int, unit: str) -> None:
        self.stage = stage
        if stage == RECORDING:
            self.total = total

    def advance(self, done: int) -> None:
        if self.stage == RECORDING:
            self.done.append(done)
            if 0 <= self.at <= done:
                self.at = -1
                self.act()

    def note(self, line: str) -> None:
        self.notes.append(line)


@contextmanager
def largest_file(size: int) -> Generator[None]:
    """Inside, no file of this process can grow beyond `size` bytes: what a full disk or a quota is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


# Equal to one pass


@pytest.mark.slow
@pytest.mark.parametrize("passes", [2, 5, 99])
def test_several_passes_give_the_index_of_one_bit_for_bit(
    world: World, single: Rows, tmp_path: Path, passes: int
) -> None:
    told = Told()
    built = build_index(world.options(tmp_path / "index.db", passes=passes), told)
    assert rows(tmp_path / "index.db") == single
    assert told.done[-1] == told.total == built.tokens * min(passes, LAYERS)
    assert [path.name for path in tmp_path.iterdir()] == ["index.db"]


@pytest.mark.slow
def test_layers_recorded_in_several_calls_give_the_index_of_one_with_the_last(
    world: World, single: Rows, tmp_path: Path
) -> None:
    options = world.options(tmp_path / "index.db")
    built = build_index(replace(options, layers=(1, 3)))
    assert built.waiting.startswith("3 of 5 layers are not recorded yet")
    assert build_index(replace(options, layers=(1, 3, 4))).waiting.startswith("2 of 5 layers are not recorded yet")
    assert not Path(options.db).exists()
    assert build_index(options).waiting == ""
    assert rows(tmp_path / "index.db") == single


@pytest.mark.slow
def test_shards_may_split_their_layers_differently(world: World, single: Rows, tmp_path: Path) -> None:
    options = world.options(tmp_path / "index.db")
    build_index(replace(options, shard=(0, 2), passes=2))
    build_index(replace(options, shard=(1, 2), layers=(2, 3)))
    build_index(replace(options, shard=(1, 2), passes=3))
    merge_index(options.db)
    assert_same(rows(tmp_path / "index.db"), single)


def test_a_pass_keeps_the_state_of_its_own_layers_only(world: World, tmp_path: Path) -> None:
    options = world.options(tmp_path / "index.db", passes=3)
    with pytest.raises(Interrupted):
        build_index(options, Told(at=1, act=ctrl_c))
    state = read(tmp_path / "index.db.partial" / "shard-0-of-1.layer-0.safetensors")
    assert state is not None
    assert (state.layers, state.complete) == ((0, 1), False)
    assert {name.split(".")[0] for name in load_file(state.path)} == {"0", "1"}


@pytest.mark.slow
def test_a_pass_stopped_anywhere_continues_where_it_was(world: World, single: Rows, tmp_path: Path) -> None:
    options = world.options(tmp_path / "index.db", passes=2)
    tokens = build_index(world.options(tmp_path / "other.db")).tokens
    for at in (100, tokens + 100):
        with pytest.raises(Interrupted, match="the same command continues"):
            build_index(options, Told(at=at, act=ctrl_c))
        told = Told(at=0, act=ctrl_c)
        with pytest.raises(Interrupted):
            build_index(options, told)
        assert told.done[0] >= at
    build_index(options)
    assert rows(tmp_path / "index.db") == single


@pytest.mark.slow
def test_another_number_of_passes_after_a_stop_begins_only_the_unfinished_one_again(
    world: World, single: Rows, tmp_path: Path
) -> None:
    tokens = build_index(world.options(tmp_path / "other.db")).tokens
    with pytest.raises(Interrupted):
        build_index(world.options(tmp_path / "index.db", passes=2), Told(at=tokens + 100, act=ctrl_c))
    told = Told()
    build_index(world.options(tmp_path / "index.db", passes=5), told)
    assert told.notes == ["an unfinished pass over 2 layers is begun again with 1"]
    assert told.done[0] == tokens
    assert rows(tmp_path / "index.db") == single


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would go to the graphics card, which rounds differently")
def test_a_model_spread_over_the_devices_that_there_are_gives_the_same_index(
    world: World, single: Rows, tmp_path: Path
) -> None:
    build_index(world.options(tmp_path / "index.db", device="cpu", device_map="auto", passes=2))
    assert rows(tmp_path / "index.db") == single
    with pytest.raises(UsageError, match="not a device map"):
        build_index(world.options(tmp_path / "other.db", device_map="everywhere"))


@pytest.mark.slow
def test_ctrl_c_in_the_last_batch_stops_before_the_database_is_written(
    world: World, single: Rows, tmp_path: Path
) -> None:
    options = world.options(tmp_path / "index.db")
    tokens = build_index(world.options(tmp_path / "other.db")).tokens
    with pytest.raises(Interrupted, match=f"stopped after {tokens:,} of {tokens:,} tokens"):
        build_index(options, Told(at=tokens, act=ctrl_c))
    assert not Path(options.db).exists()
    told = Told()
    build_index(options, told)
    assert told.done == [tokens]
    assert rows(tmp_path / "index.db") == single


@pytest.mark.parametrize("wrong", [{"layers": (4, 5)}, {"layers": (-1,)}, {"layers": ()}, {"passes": 0}])
def test_layers_that_are_not_there_and_no_passes_are_refused(
    world: World, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"layers|--passes"):
        build_index(world.options(tmp_path / "index.db", **wrong))
    assert list(tmp_path.iterdir()) == []


# What goes wrong


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38])
def test_activations_that_are_not_finite_stop_the_build_with_the_layer_and_nothing_is_written(
    tmp_path: Path, value: float
) -> None:
    world = random_world(tmp_path / "world", layers=3, texts=6)
    weights = load_file(world.model / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][7] = value
    save_file(weights, world.model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="layer 2 are not finite"):
        build_index(world.options(tmp_path / "index.db", checkpoint_seconds=0.0))
    assert not (tmp_path / "index.db").exists()
    build_index(world.options(tmp_path / "index.db", layers=(0, 1)))


@pytest.mark.slow
def test_a_disk_that_fills_up_under_a_checkpoint_leaves_the_last_one(
    world: World, single: Rows, tmp_path: Path
) -> None:
    options = world.options(tmp_path / "index.db", checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        build_index(options, Told(at=200, act=ctrl_c))
    state = tmp_path / "index.db.partial" / "shard-0-of-1.layer-0.safetensors"
    before = state.read_bytes()
    with largest_file(len(before) // 2), pytest.raises(StorageError, match=r"cannot be written.*make room"):
        build_index(options)
    assert state.read_bytes() == before
    assert sorted(path.suffix for path in state.parent.glob("shard-*")) == [".lock", ".safetensors"]
    build_index(options)
    assert rows(tmp_path / "index.db") == single


def test_a_damaged_checkpoint_is_refused_and_named(world: World, tmp_path: Path) -> None:
    options = world.options(tmp_path / "index.db")
    with pytest.raises(Interrupted):
        build_index(options, Told(at=200, act=ctrl_c))
    state = tmp_path / "index.db.partial" / "shard-0-of-1.layer-0.safetensors"
    os.truncate(state, state.stat().st_size // 2)
    with pytest.raises(StorageError, match=f"{state.name} is damaged.*delete it"):
        build_index(options)
