"""`predict substitute` on a model whose predictable neurons are known: what it stores, keeps, continues and refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronagent.errors import CorpusError, Interrupted, ModelError, NotFoundError, UsageError
from neuronagent.predictability.scores import Pair, StoredFit
from neuronagent.predictability.substitution import (
    CHAINED,
    CLEAN,
    HALVES_KIND,
    KIND,
    METRICS,
    WAYS,
    HalvesView,
    Measured,
    SubstitutionView,
)
from neuronagent.service.lookup import open_index
from neuronagent.service.predict.fit import FitOptions, fit
from neuronagent.service.predict.halves import top_halves
from neuronagent.service.predict.substitute import SubstituteOptions, preview, substitute
from neuronagent.service.predict.substitute_plan import make_chunks
from neuronagent.service.predict.substitution_views import halves_view, rows, substitution_views
from tests.predictable import Kind, corpus, of_kind, scored, world, write_corpus
from tests.service.predict.test_fit_maps import Said

CHUNKS = 3


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a scored fit of neighbouring layers, and one of backward maps alone."""
    path = scored(tmp_path_factory.mktemp("fitted"))
    fit(FitOptions(db=str(path), name="backward", pairs="2:1,1:0,1:1", device="cpu", tokens=1_000))
    return path


@pytest.fixture
def db(fitted: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(fitted.parent, tmp_path / "index") / fitted.name)


def options(db: str, **more: Any) -> SubstituteOptions:
    return replace(SubstituteOptions(db=db, tokens=600, draws=2, device="cpu", batch_tokens=1024), **more)


def stored(db: str, name: str = "default") -> tuple[list[SubstitutionView], HalvesView | None]:
    with open_index(db) as index:
        found = fit_of(index.reader.fits(), name)
        return substitution_views(index, found), halves_view(index, found)


def fit_of(fits: list[StoredFit], name: str) -> StoredFit:
    return next(each for each in fits if each.name == name)


def change(found: Measured | None) -> float:
    assert found is not None
    assert found["change"] is not None
    return found["change"]


def test_a_table_has_every_mapping_setting_and_chunk_and_the_unmodified_model(db: str) -> None:
    done = substitute(options(db))
    (view,), half = stored(db)
    assert half is None
    text = view["text"]
    assert text["settings_id"] == done.settings[""]
    assert (text["settings"]["window"], text["settings"]["stride"]) == (128, 127)
    assert text["tokens"] >= 500
    assert text["documents"] > 2
    assert [chunk["replaced"] for chunk in text["chunks"]] == [[], [[1, 0]], [[2, 1]]]
    assert text["stays"] == [0]
    table = rows(view["cells"], CHUNKS)
    assert len(table) == 2 * (4 + 3)
    assert done.computed == len(view["cells"]) == 2 * 7 * CHUNKS
    assert text["original"]["change"] == 0.0
    for row in table.values():
        assert row[0] is not None
        assert row[0]["perplexity"] is None
        assert row[0]["reason"] == "no layer of it (0) has a map from a lower layer"
    for (mapping, setting, _sources), row in table.items():
        if setting == "partial":
            assert abs(change(row[2])) < 1e-5  # only the output reads the last layer
        assert row[1] is not None
        assert len(row[1]["draws"]) == (2 if mapping == "random" else 0)
    # The head of this model is random: a change may lower the loss, and several may cancel.
    moved = {
        mapping: abs(change(table[mapping, "complete", CLEAN][1])) for mapping in ("predicted", "zero", "identical")
    }
    assert moved["predicted"] < min(moved["zero"], moved["identical"]) / 5
    means = {(each["mapping"], each["setting"], each["sources"]): each["perplexity"] for each in view["averages"]}
    both = [cell["perplexity"] for cell in table["random", "complete", CHAINED][1:] if cell and cell["perplexity"]]
    assert means["random", "complete", CHAINED] == pytest.approx(sum(both) / 2)


