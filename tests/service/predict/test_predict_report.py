"""The report on predictability: what it shows is what the index holds, and what the paper said is held against it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from operator import eq, gt, lt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronagent.cli import run
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.predictability.scores import OWN_TEST, FitKind, Pair
from neuronagent.report.predictability_content import SECTIONS, Finding, PredictabilityContent
from neuronagent.report.predictability_words import missing
from neuronagent.service.lookup import Index
from neuronagent.service.predict.report import chosen_figure, predictability
from neuronagent.service.predict.report_global import global_findings
from neuronagent.service.predict.report_numbers import histogram, rank_is_clear, share_is_clear, spearman, spread
from neuronagent.store.engine import open_writer
from neuronagent.store.predictions import save_scores
from tests.report.predictability_sample import (
    ADAGRAD,
    ADJACENT,
    ALL,
    COSTS,
    LAYERS,
    NEURONS,
    add_fit,
    add_functional,
    add_substitution,
    fill,
    fit_info,
    make_db,
    scores,
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with everything that a report can show."""
    db = make_db(tmp_path_factory.mktemp("predict") / "full.db")
    ids = fill(db)
    add_functional(db, ids["default"])
    add_substitution(db, ids["default"])
    return db


@pytest.fixture(scope="module")
def content(full: Path) -> PredictabilityContent:
    with Index(str(full)) as index:
        return predictability(index)[0]


def of(db: Path, *names: str) -> PredictabilityContent:
    with Index(str(db)) as index:
        return predictability(index, names)[0]


def finding(content: PredictabilityContent, words: str) -> Finding:
    return next(found for found in content["findings"] if words in found["paper"])


# What is shown


def test_a_full_index_leaves_no_part_empty_and_its_numbers_are_plain_json(content: PredictabilityContent) -> None:
    assert [name for name in SECTIONS if missing(content, name) is not None] == []
    assert json.loads(json.dumps(content, allow_nan=False))["main"] == "default"


def test_every_pair_has_the_numbers_that_are_stored_of_it(full: Path, content: PredictabilityContent) -> None:
    found = next(one for one in content["pairs"]["matrices"] if one["fit"] == "all")
    assert [(row["source"], row["target"]) for row in found["rows"]] == [tuple(pair) for pair in ALL]
    with Index(str(full)) as index:
        fit = next(fit for fit in index.reader.fits() if fit.name == "all")
        stored = index.reader.layer_predictions(fit.id, 3)["layer 1"]
    row = next(row for row in found["rows"] if (row["source"], row["target"]) == (1, 3))
    known = stored.r2[~np.isnan(stored.r2)]
    assert len(known) == NEURONS - 1
    assert row["rmse"] == pytest.approx(stored.rmse.mean())
    assert row["sd"] == pytest.approx(np.sqrt(stored.variance).mean())
    assert row["r2"] is not None
    assert (row["r2"]["n"], row["r2"]["median"]) == (len(known), pytest.approx(np.median(known)))


def test_directions_are_means_over_their_pairs(content: PredictabilityContent) -> None:
    found = next(one for one in content["pairs"]["matrices"] if one["fit"] == "all")
    ways: dict[str, Callable[[int, int], bool]] = {"forward": lt, "backward": gt, "self": eq}
    assert [own["name"] for own in found["directions"]] == list(ways)
    for own in found["directions"]:
        errors = [row["rmse"] for row in found["rows"] if ways[own["name"]](row["source"], row["target"])]
        assert own["pairs"] == len(errors)
        assert own["rmse"] == pytest.approx(np.mean([error for error in errors if error is not None]))


def test_a_layer_is_foretold_from_the_nearest_below_and_constant_neurons_have_no_r2(
    content: PredictabilityContent,
) -> None:
    rows = content["layers"]["rows"]
    assert [(row["layer"], row["source"]) for row in rows] == [(pair.target, pair.source) for pair in ADJACENT]
    for row in rows:
        assert row["constant"] == 1
        assert sum(row["histogram"]) == NEURONS - 1
        assert row["predictors"][0]["predictor"] == f"layer {row['source']}"


def test_scatters_hold_no_neuron_without_numbers(full: Path) -> None:
    with Index(str(full)) as index:
        _, points = predictability(index)
    for layer, dots in points.scale.items():
        assert dots.shape == (NEURONS - 1, 3)
        assert np.isfinite(dots).all()
        assert (dots[:, 0] > 0).all()
        assert points.token[layer].shape == (NEURONS - 1, 2)


