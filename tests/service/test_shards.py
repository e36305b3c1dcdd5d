"""Shards: recorded one by one, in any folder, killed and redone, they merge into the index of a single run."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.errors import IndexMismatchError, InputError, NotFoundError, StorageError, UsageError
from neuronagent.index.files import alone
from neuronagent.service.build import build_index
from neuronagent.service.merge import merge_index
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Silent
from neuronagent.service.shards import Shard
from neuronagent.store.reader import IndexReader
from tests.models.tiny_models import SPECS, save_tiny
from tests.service.worlds import Rows, World, assert_same, random_world, rows

torch.set_num_threads(1)

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))
STORIES = World(SHARED / "models" / "stories260K", SHARED / "text" / "tinystories_valid.txt")
REAL: dict[str, Any] = {"max_tokens": 96, "token_budget": 3_000, "batch_tokens": 384}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return random_world(tmp_path_factory.mktemp("world"), texts=24)


@pytest.fixture(scope="module")
def single(world: World, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What one run over everything writes."""
    db = tmp_path_factory.mktemp("single") / "whole.db"
    build_index(world.options(db))
    return rows(db)


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def record(options: BuildOptions, count: int, which: Sequence[int] | None = None) -> None:
    for index in range(count) if which is None else which:
        build_index(replace(options, shard=(index, count)))


# A merge is the single run


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5, 29])
def test_a_merge_of_any_number_of_shards_is_the_single_run(
    world: World, single: Rows, tmp_path: Path, count: int
) -> None:
    options = world.options(tmp_path / "merged.db")
    order = random.Random(count).sample(range(count), count)
    record(options, count, order)
    if count > 1:  # one shard is the whole, and is written at once
        built = merge_index(options.db)
        assert built.waiting == ""
    assert_same(rows(Path(options.db)), single)
    assert [path.name for path in tmp_path.iterdir()] == ["merged.db"]


@pytest.mark.slow
@pytest.mark.skipif(not (STORIES.model.exists() and STORIES.file.exists()), reason="the shared model is not here")
def test_shards_of_a_trained_model_merge_into_the_single_run(tmp_path: Path) -> None:
    build_index(STORIES.options(tmp_path / "whole.db", **REAL))
    whole = rows(tmp_path / "whole.db")
    for count in (2, 5):
        options = STORIES.options(tmp_path / f"{count}.db", **REAL)
        record(options, count)
        merge_index(options.db)
        assert_same(rows(tmp_path / f"{count}.db"), whole)


@pytest.mark.slow
def test_shards_of_several_folders_merge_in_any_order_into_the_same_bytes(
    world: World, single: Rows, tmp_path: Path
) -> None:
    folders: list[str] = []
    for index in range(3):
        record(world.options(tmp_path / f"machine {index}" / "part.db"), 3, [index])
        folders.append(str(tmp_path / f"machine {index}" / "part.db.partial"))
    found: list[Rows] = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        db = tmp_path / f"{order[0]}.db"
        merge_index(str(db), [folders[place] for place in order])
        found.append(rows(db))
    assert_same(found[0], single)
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert all(Path(folder, "corpus.json").exists() for folder in folders), "named folders are left alone"


@pytest.mark.slow
def test_an_index_in_bfloat16_has_the_sign_flips_that_its_first_shard_measured(world: World, tmp_path: Path) -> None:
    build_index(world.options(tmp_path / "whole.db", dtype="bfloat16"))
    options = world.options(tmp_path / "merged.db", dtype="bfloat16")
    record(options, 2)
    merge_index(options.db)
    assert_same(rows(tmp_path / "merged.db"), rows(tmp_path / "whole.db"))
    with IndexReader.open(options.db) as reader:
        assert reader.info()["sign_flips"]["tokens"] > 0


# Files and locks


def test_a_checkpoint_that_was_half_written_is_not_looked_at(world: World, single: Rows, tmp_path: Path) -> None:
    options = world.options(tmp_path / "merged.db")
    record(options, 2, [0])
    half = tmp_path / "merged.db.partial" / "shard-1-of-2.layer-0.tmp"
    half.mkdir()
    (half / ".half").write_bytes(b"half")
    half.with_name("shard-1-of-2.tmp").write_bytes(b"half")
    record(options, 2, [1])
    merge_index(options.db)
    assert_same(rows(tmp_path / "merged.db"), single)


