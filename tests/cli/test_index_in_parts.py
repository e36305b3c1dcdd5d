"""`index --shard`, `--layers` and `--passes`, and `merge`: what each says, and that they end with the same index."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from neuronagent.store.reader import IndexReader
from tests.cli.conftest import Cli
from tests.service.worlds import World, assert_same, random_world, rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return random_world(tmp_path_factory.mktemp("world"), texts=12)


def arguments(world: World, db: Path, *more: str) -> tuple[str, ...]:
    return ("index", str(world.model), "--text", str(world.file), "--db", str(db), "--batch-tokens", "64", *more)


@pytest.fixture
def whole(cli: Cli, world: World, tmp_path: Path) -> Path:
    db = tmp_path / "whole.db"
    assert cli(*arguments(world, db)).code == 0
    return db


@pytest.mark.slow
def test_shards_say_what_is_missing_and_the_merge_what_is_next(
    cli: Cli, world: World, whole: Path, tmp_path: Path
) -> None:
    db = tmp_path / "merged.db"
    first = cli(*arguments(world, db, "--shard", "0/2"))
    assert first.code == 0
    assert f"1 of 2 shards are not in {db}.partial yet; when they are: neuronagent merge {db}" in first.out
    early = cli("merge", db)
    assert early.code == 3
    assert "of 2 shards these are not in" in early.err
    second = cli(*arguments(world, db, "--shard", "1/2", "--passes", "2"))
    assert f"all 2 shards are there; now: neuronagent merge {db}" in second.out
    merged = cli("merge", db)
    assert merged.code == 0
    assert f"neuronagent explain 0.0 --db {db}" in merged.out
    assert_same(rows(db), rows(whole))


@pytest.mark.slow
def test_a_launcher_that_starts_several_processes_is_obeyed_and_told(
    cli: Cli, world: World, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        ran = cli(*arguments(world, tmp_path / "merged.db"))
        assert ran.code == 0
        assert f"shard {rank} of 2, as RANK and WORLD_SIZE say; --shard 0/1 records everything" in ran.err
    assert cli("merge", tmp_path / "merged.db").code == 0
    assert_same(rows(tmp_path / "merged.db"), rows(whole))
    assert cli(*arguments(world, tmp_path / "all.db", "--shard", "0/1")).code == 0
    assert rows(tmp_path / "all.db") == rows(whole)


def test_layers_are_recorded_by_several_calls(cli: Cli, world: World, whole: Path, tmp_path: Path) -> None:
    db = tmp_path / "index.db"
    ran = cli(*arguments(world, db, "--layers", "1"))
    assert ran.code == 0
    assert "1 of 2 layers are not recorded yet" in ran.out
    assert not db.exists()
    assert cli(*arguments(world, db, "--layers", "0")).code == 0
    assert rows(db) == rows(whole)


def test_weights_alone_need_no_text(cli: Cli, world: World, tmp_path: Path) -> None:
    db = tmp_path / "weights.db"
    assert cli("index", world.model, "--weights-only", "--db", db).code == 0
    with IndexReader.open(db) as reader:
        assert reader.layers() == {0: 48, 1: 48}


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--shard", "2/2"), 2, "shards are 0 to 1"),
        (("--shard", "half"), 2, "write I/N"),
        (("--layers", "0-7"), 2, "no layer 2"),
        (("--layers", "x"), 2, "0,2,7-9"),
        (("--passes", "0"), 2, "--passes"),
        (("--dtype", "tf32", "--device", "cpu"), 2, "CUDA"),
        (("--dtype", "int4"), 2, "allowed: "),
        (("--device-map", "everywhere"), 2, "--device-map"),
        (("--ray", "local", "--layers", "0"), 2, "do not go with --ray"),
        (("--ray", "local", "--shard", "0/2"), 2, "does not go with --ray"),
        (("--shards", "2"), 2, "--shard I/N"),
        (("--ray", "local"), 2, "pip install 'neuronagent[ray]'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left_behind(
    cli: Cli,
    world: World,
    tmp_path: Path,
    more: tuple[str, ...],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    ran = cli(*arguments(world, tmp_path / "index.db", *more))
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert not list(tmp_path.glob("index.db*"))


def test_an_index_needs_a_text(cli: Cli, world: World, tmp_path: Path) -> None:
    ran = cli("index", world.model, "--db", tmp_path / "index.db")
    assert ran.code == 2
    assert "--text" in ran.err
    assert "--weights-only" in ran.err


def test_a_merge_without_shards_says_how_to_make_some(cli: Cli, tmp_path: Path) -> None:
    ran = cli("merge", tmp_path / "nothing.db")
    assert ran.code == 3
    assert "neuronagent index --shard 0/4" in ran.err