def test_an_optimiser_is_compared_on_the_pairs_and_tokens_of_both_fits(content: PredictabilityContent) -> None:
    found = content["optimisers"]
    assert (found["exact"], found["adagrad"], found["split"], len(found["rows"])) == (
        "all",
        "adagrad",
        "test",
        len(ALL),
    )
    for row in found["rows"]:
        assert row["adagrad"] - row["exact"] == pytest.approx(ADAGRAD * row["mean"], rel=0.02)


def test_fits_of_other_texts_or_windows_are_not_compared_with_an_optimiser(tmp_path: Path) -> None:
    db = make_db(tmp_path / "a.db")
    add_fit(db, fit_info("default", ADJACENT))
    other = fit_info("adagrad", ADJACENT, FitKind.ADAGRAD)
    add_fit(db, {**other, "text": {**other["text"], "fingerprint": "another"}})
    assert of(db)["optimisers"]["rows"] == []


def test_windows_are_less_the_whole_texts_fit_of_the_same_pairs(content: PredictabilityContent) -> None:
    found = content["windows"]
    assert found["base"] is None
    assert {row["window"] for row in found["rows"]} == {None, 3, 15}
    assert {(row["source"], row["target"]) for row in found["rows"]} == {tuple(pair) for pair in ADJACENT}


def test_maps_from_another_model_are_kept_apart(content: PredictabilityContent) -> None:
    assert [one["fit"] for one in content["models"]["matrices"]] == ["other"]
    assert "other" not in [one["fit"] for one in content["pairs"]["matrices"]]
    assert content["models"]["names"] == ["a/sibling"]


def test_the_texts_that_a_fit_is_scored_on_are_over_the_same_pairs(content: PredictabilityContent) -> None:
    own, books = content["texts"]["rows"]
    assert (own["text"], books["text"]) == ("", "books")
    assert own["pairs"] == books["pairs"] == len(ADJACENT)
    assert books["r2"] is not None
    assert own["r2"] is not None
    assert books["r2"] < own["r2"] - 0.05


def test_layers_foretold_from_themselves_do_not_raise_the_average_of_a_text(tmp_path: Path) -> None:
    db = make_db(tmp_path / "texts.db")
    add_fit(db, fit_info("default", ALL), texts=(OWN_TEST, "/texts/books"))
    own, _ = of(db)["texts"]["rows"]
    assert own["pairs"] == LAYERS * (LAYERS - 1)
    assert own["r2"] is not None
    assert own["r2"] < 0.9


@pytest.mark.slow
def test_every_command_that_is_missing_names_the_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = make_db(tmp_path / "bare.db")
    add_fit(db, fit_info("default", ADJACENT))
    assert run(["predict", "report", "--db", str(db), "--out", str(tmp_path / "out")]) == 0
    commands = [line for line in capsys.readouterr().out.splitlines() if "neuronagent predict" in line]
    assert commands
    assert all(f"--db {db}" in line and "&&" not in line for line in commands)


# Which fits


def test_fits_are_shown_in_the_order_in_which_they_are_named_and_others_left_out(full: Path) -> None:
    found = of(full, "all", "default")
    assert (found["main"], [fit["name"] for fit in found["fits"]]) == ("all", ["all", "default"])
    assert found["models"]["reason"] is not None
    assert found["substitution"]["fit"] == "default"  # the first that it was measured with