@pytest.mark.slow
def test_replacing_exactly_linear_neurons_by_their_predictions_costs_nothing(db: str) -> None:
    """In layer 1 the eight neurons with the highest Pearson correlation are linear functions of layer 0."""
    substitute(options(db, halves=True, draws=1, sources=(CLEAN,)))
    with open_index(db) as index:
        found = fit_of(index.reader.fits(), "default")
        chunks = make_chunks(3, 3, {1: 0, 2: 1})
        tops = top_halves(index, found.id, found.name, chunks)
    assert tops[Pair(0, 1), "Pearson"].nonzero()[0].tolist() == of_kind(1, Kind.FROM_0)
    half = stored(db)[1]
    assert half is not None
    by_way = {(c["metric"], c["top"], c["bottom"]): c["measured"] for c in half["cells"] if c["chunk"] == 1}
    assert set(by_way) == {(metric, *way) for metric in METRICS for way in WAYS}
    free = change(by_way["Pearson", "predicted", "actual"])
    dear = change(by_way["Pearson", "actual", "predicted"])
    assert abs(free) < 0.01
    assert abs(dear) > 10 * abs(free)
    assert abs(change(by_way["Pearson", "random", "actual"])) > 10 * abs(free)
    assert change(half["all"][1]) == pytest.approx(dear + free, abs=0.02)


@pytest.mark.slow
def test_what_is_stored_is_not_computed_again_unless_the_settings_differ(db: str) -> None:
    first = substitute(options(db))
    before = stored(db)
    second = substitute(options(db))
    assert (second.computed, second.kept) == (0, first.computed)
    assert second.settings == first.settings
    assert stored(db) == before
    assert substitute(options(db, again=True)).computed == first.computed
    (again,), _ = stored(db)
    assert again["text"]["original"] == before[0][0]["text"]["original"]
    assert substitute(options(db, draws=1)).computed == first.computed
    assert substitute(options(db, window=32)).computed == first.computed
    (latest,), _ = stored(db)
    assert latest["text"]["settings"]["window"] == 32
    assert substitute(options(db, halves=True)).computed == len(METRICS) * len(WAYS) * CHUNKS


@pytest.mark.slow
def test_a_run_that_was_stopped_keeps_its_chunks_and_ends_with_the_same_numbers(db: str, tmp_path: Path) -> None:
    other = shutil.copytree(Path(db).parent, tmp_path / "other") / Path(db).name
    with pytest.raises(Interrupted, match="the same command continues"):
        substitute(options(db), Said("chunk 3", at=1))
    (partly,), _ = stored(db)
    assert {cell["chunk"] for cell in partly["cells"]} == {0, 1}
    resumed = substitute(options(db))
    assert (resumed.computed, resumed.kept) == (14, 28)
    substitute(options(str(other)))
    assert stored(db) == stored(str(other))


@pytest.mark.slow
def test_little_memory_takes_more_runs_and_gives_the_same_numbers(db: str) -> None:
    substitute(options(db, draws=3))
    whole = stored(db)[0][0]["cells"]
    substitute(options(db, draws=3, memory=1, again=True))
    assert stored(db)[0][0]["cells"] == whole


@pytest.mark.slow
def test_another_text_stands_beside_the_own_one(db: str, tmp_path: Path) -> None:
    source = str(write_corpus(tmp_path / "others.jsonl", corpus(6, seed=9)))
    done = substitute(options(db, texts=(source, source)))
    views, _ = stored(db)
    assert [view["text"]["settings"]["text"] for view in views] == ["", source] == list(done.settings)
    assert views[1]["text"]["documents"] == 6
    assert views[0]["text"]["original"] != views[1]["text"]["original"]
    assert len(views[1]["cells"]) == len(views[0]["cells"])


@pytest.mark.slow
def test_what_was_fitted_on_is_not_measured_on(db: str) -> None:
    said = Said()
    with pytest.raises(CorpusError):
        substitute(options(db, texts=(str(Path(db).parent / "missing.txt"),)), said)
    done = substitute(options(db, texts=(str(world().source),), tokens=None), said)
    views, _ = stored(db)
    assert any("were fitted on and are left out" in note for note in said.notes)
    assert views[1]["text"]["documents"] == views[0]["text"]["documents"]
    assert views[1]["text"]["original"]["loss"] == pytest.approx(views[0]["text"]["original"]["loss"])
    assert len(done.settings) == 2


