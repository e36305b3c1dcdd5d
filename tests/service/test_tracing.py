"""Tracing runs the right model on the right tokens, stores what it did there, and can be stopped and repeated."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, LISTED, QUANTITIES, NeuronId, Quantity, Split, View
from neuronagent.errors import IndexMismatchError, Interrupted, ModelError, NotFoundError, UsageError
from neuronagent.explain.evidence import gather
from neuronagent.explain.items import FURTHER, item_sets
from neuronagent.explain.traced import PLAN_VERSION, combination_of
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.service.check import Finding, check_index
from neuronagent.service.indexed_model import indexed_model, model_at_hand
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Silent
from neuronagent.service.tracing import Traced, is_traced, trace
from neuronagent.service.weights_only import build_weights_index
from neuronagent.store.reader import IndexReader
from tests import planted
from tests.known_index import SALT, known, world
from tests.service.damages import Damage, array, sql

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", "../shared"))
NEURONS = [NeuronId(0, index) for index in range(6)] + [NeuronId(1, 2), NeuronId(1, 12), NeuronId(1, 15)]
POST = QUANTITIES.index(Quantity.POST)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The known index with `NEURONS` traced by the model that it was made from."""
    db = Path(shutil.copy(world().db, tmp_path_factory.mktemp("traced") / "known.db"))
    assert trace(str(db), None, NEURONS) == Traced(neurons=len(NEURONS), before=0)
    return db


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The known index, nothing traced."""
    return Path(shutil.copy(world().db, tmp_path / "known.db"))


def stored(db: Path, neuron: NeuronId) -> Any:
    with IndexReader.open(db) as reader:
        found = reader.traced_tokens(neuron)
    assert found is not None
    return found


# What is stored


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_values_are_what_the_neuron_really_does(traced: Path, neuron: NeuronId) -> None:
    truth, found = known(neuron), stored(traced, neuron)
    assert len(found.numbers) > 1000
    places = np.searchsorted(truth.number, found.numbers)
    assert np.array_equal(truth.number[places], found.numbers)
    assert found.values[:, POST] == pytest.approx(truth.post[places], rel=1e-4, abs=1e-4)
    combinations = [combination_of(row) for row in found.values]
    assert [-1 if c is None else c.position for c in combinations] == truth.combination[places].tolist()


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_values_are_those_of_the_top_lists_where_both_are_known(traced: Path, neuron: NeuronId) -> None:
    with IndexReader.open(traced) as reader:
        assert compared(reader, neuron) > 50


def compared(reader: IndexReader, neuron: NeuronId) -> int:
    """How many values of the lists and samples were traced too; all of them agree."""
    found, seen = reader.traced_tokens(neuron), 0
    assert found is not None
    values = dict(zip(found.numbers.tolist(), found.values, strict=True))
    for own in reader.neuron(neuron).combinations.values():
        lists = [(quantity, own.top[quantity]) for quantity in LISTED]
        lists += [(Quantity.POST, entries) for kind in (own.uniform, own.weighted) for entries in kind.values()]
        for quantity, entries in lists:
            for entry in (entry for entry in entries if entry.token_number in values):
                value = values[entry.token_number][QUANTITIES.index(quantity)]
                assert value == pytest.approx(entry.value, rel=1e-4, abs=1e-6)
                seen += 1
    return seen


def test_every_window_of_every_set_can_be_shown_with_its_truth(traced: Path) -> None:
    with IndexReader.open(traced) as reader:
        for neuron in NEURONS[:6]:
            evidence = gather(reader, neuron, salt=SALT)
            assert evidence.traced is not None
            for c, own in evidence.combinations.items():
                if own.enough(Split.TEST):
                    assert set(evidence.further[Split.TEST][c]) == set(FURTHER)
                    for window in item_sets(evidence, c, Split.TEST).positive:
                        for view in View:
                            start, end = (window.text.first_token + place for place in window.span(view))
                            assert evidence.traced.strengths(start, end, c) is not None


def test_each_neuron_gets_the_same_tokens_whoever_is_traced_with_it(traced: Path, db: Path) -> None:
    trace(str(db), str(world().model.folder), [NEURONS[3], NEURONS[7], NEURONS[0]], batch=1)
    for neuron in (NEURONS[0], NEURONS[3], NEURONS[7]):
        alone, among = stored(db, neuron), stored(traced, neuron)
        assert np.array_equal(alone.numbers, among.numbers)
        assert alone.sets == among.sets
        assert alone.values == pytest.approx(among.values, rel=1e-4, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "models/stories260K").is_dir(), reason="no shared folder")
def test_a_trained_model_does_again_what_its_index_says(tmp_path: Path) -> None:
    model, text = SHARED / "models/stories260K", SHARED / "text/tinystories_valid.txt"
    db = str(tmp_path / "stories.db")
    build_index(BuildOptions(model=str(model), text=str(text), db=db, token_budget=15_000, neighbours="off"))
    neurons = [NeuronId(layer, index) for layer in range(5) for index in (3, 77)]
    trace(db, None, neurons)
    with IndexReader.open(db) as reader:
        assert sum(compared(reader, neuron) for neuron in neurons) > 1000
        sizes = [len(found.numbers) for neuron in neurons if (found := reader.traced_tokens(neuron)) is not None]
    assert max(sizes) > 2000
    with Index(db) as index:
        assert [finding for finding in check_index(index) if not finding.ok] == []


# Again, interrupted, refused


def test_what_is_there_is_not_run_again(traced: Path) -> None:
    before = traced.read_bytes()
    again = trace(str(traced), "/no/such/model", [*NEURONS, NEURONS[0]])
    assert again == Traced(neurons=0, before=len(NEURONS))
    assert traced.read_bytes() == before


def test_an_older_plan_is_run_again(traced: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(traced, tmp_path / "old.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE traced_tokens SET plan_version = 'trace-v0' WHERE layer = 1")
    with IndexReader.open(copy) as reader:
        assert is_traced(reader, NEURONS[0])
        assert not is_traced(reader, NEURONS[-1])
        assert not is_traced(reader, NeuronId(1, 0))
    assert trace(str(copy), None, NEURONS) == Traced(neurons=3, before=6)
    with IndexReader.open(copy) as reader:
        assert set(reader.plan_versions().values()) == {PLAN_VERSION}


class StopsAfter(Silent):
    """Sends Ctrl-C once `neurons` are done."""

    def __init__(self, neurons: int) -> None:
        self.neurons = neurons

    def advance(self, done: int) -> None:
        if done >= self.neurons:
            self.neurons = 1 << 30
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_an_interrupt_keeps_the_batches_that_were_done(db: Path) -> None:
    with pytest.raises(Interrupted, match="4 of 9") as stopped:
        trace(str(db), None, NEURONS, batch=2, progress=StopsAfter(4))
    assert "continues" in stopped.value.remedy
    with IndexReader.open(db) as reader:
        assert list(reader.plan_versions()) == NEURONS[:4]
    assert trace(str(db), None, NEURONS, batch=2) == Traced(neurons=5, before=4)


def test_an_interrupt_before_the_first_batch_keeps_nothing(db: Path) -> None:
    with pytest.raises(Interrupted, match="0 of 9"):
        trace(str(db), None, NEURONS, progress=StopsAfter(0))
    with IndexReader.open(db) as reader:
        assert reader.plan_versions() == {}


def test_another_model_is_refused_and_nothing_is_stored(db: Path, tmp_path: Path) -> None:
    planted.build(tmp_path / "other", seed=1)
    with pytest.raises(IndexMismatchError, match="other weights"):
        trace(str(db), str(tmp_path / "other"), NEURONS)
    with IndexReader.open(db) as reader:
        assert reader.plan_versions() == {}


def test_a_model_that_is_gone_is_asked_for_by_name(db: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        gone = f"UPDATE index_info SET value = json_set(value, '$.source', '{tmp_path}/gone') WHERE key = 'model'"
        connection.execute(gone)
    with IndexReader.open(db) as reader:
        assert model_at_hand(reader.info()) is None
    with pytest.raises(ModelError, match="not at") as missing:
        trace(str(db), None, NEURONS)
    assert "--model" in missing.value.remedy


def test_the_model_that_an_index_was_made_from_is_found(db: Path) -> None:
    with IndexReader.open(db) as reader:
        assert model_at_hand(reader.info()) == str(world().model.folder)
    assert model_at_hand({"model": {"source": "someone/model"}}) is None
    assert model_at_hand({}) is None


def test_neurons_that_do_not_exist_are_refused_before_a_model_is_loaded(db: Path) -> None:
    for neuron in (NeuronId(0, 16), NeuronId(2, 0)):
        with pytest.raises(NotFoundError, match=str(neuron)):
            trace(str(db), "/no/such/model", [NEURONS[0], neuron])


def test_an_index_of_weights_alone_has_nothing_to_run_a_model_on(tmp_path: Path) -> None:
    db = str(tmp_path / "weights.db")
    build_weights_index(BuildOptions(model=str(world().model.folder), text="", db=db))
    with pytest.raises(UsageError, match="not computed from texts"):
        trace(db, None, [NEURONS[0]])


def test_an_index_of_a_few_words_gives_neurons_without_items(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a bird and a book.")
    db = str(tmp_path / "few.db")
    build_index(BuildOptions(model=str(world().model.folder), text=str(tmp_path / "few.txt"), db=db))
    assert trace(db, None, NEURONS) == Traced(neurons=9, before=0)
    assert all(len(stored(Path(db), neuron).numbers) == 0 for neuron in NEURONS)
    with Index(db) as index:
        assert [finding for finding in check_index(index) if not finding.ok] == []


# Checking


def check(db: Path) -> dict[str, Finding]:
    with Index(str(db)) as index:
        return {finding.name: finding for finding in check_index(index)}


ONE = "layer = 0 AND neuron = 0"


def into_p(db: Path) -> Damage:
    """Makes an item of a token that is strong."""
    with IndexReader.open(db) as reader:
        evidence = gather(reader, NEURONS[0], salt=SALT)
    number = evidence.combinations[COMBINATIONS[0]].strong[Split.TEST][0].number
    return added(number)


def added(number: int) -> Damage:
    return sql(
        f"UPDATE traced_tokens SET sets = json_insert(sets, '$.test.gate+_in+.N2[#]', {number}) WHERE {ONE}",
    )


def from_another_text(db: Path) -> Damage:
    """Makes a same-text item of one of N3."""
    with IndexReader.open(db) as reader:
        evidence = gather(reader, NEURONS[0], salt=SALT)
    number = evidence.further[Split.TEST][COMBINATIONS[0]]["N3"][0].number
    return sql(
        f"""UPDATE traced_tokens SET sets = json_insert(sets, '$.test.gate+_in+."N0 same texts"[#]', {number})
        WHERE {ONE}"""
    )


def into_select(db: Path) -> Damage:
    """Calls the items of test those of select."""
    return sql(f"UPDATE traced_tokens SET sets = replace(sets, 'test', 'select') WHERE {ONE}")


def wrong_act(_db: Path) -> Damage:
    def change(values: Any) -> None:
        values[: len(values) // 3] *= 1.01

    return array("traced_tokens", '"values"', np.float32, ONE, change)


def wrong_in(_db: Path) -> Damage:
    def change(values: Any) -> None:
        values[len(values) // 3 : 2 * len(values) // 3] *= 2

    return array("traced_tokens", '"values"', np.float32, ONE, change)


def wrong_number(_db: Path) -> Damage:
    def change(steps: Any) -> None:
        steps[-1] += 1_000_000

    return array("traced_tokens", "numbers", np.uint32, ONE, change)


def no_json(_db: Path) -> Damage:
    return sql(f"UPDATE traced_tokens SET sets = '[' WHERE {ONE}")


def beyond_the_corpus(_db: Path) -> Damage:
    return added(10**9)


@pytest.mark.slow
def test_a_traced_index_passes_every_check(traced: Path) -> None:
    findings = check(traced)
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert findings["items that need the model are weak"].checked > 500
    assert findings["listed values are those at traced tokens"].checked > 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (into_p, "items that need the model are weak"),
        (into_select, "items lie in their split"),
        (from_another_text, "items have the token or the text of a peak"),
        (wrong_act, "act is the model's activation"),
        (wrong_in, "listed values are those at traced"),
        (wrong_number, "traced tokens lie in the corpus"),
        (no_json, "traced tokens can be read"),
        (beyond_the_corpus, "items are traced tokens"),
    ],
)
def test_damage_to_traced_tokens_is_found(traced: Path, tmp_path: Path, damage: Any, name: str) -> None:
    copy = Path(shutil.copy(traced, tmp_path / "damaged.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        damage(traced)(connection)
    found: Sequence[Finding] = [finding for key, finding in check(copy).items() if key.startswith(name)]
    assert [finding.wrong > 0 for finding in found] == [True]


def test_a_model_of_another_configuration_or_tokenizer_is_another_model(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(world().model.folder, tmp_path / "model"))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": ', '"rms_norm_eps": 1'))
    with IndexReader.open(str(world().db)) as reader:
        info = reader.info()
    with pytest.raises(IndexMismatchError, match="another configuration or tokenizer"):
        indexed_model(info, str(folder), "cpu")


def test_a_folder_that_is_gone_is_never_looked_for_on_the_hub(tmp_path: Path) -> None:
    with IndexReader.open(str(world().db)) as reader:
        info = reader.info()
    assert Path(info["model"]["source"]).is_absolute()
    for lost in ("some/model", str(tmp_path / "gone")):
        with pytest.raises(ModelError, match=r"is not at .* any more; say where it is with --model"):
            indexed_model(info | {"model": info["model"] | {"source": lost}}, None, "cpu")
