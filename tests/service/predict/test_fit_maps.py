"""A fit is the same maps however it was batched, cut into passes, stopped and continued; and it is there whole."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuronagent.errors import (
    CorpusError,
    IndexMismatchError,
    Interrupted,
    NotFoundError,
    StorageError,
    UsageError,
)
from neuronagent.index.files import alone
from neuronagent.predictability.scores import FitKind, Pair
from neuronagent.service.build import BuildOptions
from neuronagent.service.lookup import open_index
from neuronagent.service.predict.fit import FitOptions, fit, preview
from neuronagent.service.predict.fits import Fit, fit_folder, names_of_fits, open_fit
from tests import predictable
from tests.known_index import world as planted_world
from tests.predictable import Kind, linear_map, of_kind, world

LINEAR = of_kind(1, Kind.FROM_0)
ALIVE = slice(0, predictable.NEURONS - 1)
"""The last neuron of every layer is dead: no text says what a map makes of it."""


class Said:
    """Keeps what a fit says, and presses Ctrl-C when `at` tokens or pairs are done in a stage that has `stage` in its
    name."""

    def __init__(self, stage: str = "", at: int | None = None) -> None:
        self.stage, self.at, self.now = stage, at, ""
        self.notes: list[str] = []
        self.stages: list[str] = []

    def start(self, stage: str, total: int, unit: str) -> None:
        self.now = stage
        self.stages.append(stage)

    def advance(self, done: int) -> None:
        if self.at is not None and self.stage in self.now and done >= self.at:
            self.at = None
            signal.raise_signal(signal.SIGINT)

    def note(self, line: str) -> None:
        self.notes.append(line)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(shutil.copy(world().db, tmp_path / "predictable.db"))


def options(db: str, name: str = "default", **more: Any) -> FitOptions:
    return replace(FitOptions(db=db, name=name, device="cpu", batch_tokens=1024, pairs="all", tokens=4_000), **more)


def weights(found: Fit) -> dict[Pair, Tensor]:
    return {pair: found.map(pair).weight for pair in found.pairs}


def same(one: Fit, other: Fit, tolerance: float = 0.0) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for pair, weight in a.items():
        assert torch.allclose(weight, b[pair], rtol=0, atol=tolerance * float(weight.abs().max())), pair


def test_what_was_planted_is_found_and_the_index_knows_the_fit(db: str) -> None:
    found = fit(options(db, pairs="adjacent", tokens=None))
    assert found.pairs == (Pair(0, 1), Pair(1, 2))
    weight = found.map(Pair(0, 1)).weight[LINEAR].numpy()
    assert np.allclose(weight[:, ALIVE], linear_map(1)[LINEAR][:, ALIVE], atol=1e-2)
    with open_index(db) as index:
        assert [stored.name for stored in index.reader.fits()] == ["default"]
        opened = open_fit(db, "default", index.info["model"])
    assert opened == found
    assert set(found.info["by_pair"]) == {"0:1", "1:2"}
    assert all(0 < facts["select_mse"] < facts["mean_mse"] for facts in found.info["by_pair"].values())


def test_other_batches_and_more_passes_give_the_same_maps(db: str) -> None:
    whole = fit(options(db, tokens=2_000))
    smallest = preview(options(db, memory=10**9))
    assert smallest.passes == 1
    said = Said()
    tight = fit(options(db, "tight", memory=least_memory(db), tokens=2_000), said)
    assert sum(stage.startswith("reading, pass") for stage in said.stages) > 1
    same(whole, tight)
    other = fit(options(db, "batches", batch_tokens=200, tokens=2_000))
    for key, facts in whole.info["by_pair"].items():
        difference = other.info["by_pair"][key]["select_mse"] - facts["select_mse"]
        assert abs(difference) < 1e-4 * facts["mean_mse"]


def least_memory(db: str) -> int:
    """What one pair takes."""
    return max(preview(options(db, pairs=pair)).memory for pair in ("0:1", "1:1"))


@pytest.mark.parametrize(
    ("stage", "at"), [pytest.param("reading", 1, marks=pytest.mark.slow), ("reading", 2_700), ("solving", 1)]
)
def test_a_stopped_fit_continues_with_the_same_sums_bit_for_bit(db: str, stage: str, at: int) -> None:
    whole = fit(options(db))
    with pytest.raises(Interrupted, match="the same command continues"):
        fit(options(db, "stopped"), Said(stage, at))
    assert names_of_fits(db) == ["default"]
    with open_index(db) as index, pytest.raises(NotFoundError):
        open_fit(db, "stopped", index.info["model"])
    (fit_folder(db, "stopped").with_name(".stopped.partial") / ".tmpAbc123").write_bytes(b"what a kill leaves")
    same(whole, fit(options(db, "stopped")))
    assert {path.name for path in fit_folder(db, "stopped").iterdir()} == {
        "fit.json", *(f"{i}-{j}.safetensors" for i in range(3) for j in range(3))
    }  # fmt: skip


@pytest.mark.slow
def test_a_fit_stopped_in_its_second_pass_keeps_the_first_and_its_plan(db: str) -> None:
    memory = least_memory(db)
    with pytest.raises(Interrupted):
        fit(options(db, pairs="0:1,1:2,2:2", memory=memory), Said("reading, pass 2", 1))
    said = Said()
    # More memory than before would allow fewer passes: those that were begun are kept to.
    found = fit(options(db, pairs="0:1,1:2,2:2", memory=10 * memory), said)
    assert not any("pass 1 of" in stage for stage in said.stages)
    assert any("pass 2 of" in stage for stage in said.stages)
    same(found, fit(options(db, "other", pairs="0:1,1:2,2:2", memory=memory)))


def test_the_same_fit_again_does_nothing_and_another_needs_a_name_of_its_own(db: str) -> None:
    first = fit(options(db, pairs="0:1"))
    before = (first.folder / "0-1.safetensors").stat().st_mtime_ns
    said = Said()
    assert fit(options(db, pairs="0:1"), said) == first
    assert said.notes == ["the fit default is complete already"]
    assert (first.folder / "0-1.safetensors").stat().st_mtime_ns == before
    others: list[dict[str, Any]] = [
        {"pairs": "0:2"},
        {"intercept": True},
        {"rank": 3},
        {"context": 4},
        {"tokens": 2_000},
    ]
    for other in others:
        with pytest.raises(IndexMismatchError, match="--name OTHER"):
            fit(options(db, **{"pairs": "0:1", **other}))
    replaced = fit(options(db, pairs="0:2", replace=True))
    assert sorted(path.name for path in replaced.folder.iterdir()) == ["0-2.safetensors", "fit.json"]
    with open_index(db) as index:
        assert [stored.info["identity"] for stored in index.reader.fits()] == [replaced.info["identity"]]


def test_a_fit_that_is_replaced_stays_until_the_other_one_is_complete(db: str) -> None:
    first = fit(options(db, pairs="0:1"))
    with pytest.raises(Interrupted):
        fit(options(db, replace=True), Said("reading", 1))
    with open_index(db) as index:
        assert open_fit(db, "default", index.info["model"]) == first
    with pytest.raises(IndexMismatchError, match="was begun"):
        fit(options(db, pairs="0:2"))


@pytest.mark.slow
def test_a_window_as_long_as_the_texts_changes_nothing_and_a_short_one_does(db: str) -> None:
    whole = fit(options(db, pairs="1:2", tokens=1_000))
    long = fit(options(db, "long", pairs="1:2", context=predictable.LONGEST, tokens=1_000))
    short = fit(options(db, "short", pairs="1:2", context=2))
    same(whole, long, 1e-3)
    assert short.info["context"] == 2
    assert not torch.allclose(weights(whole)[Pair(1, 2)], weights(short)[Pair(1, 2)], atol=1e-2)


@pytest.mark.slow
def test_a_model_as_its_own_other_model_gives_its_own_maps(db: str) -> None:
    own = fit(options(db, pairs="0:0,0:1,2:1"))
    other = fit(options(db, "other", pairs="0:0,0:1,2:1", source_model=str(world().model.folder)))
    same(own, other, 1e-5)
    facts = other.info["source_model"]
    assert facts is not None
    assert facts["weights_hash"] == other.info["model"]["weights_hash"]
    assert other.info["identity"] != own.info["identity"]


@pytest.mark.slow
def test_maps_come_from_another_model_with_the_same_tokenizer_and_from_no_other(db: str, tmp_path: Path) -> None:
    twin = predictable.build(tmp_path / "twin", seed=5)
    found = fit(options(db, pairs="adjacent", source_model=str(twin.folder)))
    assert found.pairs == (Pair(0, 0), Pair(1, 1), Pair(2, 2))
    assert found.map(Pair(0, 0)).weight.shape == (predictable.NEURONS, predictable.NEURONS)
    with pytest.raises(IndexMismatchError, match="another tokenizer"):
        fit(options(db, "planted", pairs="0:0", source_model=str(planted_world().model.folder)))


@pytest.mark.slow
def test_the_papers_optimiser_comes_near_but_not_as_near(db: str) -> None:
    exact = fit(options(db))
    paper = fit(options(db, "paper", kind=FitKind.ADAGRAD))
    for key, facts in paper.info["by_pair"].items():
        assert exact.info["by_pair"][key]["select_mse"] < facts["select_mse"], key
        assert facts["ridge"] is None  # pyright: ignore[reportTypedDictNotRequiredAccess]
        curve = facts["curve"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        assert len(curve) == 1  # fewer tokens than a batch of the paper
        assert facts["mean_mse"] == pytest.approx(exact.info["by_pair"][key]["mean_mse"], rel=1e-3)
    tight = fit(options(db, "passes", kind=FitKind.ADAGRAD, pairs="0:1,1:2"))
    assert torch.equal(tight.map(Pair(0, 1)).weight, paper.map(Pair(0, 1)).weight)


def test_maps_of_low_rank_are_smaller_and_say_what_they_keep(db: str) -> None:
    full = fit(options(db, pairs="0:1"))
    low = fit(options(db, "low", pairs="0:1", rank=4))
    found = low.map(Pair(0, 1))
    assert found.rank == 4
    assert int(torch.linalg.matrix_rank(found.weight)) == 4
    facts = low.info["by_pair"]["0:1"]
    assert 0.3 < (facts["rank_kept"] or 0) < 1  # pyright: ignore[reportTypedDictNotRequiredAccess]
    assert full.info["by_pair"]["0:1"]["select_mse"] < facts["select_mse"] < facts["mean_mse"]
    with pytest.raises(UsageError, match="no rank 16"):
        fit(options(db, "none", rank=16))


@pytest.mark.slow
def test_another_text_is_read_and_too_few_documents_are_refused(db: str, tmp_path: Path) -> None:
    text = predictable.write_corpus(tmp_path / "other.jsonl", predictable.corpus(40, seed=3))
    found = fit(options(db, "other", pairs="0:1", text=str(text)))
    assert found.info["text"]["source"] == str(text)
    assert not found.info["text"]["own"]
    one = predictable.write_corpus(tmp_path / "one.jsonl", predictable.corpus(1))
    with pytest.raises(CorpusError, match="no document of the split"):
        fit(options(db, "one", text=str(one)))
    empty = predictable.write_corpus(tmp_path / "empty.jsonl", [])
    with pytest.raises(CorpusError, match="there is no text"):
        fit(options(db, "empty", text=str(empty)))


def test_fewer_tokens_than_neurons_and_few_documents_are_said(db: str, tmp_path: Path) -> None:
    short = [" ".join(text.split()[:2]) for text in predictable.corpus(8)]
    text = predictable.write_corpus(tmp_path / "short.jsonl", short)
    said = Said()
    found = fit(options(db, pairs="0:1", text=str(text)), said)
    assert found.info["text"]["tokens"]["explain"] < predictable.NEURONS
    first, second = found.info["warnings"][:2]
    assert f"fewer than the {predictable.NEURONS} neurons" in first
    assert "select has" in second
    assert said.notes[:2] == [f"warning: {first}", f"warning: {second}"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pairs": "0:3"}, "there is no layer 3"),
        ({"pairs": "some"}, "is no pair of layers"),
        ({"name": "../there"}, "is no name for a fit"),
        ({"name": ".hidden"}, "is no name for a fit"),
        ({"memory": 1000}, "too little for one pair"),
        ({"tokens": 0}, "tokens 0 is too small"),
        ({"context": -1}, "context -1 is too small"),
        ({"kind": FitKind.ADAGRAD, "rank": 2}, "have no rank"),
        ({"kind": FitKind.ADAGRAD, "intercept": True}, "have no intercept"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_is_written(db: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit(options(db, **given))
    assert not any(Path(db + ".maps").glob("*"))


@pytest.mark.slow
def test_an_index_of_weights_alone_takes_a_text(tmp_path: Path) -> None:
    db = str(tmp_path / "weights.db")
    folder = str(world().model.folder)
    build_weights(folder, db)
    with pytest.raises(UsageError, match="--text"):
        fit(options(db))
    found = fit(options(db, pairs="0:1", text=str(world().source)))
    own = fit(options(str(shutil.copy(world().db, tmp_path / "own.db")), pairs="0:1"))
    assert found.map(Pair(0, 1)).weight.shape == own.map(Pair(0, 1)).weight.shape


def build_weights(model: str, db: str) -> None:
    from neuronagent.service.weights_only import build_weights_index

    build_weights_index(BuildOptions(model=model, text="", db=db))


@pytest.mark.slow
def test_two_processes_do_not_fit_one_name_and_a_full_disk_keeps_what_is_there(db: str) -> None:
    folder = fit_folder(db, "default")
    with (
        alone(folder.with_name(".default.lock"), wait=False, doing="fitting default"),
        pytest.raises(StorageError, match="another process is fitting default"),
    ):
        fit(options(db))
    with pytest.raises(StorageError, match="cannot be written"), file_limit():
        fit(options(db), FullDisk())
    assert names_of_fits(db) == []
    same(fit(options(db)), fit(options(db, "quiet")))


class FullDisk(Said):
    """From the first map on no file may grow beyond 700 bytes."""

    def start(self, stage: str, total: int, unit: str) -> None:
        if stage == "solving":
            resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def file_limit() -> Generator[None]:
    """After the block files may be as large as before it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_map_of_another_fit_is_not_taken_for_its_own(db: str) -> None:
    one, other = fit(options(db, pairs="0:1")), fit(options(db, "other", pairs="0:1", intercept=True))
    shutil.copy(other.folder / "0-1.safetensors", one.folder / "0-1.safetensors")
    with pytest.raises(IndexMismatchError, match="is no map of the fit default"):
        one.map(Pair(0, 1))


