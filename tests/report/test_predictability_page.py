"""The page on predictability: nothing of others is markup, empty parts say what makes them, figures show numbers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from markdown_it import MarkdownIt

from neuronagent.report.figures import PREDICT_FIGURES
from neuronagent.report.figures.looks import PAGE, PRINTED, TINT
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.predictability_content import SECTIONS, PredictabilityContent
from neuronagent.report.predictability_markdown import plain, predictability_markdown
from neuronagent.report.predictability_numbers import change, digits, nats, perplexity, quartiles
from neuronagent.report.predictability_rows import average_rows, halves_rows, rows
from neuronagent.report.predictability_says import lead, says
from neuronagent.report.predictability_tables import fits, tables
from neuronagent.report.predictability_words import COMMANDS, HOW, TITLES, missing
from neuronagent.service.lookup import Index
from neuronagent.service.predict.report import predictability
from tests.report.predictability_sample import (
    ADJACENT,
    add_fit,
    add_functional,
    add_substitution,
    fill,
    fit_info,
    make_db,
)

HOSTILE = "<script>alert(1)</script>|`$x_{1}$`\x1b[31m"
Shown = tuple[PredictabilityContent, PredictionPoints]


def shown(db: Path) -> Shown:
    with Index(str(db)) as index:
        return predictability(index)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Everything, with names that would be markup."""
    db = make_db(tmp_path_factory.mktemp("page") / "full.db", model=HOSTILE)
    ids = fill(db)
    add_functional(db, ids["default"])
    add_substitution(db, ids["default"], texts=("", HOSTILE))
    return shown(db)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """One fit, not scored, with a warning."""
    db = make_db(tmp_path_factory.mktemp("page") / "bare.db")
    add_fit(db, fit_info("default", ADJACENT, warnings=["fewer tokens than neurons"]), texts=())
    return shown(db)


def test_every_part_has_a_title_words_and_a_command() -> None:
    for words in (TITLES, HOW, COMMANDS):
        assert tuple(words) == SECTIONS
    assert set(PREDICT_FIGURES) <= set(SECTIONS)


def test_every_part_that_is_there_says_something_and_has_tables_of_one_width(full: Shown) -> None:
    for name in SECTIONS:
        assert says(full[0], name).endswith("."), name
        for table in tables(full[0], name):
            assert {len(row) for row in table.rows} == {len(table.columns)}, name
    assert {len(row) for row in fits(full[0]).rows} == {len(fits(full[0]).columns)}
    assert lead(full[0]).startswith("From the nearest layer below")


def test_table_1_has_a_row_per_mapping_setting_and_sources_and_what_is_missing_stays_missing(full: Shown) -> None:
    view = full[0]["substitution"]["views"][0]
    found = rows(view)
    assert len(found) == 2 * (2 + 2 + 1 + 2)  # zero has no source
    identical = next(row for row in found if row.mapping == "identical")
    assert [cell is None or cell["perplexity"] is None for cell in identical.cells] == [False, True, False, False]
    (table, *_) = tables(full[0], "substitution")
    assert ("random", "complete", "> 1000", "60.00", "55.00", "70.00") in table.rows
    assert ("identical", "complete", "900.00", "–", "61.00", "66.00") in table.rows


def test_chained_sources_that_give_the_same_numbers_are_said_once(full: Shown) -> None:
    changed = copy.deepcopy(full[0])
    view = changed["substitution"]["views"][0]
    changed["substitution"]["views"] = [view]
    clean = {(c["mapping"], c["setting"], c["chunk"]): c["measured"] for c in view["cells"] if c["sources"] == "clean"}
    for cell in view["cells"]:
        cell["measured"] = clean[cell["mapping"], cell["setting"], cell["chunk"]]
    assert {row.sources for row in rows(view)} == {row.sources for row in average_rows([view])} == {"clean"}
    (table, *_) = tables(changed, "substitution")
    assert not any("chained" in row[0] for row in table.rows)
    assert "Chained sources give the same numbers" in table.note
    assert "Chained" not in tables(full[0], "substitution")[0].note


