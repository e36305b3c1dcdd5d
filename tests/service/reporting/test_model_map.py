"""What a model's map counts, against the arrays that an index was made of; and the files that it becomes."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from neuronagent.domain import IO_CLASSES, IOClass
from neuronagent.errors import IndexMismatchError, NotFoundError, StorageError, UsageError
from neuronagent.report.figures import FIGURES
from neuronagent.report.model_page import model_page
from neuronagent.report.model_tables import tables
from neuronagent.report.model_words import says
from neuronagent.service.io_tables import layer_tables
from neuronagent.service.lookup import Index
from neuronagent.service.published_tables import read_tables
from neuronagent.service.reporting.association import deviation
from neuronagent.service.reporting.correlation import pearson
from neuronagent.service.reporting.model_counts import spread
from neuronagent.service.reporting.model_map import chosen, model_map, numbers_of, write_model_map
from neuronagent.service.reporting.names import MAP, MAP_DATA
from neuronagent.service.weight_views import roles_view
from tests.cli.conftest import INFO
from tests.report.model_sample import ORTHOGONAL, layer, sample
from tests.store.made_index import Made, make_index, make_whole

LAYERS, NEURONS = 3, 30


@pytest.fixture(scope="module")
def made() -> Made:
    made = make_index(layers=LAYERS, neurons=NEURONS)
    made.info.update(INFO)
    return made


@pytest.fixture(scope="module")
def db(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("map") / "made.db"
    made.write(path, whole=make_whole(made))
    return path


@pytest.fixture
def index(db: Path) -> Iterator[Index]:
    with Index(str(db)) as opened:
        yield opened


@pytest.fixture
def weights_only(made: Made, tmp_path: Path) -> Iterator[Index]:
    """The same without a corpus, and without roles."""
    info = {key: value for key, value in INFO.items() if key != "corpus"}
    alone = replace(made, info=made.info | info, layers=[(number, weights, None) for number, weights, _ in made.layers])
    del alone.info["corpus"]
    alone.write(tmp_path / "weights.db")
    with Index(str(tmp_path / "weights.db")) as opened:
        yield opened


class Kept(dict[str, bytes]):
    """Files in memory."""

    def put(self, name: str, data: bytes) -> None:
        self[name] = data


# What is counted


def test_classes_and_cosines_are_those_of_the_weights(index: Index, made: Made) -> None:
    content, points = model_map(index)
    for row, (number, weights, _) in zip(content["layers"], made.layers, strict=True):
        assert weights.io_class is not None
        assert row["layer"] == number
        assert list(row["classes"].values()) == np.bincount(weights.io_class, minlength=len(IO_CLASSES)).tolist()
        for place, name in enumerate(("cos_gate_in", "cos_gate_out", "cos_in_out")):
            box = row["cosines"][name]
            values = weights.cosines[:, place]
            values, chance = (values, (-0.2, 0.25)) if name == "cos_in_out" else (np.abs(values), (0.0, 0.22))
            assert box is not None
            assert box["n"] == NEURONS
            assert (box["min"], box["max"]) == pytest.approx((values.min(), values.max()), abs=1e-6)
            assert box["median"] == pytest.approx(np.median(values), abs=1e-6)
            assert (box["lo"], box["hi"]) == pytest.approx(np.quantile(values, (0.025, 0.975)), abs=1e-6)
            assert box["chance"] == chance
            assert box["beyond"] == pytest.approx(((values < chance[0]) | (values > chance[1])).mean())
        assert np.array_equal(points.clouds[number], weights.cosines)
    medians = [box["median"] for row in content["layers"] if (box := row["cosines"]["cos_in_out"])]
    assert medians == pytest.approx([table.median for table in layer_tables(index)], abs=1e-6)


def test_frequency_is_that_of_both_combinations_with_an_open_gate(index: Index, made: Made) -> None:
    content, points = model_map(index)
    expected: list[tuple[float, float]] = []
    for _, weights, activations in made.layers:
        assert activations is not None
        tokens = activations.counts.sum(axis=1) + activations.zeros
        expected += zip(weights.cosines[:, 2], activations.counts[:, :2].sum(axis=1) / tokens, strict=True)
    assert points.frequency == pytest.approx(np.array(expected))
    for number, one in enumerate(content["frequency"]["layers"]):
        own = np.array(expected[number * NEURONS : (number + 1) * NEURONS])
        assert one["r"] == pytest.approx(np.corrcoef(own.T)[0, 1])
        assert (one["layer"], one["n"]) == (number, NEURONS)
    pooled = content["frequency"]["pooled"]
    assert pooled is not None
    assert (pooled["n"], pooled["r"]) == (LAYERS * NEURONS, pytest.approx(np.corrcoef(np.array(expected).T)[0, 1]))


def test_a_neuron_without_a_frequency_is_left_out_of_it(db: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(db.read_bytes())
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        connection.execute("UPDATE neuron SET frequency_pp = NULL WHERE layer = 1 AND neuron < 27")
        connection.commit()
    with Index(str(tmp_path / "copy.db")) as index:
        content, points = model_map(index)
    found = content["frequency"]["layers"][1]
    assert (found["r"], found["n"], found["reason"]) == (None, 3, "3 neurons are too few")
    assert len(points.frequency) == LAYERS * NEURONS - 27


def test_roles_and_classes_are_the_table_of_info_with_what_independence_gives(index: Index) -> None:
    found, view = model_map(index)[0]["roles"], roles_view(index)
    assert found["classes"] == view["io_classes"]
    for io_class, row in found["cells"].items():
        for role, cell in row.items():
            theirs = view["contingency"][io_class][role]
            assert cell["count"] == theirs["count"]
            assert cell["expected"] == pytest.approx(theirs["expected"])
            own = (cell["count"], found["classes"][io_class], found["roles"][role], view["neurons"])
            assert cell["z"] == pytest.approx(deviation(*own))
    assert {role for role, n in view["roles"].items() if n} | {"none"} == set(found["roles"])


def test_the_line_of_this_model_stands_beside_all_that_are_published(index: Index) -> None:
    own, *others = model_map(index)[0]["medians"]["lines"]
    assert (own["own"], own["places"]) == (True, [0.0, 0.5, 1.0])
    published = [table for table in read_tables() if table.medians]
    assert [(line["model"], tuple(line["medians"])) for line in others] == [(t.name, t.medians) for t in published]
    assert all((line["places"][0], line["places"][-1], line["own"]) == (0.0, 1.0, False) for line in others)


def test_medians_of_weights_that_were_processed_otherwise_are_marked(index: Index) -> None:
    content, _ = model_map(index)
    assert content["medians"]["lines"][0]["post_norm"] == "folded"
    assert "Those of gemma-2-2b, gemma-2-9b hold for post-norm raw, this index is made with post-norm folded" in says(
        content, "medians"
    )
    content["medians"]["lines"][0]["post_norm"] = "raw"
    assert "post-norm" not in says(content, "medians")


def test_chosen_layers_are_all_that_is_counted(index: Index) -> None:
    content, points = model_map(index, [2, 0, 2])
    assert [row["layer"] for row in content["layers"]] == content["clouds"] == list(points.clouds) == [0, 2]
    assert (content["neurons"], content["model_layers"]) == (2 * NEURONS, LAYERS)
    assert content["medians"]["lines"][0]["places"] == [0.0, 1.0]
    with pytest.raises(NotFoundError, match=r"layer 3 is not in this index; layers: 0–2"):
        model_map(index, [1, 3])


def test_a_scatter_shows_the_first_the_last_and_two_between() -> None:
    assert spread(range(32), 4) == [0, 10, 21, 31]
    assert spread(range(4), 4) == [0, 1, 2, 3]
    assert spread([5], 4) == [5]


# Statistics


def test_the_interval_of_r_is_fishers() -> None:
    points = np.random.default_rng(0).normal(size=(50, 2)) @ np.array([[1.0, 0.7], [0.0, 0.5]])
    found = pearson(3, points, ("x", "y"))
    r = float(np.asarray(np.corrcoef(points.T))[0, 1])
    assert found["r"] == pytest.approx(r)
    assert found["lo"] == pytest.approx(math.tanh(math.atanh(r) - 1.959964 / math.sqrt(47)))
    assert found["hi"] == pytest.approx(math.tanh(math.atanh(r) + 1.959964 / math.sqrt(47)))


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.empty((0, 2)), "0 neurons are too few"),
        (np.eye(2), "2 neurons are too few"),
        (np.stack([np.arange(9.0), np.full(9, 0.1)], axis=1), "y is the same for all neurons"),
        (np.stack([np.full(9, 1 / 3), np.arange(9.0)], axis=1), "x is the same for all neurons"),
    ],
)
def test_no_correlation_is_not_zero(points: Any, reason: str) -> None:
    found = pearson(None, points, ("x", "y"))
    assert (found["r"], found["lo"], found["hi"], found["reason"]) == (None, None, None, reason)


def test_a_perfect_correlation_has_an_interval_of_one_number() -> None:
    points = np.stack([np.arange(6.0), -np.arange(6.0)], axis=1)
    found = pearson(0, points, ("x", "y"))
    assert found["r"] == pytest.approx(-1)
    assert found["lo"] == pytest.approx(-1)


@pytest.mark.parametrize(("row", "column", "total"), [(3, 5, 12), (1, 1, 40), (20, 7, 21), (10, 10, 20), (30, 2, 200)])
def test_a_deviation_is_that_of_the_exact_test_by_counting_every_table(row: int, column: int, total: int) -> None:
    low, high = max(0, row + column - total), min(row, column)

    def chance(there: int) -> Fraction:
        return Fraction(math.comb(row, there) * math.comb(total - row, column - there), math.comb(total, column))

    assert sum(map(chance, range(low, high + 1))) == 1
    for count in range(low, high + 1):
        more = count * total >= row * column
        beyond = range(count + 1, high + 1) if more else range(low, count)
        p = min(0.5, float(chance(count) / 2 + sum(map(chance, beyond), Fraction(0))))
        z = deviation(count, row, column, total)
        assert z == pytest.approx(-NormalDist().inv_cdf(p) if more else NormalDist().inv_cdf(p), abs=1e-9)


def test_a_count_that_could_be_no_other_has_no_deviation_and_extreme_ones_are_finite() -> None:
    assert deviation(5, 5, 10, 10) is None
    assert deviation(0, 0, 4, 10) is None
    assert 36 < (deviation(500, 847, 500, 352_256) or 0) < 38
    assert -38 < (deviation(0, 170_000, 170_000, 352_256) or 0) < -36


# What is missing


def test_weights_alone_have_no_frequency_and_say_what_to_do(weights_only: Index) -> None:
    content, points = model_map(weights_only)
    assert not content["frequency"]["available"]
    assert "--text" in str(content["frequency"]["reason"])
    assert "without functional roles" in str(content["roles"]["reason"])
    assert points.frequency.shape == (0, 2)
    for name in ("frequency", "roles"):
        with pytest.raises(UsageError, match=f"the figure {name} cannot be drawn; this index"):
            chosen(weights_only, name)
    assert chosen(weights_only, "classes")[0]["neurons"] == LAYERS * NEURONS


def test_an_index_that_lacks_neurons_is_refused(db: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(db.read_bytes())
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        connection.execute("DELETE FROM neuron WHERE layer = 1 AND neuron > 20")
        connection.commit()
    with (
        Index(str(tmp_path / "copy.db")) as index,
        pytest.raises(StorageError, match="21 of the 30 neurons of layer 1"),
    ):
        model_map(index)


def test_imported_numbers_have_no_geometry(db: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(db.read_bytes())
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        connection.execute("INSERT INTO index_info VALUES ('protocol', '\"imported-v1\"')")
        connection.commit()
    with Index(str(tmp_path / "copy.db")) as index, pytest.raises(IndexMismatchError, match="neuronagent index"):
        model_map(index)


def test_too_many_panels_and_unknown_figures_are_refused(index: Index) -> None:
    with pytest.raises(UsageError, match="12 layers at most, not 13"):
        chosen(index, "scatter", range(13))
    with pytest.raises(UsageError, match="allowed: classes, cosines"):
        chosen(index, "no")


# Words, tables, JSON


def test_numbers_that_do_not_exist_are_no_numbers_anywhere() -> None:
    empty = replace(layer(0), cosines=np.full((40, 3), np.nan))
    for content, points in (sample(empty), sample(layer(0, only=ORTHOGONAL)), sample(layer(0, neurons=1))):
        json.dumps(content, allow_nan=False)
        for name in FIGURES:
            json.dumps(numbers_of(content, points, name), allow_nan=False)
            if name != "frequency" or content["frequency"]["available"]:
                said = [says(content, name), *(cell for t in tables(content, name) for row in t.rows for cell in row)]
                assert not any("nan" in text.lower() or "inf" in text.lower().replace("into", "") for text in said)
                widths = {len(t.columns) - len(row) for t in tables(content, name) for row in t.rows}
                assert widths == {0}


def test_words_name_the_numbers() -> None:
    still = replace(layer(1), gate_plus=np.full(40, 0.5))
    content, _ = sample(layer(0), still, layer(2))
    row = content["layers"][0]
    assert f"{row['neurons'] * 3} neurons" in says(content, "classes")
    assert "Published of 12 models" in says(content, "medians")
    assert "2 of 2 intervals are below 0" in says(content, "frequency")
    (found,) = tables(content, "frequency")
    assert found.rows[1] == ("1", "40", "–", "the frequency of gate+ is the same for all neurons")
    nothing, _ = sample(replace(layer(0), gate_plus=np.full(40, 0.5)))
    assert says(nothing, "frequency").startswith("Over all neurons there is no correlation")


# Files


@pytest.mark.slow
def test_a_map_is_the_same_files_again_and_names_what_it_wrote(index: Index) -> None:
    once, again = Kept(), Kept()
    names = write_model_map(index, once, home="index.html")
    assert names == list(once)
    assert set(names) == {
        MAP,
        MAP_DATA,
        *(f"figures/{name}{suffix}" for name in FIGURES for suffix in (".svg", ".png")),
    }
    write_model_map(index, again, home="index.html")
    assert once == again
    page = once[MAP].decode()
    assert len(page) < 3_000_000
    assert re_links(page) <= {*names, "index.html"}
    assert json.loads(once[MAP_DATA])["neurons"] == LAYERS * NEURONS
    other = Kept()
    write_model_map(index, other, layers=[1])
    assert json.loads(other[MAP_DATA])["clouds"] == [1]
    assert other["figures/classes.svg"] == once["figures/classes.svg"]


def re_links(page: str) -> set[str]:
    return {link for link in re.findall(r'href="([^"#]+)"', page) if not link.startswith("data:image/png")}


@pytest.mark.slow
def test_a_name_of_a_model_stays_text_and_a_page_without_a_corpus_says_so(weights_only: Index) -> None:
    kept = Kept()
    write_model_map(weights_only, kept)
    assert not any("frequency" in name or "roles" in name for name in kept)
    page = kept[MAP].decode()
    assert "Not drawn: this index is of weights alone" in page
    content, points = sample(layer(0, neurons=5), model="<script>alert(1)</script>\u202e\x00{{ 7*7 }}")
    page = model_page(content, points)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "{{ 7*7 }}" in page


def test_classes_of_a_layer_are_of_the_index_and_not_found_again() -> None:
    """A threshold of its own moves classes: the map shows those that the index has."""
    own = replace(layer(0), counts={(None, IOClass("depletion", atypical=True)): 40})
    content, _ = sample(own)
    assert content["layers"][0]["classes"]["atypical depletion"] == 40