def test_unknown_fits_and_an_index_without_any_say_what_there_is(full: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nobody") as caught:
        of(full, "nobody")
    assert "default" in caught.value.remedy
    with pytest.raises(NotFoundError, match="no fit") as caught:
        of(make_db(tmp_path / "bare.db"))
    assert "predict fit" in caught.value.remedy


def test_a_fit_without_scores_leaves_parts_empty_with_their_reasons(tmp_path: Path) -> None:
    db = make_db(tmp_path / "unscored.db")
    add_fit(db, fit_info("default", ADJACENT), texts=())
    found = of(db)
    assert [name for name in SECTIONS if missing(found, name) is None] == []
    assert found["findings"] == []


def test_a_fit_that_goes_backward_alone_has_no_source_below(tmp_path: Path) -> None:
    db = make_db(tmp_path / "back.db")
    add_fit(db, fit_info("default", [Pair(3, 1), Pair(4, 2)]))
    found = of(db)
    assert [row["source"] for row in found["layers"]["rows"]] == [None, None]
    assert "from a layer below" in str(missing(found, "scale"))
    assert missing(found, "pairs") is None


def test_scores_of_one_document_have_no_interval_and_no_share_of_neurons(tmp_path: Path) -> None:
    db = make_db(tmp_path / "one.db")
    fit_id = add_fit(db, fit_info("default", [Pair(0, 1)]))
    own = scores(np.full(NEURONS, 0.5), np.ones(NEURONS))
    for name in ("rmse", "r2", "pearson", "lift"):
        for end in ("lo", "hi"):
            getattr(own, f"{name}_{end}")[:] = np.nan
    save_scores(open_writer(db), fit_id, 1, "layer 0", own, text=OWN_TEST, about={"tokens": 9, "documents": 1})
    (row,) = of(db)["layers"]["rows"]
    assert (row["above"], row["below"]) == (None, None)
    assert row["lift"] is not None


def test_an_analysis_that_was_stopped_shows_the_layers_that_it_has(tmp_path: Path) -> None:
    db = make_db(tmp_path / "stopped.db")
    add_functional(db, add_fit(db, fit_info("default", ADJACENT)), layers=2, whole=False)
    found = of(db)
    assert [one["layer"] for one in found["functional"]["layers"]] == [0, 1]
    assert missing(found, "background") is None
    assert "stopped" in str(missing(found, "outliers"))


# What the paper found


def test_findings_have_a_criterion_and_lead_to_a_part_of_the_page(content: PredictabilityContent) -> None:
    assert len(content["findings"]) >= 20
    for found in content["findings"]:
        assert found["section"] in SECTIONS
        assert found["criterion"]
        assert found["numbers"]


def planted(db: Path, r2: Sequence[float], sd: Sequence[float]) -> PredictabilityContent:
    """A fit of all pairs in which layer j has the R² and the standard deviation of its place."""
    fit_id = add_fit(db, fit_info("default", ALL), texts=())
    engine = open_writer(db)
    for source, target in ALL:
        skill = np.full(NEURONS, 1.0 if source == target else r2[target])
        own = scores(skill, np.full(NEURONS, sd[target] ** 2), np.zeros(NEURONS))
        save_scores(engine, fit_id, target, f"layer {source}", own, text=OWN_TEST, about={})
    engine.dispose()
    return of(db)


def test_a_rank_of_layers_that_is_of_their_scale_alone_is_told_apart(tmp_path: Path) -> None:
    found = planted(make_db(tmp_path / "scale.db"), r2=[0.1, 0.3, 0.5, 0.7, 0.8], sd=[1, 2, 4, 8, 16])
    assert finding(found, "Shallow layers are better foretold than deep ones, by L2")["verdict"] == "holds"
    assert finding(found, "Shallow layers are better foretold than deep ones, by R²")["verdict"] == "does not hold"
    assert finding(found, "than the reverse, by L2")["verdict"] == "holds"
    assert finding(found, "than the reverse, by R²")["verdict"] == "does not hold"


def test_sources_before_and_behind_a_layer_that_do_equally_well_are_no_evidence(tmp_path: Path) -> None:
    found = planted(make_db(tmp_path / "equal.db"), r2=[0.5] * LAYERS, sd=[1] * LAYERS)
    same = finding(found, "as far before it as behind it")
    assert (same["verdict"], same["numbers"]) == ("not clear", "In 0 of 4 (4 equal) cases.")
    assert finding(found, "than the reverse, by R²")["verdict"] == "not clear"


def test_self_maps_of_the_exact_fit_leave_nothing(content: PredictabilityContent) -> None:
    found = finding(content, "from itself has an error left")
    assert found["verdict"] == "does not hold"
    assert "adagrad: mean L2" in found["numbers"]


def test_what_substitution_costs_is_compared_cell_by_cell(content: PredictabilityContent) -> None:
    assert finding(content, "do the least harm")["numbers"].startswith("In 7 of 7 cells.")
    assert finding(content, "do the least harm")["verdict"] == "holds"
    assert finding(content, "texts of other domains")["verdict"] == "holds"
    assert finding(content, "texts of other domains")["numbers"] == "In 7 of 7 cells on 1 other text."


def with_costs(content: PredictabilityContent, costs: dict[tuple[str, str, int], tuple[float, float]],
               chunks: Sequence[int] | None = None) -> list[Finding]:  # fmt: skip
    """The findings of § 4 if these cells, by mapping, setting and chunk, cost these losses, with what is on each side
    of them; `chunks`: so many layers each."""
    found = copy.deepcopy(content)
    del found["substitution"]["views"][1:]
    view = found["substitution"]["views"][0]
    for cell in view["cells"]:
        own = costs.get((cell["mapping"], cell["setting"], cell["chunk"]))
        if own is not None and cell["sources"] == "clean":
            cell["measured"].update(change=own[0], change_lo=own[0] - own[1], change_hi=own[0] + own[1])
    if chunks is not None:
        ends = np.cumsum(chunks).tolist()
        for chunk, end, count in zip(view["text"]["chunks"], ends, chunks, strict=True):
            chunk["layers"] = list(range(end - count, end))
            chunk["replaced"] = [[layer, layer - 1] for layer in chunk["layers"] if layer]
    return list(global_findings(found))


def verdict(found: Sequence[Finding], words: str) -> str | None:
    return next((one["verdict"] for one in found if words in one["paper"]), None)


def test_partial_substitution_of_the_last_layer_alone_decides_nothing(content: PredictabilityContent) -> None:
    """It is free by definition: what is left is rounding, here in disfavour of predictions."""
    noise = {(word, "partial", 3): (1e-9 if word == "predicted" else -1e-9, 1e-8) for word in COSTS}
    found = with_costs(content, noise)
    assert verdict(found, "do the least harm") == "holds"
    assert verdict(found, "In the last chunk") is None
    assert verdict(found, "Shallow layers contribute through later layers") == "not clear"
    whole = with_costs(content, noise, chunks=(2, 2, 2, 2))
    assert verdict(whole, "In the last chunk") == "does not hold"
    assert verdict(whole, "do the least harm") == "not clear"
    assert verdict(whole, "Shallow layers contribute through later layers") == "holds"


def test_a_substitution_that_was_stopped_decides_nothing(content: PredictabilityContent) -> None:
    found = copy.deepcopy(content)
    view = found["substitution"]["views"][0]
    view["cells"] = [cell for cell in view["cells"] if cell["chunk"] < 2]
    half = found["halves"]["view"]
    assert half is not None
    half["cells"] = [cell for cell in half["cells"] if cell["chunk"] < 1]
    del found["substitution"]["views"][1:]
    assert list(global_findings(found)) == []


def test_costs_whose_intervals_meet_decide_nothing(content: PredictabilityContent) -> None:
    def ends(cost: float, width: float) -> dict[tuple[str, str, int], tuple[float, float]]:
        return {("predicted", "complete", chunk): (cost if chunk in (0, 3) else 0.1, width) for chunk in range(4)}

    sizes = (2, 1, 1, 1)
    assert verdict(with_costs(content, ends(0.2, 0.04), sizes), "the two between") == "holds"
    assert verdict(with_costs(content, ends(0.2, 0.06), sizes), "the two between") == "not clear"
    assert verdict(with_costs(content, ends(0.05, 0.01), sizes), "the two between") == "does not hold"


def test_a_chunk_of_twice_the_layers_is_not_dearer_for_its_place(content: PredictabilityContent) -> None:
    costs = {("predicted", "complete", chunk): (cost, 0.01) for chunk, cost in enumerate((0.1, 0.3, 0.3, 0.1))}
    assert verdict(with_costs(content, costs, (3, 2, 2, 2)), "the two between") == "does not hold"
    assert verdict(with_costs(content, costs, (2, 2, 2, 1)), "the two between") == "not clear"


def test_a_rank_over_few_layers_takes_a_perfect_order(tmp_path: Path) -> None:
    found = planted(make_db(tmp_path / "few.db"), r2=[0.1, 0.5, 0.3, 0.7, 0.8], sd=[1, 2, 4, 8, 16])
    one = finding(found, "Shallow layers are better foretold than deep ones, by R²")
    assert "+0.90 over 5 layers" in one["numbers"]
    assert one["verdict"] == "not clear"


def test_an_optimiser_that_is_worse_everywhere_has_not_converged(content: PredictabilityContent) -> None:
    found = finding(content, "Adagrad for one epoch")
    assert (found["verdict"], found["numbers"]) == (
        "does not hold",
        f"Least squares is lower on {len(ALL)} of {len(ALL)} pairs, after 30 steps; the paper takes about 1,000.",
    )


# Numbers


def test_ranks_correlate_as_counted_one_by_one_with_ties_and_gaps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        pair = rng.integers(0, 6, (2, 15)).astype(float)
        ranks = [[sum((b < a) + (b == a) / 2 for b in row) for a in row] for row in pair.tolist()]
        oracle: Any = np.corrcoef(ranks)
        assert spearman(pair[0], pair[1]) == pytest.approx(oracle[0, 1])
    assert spearman([1, 2, None, 4], [1, 2, 3, None]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, 2, 3, None], [2.0, 4.0, 9.0, -1.0]) == pytest.approx(1)