@pytest.mark.slow
def test_another_source_is_taken_where_the_fit_has_it(db: str) -> None:
    fit(FitOptions(db=db, name="all", pairs="all", device="cpu", tokens=4_000))
    substitute(options(db, name="all", source=0, draws=1))
    (view,), _ = stored(db, "all")
    assert [chunk["replaced"] for chunk in view["text"]["chunks"]] == [[], [[1, 0]], [[2, 0]]]
    with pytest.raises(UsageError, match="there is no layer 7"):
        substitute(options(db, name="all", source=7))
    with pytest.raises(NotFoundError, match="no map from layer 2 to a higher one"):
        substitute(options(db, name="all", source=2))


def test_what_cannot_be_substituted_is_refused_in_one_line(db: str) -> None:
    with pytest.raises(NotFoundError, match=r"backward has no map from a lower layer.*predict fit --pairs adjacent"):
        substitute(options(db, name="backward"))
    with pytest.raises(NotFoundError, match="no complete fit nothing"):
        substitute(options(db, name="nothing"))
    fit(FitOptions(db=db, name="two", source_model=str(world().model.folder), device="cpu", tokens=800))
    with pytest.raises(UsageError, match="start from another model"):
        substitute(options(db, name="two"))
    fit(FitOptions(db=db, name="unscored", device="cpu", tokens=800))
    with pytest.raises(NotFoundError, match=r"no scores of layer 1.*predict scores --fit unscored"):
        substitute(options(db, name="unscored", halves=True))
    with pytest.raises(UsageError, match="allowed: 128 tokens"):
        substitute(options(db, window=129))
    with pytest.raises(UsageError, match="stride"):
        substitute(options(db, window=20, stride=20))
    with pytest.raises(CorpusError, match="no file or folder"):  # before the own text is measured on
        substitute(options(db, texts=("/nowhere/at/all",)))
    with pytest.raises(UsageError, match="--text is empty"):
        substitute(options(db, texts=(" ",)))
    with pytest.raises(UsageError, match="0 chunks"):
        substitute(options(db, chunks=0))
    with pytest.raises(UsageError, match="no sources"):
        substitute(options(db, sources=("own",)))
    with pytest.raises(ModelError):
        substitute(options(db, model="/nowhere"))
    with open_index(db) as index:
        assert not any(index.reader.prediction_results(each.id, kind) for each in index.reader.fits()
                       for kind in (KIND, HALVES_KIND))  # fmt: skip


def test_a_preview_says_the_cells_that_are_then_measured_and_loads_nothing(db: str) -> None:
    found = preview(options(db, model="/nowhere", halves=True))
    assert found.cells == 2 * 7 * CHUNKS + len(METRICS) * len(WAYS) * CHUNKS
    assert preview(options(db)).cells == substitute(options(db, tokens=100)).computed
    # chained sources are clean ones where a chunk replaces a single layer
    assert found.runs == 2 * (1 + 1 + 1 + 1 + 2) + 2 * (1 + len(METRICS) * len(WAYS))


def test_layers_are_cut_into_chunks_of_like_size() -> None:
    below = {layer: layer - 1 for layer in range(1, 32)}
    sizes = {count: [len(chunk["layers"]) for chunk in make_chunks(count, 4, below)] for count in (1, 3, 4, 5, 6, 32)}
    assert sizes == {1: [1], 3: [1, 1, 1], 4: [1] * 4, 5: [2, 1, 1, 1], 6: [2, 2, 1, 1], 32: [8] * 4}
    even = make_chunks(8, 4, {2: 0, 4: 2, 6: 4})
    assert [chunk["stays"] for chunk in even] == [[0, 1], [3], [5], [7]]
    assert [chunk["replaced"] for chunk in even] == [[], [[2, 0]], [[4, 2]], [[6, 4]]]
