"""The model is run for exactly the tokens that pages show, once; what it does there is stored, checked and true."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronagent.domain import QUANTITIES, NeuronId, Quantity, Split
from neuronagent.errors import IndexMismatchError, Interrupted, ModelError, NotFoundError, StorageError, UsageError
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.service.check import check_index
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.example_values import Valued, ensure_values, values_possible
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.passages import TokenValues, shown_examples, values_of
from neuronagent.service.weights_only import build_weights_index
from neuronagent.store.reader import IndexReader
from tests import planted
from tests.known_index import known, world
from tests.service.damages import Damage, array, sql
from tests.service.test_tracing import StopsAfter
from tests.service.worlds import random_world

NEURONS = [NeuronId(0, index) for index in range(5)] + [NeuronId(1, 2), NeuronId(1, 12)]
WEAK = PageOptions(examples=3, split=Split.EXPLAIN)
FULL = PageOptions()


@pytest.fixture(scope="module")
def valued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The known index with the values of what the pages of `NEURONS` show."""
    db = Path(shutil.copy(world().db, tmp_path_factory.mktemp("valued") / "known.db"))
    assert ensure_values(str(db), NEURONS, options=FULL) == Valued(neurons=len(NEURONS), before=0)
    return db


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The known index, nothing run."""
    return Path(shutil.copy(world().db, tmp_path / "known.db"))


def shown_values(db: Path, neuron: NeuronId, options: PageOptions) -> dict[int, TokenValues | None]:
    """What a page shows of `neuron`, by corpus token number."""
    with Index(str(db)) as index:
        traces = {trace.text: trace for trace in index.reader.traces(neuron)}
        found: dict[int, TokenValues | None] = {}
        for own in shown_examples(index, index.reader.neuron(neuron), options).values():
            for shown in own:
                values = values_of(shown, traces.get(shown.text.text_id))
                found.update(enumerate(values, shown.text.first_token + shown.start))
    return found


def complete(db: Path, neuron: NeuronId, options: PageOptions) -> bool:
    return None not in shown_values(db, neuron, options).values()


# What is stored


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_values_are_what_the_neuron_really_does_at_every_token_shown(valued: Path, neuron: NeuronId) -> None:
    truth, found = known(neuron), shown_values(valued, neuron, FULL)
    assert len(found) > 200
    places = np.searchsorted(truth.number, list(found))
    assert truth.number[places].tolist() == list(found)  # no BOS is among them
    for place, values in zip(places.tolist(), found.values(), strict=True):
        assert values is not None
        gate, linear, act, post = values
        assert post == pytest.approx(truth.post[place], rel=1e-4, abs=1e-4)
        assert act == pytest.approx(gate / (1 + np.exp(-gate)), rel=1e-4, abs=1e-6)
        if truth.combination[place] < 0:
            assert not gate or not linear
        else:
            signs = {0: (1, 1), 1: (1, -1), 2: (-1, 1), 3: (-1, -1)}[int(truth.combination[place])]
            assert (np.sign(gate), np.sign(linear)) == signs


@pytest.mark.slow
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_the_value_at_the_peak_is_that_of_the_list(valued: Path, neuron: NeuronId) -> None:
    with Index(str(valued)) as index:
        record, found = index.reader.neuron(neuron), shown_values(valued, neuron, FULL)
        peaks = [shown for own in shown_examples(index, record, FULL).values() for shown in own]
    assert peaks
    for shown in peaks:
        values = found[shown.text.first_token + shown.position]
        assert values is not None
        assert values[3] == pytest.approx(shown.entry.value, rel=1e-4)


@pytest.mark.slow
def test_the_check_reads_them_and_finds_what_is_wrong(valued: Path, tmp_path: Path) -> None:
    assert wrong(valued) == set()
    for place, (damage, names) in enumerate(DAMAGES):
        damaged = Path(shutil.copy(valued, tmp_path / f"{place}.db"))
        with closing(sqlite3.connect(damaged)) as connection, connection:
            damage(connection)
        assert wrong(damaged) == names


def wrong(db: Path) -> set[str]:
    with Index(str(db)) as index:
        return {finding.name for finding in check_index(index) if not finding.ok}


def _halved(values: Any) -> None:
    """post and x_in, of which quantities stand one behind the other."""
    table = values.reshape(len(QUANTITIES), -1)
    table[[QUANTITIES.index(Quantity.POST), QUANTITIES.index(Quantity.X_IN)]] /= 2


DAMAGES: list[tuple[Damage, set[str]]] = [
    (
        array("trace", '"values"', np.float32, "layer = 0 AND neuron = 0", _halved),
        {"listed values are those of the trace"},
    ),
    (sql("UPDATE trace SET start = 10000 WHERE layer = 1"), {"traces lie in their texts"}),
    (sql("UPDATE trace SET text_id = text_id + 100000 WHERE layer = 1"), {"traces lie in their texts"}),
]


# Again, more, interrupted, two at once


def test_what_is_there_is_not_run_again_nor_written(valued: Path) -> None:
    before = valued.read_bytes()
    again = ensure_values(str(valued), [*NEURONS, NEURONS[0]], model="/no/such/model", options=FULL)
    assert again == Valued(neurons=0, before=len(NEURONS))
    assert valued.read_bytes() == before


@pytest.mark.slow
def test_another_page_adds_its_tokens_and_those_of_the_first_stay(db: Path) -> None:
    neurons = NEURONS[:2]
    assert ensure_values(str(db), neurons, options=WEAK) == Valued(neurons=2, before=0)
    first = shown_values(db, neurons[0], WEAK)
    assert complete(db, neurons[0], WEAK)
    assert not complete(db, neurons[0], FULL)
    assert ensure_values(str(db), neurons, options=FULL) == Valued(neurons=2, before=0)
    assert all(complete(db, neuron, options) for neuron in neurons for options in (WEAK, FULL))
    assert {number: pytest.approx(value, rel=1e-4, abs=1e-5) for number, value in first.items()} == shown_values(
        db, neurons[0], WEAK
    )
    assert ensure_values(str(db), neurons, model="/no/such/model", options=WEAK) == Valued(neurons=0, before=2)


@pytest.mark.slow
def test_each_neuron_gets_the_same_values_whoever_is_run_with_it(valued: Path, db: Path) -> None:
    assert ensure_values(str(db), NEURONS[3:5], options=FULL, batch=1) == Valued(neurons=2, before=0)
    for neuron in NEURONS[3:5]:
        alone, among = shown_values(db, neuron, FULL), shown_values(valued, neuron, FULL)
        assert alone.keys() == among.keys()
        assert np.array(list(alone.values())) == pytest.approx(np.array(list(among.values())), rel=1e-4, abs=1e-5)
    with IndexReader.open(db) as reader:
        assert reader.traced() == NEURONS[3:5]


@pytest.mark.slow
def test_an_interrupt_keeps_the_batches_that_were_done(db: Path) -> None:
    with pytest.raises(Interrupted, match="4 of 7") as stopped:
        ensure_values(str(db), NEURONS, options=WEAK, batch=2, progress=StopsAfter(4))
    assert "continues" in stopped.value.remedy
    with IndexReader.open(db) as reader:
        assert reader.traced() == NEURONS[:4]
    assert ensure_values(str(db), NEURONS, options=WEAK, batch=2) == Valued(neurons=3, before=4)


_PROCESS = """
import sys
from neuronagent.domain import NeuronId
from neuronagent.service.reporting.example_values import ensure_values
ensure_values(sys.argv[1], [NeuronId.parse(name) for name in sys.argv[2:]], batch=1)
"""


@pytest.mark.slow
def test_two_programs_at_once_both_store_their_values(db: Path) -> None:
    parts = [NEURONS[:4], NEURONS[2:]]
    running = [subprocess.Popen([sys.executable, "-c", _PROCESS, str(db), *map(str, part)]) for part in parts]
    try:
        assert [process.wait(timeout=300) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    assert all(complete(db, neuron, FULL) for neuron in NEURONS)
    assert wrong(db) == set()


# Refused


def test_no_neuron_is_no_work(db: Path) -> None:
    assert ensure_values(str(db), [], model="/no/such/model") == Valued(neurons=0, before=0)


def test_neurons_that_do_not_exist_are_refused_before_a_model_is_loaded(db: Path) -> None:
    for neuron in (NeuronId(0, 16), NeuronId(2, 0)):
        with pytest.raises(NotFoundError, match=str(neuron)):
            ensure_values(str(db), [NEURONS[0], neuron], model="/no/such/model")


def test_another_model_is_refused_and_nothing_is_stored(db: Path, tmp_path: Path) -> None:
    planted.build(tmp_path / "other", seed=1)
    with pytest.raises(IndexMismatchError, match="other weights"):
        ensure_values(str(db), NEURONS, model=str(tmp_path / "other"))
    with IndexReader.open(db) as reader:
        assert reader.traced() == []


def test_a_model_that_is_gone_is_asked_for_by_name(db: Path, tmp_path: Path) -> None:
    with IndexReader.open(db) as reader:
        assert values_possible(reader.info())
    with closing(sqlite3.connect(db)) as connection, connection:
        gone = f"UPDATE index_info SET value = json_set(value, '$.source', '{tmp_path}/gone') WHERE key = 'model'"
        connection.execute(gone)
    with IndexReader.open(db) as reader:
        assert not values_possible(reader.info())
    with pytest.raises(ModelError, match="not at") as missing:
        ensure_values(str(db), NEURONS)
    assert "--model" in missing.value.remedy


def test_an_index_of_weights_alone_has_nothing_to_run_a_model_on(tmp_path: Path) -> None:
    db = str(tmp_path / "weights.db")
    build_weights_index(BuildOptions(model=str(world().model.folder), text="", db=db))
    with Index(db) as index:
        assert not values_possible(index.info)
    with pytest.raises(UsageError, match="not computed from texts"):
        ensure_values(db, [NEURONS[0]])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_index_that_cannot_be_written_is_refused_before_the_model_is_run(db: Path) -> None:
    db.chmod(0o444)
    with pytest.raises(StorageError):
        ensure_values(str(db), NEURONS, model="/no/such/model")


def test_a_text_that_is_gone_is_an_error_and_no_traceback(db: Path) -> None:
    with IndexReader.open(db) as reader:
        entry = next(e for own in reader.neuron(NEURONS[0]).combinations.values() for e in own.top[Quantity.POST])
        text, _ = reader.locate(entry.token_number)
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE text SET id = 100000 WHERE id = ?", (text,))
    with pytest.raises(NotFoundError, match=f"no text {text}"):
        ensure_values(str(db), NEURONS[:1])


# Other indexes


@pytest.mark.slow
def test_a_corpus_of_a_few_words_is_run_too(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a bird and a book.")
    db = tmp_path / "few.db"
    build_index(BuildOptions(model=str(world().model.folder), text=str(tmp_path / "few.txt"), db=str(db)))
    ensure_values(str(db), NEURONS)
    assert all(complete(db, neuron, FULL) for neuron in NEURONS)
    assert any(shown_values(db, neuron, FULL) for neuron in NEURONS)
    assert wrong(db) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"bos": "none"}, {"sign_convention": "raw"}, {"dtype": "bfloat16"}, {"max_tokens": 3}, {"max_tokens": 2}],
    ids=str,
)
def test_values_agree_with_indexes_of_every_kind(tmp_path: Path, settings: dict[str, Any]) -> None:
    made, db = random_world(tmp_path / "world", texts=120), tmp_path / "index.db"
    build_index(made.options(db, **settings))
    neurons = [NeuronId(layer, index) for layer in range(2) for index in range(48)]
    assert ensure_values(str(db), neurons) == Valued(neurons=96, before=0)
    assert all(complete(db, neuron, FULL) for neuron in neurons)
    assert wrong(db) == set()
    with IndexReader.open(db) as reader:
        starts = {trace.start for neuron in neurons for trace in reader.traces(neuron)}
    assert min(starts) == (0 if settings.get("bos") == "none" else 1)
