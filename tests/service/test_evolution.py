"""Checkpoints of a run whose cosines are known, from their indexes to tables and a picture."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from neuronagent.domain import IO_CLASSES, IOClass
from neuronagent.errors import IndexMismatchError, ModelError, NotFoundError, StorageError, UsageError
from neuronagent.service.build import Built, build_index
from neuronagent.service.checkpoints import Checkpoint, build_checkpoints, folders_of, revisions_of
from neuronagent.service.evolution import Evolution, Moment, evolution_view, read_evolution
from neuronagent.service.evolution_plot import plot_evolution
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress
from neuronagent.service.weights_only import build_weights_index
from neuronagent.store.reader import IndexReader
from tests.models.tiny_models import SPECS, save_tiny
from tests.service.turned import NEURONS, cosine, turned_checkpoint
from tests.service.worlds import random_world

PROGRESS = {"step0": 0.01, "step2000-tokens8B": 0.6, "step10000-tokens42B": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("run")
    for name, progress in PROGRESS.items():
        turned_checkpoint(folder / name.partition("-")[0], progress)
    return folder


@pytest.fixture(scope="module")
def indexes(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes") / "all"
    wanted = folders_of(str(run), ["step10000", "step0", "step2000"])
    build_checkpoints(options(run, folder), wanted, build_weights_index)
    return folder


def options(model: Path, db: Path, **changes: Any) -> BuildOptions:
    return replace(
        BuildOptions(model=str(model), text="", db=str(db), device="cpu", dtype="float32", neighbours="off"), **changes
    )


def expected_counts(layer: int, progress: float) -> dict[IOClass, int]:
    """The gate is at right angles to both: only the conditional classes and orthogonal output are possible."""
    aligned = sum(abs(cosine(layer, neuron, progress)) > 0.5 for neuron in range(NEURONS))
    label = IOClass("conditional enrichment" if layer == 0 else "conditional depletion")
    counts = dict.fromkeys(IO_CLASSES, 0)
    return counts | {label: aligned, IOClass("orthogonal output"): NEURONS - aligned}


def test_shares_and_medians_are_those_that_the_weights_were_made_with(indexes: Path) -> None:
    evolution = read_evolution([str(indexes)])
    assert [moment.name for moment in evolution.moments] == ["step0", "step2000", "step10000"]
    assert evolution.by_step
    for moment, progress in zip(evolution.moments, PROGRESS.values(), strict=True):
        for layer in range(2):
            assert moment.counts[layer] == expected_counts(layer, progress)
            known = statistics.median(cosine(layer, neuron, progress) for neuron in range(NEURONS))
            assert moment.medians[layer] == pytest.approx(known, abs=1e-6)
        aligned = expected_counts(0, progress)[IOClass("conditional enrichment")]
        assert moment.share(IOClass("conditional enrichment")) == aligned / (2 * NEURONS)
        assert moment.merged_share("conditional depletion") == aligned / (2 * NEURONS)
        assert sum(moment.share(label) for label in IO_CLASSES) == pytest.approx(1)
    assert evolution.moments[-1].total[IOClass("conditional enrichment")] == 24


def test_each_index_says_its_checkpoint_and_its_step(indexes: Path) -> None:
    with IndexReader.open(indexes / "step2000.db") as reader:
        assert reader.info()["checkpoint"] == {"name": "step2000", "stage": None, "step": 2000}


def test_the_view_is_json_with_every_class_and_layer(indexes: Path) -> None:
    view = json.loads(json.dumps(evolution_view(read_evolution([str(indexes)]))))
    last = view["checkpoints"][-1]
    assert (last["step"], view["neurons"]) == (10000, 2 * NEURONS)
    assert list(last["io_class_shares"]) == [str(label) for label in IO_CLASSES]
    assert sum(last["io_classes_by_layer"]["1"].values()) == NEURONS
    assert last["median_cos_in_out_by_layer"]["1"] == pytest.approx(-0.5, abs=1e-6)


def test_an_index_that_is_named_twice_counts_once(indexes: Path) -> None:
    again = read_evolution([str(indexes), str(indexes / "step0.db"), str(indexes / ".." / "all" / "step2000.db")])
    assert len(again.moments) == 3


def test_an_order_that_is_given_is_kept_and_must_name_every_checkpoint(indexes: Path) -> None:
    given = ["step10000", "step0", "step2000"]
    evolution = read_evolution([str(indexes)], given)
    assert [moment.name for moment in evolution.moments] == given
    assert not evolution.by_step
    for wrong in (given[:2], [*given, "main"], [*given, "step0"]):
        with pytest.raises(UsageError):
            read_evolution([str(indexes)], wrong)


def test_a_checkpoint_without_a_step_needs_an_order(run: Path, indexes: Path, tmp_path: Path) -> None:
    extra = tmp_path / "main.db"
    build_weights_index(options(run / "step0", extra, checkpoint="main"))
    with pytest.raises(UsageError, match=r"'main' does not say a step.*--order"):
        read_evolution([str(indexes), str(extra)])
    ordered = read_evolution([str(indexes), str(extra)], ["step0", "step2000", "step10000", "main"])
    assert ordered.moments[-1].name == "main"


@pytest.mark.parametrize(
    ("model", "changes", "difference"),
    [
        ({"num_hidden_layers": 1}, {}, "n_layers is 2 and 1"),
        ({"intermediate_size": 40}, {}, "d_mlp is 48 and 40"),
        ({}, {"post_norm": "raw"}, "post_norm is folded and raw"),
    ],
)
def test_other_shapes_and_processing_are_refused_with_the_difference(
    indexes: Path, tmp_path: Path, model: dict[str, Any], changes: dict[str, str], difference: str
) -> None:
    folder = save_tiny(SPECS["llama"], tmp_path / "step7", **model)
    other = tmp_path / "other.db"
    build_weights_index(options(folder, other, **changes))
    with pytest.raises(IndexMismatchError, match=difference):
        read_evolution([str(indexes / "step0.db"), str(other)])


def test_two_models_of_the_hub_are_refused_even_if_a_local_one_comes_first(indexes: Path, tmp_path: Path) -> None:
    first, second = (renamed(indexes / f"step{step}.db", tmp_path, name) for step, name in ((0, "a/x"), (2000, "b/x")))
    local = str(indexes / "step10000.db")
    assert read_evolution([str(first), local]).model == "a/x"
    with pytest.raises(IndexMismatchError, match="model is a/x and b/x"):
        read_evolution([local, str(first), str(second)])


def renamed(db: Path, folder: Path, name: str) -> Path:
    """A copy of an index that says that it is of the model `name` of the hub."""
    copy = folder / db.name
    copy.write_bytes(db.read_bytes())
    change_info(copy, "model", {**read_info(db)["model"], "name": name, "revision": "0" * 40})
    return copy


def read_info(db: Path) -> dict[str, Any]:
    with IndexReader.open(db) as reader:
        return reader.info()


def change_info(db: Path, key: str, value: object) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(db)) as connection:
        connection.execute("UPDATE index_info SET value = ? WHERE key = ?", (json.dumps(value), key))
        connection.commit()


def test_an_index_that_lacks_neurons_is_refused(indexes: Path, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    broken = tmp_path / "step0.db"
    broken.write_bytes((indexes / "step0.db").read_bytes())
    with closing(sqlite3.connect(broken)) as connection:
        connection.execute("DELETE FROM neuron WHERE layer = 1 AND neuron > 40")
        connection.commit()
    with pytest.raises(StorageError, match="41 of the 48 neurons of layer 1"):
        read_evolution([str(broken)])


def test_a_folder_without_indexes_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="neuronagent index MODEL --revision"):
        read_evolution([str(tmp_path)])


# Making the indexes


def test_checkpoints_that_are_complete_are_skipped_and_others_added(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "indexes"
    names = ["step0", "step2000"]
    build_checkpoints(options(run, folder), folders_of(str(run), names[:1]), build_weights_index)
    before = (folder / "step0.db").read_bytes()
    built = build_checkpoints(options(run, folder), folders_of(str(run), names), build_weights_index)
    assert (folder / "step0.db").read_bytes() == before
    assert [bool(each.seconds) for each in built] == [False, True]
    assert sorted(path.name for path in folder.iterdir()) == ["step0.db", "step2000.db"]


def test_a_failure_keeps_what_is_complete_and_leaves_nothing_half_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "step9").mkdir()
    wanted = folders_of(str(run), ["step0", str(tmp_path / "step9"), "step2000"])
    with pytest.raises(ModelError, match=r"step9 has no config\.json"):
        build_checkpoints(options(run, tmp_path / "indexes"), wanted, build_weights_index)
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == ["step0.db"]


def test_with_a_text_all_checkpoints_read_the_same_corpus(tmp_path: Path) -> None:
    world = random_world(tmp_path / "world", texts=10)
    for name, progress in (("checkpoint-500", 0.6), ("checkpoint-1000", 1.0)):
        turned_checkpoint(tmp_path / "run" / name, progress)
    folder = tmp_path / "indexes"
    built = build_checkpoints(
        options(tmp_path / "run", folder, text=str(world.file), k=4),
        folders_of(str(tmp_path / "run"), ["checkpoint-500", "checkpoint-1000"]),
        build_index,
    )
    assert built[0].tokens == built[1].tokens > 0
    corpora = [read_info(Path(each.db))["corpus"] for each in built]
    assert corpora[0] == corpora[1]
    evolution = read_evolution([str(folder)])
    assert [moment.step.step if moment.step else None for moment in evolution.moments] == [500, 1000]
    assert evolution.moments[1].medians[0] == pytest.approx(0.5, abs=1e-6)


def test_folders_are_found_in_the_model_or_anywhere_and_named_by_their_path_in_it(run: Path, tmp_path: Path) -> None:
    inner = tmp_path / "run" / "step1" / "hf"
    inner.mkdir(parents=True)
    found = folders_of(str(tmp_path / "run"), ["step1/hf", str(run / "step0")])
    assert [checkpoint.name for checkpoint in found] == ["step1/hf", "step0"]
    assert [checkpoint.file for checkpoint in found] == ["step1-hf.db", "step0.db"]
    assert Path(found[1].model) == run / "step0"
    with pytest.raises(NotFoundError, match="there is no folder step2"):
        folders_of(str(tmp_path / "run"), ["step2"])


def never(_: BuildOptions, __: Progress) -> Built:
    raise AssertionError("nothing may be built")


def test_two_checkpoints_never_share_a_file(tmp_path: Path) -> None:
    for names in (["r1", "r1"], ["a/b", "a-b"], ["Main", "main"]):
        with pytest.raises(UsageError, match="two checkpoints would be"):
            build_checkpoints(options(tmp_path, tmp_path / "new"), revisions_of("org/name", names), never)
    assert not (tmp_path / "new").exists()


def test_the_folder_of_indexes_cannot_be_a_file_or_a_server(tmp_path: Path) -> None:
    file = tmp_path / "one.db"
    file.write_bytes(b"")
    for db in (str(file), "postgresql://host/name"):
        with pytest.raises(UsageError, match="--db"):
            build_checkpoints(
                replace(options(tmp_path, file), db=db), [Checkpoint(name="r", model="m", revision="r")], never
            )


def test_a_revision_keeps_its_name_and_the_models(tmp_path: Path) -> None:
    asked: list[BuildOptions] = []

    def note(options: BuildOptions, _: Progress) -> Built:
        asked.append(options)
        return Built(db=options.db, fingerprint="", tokens=0)

    build_checkpoints(options(tmp_path, tmp_path / "new"), revisions_of("org/name", ["step1-tokens2B", "main"]), note)
    assert [(o.model, o.revision, o.checkpoint, Path(o.db).name) for o in asked] == [
        ("org/name", "step1-tokens2B", "step1-tokens2B", "step1-tokens2B.db"),
        ("org/name", "main", "main", "main.db"),
    ]


# The picture


@pytest.mark.slow
def test_a_picture_shows_every_class_and_is_the_same_each_time(indexes: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evolution = read_evolution([str(indexes)])
    for name in ("one.svg", "two.svg", "one.png"):
        plot_evolution(evolution, str(tmp_path / name))
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(tmp_path / "one.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "one.svg", "two.svg"]


def test_the_lines_of_the_picture_are_the_numbers(indexes: Path) -> None:
    pytest.importorskip("matplotlib")
    from neuronagent.service.evolution_plot import draw

    evolution = read_evolution([str(indexes)])
    shares, medians = draw(evolution).axes[:2]
    lines = {str(line.get_label()): line for line in shares.get_lines()}
    assert np.asarray(lines["conditional enrichment"].get_xdata()).tolist() == [0, 2000, 10000]
    assert np.asarray(lines["conditional enrichment"].get_ydata()).tolist() == pytest.approx([0, 100 * 8 / 96, 25])
    assert np.asarray(lines["orthogonal output"].get_ydata()).tolist()[-1] == pytest.approx(50)
    assert np.asarray(medians.get_lines()[2].get_ydata()).tolist() == pytest.approx(
        [-0.005, -0.3, -0.5], abs=1e-6
    )  # 0 is the zero line


def test_a_name_from_the_hub_is_only_text_in_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    counts = {0: dict.fromkeys(IO_CLASSES, 1)}
    moments = tuple(
        Moment(name=name, fingerprint="f", counts=counts, medians={0: 0.5}) for name in ("$\\frac{$", "<b>&amp;")
    )
    plot_evolution(Evolution(model="$x_", moments=moments, by_step=False), str(tmp_path / "x.svg"))
    ElementTree.parse(tmp_path / "x.svg")


@pytest.mark.parametrize("name", ["picture.pdf", "picture", "nowhere/picture.svg"])
def test_a_picture_that_cannot_be_made_is_refused(indexes: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        plot_evolution(read_evolution([str(indexes)]), str(tmp_path / name))
    assert not list(tmp_path.iterdir())
