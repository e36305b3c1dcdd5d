"""A sound index passes every check; one that was damaged on purpose does not, and the finding says where."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronagent.domain import NeighbourList
from neuronagent.errors import IndexMismatchError
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.service.check import Finding, check_index
from neuronagent.service.lookup import Index
from neuronagent.service.weights_only import build_weights_index
from neuronagent.store.writer import write_index
from tests import planted
from tests.benchmarks.made_layers import MadeModel
from tests.service.damages import (
    FIRST,
    NEURON,
    ONE,
    Damage,
    array,
    first_values,
    ids,
    info,
    lists,
    neighbours,
    scores,
    sql,
    statistics,
)

K = 4
SIMILAR, OPPOSITE, READERS, WRITERS = (
    NeighbourList.SIMILAR_OUT,
    NeighbourList.OPPOSITE_OUT,
    NeighbourList.READERS_GATE,
    NeighbourList.WRITERS_IN,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted model in `model`, its index in `sound.db`, that of its weights alone in `weights.db`.

    The planted model has hardly any neighbours: `made.db` is a made-up index of 3 × 44 neurons that has all.
    """
    folder = tmp_path_factory.mktemp("planted")
    planted.build(folder / "model")
    lines = (json.dumps({"text": text}) for text in planted.corpus(60))
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    source, db = str(folder / "corpus.jsonl"), str(folder / "sound.db")
    build_index(BuildOptions(model=str(folder / "model"), text=source, db=db, k=K))
    build_weights_index(BuildOptions(model=str(folder / "model"), text="", db=str(folder / "weights.db")))
    made = MadeModel(layers=3, neurons=44, texts=120, vocabulary=500)
    write_index(
        folder / "made.db",
        info=made.info(),
        token_table=made.token_table(),
        texts=made.texts(),
        layers=[(layer, *made.layer(layer)) for layer in range(made.layers)],
        whole=made.whole,
    )
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
    assert findings["neighbours' cosines are those of the live model"].checked > 100


def test_an_index_that_was_made_up_to_meet_every_identity_passes(folder: Path) -> None:
    findings = check(folder / "made.db")
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert findings["neurons that list each other have one cosine"].checked == 3 * 44 * 60 + 4 * 2 * 40 * 10
    assert findings["readers lie in later layers, writers in earlier ones"].checked == 4 * 2 * 40 * 10


def test_an_index_of_weights_alone_passes_and_is_not_said_to_be_checked_for_what_it_lacks(folder: Path) -> None:
    findings = check(folder / "weights.db", folder / "model")
    assert all(finding.checked for finding in findings.values())
    assert [finding for finding in findings.values() if not finding.ok] == []
    whole = check(folder / "sound.db")
    absent = {name for name in whole if name not in findings}
    assert "histograms add up to the counts less position 0" in absent
    assert "tokens occur as often as the vocabulary says" in absent
    assert "stored values are those of the live model" not in findings
    assert "roles are what the stored numbers make them" in findings


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    planted.build(tmp_path / "other", seed=1)
    with pytest.raises(IndexMismatchError, match="other weights"):
        check(folder / "sound.db", tmp_path / "other")


Entries = Any


def reverse(entries: Entries) -> None:
    entries[3] = entries[3][::-1].copy()


def same_text(entries: Entries) -> None:
    entries[3, 1] = entries[3, 0] + 1  # the token before, which the packing stores as one more


def position_0(entries: Entries) -> None:
    entries[4, 0] = entries[4, 0] | 0xFFFFFFFF  # corpus token number 0


def beyond_the_corpus(entries: Entries) -> None:
    entries[4, -1] = (entries[4, -1] >> 32 << 32) | 5


def swap_splits(entries: Entries) -> None:
    entries[[0, 2]] = entries[[2, 0]]


def larger(entries: Entries) -> None:
    entries[3, 0] += 1 << 55  # times 2


def shorter_sample(entries: Entries) -> None:
    entries[5, -1] = -1