def test_numbers_in_cells_keep_two_digits_where_they_are_small() -> None:
    from neuronagent.report.figures.predict_matrix import short

    assert [short(value) for value in (0.0371, 0.41, 1.0, 1.018, -1.834, -0.02, 2e-10, 0.004, 0.0)] == [
        ".037", ".41", "1.00", "1.02", "−1.83", "−.020", "2e−10", ".004", ".000",
    ]  # fmt: skip


def test_changes_of_the_loss_that_are_rounding_are_none() -> None:
    assert [nats(value) for value in (-2.2e-9, 0.0657, -0.0312, None)] == ["0", "+0.066", "−0.031", "–"]


def test_halves_are_all_ways_by_all_metrics(full: Shown) -> None:
    view = full[0]["halves"]["view"]
    assert view is not None
    assert len(halves_rows(view)) == 8 * 4
    assert [cell and cell["perplexity"] for cell in view["all"]] == pytest.approx([21.0, 20.6, 20.8, 22.0])


def test_a_text_that_lacks_a_row_of_table_2_has_a_gap(full: Shown) -> None:
    one, other = copy.deepcopy(full[0]["substitution"]["views"])
    other["averages"] = [average for average in other["averages"] if average["mapping"] != "zero"]
    zero = next(row for row in average_rows([one, other]) if row.mapping == "zero")
    assert zero.perplexities[0] is not None
    assert zero.perplexities[1] is None


def test_numbers_keep_their_digits_and_never_become_zero() -> None:
    assert [digits(value) for value in (0.0371, 3.2e-7, 12.44, 0.0, None, 1234.5, -0.5, float("nan"))] == [
        "0.0371", "3.2e−7", "12.4", "0", "–", "1,234", "−0.500", "–",
    ]  # fmt: skip
    assert (change(0.0031), change(-0.0031), change(None)) == ("+0.00310", "−0.00310", "–")
    assert [perplexity(value) for value in (37.777, 1000.1, float("inf"), None, float("nan"))] == [
        "37.78", "> 1000", "> 1000", "–", "–",
    ]  # fmt: skip
    assert quartiles({"n": 3, "q1": -0.02, "median": 0.1, "q3": 0.3}) == ".10 (−.020, .30)"


def test_markdown_has_everything_and_nothing_of_others_is_markup_in_it(full: Shown, bare: Shown) -> None:
    said = predictability_markdown(full[0])
    for title in TITLES.values():
        assert f"## {plain(title)}" in said
    parsed = MarkdownIt("commonmark", {"html": True}).enable("table").parse(said)
    kinds = {token.type for block in parsed for token in (block, *(block.children or ()))}
    assert {"table_open", "heading_open", "code_inline"} <= kinds
    assert not {"html_block", "html_inline", "link_open", "image"} & kinds
    assert "\x1b" not in said
    assert not re.search(r"\bNone\b|\bnan\b", said)
    empty = predictability_markdown(bare[0])
    assert all(f"`{command}`" in empty for command in COMMANDS.values())
    assert "fewer tokens than neurons" in empty


def test_markdown_tables_have_as_many_cells_as_their_head(full: Shown) -> None:
    blocks = re.findall(r"(?:^\|.*\|\n)+", predictability_markdown(full[0]), re.MULTILINE)
    assert len(blocks) > 15
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


# Figures


@pytest.mark.slow
def test_every_figure_that_is_named_has_a_drawing_in_the_same_order() -> None:
    pytest.importorskip("matplotlib")
    from neuronagent.report.figures.predict_drawing import DRAW

    assert tuple(DRAW) == PREDICT_FIGURES


