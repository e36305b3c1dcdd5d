"""A sound index passes every check; one that was damaged on purpose does not, and the finding says where."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from neuronagent.errors import IndexMismatchError
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.service.check import Finding, check_index
from neuronagent.service.lookup import Index
from neuronagent.store.packing import pack, unpack_array
from tests import planted

K = 4
ONE = "layer = 0 AND neuron = 0"
FIRST = f"{ONE} AND combination = 0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted model in `model`, its index in `sound.db`."""
    folder = tmp_path_factory.mktemp("planted")
    planted.build(folder / "model")
    lines = (json.dumps({"text": text}) for text in planted.corpus(60))
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    source, db = str(folder / "corpus.jsonl"), str(folder / "sound.db")
    build_index(BuildOptions(model=str(folder / "model"), text=source, db=db, k=K))
    return folder


def check(db: Path, model: Path | None = None) -> dict[str, Finding]:
    with Index(str(db)) as index:
        return {finding.name: finding for finding in check_index(index, str(model) if model else None)}


def test_a_sound_index_passes_with_its_own_model(folder: Path) -> None:
    findings = check(folder / "sound.db", folder / "model")
    assert all(finding.checked for finding in findings.values())
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert findings["the four counts and the zeros add up to the tokens"].checked == 32
    assert findings["stored values are those of the live model"].checked > 20


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    planted.build(tmp_path / "other", seed=1)
    with pytest.raises(IndexMismatchError, match="other weights"):
        check(folder / "sound.db", tmp_path / "other")


Damage = Callable[[sqlite3.Connection], None]


def sql(statement: str) -> Damage:
    return lambda connection: connection.execute(statement) and None


def lists(change: Callable[[np.ndarray], None]) -> Damage:  # pyright: ignore
    """Changes the packed lists [11, k] of neuron 0.0 in gate+_in+."""

    def damage(connection: sqlite3.Connection) -> None:
        blob = connection.execute(f"SELECT lists FROM combination WHERE {FIRST}").fetchone()[0]
        entries = unpack_array(blob, np.int64).reshape(11, -1)
        change(entries)
        connection.execute(f"UPDATE combination SET lists = ? WHERE {FIRST}", (pack(entries),))

    return damage


def statistics(place: int, change: Callable[[float], float]) -> Damage:
    """Changes one of sums, minima and maxima [3, 4 quantities] of neuron 0.0 in gate+_in+."""

    def damage(connection: sqlite3.Connection) -> None:
        blob = connection.execute(f"SELECT statistics FROM combination WHERE {FIRST}").fetchone()[0]
        values = unpack_array(blob, np.float64)
        values[place] = change(values[place])
        connection.execute(f"UPDATE combination SET statistics = ? WHERE {FIRST}", (pack(values),))

    return damage


def first_values(connection: sqlite3.Connection) -> None:
    blob = connection.execute(f"SELECT first_values FROM neuron WHERE {ONE}").fetchone()[0]
    values = unpack_array(blob, np.float32)
    values[0] += 1
    connection.execute(f"UPDATE neuron SET first_values = ? WHERE {ONE}", (pack(values),))


def reverse(entries: np.ndarray) -> None:  # pyright: ignore
    entries[3] = entries[3][::-1].copy()


def same_text(entries: np.ndarray) -> None:  # pyright: ignore
    entries[3, 1] = entries[3, 0] + 1  # the token before, which the packing stores as one more


def position_0(entries: np.ndarray) -> None:  # pyright: ignore
    entries[4, 0] = entries[4, 0] | 0xFFFFFFFF  # corpus token number 0


def beyond_the_corpus(entries: np.ndarray) -> None:  # pyright: ignore
    entries[4, -1] = (entries[4, -1] >> 32 << 32) | 5


def swap_splits(entries: np.ndarray) -> None:  # pyright: ignore
    entries[[0, 2]] = entries[[2, 0]]


def larger(entries: np.ndarray) -> None:  # pyright: ignore
    entries[3, 0] += 1 << 55  # times 2


def shorter_sample(entries: np.ndarray) -> None:  # pyright: ignore
    entries[5, -1] = -1


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (sql(f"UPDATE combination SET count = count + 1 WHERE {FIRST}"), "the four counts and the zeros add up"),
        (sql(f"UPDATE neuron SET zeros = zeros + 1 WHERE {ONE}"), "the four counts and the zeros add up"),
        (sql(f"UPDATE combination SET first_count = 1 - first_count WHERE {FIRST}"), "histograms add up"),
        (sql(f"UPDATE combination SET tau = tau * 2 WHERE {FIRST}"), "τ is the smallest edge"),
        (sql(f"UPDATE combination SET mass = mass * 1.5 WHERE {FIRST}"), "Σ|post| is the mean times the count"),
        (sql(f"UPDATE combination SET mass = mass * 9 WHERE {FIRST}"), "Σ|post| fits the histogram"),
        (sql(f"UPDATE combination SET mass = -mass WHERE {FIRST}"), "mass shares sum to 1"),
        (sql(f"UPDATE neuron SET mass_pp = mass_pp / 2 WHERE {ONE}"), "what a search filters by"),
        (sql(f"UPDATE neuron SET io_class = 'depletion' WHERE {ONE}"), "the IO class is what the cosines make it"),
        (sql(f"UPDATE neuron SET cos_in_out = 1.5 WHERE {ONE}"), "cosines lie in −1…1"),
        (sql(f"UPDATE neuron SET cos_gate_in = -0.1 WHERE {ONE}"), "with normalised signs"),
        (sql("DELETE FROM neuron WHERE layer = 0 AND neuron = 3"), "every neuron of every layer is there"),
        (sql(f"UPDATE combination SET lists = x'0102' WHERE {FIRST}"), "every neuron can be read"),
        (sql("UPDATE text SET first_token = first_token + 1 WHERE id = 59"), "texts follow each other"),
        (first_values, "post = act(x_gate)·x_in"),
        (statistics(4, lambda minimum: minimum + 100), "min ≤ mean ≤ max"),
        (statistics(7, lambda _: -0.3), "act is not below its minimum"),
        (statistics(5, lambda _: -1.0), "extremes have the sign"),
        (statistics(9, lambda maximum: maximum / 2), "no example is beyond the extremes"),
        (lists(reverse), "|values| of a list are sorted"),
        (lists(same_text), "texts are unique in a list"),
        (lists(position_0), "position 0 is in no list"),
        (lists(beyond_the_corpus), "entries point into the corpus"),
        (lists(swap_splits), "lists and samples of a split lie in its texts"),
        (lists(larger), "no example is beyond the extremes"),
        (lists(shorter_sample), "samples are as large as they can be"),
    ],
)
def test_damage_is_found(folder: Path, tmp_path: Path, damage: Damage, name: str) -> None:
    copy = Path(shutil.copy(folder / "sound.db", tmp_path / "damaged.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        damage(connection)
    findings = check(copy)
    (found,) = [finding for key, finding in findings.items() if key.startswith(name)]
    assert found.wrong
    assert found.examples