def hole(entries: Entries) -> None:
    entries[4, 0] = -1


def no_magnitude(entries: Entries) -> None:
    entries[4, -1] &= 0xFFFFFFFF


def twice_in_a_sample(entries: Entries) -> None:
    entries[6, 1] = entries[6, 0]


def set_to(place: Any, value: float) -> Any:
    def change(values: Any) -> None:
        values[place] = value

    return change


def times(factor: float) -> Any:
    def change(values: Any) -> None:
        values *= factor

    return change


def backwards(values: Any) -> None:
    values[..., 0, :] = values[..., 0, ::-1].copy()


def swapped(ordinals: Any, steps: Any) -> None:
    ordinals[[0, 1]], steps[[0, 1]] = ordinals[[1, 0]], steps[[1, 0]]


def itself(ordinals: Any, steps: Any) -> None:
    ordinals[0] = NEURON


def beyond_the_model(ordinals: Any, steps: Any) -> None:
    ordinals[0] = 3 * 44


def nothing_left(ordinals: Any, steps: Any) -> None:
    steps[-1] = 0


def turned(ordinals: Any, steps: Any) -> None:
    steps *= -1


def in_the_first_layer(ordinals: Any, steps: Any) -> None:
    ordinals[0] = 0


def in_the_last_layer(ordinals: Any, steps: Any) -> None:
    ordinals[0] = 3 * 44 - 1


def weaker(ordinals: Any, steps: Any) -> None:
    steps[:] = np.sign(steps) * np.maximum(np.abs(steps) - 5, 1)


def without_the_last(ordinals: Any, steps: Any) -> None:
    ordinals[-1], steps[-1] = -1, 0