@pytest.mark.slow
@pytest.mark.parametrize("name", PREDICT_FIGURES)
def test_every_figure_becomes_files_and_part_of_a_page(full: Shown, name: str) -> None:
    pytest.importorskip("matplotlib")
    from neuronagent.report.figures.inline import svg
    from neuronagent.report.figures.predict_drawing import DRAW
    from neuronagent.report.figures.saving import image

    figure = DRAW[name](*full, PRINTED, HOSTILE)
    assert figure.get_suptitle() == HOSTILE
    assert image(DRAW[name](*full, PRINTED, "x"), ".png").startswith(b"\x89PNG")
    inlined = str(svg(DRAW[name](*full, PAGE, None), name))
    assert ElementTree.fromstring(inlined).get("role") == "img"
    assert not re.search(r"<style|<script|<metadata|http|DejaVu", inlined)


@pytest.mark.slow
def test_matrices_are_drawn_where_they_stand_and_of_one_scale(full: Shown) -> None:
    pytest.importorskip("matplotlib")
    from neuronagent.report.figures.predict_matrix import draw_pairs, grid_of
    from neuronagent.report.figures.predict_matrix import shown as with_room

    matrices = with_room(full[0]["pairs"]["matrices"])
    assert [one["fit"] for one in matrices] == ["all", "adagrad"]  # `default` is part of `all`
    figure: Any = draw_pairs(*full, PRINTED, None)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 6
    exact = grid_of(matrices[0], lambda row: row["rmse"])
    assert np.array_equal(images[0].get_array(), exact)
    row = next(row for row in matrices[0]["rows"] if (row["source"], row["target"]) == (1, 4))
    assert exact[4, 1] == row["rmse"]
    assert images[0].get_clim() == images[3].get_clim()


@pytest.mark.slow
def test_dots_of_halves_are_the_perplexities(full: Shown) -> None:
    pytest.importorskip("matplotlib")
    from neuronagent.report.figures.predict_substitution import draw_halves

    view = full[0]["halves"]["view"]
    assert view is not None
    figure: Any = draw_halves(*full, PRINTED, None)
    drawn = sorted(line.get_xdata()[0] for axes in figure.axes for line in axes.lines if line.get_linestyle() == "None")
    stored = sorted(float(cell["measured"]["perplexity"] or 0) for cell in view["cells"])
    assert drawn == pytest.approx(stored)


def test_a_cell_is_coloured_only_where_it_stands_out(full: Shown) -> None:
    from neuronagent.report.figures.predict_classes import tint

    summary = full[0]["functional"]["summary"]
    assert summary is not None
    cell = copy.deepcopy(summary["contingency"][1])
    for odds, q, colour in (
        (8.0, 0.01, (PRINTED.plus, TINT)),
        (0.5, 0.01, (PRINTED.minus, TINT / 2)),
        (0.0, 0.01, (PRINTED.minus, TINT)),
        (8.0, 0.2, (PRINTED.plus, 0)),
        (None, 0.01, (PRINTED.plus, 0)),
    ):
        cell["odds"], cell["q"] = odds, q
        assert tint(cell, PRINTED) == colour


@pytest.mark.slow
def test_the_page_of_nothing_says_how_to_begin_and_loads_nothing(bare: Shown) -> None:
    pytest.importorskip("matplotlib")
    from neuronagent.report.predictability_page import predictability_page

    page = predictability_page(*bare)
    assert "<svg" not in page
    assert "fewer tokens than neurons" in page
    assert page.count("Run: <code>neuronagent predict") == len(SECTIONS)
    assert all(missing(bare[0], name) for name in SECTIONS)


@pytest.mark.slow
def test_nothing_of_others_is_markup_in_the_page(full: Shown) -> None:
    pytest.importorskip("matplotlib")
    from neuronagent.report.predictability_page import predictability_page

    page = predictability_page(*full, home="index.html", data="predictability.json", markdown="predictability.md")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    assert page.count('class="drawn"') == len(PREDICT_FIGURES)
    assert not re.search(r"\bNone\b|\bnan\b", re.sub("<svg.*?</svg>", "", page, flags=re.DOTALL))