def test_ranks_are_clear_as_often_as_chance_allows() -> None:
    rng = np.random.default_rng(0)
    for count in (6, 7, 9, 30):
        rows = [(rng.normal(size=count), rng.normal(size=count)) for _ in range(400)]
        clear = np.mean([rank_is_clear(a.tolist(), b.tolist()) for a, b in rows])
        assert 0.005 < clear < 0.08
    assert rank_is_clear([0, 1, 2, 3, 4], [1, 2, 3, 4, 5])
    assert not rank_is_clear([0, 1, 2, 3, 4], [1, 2, 3, 5, 4])
    assert not rank_is_clear([0, 1, 2, 3], [1, 2, 3, 4])
    assert not rank_is_clear([0, 1, 2], [1, 1, 1])


def test_few_comparisons_are_never_a_clear_share() -> None:
    assert [count for count in range(9) if share_is_clear(1.0, count)] == [6, 7, 8]
    assert share_is_clear(0.0, 6)
    assert [share_is_clear(share, 10) for share in (0.5, 0.8, 0.9)] == [False, False, True]
    assert not share_is_clear(0.25, 4)


def test_histograms_hold_every_number_once() -> None:
    counts = histogram(np.array([-3.0, -1e-9, 0.0, 0.05, 0.999, 1.0, np.nan]))
    assert (counts[0], counts[1], counts[2], counts[-1], sum(counts)) == (2, 1, 1, 2, 6)
    assert spread(np.array([np.nan])) is None