CORPUS: list[tuple[Damage, str]] = [
    (sql("UPDATE text SET first_token = first_token + 1 WHERE id = 59"), "texts follow each other"),
    (info("corpus", "tokens", "5"), "the texts have as many tokens"),
    (sql("UPDATE token SET count_test = count_test + 1 WHERE id = 5"), "tokens occur as often"),
    (array("text", "tokens", np.uint32, "id = 1", set_to(2, 60_000)), "the token ids of texts"),
    (sql("UPDATE neuron SET tokens = NULL WHERE layer = 1", "DELETE FROM combination WHERE layer = 1"), "neurons have"),
    (sql("DELETE FROM neuron WHERE layer = 0 AND neuron = 3"), "every neuron of every layer is there"),
    (sql(f"UPDATE combination SET lists = x'0102' WHERE {FIRST}"), "every neuron can be read"),
    (sql(f"DELETE FROM combination WHERE {FIRST}"), "every neuron can be read"),
    (sql("DELETE FROM projection WHERE layer = 1 AND neuron = 9"), "every neuron can be read"),
    (sql("DELETE FROM token_neuron WHERE kind = 0"), "a search by token finds"),
    (sql("DELETE FROM token_neuron WHERE kind = 9"), "a search by token finds"),
]
RECORDED: list[tuple[Damage, str]] = [
    (sql(f"UPDATE combination SET count = count + 1 WHERE {FIRST}"), "the four counts and the zeros add up"),
    (sql(f"UPDATE neuron SET zeros = zeros + 1 WHERE {ONE}"), "the four counts and the zeros add up"),
    (sql(f"UPDATE combination SET first_count = 1 - first_count WHERE {FIRST}"), "histograms add up"),
    (sql(f"UPDATE combination SET first_count = 1 - first_count WHERE {FIRST}"), "position 0 counts in"),
    (sql(f"UPDATE combination SET tau = tau * 2 WHERE {FIRST}"), "τ is the smallest edge"),
    (sql(f"UPDATE combination SET tau = NULL WHERE {FIRST}"), "τ is the smallest edge"),
    (sql(f"UPDATE combination SET mass = mass * 1.5 WHERE {FIRST}"), "Σ|post| is the mean times the count"),
    (sql(f"UPDATE combination SET mass = mass * 9 WHERE {FIRST}"), "Σ|post| fits the histogram"),
    (sql(f"UPDATE combination SET mass = -mass WHERE {FIRST}"), "mass shares sum to 1"),
    (sql(f"UPDATE neuron SET mass_pp = mass_pp / 2 WHERE {ONE}"), "what a search filters by"),
    (sql(f"UPDATE neuron SET frequency_mm = NULL WHERE {ONE}"), "what a search filters by"),
    (sql(f"UPDATE neuron SET mass = mass * 2 WHERE {ONE}"), "what a search sorts by"),
    (first_values(0), "post = act(x_gate)·x_in"),
    (first_values(2), "act is the model's activation"),
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
    (lists(hole), "lists have no empty places"),
    (lists(no_magnitude), "listed values have the sign"),
    (lists(twice_in_a_sample), "a token is at most once in a sample"),
    (sql("UPDATE index_info SET value = '5' WHERE key = 'k'"), "lists have the length k"),
]
WEIGHTS: list[tuple[Damage, str]] = [
    (sql(f"UPDATE neuron SET io_class = 'depletion' WHERE {ONE}"), "the IO class is what the cosines make it"),
    (sql(f"UPDATE neuron SET atypical = 1 - atypical WHERE {ONE}"), "the IO class is what the cosines make it"),
    (sql(f"UPDATE neuron SET cos_in_out = 1.5 WHERE {ONE}"), "cosines lie in −1…1"),
    (sql(f"UPDATE neuron SET norm_in = -norm_in WHERE {ONE}"), "cosines lie in −1…1"),
    (sql(f"UPDATE neuron SET cos_gate_in = -0.1 WHERE {ONE}"), "with normalised signs"),
    (sql(f"UPDATE neuron SET sign = 0 WHERE {ONE}"), "signs are those of the convention"),
    (sql(f"UPDATE neuron SET kurtosis = kurtosis + 1 WHERE {ONE}"), "what a search sorts by"),
    (array("projection", "moments", np.float32, ONE, set_to(0, -0.5)), "moments are those of a distribution"),
    (array("projection", "moments", np.float32, ONE, set_to(1, 9.0)), "moments are those of a distribution"),
    (scores(backwards), "nearest tokens are sorted"),
    (scores(times(100)), "nearest tokens' cosines lie"),
    (ids(set_to((0, 0, 0, 1), 60_000)), "nearest tokens are different tokens"),
    (ids(set_to((1, 2, 1), 7)), "nearest tokens are different tokens"),
    (sql("UPDATE neuron SET double_checking = 0"), "double checking is not below"),
    (sql(f"UPDATE neuron SET double_checking = 1.5 WHERE {ONE}"), "double checking is a cosine"),
    (sql(f"UPDATE neuron SET double_checking_token = 60000 WHERE {ONE}"), "double checking is a cosine"),
]
ROLES: list[tuple[Damage, str]] = [
    (sql(f"UPDATE neuron SET role = 'entropy' WHERE {ONE}"), "roles are what"),
    (sql("UPDATE neuron SET role = NULL WHERE role = 'prediction'"), "roles are what"),
    (sql("UPDATE neuron SET role = NULL WHERE role = 'partition'"), "as many neurons are partition"),
    (
        sql(
            "UPDATE neuron SET role = NULL WHERE role = 'partition'",
            "UPDATE neuron SET role = 'partition' WHERE variance = (SELECT min(variance) FROM neuron)",
        ),
        "partition neurons have the highest variance",
    ),
    (info("roles", "kurtosis", "99"), "the thresholds of roles"),
    (info("roles", "entropy_outlier", "0.1234"), "the thresholds of roles"),
    (info("roles", "partition_variance", "0"), "partition neurons have the highest variance"),
    (sql("UPDATE neuron SET attention_score = 0.1 WHERE layer = 1 AND neuron = 2"), "attention scores exist below"),
    (sql(f"UPDATE neuron SET entropy_share = 0.1 WHERE {ONE}"), "entropy shares exist in the last"),
    (sql("UPDATE neuron SET entropy_share = -0.1 WHERE layer = 1 AND neuron = 3"), "entropy shares exist in the last"),
    (sql("DELETE FROM index_info WHERE key = 'roles'"), "an index without thresholds has no roles"),
]
NEIGHBOURS: list[tuple[Damage, str]] = [
    (sql("DELETE FROM neighbour WHERE ordinal = 7"), "neighbours are there exactly"),
    (sql("DELETE FROM index_info WHERE key = 'neighbours'"), "neighbours are there exactly"),
    (sql("UPDATE neighbour SET ordinals = x'00' WHERE ordinal = 7"), "neighbours can be read"),
    (info("neighbours", "k", "9"), "neighbours are as many"),
    (neighbours(swapped, SIMILAR), "neighbours are sorted"),
    (neighbours(itself, SIMILAR), "neighbours are different neurons"),
    (neighbours(beyond_the_model, OPPOSITE), "neighbours are different neurons"),
    (neighbours(nothing_left, READERS), "neighbours' cosines are not 0"),
    (neighbours(turned, OPPOSITE), "similar neurons' cosines are positive"),
    (neighbours(in_the_first_layer, READERS), "readers lie in later layers"),
    (neighbours(in_the_last_layer, WRITERS), "readers lie in later layers"),
    (neighbours(weaker, SIMILAR), "neurons that list each other"),
    (neighbours(weaker, WRITERS), "neurons that list each other"),
    (neighbours(turned, READERS), "neurons that list each other"),
    (neighbours(without_the_last, SIMILAR), "a neuron that does not list back"),
    (neighbours(without_the_last, WRITERS), "a neuron that does not list back"),
]
LIVE: list[tuple[Damage, str]] = [
    (sql("UPDATE neuron SET sign = -sign"), "stored signs are those"),
    (sql("UPDATE neuron SET cos_in_out = cos_in_out * 0.999"), "stored cosines are those"),
    (sql("UPDATE neuron SET norm_out = norm_out * 1.001"), "stored norms are those"),
    (scores(times(1.01), "1"), "nearest tokens' scores"),
    (neighbours(weaker, OPPOSITE, "1"), "neighbours' cosines are those"),
]


