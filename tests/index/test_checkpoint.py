"""State files: what is read is what was written, layer by layer, and damage is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neuronagent.errors import StorageError
from neuronagent.index import checkpoint
from neuronagent.index.recorder import Batch, LayerRecorder

NEURONS = 5


def recorder() -> LayerRecorder:
    return LayerRecorder(
        sign=torch.ones(NEURONS, dtype=torch.int8), k=3, salt="salt", activate=torch.nn.functional.silu, name="a layer"
    )


def busy(seed: int) -> LayerRecorder:
    """A recorder that has seen something."""
    generator = torch.Generator().manual_seed(seed)
    gate, into = torch.randn(2, 4, 6, NEURONS, generator=generator)
    batch = Batch.of(
        np.full(4, 6, dtype=np.int64), np.arange(0, 24, 6, dtype=np.int64), np.zeros(4, dtype=np.int8), "salt", "cpu"
    )
    recorded = recorder()
    recorded.update(gate, into, batch)
    return recorded


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name].nan_to_num(), other[name].nan_to_num()) for name in one
    )


def test_layers_come_back_one_by_one_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    written = {1: busy(1), 11: busy(11)}  # whose names begin alike
    checkpoint.save(path, written, next_batch=7, complete=False, run="a run")
    found = checkpoint.read(path)
    assert found is not None
    assert (found.run, found.layers, found.next_batch, found.complete) == ("a run", (1, 11), 7, False)
    for layer, recorded in written.items():
        assert same(found.state(layer), recorded.state())
        again = recorder()
        again.load(found.state(layer))
        assert same(again.state(), recorded.state())
    assert not same(found.state(1), found.state(11))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_next_state_takes_the_place_of_the_last_one_and_of_what_a_kill_left(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, {0: busy(1)}, next_batch=1, complete=False, run="a run")
    (tmp_path / "state.tmp").mkdir()
    (tmp_path / "state.tmp" / ".tmpXyz").write_bytes(b"half")
    checkpoint.save(path, {0: busy(2)}, next_batch=2, complete=True, run="a run")
    found = checkpoint.read(path)
    assert found is not None
    assert (found.next_batch, found.complete) == (2, True)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_there_is_nothing_to_read_where_nothing_was_written(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path / "state.safetensors") is None


@pytest.mark.parametrize("damage", ["emptied", "shortened", "header", "other"])
def test_damage_is_noticed_and_the_file_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, {0: busy(1)}, next_batch=1, complete=False, run="a run")
    if damage == "other":
        path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")  # a safetensors file of somebody else
    elif damage == "header":
        path.write_bytes(b"\xff" * 20 + path.read_bytes()[20:])
    else:
        os.truncate(path, 0 if damage == "emptied" else path.stat().st_size - 1)
    with pytest.raises(StorageError, match=f"{path} is damaged"):
        checkpoint.read(path)


def test_a_folder_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(tmp_path / "gone" / "state.safetensors", {0: busy(1)}, next_batch=1, complete=True, run="")