# The command


def test_figures_that_cannot_be_drawn_say_which_command_makes_them(tmp_path: Path) -> None:
    db = make_db(tmp_path / "few.db")
    add_fit(db, fit_info("default", ADJACENT))
    with Index(str(db)) as index:
        with pytest.raises(UsageError) as caught:
            chosen_figure(index, "halves")
        assert "predict substitute" in caught.value.remedy
        with pytest.raises(UsageError, match="no figure"):
            chosen_figure(index, "nothing")


def test_numbers_are_printed_without_a_folder_and_nothing_without_either(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "report", "--db", str(full), "--json", "--fit", "all"]) == 0
    assert json.loads(capsys.readouterr().out)["main"] == "all"
    assert run(["predict", "report", "--db", str(full), "--figure", "layers", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["figure"], printed["layers"]["fit"]) == ("layers", "default")
    assert run(["predict", "report", "--db", str(full)]) == 2
    assert "--out DIR" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_holds_the_page_its_numbers_and_figures_and_is_not_written_twice(full: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    copy = shutil.copy(full, tmp_path / "copy.db")
    out = tmp_path / "out"
    assert run(["predict", "report", "--db", str(copy), "--out", str(out), "--fit", "default"]) == 0
    names = {path.name for path in out.iterdir()}
    assert {"predictability.html", "predictability.json", "predictability.md", "figures"} <= names
    before = {path: path.stat().st_mtime_ns for path in out.rglob("predict*")}
    assert run(["predict", "report", "--db", str(copy), "--out", str(out), "--fit", "default"]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("predict*")} == before
    shown: Any = json.loads((out / "predictability.json").read_text())
    assert shown["main"] == "default"


@pytest.mark.slow
def test_a_folder_of_somebody_else_is_left_alone(full: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "mine.txt").write_text("mine")
    assert run(["predict", "report", "--db", str(full), "--out", str(tmp_path)]) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_one_figure_is_one_file(full: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "pairs.svg"
    assert run(["predict", "report", "--db", str(full), "--figure", "pairs", "--out", str(file)]) == 0
    assert file.read_text().startswith("<?xml")
    assert run(["predict", "report", "--db", str(full), "--figure", "pairs", "--out", str(tmp_path / "x.pdf")]) == 2
