"""`build_index` on the planted model: what is stored is true, and stops, kills and restarts do not change it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy.engine import make_url
from torch.nn import Module
from transformers import AutoModelForCausalLM

from neuronagent.domain import (
    COMBINATIONS,
    LISTED,
    QUANTITIES,
    SPLITS,
    NeuronId,
    NeuronRecord,
    Quantity,
    SignCombination,
    Vector,
    VocabularyMatrix,
)
from neuronagent.errors import IndexMismatchError, Interrupted, NotAnIndexError, UsageError
from neuronagent.hashing import split_of
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.service.progress import Silent
from neuronagent.store.engine import display_name
from neuronagent.store.reader import IndexReader
from tests import oracle, planted
from tests.oracle import Floats, Neuron, Observed
from tests.planted import LAYERS, NEURONS, PROMOTED, TOKENS, Planted

torch.set_num_threads(1)

K = 4
ALL = [NeuronId(layer, index) for layer in range(LAYERS) for index in range(NEURONS)]
SILU_MINIMUM = -0.2784646


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a server of its own; skips where it cannot start."""
    pgserver = pytest.importorskip("pgserver")
    with tempfile.TemporaryDirectory(prefix="neuronagent-pg", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the server runs as a user of its own
        try:
            server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        except Exception as error:  # noqa: BLE001 - whatever keeps it from starting, this test cannot run
            pytest.skip(f"no PostgreSQL here: {error}")
        url = make_url(server.get_uri())
        yield url.set(password="secret").render_as_string(hide_password=False)
        server.cleanup()


@dataclass(frozen=True)
class World:
    """The planted model, a corpus over its words, and where both lie."""

    model: Planted
    texts: list[str]
    file: Path

    def options(self, db: Path, **changes: Any) -> BuildOptions:
        base = BuildOptions(model=str(self.model.folder), text=str(self.file), db=str(db), k=K, salt="salt")
        return replace(base, **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    texts = planted.corpus(48)
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"id": f"text {n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return World(planted.build(folder / "model"), texts, file)


def silu(gate: Floats) -> Floats:
    return torch.nn.functional.silu(torch.from_numpy(gate)).numpy()


def observe(world: World, *, bos: bool = True) -> list[list[Observed]]:
    """By layer, every text as a plain transformers model sees it, alone, with ids, splits and numbers made here."""
    live = AutoModelForCausalLM.from_pretrained(world.model.folder, dtype=torch.float32).eval()
    seen: dict[str, Floats] = {}

    def keep(name: str) -> Callable[[Module, object, torch.Tensor], None]:
        def hook(_module: Module, _inputs: object, output: torch.Tensor) -> None:
            seen[name] = output[0].numpy()

        return hook

    for layer, block in enumerate(live.model.layers):
        for projection in ("gate_proj", "up_proj"):
            getattr(block.mlp, projection).register_forward_hook(keep(f"{layer} {projection}"))
    layers: list[list[Observed]] = [[] for _ in range(LAYERS)]
    first = 0
    for text in world.texts:
        ids = world.model.ids(text)[0 if bos else 1 :]
        with torch.no_grad():
            live(torch.tensor([ids]))
        for layer, texts in enumerate(layers):
            gate, into = (seen[f"{layer} {projection}"] for projection in ("gate_proj", "up_proj"))
            texts.append(Observed(x_gate=gate, x_in=into, split=split_of("salt", text).position, first=first))
        first += len(ids)
    return layers


def sorted_neurons(layers: list[list[Observed]], signs: dict[NeuronId, int]) -> dict[NeuronId, Neuron]:
    return {
        neuron: oracle.sort_tokens(layers[neuron.layer], neuron.index, salt="salt", sign=signs[neuron], activate=silu)
        for neuron in ALL
    }


@pytest.fixture(scope="module")
def seen(world: World) -> dict[NeuronId, Neuron]:
    """Every token of every neuron, in the normalised convention."""
    return sorted_neurons(observe(world), {neuron: world.model.truth[neuron].sign for neuron in ALL})


@pytest.fixture(scope="module")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index with default options."""
    db = tmp_path_factory.mktemp("built") / "planted.db"
    build_index(world.options(db))
    return db


@pytest.fixture(scope="module")
def reader(built: Path) -> Iterator[IndexReader]:
    with IndexReader.open(built) as opened:
        yield opened


@pytest.fixture(scope="module")
def records(reader: IndexReader) -> dict[NeuronId, NeuronRecord]:
    return {neuron: reader.neuron(neuron) for neuron in ALL}


def read_all(db: Path) -> dict[NeuronId, NeuronRecord]:
    with IndexReader.open(db) as opened:
        return {neuron: opened.neuron(neuron) for neuron in ALL}


def contents(db: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, but for when and how fast the index was built."""
    with closing(sqlite3.connect(db)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    rows["index_info"] = [row for row in rows["index_info"] if row[0] not in ("created", "seconds")]
    assert len(rows) > 10
    return {name: sorted(found, key=repr) for name, found in rows.items()}


# What is stored is true


def test_the_index_holds_the_texts_with_their_splits_and_token_numbers(world: World, reader: IndexReader) -> None:
    first = 0
    for place, text in enumerate(world.texts):
        stored = reader.text(place)
        assert stored.token_ids == tuple(world.model.ids(text))
        assert (stored.document, stored.first_token) == (f"text {place}", first)
        assert stored.split is split_of("salt", text)
        first += len(stored.token_ids)
    info = reader.info()
    assert info["corpus"]["tokens"] == first
    assert info["sign_flips"] is None
    assert [b and b.decode() for b in reader.token_bytes(range(len(TOKENS)))] == list(TOKENS)


@pytest.mark.parametrize("convention", ["normalised", "raw"])
def test_geometry_and_classes_are_the_planted_ones_in_either_convention(
    world: World, built: Path, tmp_path: Path, convention: str
) -> None:
    db = built
    if convention == "raw":
        db = tmp_path / "raw.db"
        build_index(world.options(db, sign_convention="raw", token_budget=200))
    for neuron, record in read_all(db).items():
        truth = world.model.truth[neuron]
        s = truth.sign if convention == "normalised" else 1
        geometry = record.geometry
        assert record.sign == s
        assert record.io_class == truth.io_class, neuron
        found = (geometry.cos_gate_in, geometry.cos_gate_out, geometry.cos_in_out)
        expected = (s * truth.cos_gate_in, s * truth.cos_gate_out, truth.cos_in_out)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        vectors = (w[neuron.layer, neuron.index] for w in (world.model.gate, world.model.input, world.model.out))
        norms = (geometry.norm_gate, geometry.norm_in, geometry.norm_out)
        np.testing.assert_allclose(norms, [np.linalg.norm(v) for v in vectors], rtol=1e-6)
        projection = record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT]
        sides = (projection.top, projection.bottom)[:: 1 if s > 0 else -1]
        for side, tokens in zip(sides, (truth.promoted, truth.suppressed), strict=True):
            listed = [entry.token for entry in side[: len(tokens)]]  # at most ten
            assert len(set(listed)) == min(10, len(tokens))
            assert set(listed) <= tokens, neuron


def test_the_planted_words_are_what_the_first_neurons_promote(records: dict[NeuronId, NeuronRecord]) -> None:
    for index, words in enumerate(PROMOTED):
        top = records[NeuronId(0, index)].vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT].top
        assert {entry.token for entry in top[: len(words)]} == set(words)


def test_a_raw_index_is_the_normalised_one_with_x_in_and_post_of_flipped_neurons_turned_round(
    world: World, tmp_path: Path
) -> None:
    db = tmp_path / "raw.db"
    build_index(world.options(db, sign_convention="raw"))
    raw = sorted_neurons(observe(world), dict.fromkeys(ALL, 1))
    for neuron, record in read_all(db).items():
        oracle.assert_stored(record, raw[neuron], k=K)


def test_combinations_follow_from_the_token_as_planted(world: World, records: dict[NeuronId, NeuronRecord]) -> None:
    tokens = Counter(TOKENS[token] for text in world.texts for token in world.model.ids(text))
    for neuron, record in records.items():
        truth = world.model.truth[neuron]
        if truth.contextual:
            continue
        counts: Counter[SignCombination] = Counter()
        for token, combination in truth.combinations.items():
            swapped = COMBINATIONS[combination.position ^ (truth.sign < 0)]
            counts[swapped] += tokens[token]
        assert {c: record.combinations[c].count for c in COMBINATIONS} == {c: counts[c] for c in COMBINATIONS}
        assert record.zeros == sum(tokens[token] for token in truth.zeros)


def test_every_stored_number_is_that_of_a_double_loop_over_plain_activations(
    records: dict[NeuronId, NeuronRecord], seen: dict[NeuronId, Neuron]
) -> None:
    for neuron, record in records.items():
        oracle.assert_stored(record, seen[neuron], k=K)


def test_values_at_position_0_are_those_of_bos(world: World, records: dict[NeuronId, NeuronRecord]) -> None:
    gate, into = world.model.pre_activations([0])
    for neuron, record in records.items():
        assert record.first_values is not None
        g, i = gate[neuron.layer, 0, neuron.index], into[neuron.layer, 0, neuron.index] * record.sign
        act = g / (1 + np.exp(-g))
        found = [record.first_values[q] for q in (Quantity.X_GATE, Quantity.X_IN, Quantity.ACT, Quantity.POST)]
        np.testing.assert_allclose(found, [g, i, act, act * i], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_identities_of_anything_stored_hold_for_every_neuron(
    reader: IndexReader, records: dict[NeuronId, NeuronRecord]
) -> None:
    tokens = reader.info()["corpus"]["tokens"]
    for record in records.values():
        assert sum(c.count for c in record.combinations.values()) + record.zeros == record.tokens == tokens
        for combination, stored in record.combinations.items():
            assert sum(map(sum, stored.histogram.values())) == stored.count - stored.first_count
            act = stored.statistics[Quantity.ACT]
            assert act.min is None or act.min >= SILU_MINIMUM
            for quantity in LISTED:
                _assert_a_list(reader, combination.sign(quantity), stored.top[quantity])
                extreme = stored.statistics[quantity]
                far = extreme.max if combination.sign(quantity) > 0 else extreme.min
                for entry in stored.top[quantity]:
                    assert far is not None
                    assert abs(entry.value) <= abs(far)
            for split in SPLITS:
                _assert_a_list(reader, combination.write_sign, stored.post_by_split[split])
                for entry in (*stored.uniform[split], *stored.weighted[split], *stored.post_by_split[split]):
                    text, position = reader.locate(entry.token_number)
                    assert position > 0
                    assert reader.text(text).split is split
            merged = sorted((e for es in stored.post_by_split.values() for e in es), key=lambda e: -abs(e.value))
            assert stored.top[Quantity.POST] == tuple(sorted(merged, key=lambda e: (-abs(e.value), e.token_number))[:K])
            _assert_products(stored.top)


def _assert_a_list(reader: IndexReader, sign: int, entries: tuple[Any, ...]) -> None:
    places = [reader.locate(entry.token_number) for entry in entries]
    keys = [(-abs(entry.value), entry.token_number) for entry in entries]
    assert keys == sorted(keys)
    assert len({text for text, _ in places}) == len(entries)
    assert all(position > 0 for _, position in places)
    assert all(entry.value * sign > 0 for entry in entries)


def _assert_products(top: Any) -> None:
    """post = act(x_gate)·x_in wherever all three lists name the same token."""
    values = [{entry.token_number: entry.value for entry in top[quantity]} for quantity in LISTED]
    for number in set.intersection(*map(set, values)):
        post, x_in, x_gate = (found[number] for found in values)
        assert post == pytest.approx(x_gate / (1 + np.exp(-x_gate)) * x_in, rel=1e-5)


def test_an_index_says_what_it_was_built_from(world: World, reader: IndexReader) -> None:
    info = reader.info()
    assert info["model"]["n_layers"] == LAYERS
    assert info["model"]["d_mlp"] == NEURONS
    assert (info["k"], info["salt"], info["bos"], info["sign_convention"]) == (K, "salt", "auto", "normalised")
    assert info["max_tokens"] == 256  # what the model reads, being less than 1024
    by_split = info["corpus"]["tokens_by_split"]
    for split in SPLITS:
        ids = [i for text in world.texts if split_of("salt", text) is split for i in world.model.ids(text)]
        assert by_split[split.value] == len(ids)
        counts = np.bincount(ids, minlength=len(TOKENS))
        counts[0] = 0  # BOS is at position 0
        assert reader.token_counts(split).tolist() == counts.tolist()


# Options


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_the_size_of_batches_changes_numbers_by_float_noise_only(
    world: World, seen: dict[NeuronId, Neuron], built: Path, tmp_path: Path, batch_tokens: int
) -> None:
    db = tmp_path / "batches.db"
    done = build_index(world.options(db, batch_tokens=batch_tokens))
    for neuron, record in read_all(db).items():
        oracle.assert_stored(record, seen[neuron], k=K)
    with IndexReader.open(built) as opened:
        assert done.fingerprint == opened.info()["fingerprint"]


@pytest.mark.slow
def test_without_bos_texts_begin_with_their_own_token_and_position_0_is_still_left_out_of_lists(
    world: World, tmp_path: Path
) -> None:
    db = tmp_path / "none.db"
    build_index(world.options(db, bos="none"))
    found = sorted_neurons(observe(world, bos=False), {neuron: world.model.truth[neuron].sign for neuron in ALL})
    for neuron, record in read_all(db).items():
        assert record.first_values is None
        oracle.assert_stored(record, found[neuron], k=K)
    with IndexReader.open(db) as opened:
        assert opened.text(0).token_ids == tuple(world.model.ids(world.texts[0])[1:])


def test_an_index_in_bfloat16_stores_how_many_signs_differ_from_float32(world: World, tmp_path: Path) -> None:
    db = tmp_path / "bf16.db"
    build_index(world.options(db, dtype="bfloat16", token_budget=400))
    with IndexReader.open(db) as opened:
        info = opened.info()
    flips = info["sign_flips"]
    assert info["model"]["dtype"] == "bfloat16"
    assert flips["tokens"] == sum(len(world.model.ids(text)) for text in world.texts[:4])
    assert 0 <= flips["x_gate"] < 0.05
    assert 0 <= flips["x_in"] < 0.05


def test_a_token_budget_ends_the_corpus_inside_a_text(world: World, tmp_path: Path) -> None:
    db = tmp_path / "budget.db"
    done = build_index(world.options(db, token_budget=100))
    assert done.tokens == 100
    ids = [i for text in world.texts for i in world.model.ids(text)]
    with IndexReader.open(db) as opened:
        stored = [i for split in SPLITS for text in opened.texts(split) for i in text.token_ids]
        assert sorted(stored) == sorted(ids[:100])
        assert opened.neuron(ALL[0]).tokens == 100


def test_more_tokens_per_text_than_the_model_reads_and_lists_of_no_length_are_refused(
    world: World, tmp_path: Path
) -> None:
    for change in ({"max_tokens": 257}, {"k": 0}, {"k": 256}, {"batch_tokens": 0}):
        with pytest.raises(UsageError):
            build_index(world.options(tmp_path / "no.db", **change))
    assert list(tmp_path.iterdir()) == []


# Stops, kills and restarts


@dataclass
class Told(Silent):
    """Remembers what it was told, and calls `act` whenever a step ends with so many tokens of a stage done."""

    stage: str = ""
    at: tuple[str, int] = ("", 0)
    act: Callable[[], object] = bool
    notes: tuple[str, ...] = ()
    begun: int | None = None

    def start(self, stage: str, total: int, unit: str) -> None:
        self.stage, self.begun = stage, self.begun if stage != RECORDING else None

    def advance(self, done: int) -> None:
        if self.stage == RECORDING and self.begun is None:
            self.begun = done  # told before the first step
        elif self.stage == self.at[0] and done >= self.at[1]:
            self.act()

    def note(self, line: str) -> None:
        self.notes += (line,)


READING, RECORDING = "reading the text", "recording neurons"
SMALL = {"batch_tokens": 64, "checkpoint_seconds": 0.0}


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def twice() -> None:
    ctrl_c()
    ctrl_c()


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    db = tmp_path_factory.mktemp("undisturbed") / "planted.db"
    build_index(world.options(db, **SMALL))
    return contents(db)


def test_two_builds_have_the_same_contents(
    world: World, undisturbed: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    build_index(world.options(tmp_path / "again.db", **SMALL | {"checkpoint_seconds": 1e9}))
    assert contents(tmp_path / "again.db") == undisturbed


def test_a_build_stopped_by_ctrl_c_several_times_ends_as_if_undisturbed(
    world: World, undisturbed: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    options = world.options(tmp_path / "stopped.db", **SMALL | {"checkpoint_seconds": 1e9})
    handler = signal.getsignal(signal.SIGINT)
    for tokens in (1, 300, 301, 900):
        told = Told(at=(RECORDING, tokens), act=ctrl_c)
        with pytest.raises(Interrupted, match="the same command continues"):
            build_index(options, told)
        assert signal.getsignal(signal.SIGINT) is handler
        assert not Path(options.db).exists()
    told = Told()
    build_index(options, told)
    assert told.begun is not None
    assert told.begun >= 900
    assert contents(Path(options.db)) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["stopped.db"]


def test_ctrl_c_while_the_text_is_read_leaves_nothing_half_read(
    world: World, undisturbed: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    options = world.options(tmp_path / "stopped.db", **SMALL)
    with pytest.raises(Interrupted, match="reading the text"):
        build_index(options, Told(at=(READING, 1), act=ctrl_c))
    build_index(options)
    assert contents(Path(options.db)) == undisturbed


def test_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_is_used(
    world: World, undisturbed: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    options = world.options(tmp_path / "stopped.db", **SMALL)
    with pytest.raises(KeyboardInterrupt):
        build_index(options, Told(at=(RECORDING, 500), act=twice))
    told = Told()
    build_index(options, told)
    assert told.begun is not None
    assert 500 > told.begun > 300
    assert contents(Path(options.db)) == undisturbed


CHILD = """
import json, sys
import torch
torch.set_num_threads(1)
from neuronagent.errors import Interrupted
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.service.progress import Silent

class Waiting(Silent):
    def __init__(self, at):
        self.stage, self.at = "", at
    def start(self, stage, total, unit):
        self.stage = stage
    def advance(self, done):
        if self.stage == "recording neurons" and done >= self.at:
            print("here", flush=True)
            sys.stdin.readline()

options = BuildOptions(**json.loads(sys.argv[1]))
try:
    build_index(options, Waiting(400))
except Interrupted as error:
    print(error, flush=True)
build_index(options, Waiting(900))
"""


@pytest.mark.slow
def test_a_process_stopped_by_sigint_and_then_killed_leaves_what_the_same_call_finishes(
    world: World, undisturbed: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    options = world.options(tmp_path / "killed.db", **SMALL)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(asdict(options))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGINT)
        child.stdin.write("go on\n")
        child.stdin.flush()
        assert "the same command continues from there" in child.stdout.readline()
        assert child.stdout.readline() == "here\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert not Path(options.db).exists()
    checkpoint = tmp_path / "killed.db.partial" / "shard-0-of-1.layer-0.safetensors"
    checkpoint.with_suffix(".tmp").mkdir(exist_ok=True)  # as if killed while it wrote the next one
    (checkpoint.with_suffix(".tmp") / ".half").write_bytes(checkpoint.read_bytes()[:1000])
    told = Told()
    build_index(options, told)
    assert told.begun is not None
    assert 900 > told.begun > 700
    assert contents(Path(options.db)) == undisturbed


def test_a_build_stopped_while_it_writes_the_database_only_writes_when_called_again(
    world: World, undisturbed: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    options = world.options(tmp_path / "stopped.db", **SMALL)
    with pytest.raises(KeyboardInterrupt):
        build_index(options, Told(at=("weights and database", 1), act=ctrl_c))
    assert [path.name for path in tmp_path.iterdir()] == ["stopped.db.partial"]
    told = Told()
    build_index(options, told)
    assert told.begun == sum(len(world.model.ids(text)) for text in world.texts)
    assert contents(Path(options.db)) == undisturbed


def test_a_working_folder_that_outlived_its_build_is_removed_by_the_next_call(world: World, tmp_path: Path) -> None:
    options = world.options(tmp_path / "planted.db", token_budget=200)
    folder, kept = tmp_path / "planted.db.partial", tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        build_index(options, Told(at=("weights and database", 1), act=ctrl_c))
    shutil.copytree(folder, kept)
    build_index(options)
    kept.rename(folder)  # as if killed just before it was removed
    told = Told()
    build_index(options, told)
    assert len(told.notes) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["planted.db"]


# Calls that do not fit what is there


def test_a_second_call_on_a_complete_index_says_so_and_does_nothing(world: World, built: Path) -> None:
    before = built.read_bytes()
    told = Told()
    done = build_index(world.options(built), told)
    assert built.read_bytes() == before
    assert told.notes == (f"{built} is complete already",)
    assert told.stage != RECORDING
    assert done.tokens == sum(len(world.model.ids(text)) for text in world.texts)
    assert [path.name for path in built.parent.iterdir()] == [built.name]


def test_another_model_text_or_setting_on_the_same_database_is_refused_and_leaves_no_trace(
    world: World, built: Path, tmp_path: Path
) -> None:
    before = built.read_bytes()
    other = planted.build(tmp_path / "other", seed=1).folder
    shorter = tmp_path / "shorter.jsonl"
    shorter.write_text("".join(world.file.read_text().splitlines(keepends=True)[:-1]))
    changes: list[dict[str, Any]] = [
        {"model": str(other)},
        {"text": str(shorter)},
        {"salt": "other"},
        {"k": 5},
        {"max_tokens": 20},
        {"bos": "none"},
        {"dtype": "bfloat16"},
        {"sign_convention": "raw"},
        {"post_norm": "raw"},
    ]
    for change in changes:
        with pytest.raises(IndexMismatchError, match="holds another index"):
            build_index(world.options(built, **change))
        assert [path.name for path in built.parent.iterdir()] == [built.name], change
    assert built.read_bytes() == before
    build_index(world.options(built))


@pytest.mark.slow
def test_a_database_server_is_asked_before_the_pass_whether_it_holds_the_index_or_another_one(
    world: World, postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the working folder is
    options = replace(world.options(tmp_path), db=postgresql, token_budget=200)
    build_index(options)
    told = Told()
    build_index(options, told)
    assert told.notes == (f"{display_name(postgresql)} is complete already",)
    with pytest.raises(IndexMismatchError, match="holds another index") as caught:
        build_index(replace(options, k=5), told)
    assert "secret" not in str(caught.value)
    assert told.stage != RECORDING
    assert list(tmp_path.iterdir()) == []


def test_a_database_with_tables_of_others_is_refused_before_the_pass(
    world: World, postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgresql) as connection:
        connection.execute("CREATE TABLE accounts (id integer)")
    told = Told()
    with pytest.raises(NotAnIndexError, match="no neuronagent index"):
        build_index(replace(world.options(tmp_path), db=postgresql), told)
    assert told.stage != RECORDING
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_build_is_continued_by_the_same_settings_only(
    world: World, undisturbed: dict[str, list[tuple[Any, ...]]], tmp_path: Path
) -> None:
    options = world.options(tmp_path / "stopped.db", **SMALL)
    with pytest.raises(Interrupted):
        build_index(options, Told(at=(RECORDING, 300), act=ctrl_c))
    changes: list[dict[str, Any]] = [
        {"salt": "other"},
        {"max_tokens": 20},
        {"k": 5},
        {"batch_tokens": 4096},
        {"sign_convention": "raw"},
    ]
    for change in changes:
        with pytest.raises(IndexMismatchError):
            build_index(replace(options, **change))
    told = Told()
    build_index(options, told)
    assert told.begun is not None
    assert told.begun >= 300
    assert contents(Path(options.db)) == undisturbed


def test_quantities_come_in_the_order_of_the_domain(records: dict[NeuronId, NeuronRecord]) -> None:
    for record in records.values():
        for combination, stored in record.combinations.items():
            for quantity in QUANTITIES:
                mean = stored.statistics[quantity].mean
                sign = combination.sign(quantity) if quantity is not Quantity.ACT else combination.gate_sign
                assert mean is None or mean * sign > 0