def test_two_processes_never_record_the_same_shard(world: World, tmp_path: Path) -> None:
    options = world.options(tmp_path / "merged.db")
    lock = tmp_path / "merged.db.partial" / "shard-0-of-2.lock"
    with alone(lock, wait=False, doing="testing"):
        with pytest.raises(StorageError, match=f"another process is recording in .*process {os.getpid()} on "):
            record(options, 2, [0])
        record(options, 2, [1])
    record(options, 2, [0])
    merge_index(options.db)


# What does not belong together


@pytest.fixture(scope="module")
def two(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders, each with one of two shards."""
    folder = tmp_path_factory.mktemp("two")
    for index in range(2):
        record(world.options(folder / f"{index}.db"), 2, [index])
    return folder / "0.db.partial", folder / "1.db.partial"


def refused(error: type[Exception], match: str, tmp_path: Path, *folders: Path) -> None:
    with pytest.raises(error, match=match):
        merge_index(str(tmp_path / "merged.db"), [str(folder) for folder in folders])
    assert not (tmp_path / "merged.db").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"salt": "pepper"}, "the corpus|--salt"),
        ({"k": 5}, "--k: 4 and 5"),
        ({"batch_tokens": 100}, "--batch-tokens: 64 and 100"),
        ({"dtype": "bfloat16"}, "--dtype: float32 and bfloat16"),
        ({"sign_convention": "raw"}, "--sign-convention: normalised and raw"),
        ({"max_tokens": 10}, "--max-tokens|the corpus"),
        ({"token_budget": 200}, "the corpus"),
        ({"post_norm": "raw"}, "--post-norm"),
    ],
)
def test_shards_recorded_with_other_settings_are_refused_with_the_difference(
    world: World, two: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    record(world.options(tmp_path / "other.db", **changes), 2, [1])
    refused(IndexMismatchError, f"differ in ({said})", tmp_path, two[0], tmp_path / "other.db.partial")


def test_shards_of_another_model_or_of_another_count_are_refused(
    world: World, two: tuple[Path, Path], tmp_path: Path
) -> None:
    model = save_tiny(SPECS["mistral"], tmp_path / "model")
    record(world.options(tmp_path / "other.db", model=str(model)), 2, [1])
    refused(IndexMismatchError, "the model's weights", tmp_path, two[0], tmp_path / "other.db.partial")
    record(world.options(tmp_path / "three.db"), 3, [1])
    refused(IndexMismatchError, "the number of shards: 2 and 3", tmp_path, two[0], tmp_path / "three.db.partial")


def test_a_missing_shard_is_named_and_so_are_an_empty_folder_and_one_shard_twice(
    world: World, two: tuple[Path, Path], tmp_path: Path
) -> None:
    refused(NotFoundError, "of 2 shards these are not .*: 0; record them: .* --shard 0/2", tmp_path, two[1])
    refused(NotFoundError, "no complete shards", tmp_path, tmp_path)
    shutil.copytree(two[0], tmp_path / "copy")
    refused(IndexMismatchError, "shard-0-of-2 is there twice", tmp_path, two[0], tmp_path / "copy", two[1])


@pytest.mark.parametrize("damage", ["a bit", "shortened", "removed"])
def test_a_damaged_state_is_refused_and_named(two: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(two[1], copy)
    state = copy / "shard-1-of-2.layer-0.safetensors"
    data = bytearray(state.read_bytes())
    if damage == "removed":
        state.unlink()
    else:
        data[-5] ^= 1
        state.write_bytes(data if damage == "a bit" else data[:-100])
    refused(StorageError, f"{state.name}.* (damaged|cannot be read)", tmp_path, two[0], copy)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 99}',
        b'{"format": 1, "index": 5, "count": 2}',
        b'{"format": 1, "index": 1, "count": 2, "identity": {}}',
    ],
)
def test_a_damaged_manifest_is_refused_and_named(two: tuple[Path, Path], tmp_path: Path, content: bytes) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(two[1], copy)
    (copy / "shard-1-of-2.json").write_bytes(content)
    refused(StorageError, "shard-1-of-2.json is (damaged|of format 99)", tmp_path, two[0], copy)


def test_a_model_or_a_text_that_changed_since_is_refused(world: World, two: tuple[Path, Path], tmp_path: Path) -> None:
    other = save_tiny(SPECS["mistral"], tmp_path / "model")
    db = str(tmp_path / "merged.db")
    with pytest.raises(IndexMismatchError, match="the model's weights is another; name the right model with --model"):
        merge_index(db, [str(folder) for folder in two], model=str(other))
    copy = tmp_path / "copy"
    shutil.copytree(two[0], copy)
    (copy / "tokens.bin").write_bytes(bytes(len((copy / "tokens.bin").read_bytes())))
    refused(InputError, "was changed after it was written", tmp_path, copy, two[1])


def test_a_model_that_lies_elsewhere_now_can_be_named(
    world: World, single: Rows, two: tuple[Path, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "moved" / "model"
    shutil.copytree(world.model, moved)
    merge_index(str(tmp_path / "merged.db"), [str(folder) for folder in two], model=str(moved))
    found = rows(tmp_path / "merged.db")
    for each in (found, single):
        each["index_info"] = [row for row in each["index_info"] if row["key"] != "model"]
    assert_same(found, single)


def test_a_complete_shard_is_not_recorded_again_and_one_with_other_settings_is_refused(
    world: World, tmp_path: Path
) -> None:
    options = world.options(tmp_path / "merged.db")
    record(options, 2, [1])
    notes = Notes()
    built = build_index(replace(options, shard=(1, 2)), notes)
    assert notes.lines == ["shard 1 of 2 is complete already"]
    assert built.waiting.startswith("1 of 2 shards are not in")
    with pytest.raises(IndexMismatchError, match="with other settings"):
        build_index(replace(options, shard=(1, 2), k=5))
    with pytest.raises(IndexMismatchError, match="with other settings"):
        build_index(replace(options, shard=(1, 2), batch_tokens=100))


def test_a_merge_into_what_is_there_already_says_so_or_is_refused(
    world: World, two: tuple[Path, Path], tmp_path: Path
) -> None:
    db, notes = tmp_path / "merged.db", Notes()
    folders = [str(folder) for folder in two]
    merge_index(str(db), folders)
    before = db.read_bytes()
    merge_index(str(db), folders, progress=notes)
    assert notes.lines == [f"{db} is complete already"]
    build_index(world.options(tmp_path / "other.db", k=5))
    with pytest.raises(IndexMismatchError, match="holds another index"):
        merge_index(str(tmp_path / "other.db"), folders)
    assert db.read_bytes() == before


# Which shard


@given(st.integers(1, 10**6 - 1), st.data())
def test_a_shard_is_read_as_it_is_written(count: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    assert Shard.parse(f" {index}/{count} ") == Shard(index=index, count=count)


@pytest.mark.parametrize(
    "wrong", ["", "1", "2/2", "-1/2", "a/b", "0/0", "1/2/3", "٣/٥", "0.5/2", "9" * 30 + "/" + "9" * 40]
)
def test_anything_else_is_no_shard(wrong: str) -> None:
    with pytest.raises(UsageError):
        Shard.parse(wrong)


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, (0, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (0, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # the batch script itself
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (0, 1)),
        ({"RANK": "x", "WORLD_SIZE": "4"}, (0, 1)),
        ({"RANK": "3"}, (0, 1)),
    ],
)
def test_a_launcher_of_several_processes_gives_each_its_shard(
    environment: dict[str, str], shard: tuple[int, int]
) -> None:
    found, variables = Shard.of_environment(environment)
    assert (found.index, found.count) == shard
    assert bool(variables) == (shard[1] > 1)


def test_a_launcher_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="no shard 4 of 4"):
        Shard.of_environment({"RANK": "4", "WORLD_SIZE": "4"})