def test_pairs_that_cannot_be_are_told_before_the_model_is_loaded(db: str) -> None:
    with pytest.raises(UsageError, match="there is no layer 3"):
        fit(options(db, pairs="0:3", model="/nowhere"))


def test_an_index_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        fit(options(str(tmp_path / "none.db")))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize("harm", [Path.unlink, cut_short])
def test_a_complete_fit_that_lost_a_map_is_fitted_again(db: str, harm: Callable[[Path], object]) -> None:
    found = fit(options(db, pairs="0:1,1:2"))
    before = weights(found)
    said = Said()
    fit(options(db, pairs="0:1,1:2"), said)
    assert said.notes == ["the fit default is complete already"]
    harm(found.folder / "0-1.safetensors")
    again = fit(options(db, pairs="0:1,1:2"), said)
    assert "1 of the 2 maps of default are lost" in said.notes[1]
    assert again.lost() == []
    assert all(torch.equal(weight, before[pair]) for pair, weight in weights(again).items())


@pytest.mark.parametrize("damage", ["", "[]", '{"model": 5}', "no JSON"])
def test_a_fit_that_says_nothing_readable_of_itself_can_be_replaced(db: str, damage: str) -> None:
    found = fit(options(db, pairs="0:1"))
    (found.folder / "fit.json").write_text(damage)
    with open_index(db) as index, pytest.raises(StorageError, match=r"fit\.json is damaged; .*--replace"):
        open_fit(db, "default", index.info["model"])
    with pytest.raises(StorageError, match="is damaged"):
        fit(options(db, pairs="0:1"))
    assert fit(options(db, pairs="0:1", replace=True)).lost() == []


def test_maps_beside_a_renamed_index_are_asked_for(db: str, tmp_path: Path) -> None:
    fit(options(db, pairs="0:1"))
    renamed = str(shutil.copy(db, tmp_path / "renamed.db"))
    with open_index(renamed) as index:
        with pytest.raises(NotFoundError, match=r"run: neuronagent predict fit$"):
            open_fit(renamed, "default", index.info["model"])  # a copy beside the other one
        Path(db).unlink()
        with pytest.raises(NotFoundError, match=r"rename the folder of its maps too, to renamed\.db\.maps"):
            open_fit(renamed, "default", index.info["model"])
        Path(db + ".maps").rename(renamed + ".maps")
        assert open_fit(renamed, "default", index.info["model"]).lost() == []
