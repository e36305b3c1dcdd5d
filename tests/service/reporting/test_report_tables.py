"""The tables beside a report: the same rows in three forms, which other programs read back as they are."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from typing import Any, cast, get_type_hints

import pandas as pd
import pyarrow.parquet as pq
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId
from neuronagent.report.site_content import SiteRow, SiteUnit
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.site_rows import site_content
from neuronagent.service.reporting.tables import comma_separated, flat, jsonl, kinds, parquet
from tests.known_index import world

SOME = [NeuronId(0, 0), NeuronId(0, 3), NeuronId(1, 10)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[SiteRow]:
    """Rows of the planted index, of which the first is explained."""
    db = shutil.copy(world().db, tmp_path_factory.mktemp("tables") / "planted.db")
    with Index(str(db)) as index:
        index.explain(SOME[0])
        return site_content(index, SOME, pages=lambda neuron: f"{neuron}.html")["rows"]


def lines(rows: list[SiteRow]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(comma_separated(rows).decode(), newline="")))


def with_text(rows: list[SiteRow], text: str) -> list[SiteRow]:
    """The first row, explained by `text`, promoting it, and of this class."""
    unit = rows[0]["units"][0] | {"text": text, "promotes": [text, "a"]}
    return [cast(SiteRow, rows[0] | {"io_class": text, "units": [unit, *rows[0]["units"][1:]]})]


@pytest.mark.slow
def test_every_number_of_a_row_is_in_a_column_that_says_what_it_is_of(rows: list[SiteRow]) -> None:
    for row in rows:
        found = flat(row)
        assert list(found) == list(kinds())
        assert len(found) == len(get_type_hints(SiteRow)) - 1 + 4 * (len(get_type_hints(SiteUnit)) - 1)
        for c, unit in zip(COMBINATIONS, row["units"], strict=True):
            assert unit["combination"] == c.value
            assert {key: found[f"{c.value}_{key}"] for key in unit if key != "combination"} == {
                key: value for key, value in unit.items() if key != "combination"
            }
    assert flat(rows[0])["gate+_in+_verdict"] == "supported"
    assert flat(rows[1])["gate+_in+_verdict"] is None


@pytest.mark.slow
def test_the_three_tables_hold_the_same(rows: list[SiteRow]) -> None:
    objects = [json.loads(line) for line in jsonl(rows).decode().splitlines()]
    assert objects == pq.read_table(io.BytesIO(parquet(rows))).to_pylist() == [flat(row) for row in rows]
    for row, line in zip(rows, lines(rows), strict=True):
        assert line == {name: cell(row, name, value) for name, value in flat(row).items()}


def cell(row: SiteRow, name: str, value: Any) -> str:
    if name == "neuron":
        return f"L{row['layer']}.N{row['index']}"
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def test_a_neuron_is_still_its_name_after_a_csv_was_read_as_numbers(rows: list[SiteRow]) -> None:
    frame = pd.read_csv(io.BytesIO(comma_separated(rows)))
    assert [NeuronId.parse(name) for name in frame["neuron"]] == SOME
    assert frame["gate+_in+_frequency"].dtype == float


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"])
def test_no_cell_is_a_formula(rows: list[SiteRow], text: str) -> None:
    (line,) = lines(with_text(rows, text))
    assert line["io_class"] == line["gate+_in+_text"] == f"'{text}"
    assert json.loads(line["gate+_in+_promotes"]) == [text, "a"]
    assert json.loads(jsonl(with_text(rows, text)))["gate+_in+_text"] == text


@pytest.mark.parametrize(
    "text", ['a "quoted", text;\nof two lines', "\0", "\ud800 alone", "\u202eright to left", "\x85\u2028", "x" * 9_999]
)
def test_whatever_a_text_holds_the_tables_are_read_back(rows: list[SiteRow], text: str) -> None:
    changed = with_text(rows, text)
    (line,) = lines(changed)
    assert line["gate+_in+_text"] == text.replace("\0", "␀").replace("\ud800", "?")
    assert json.loads(jsonl(changed))["gate+_in+_text"] == text
    assert len(jsonl(changed).decode().splitlines()) == 1
    (stored,) = pq.read_table(io.BytesIO(parquet(changed))).to_pylist()
    assert stored["gate+_in+_text"] == text.replace("\ud800", "?")
    assert stored["gate+_in+_promotes"] == [text.replace("\ud800", "?"), "a"]


def test_a_number_that_is_not_finite_is_refused_where_it_has_no_form(rows: list[SiteRow]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        jsonl([cast(SiteRow, rows[0] | {"cos_in_out": math.nan})])


def test_the_same_rows_give_the_same_bytes_and_no_rows_give_empty_tables(rows: list[SiteRow]) -> None:
    for table in (comma_separated, jsonl, parquet):
        assert table(rows) == table(list(rows))
    assert jsonl([]) == b""
    assert comma_separated([]).decode().strip().split(",") == list(kinds())
    frame = pd.read_parquet(io.BytesIO(parquet([])))
    assert (list(frame.columns), len(frame)) == (list(kinds()), 0)
