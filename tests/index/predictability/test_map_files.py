"""Maps and their files: what is written is read again, and what is damaged is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuronagent.errors import StorageError
from neuronagent.index.predictability.maps import NeuronMap, load_map, save_map

torch.set_num_threads(1)


def full() -> NeuronMap:
    return NeuronMap(factors=(torch.randn(4, 6),), bias=torch.randn(4))


def low() -> NeuronMap:
    return NeuronMap(factors=(torch.randn(2, 6), torch.randn(4, 2)), bias=torch.zeros(4))


@pytest.mark.parametrize("found", [full(), low()], ids=["full", "of rank 2"])
def test_a_map_is_its_matrix_and_its_intercept(found: NeuronMap) -> None:
    post = torch.randn(3, 5, 6)
    torch.testing.assert_close(found(post), post @ found.weight.T + found.bias)
    assert found(torch.randn(6)).shape == (4,)
    assert found(post.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("found", [full(), low()], ids=["full", "of rank 2"])
def test_a_file_gives_back_what_was_written(found: NeuronMap, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "0-1.safetensors"
    save_map(path, found, {"pair": [0, 1], "identity": "é"})
    again, about = load_map(path)
    assert about == {"pair": [0, 1], "identity": "é"}
    assert again.rank == found.rank
    for one, other in zip((*found.factors, found.bias), (*again.factors, again.bias), strict=True):
        assert torch.equal(one, other)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_files_that_are_no_maps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0-1.safetensors"
    save_map(path, full(), {})
    whole = path.read_bytes()
    for damaged in (b"", b"nonsense", whole[:40], whole[:-3]):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match="fit it again"):
            load_map(path)
    with pytest.raises(StorageError, match="cannot be read"):
        load_map(tmp_path / "missing.safetensors")


def test_factors_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0-1.safetensors"
    for wrong in (
        NeuronMap(factors=(torch.zeros(3, 6),), bias=torch.zeros(4)),
        NeuronMap(factors=(torch.zeros(3, 6), torch.zeros(4, 2)), bias=torch.zeros(4)),
    ):
        save_map(path, wrong, {})
        with pytest.raises(StorageError, match="damaged"):
            load_map(path)


def test_a_map_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    path, found = tmp_path / "0-1.safetensors", full()
    save_map(path, found, {})
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot be written"):
        save_map(tmp_path / "file" / "0-1.safetensors", low(), {})
    assert torch.equal(load_map(path)[0].weight, found.weight)