@pytest.mark.parametrize(("damage", "name"), [*CORPUS, *RECORDED, *WEIGHTS, *ROLES])
def test_damage_is_found(folder: Path, tmp_path: Path, damage: Damage, name: str) -> None:
    assert_found(folder / "sound.db", tmp_path, damage, name)


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "name"), NEIGHBOURS)
def test_damage_to_neighbours_is_found(folder: Path, tmp_path: Path, damage: Damage, name: str) -> None:
    assert_found(folder / "made.db", tmp_path, damage, name)


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "name"), LIVE)
def test_damage_that_only_the_model_shows_is_found(folder: Path, tmp_path: Path, damage: Damage, name: str) -> None:
    assert_found(folder / "sound.db", tmp_path, damage, name, folder / "model")


def assert_found(sound: Path, tmp_path: Path, damage: Damage, name: str, model: Path | None = None) -> None:
    copy = Path(shutil.copy(sound, tmp_path / "damaged.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        damage(connection)
    findings = check(copy, model)
    (found,) = [finding for key, finding in findings.items() if key.startswith(name)]
    assert found.wrong
    assert found.examples


def test_every_identity_that_an_index_was_checked_for_has_a_damage_that_it_finds(folder: Path) -> None:
    damages = [name for _, name in (*CORPUS, *RECORDED, *WEIGHTS, *ROLES, *NEIGHBOURS, *LIVE)]
    live = {"stored values are those of the live model"}  # of another model: refused before that
    names = (set(check(folder / "sound.db", folder / "model")) | set(check(folder / "made.db"))) - live
    assert {name for name in names if not any(name.startswith(begins) for begins in damages)} == set()
