"""A batch stores what each neuron would get alone, whole neurons only, whenever and however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any, overload

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId
from neuronagent.errors import IndexMismatchError, NeuronagentError, StorageError, UsageError
from neuronagent.explain.items import N0
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.verdict import Verdict, verdict
from neuronagent.service.batch import computed, explain_batch, select_neurons
from neuronagent.service.batch_report import BatchReport, report
from neuronagent.service.explain import Explainer
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.service.lookup import Index
from neuronagent.store.reader import IndexReader
from tests.importing.made_pages import make_site
from tests.known_index import world

ALL = [NeuronId(layer, index) for layer in range(2) for index in range(16)]
ROOT = Path(__file__).parents[2]
RUN = """
import sys
from neuronagent.domain import NeuronId
from neuronagent.errors import Interrupted
from neuronagent.service.batch import explain_batch
if __name__ == "__main__":
    neurons = [NeuronId(layer, index) for layer in range(2) for index in range(16)]
    try:
        explain_batch(sys.argv[1], neurons, workers=2)
    except Interrupted as stopped:
        sys.exit(f"stopped: {stopped}")
"""
Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A copy of the planted index in which nothing is explained."""
    return Path(shutil.copy(world().db, tmp_path / "planted.db"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BatchReport]:
    """The planted index with all neurons explained by this process alone, and the report; not to be written to."""
    path = Path(shutil.copy(world().db, tmp_path_factory.mktemp("batch") / "planted.db"))
    return path, explain_batch(str(path), ALL, workers=1)


def rows(db: Path) -> Rows:
    """All that was stored, but for when."""
    with closing(sqlite3.connect(db)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [
                tuple(v for k, v in dict(row).items() if k != "created")
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")
            ]
            for table in ("explanation", "score", "score_control")
        }


def by_neuron(db: Path) -> dict[NeuronId, list[int]]:
    """By neuron, how many scores each of its explanations has."""
    query = (
        "SELECT e.layer, e.neuron, count(s.id) FROM explanation e LEFT JOIN score s ON s.explanation_id = e.id "
        "GROUP BY e.id ORDER BY e.id"
    )
    found: dict[NeuronId, list[int]] = {}
    with closing(sqlite3.connect(db)) as connection:
        for layer, neuron, scores in connection.execute(query):
            found.setdefault(NeuronId(layer, neuron), []).append(scores)
    return found


def started(db: Path) -> subprocess.Popen[str]:
    """A batch of everything in a process of its own, as soon as it has stored something."""
    file = db.with_name("run.py")
    file.write_text(RUN)
    child = subprocess.Popen(
        [sys.executable, str(file), str(db)],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )  # fmt: skip
    while child.poll() is None and not by_neuron(db):
        time.sleep(0.005)
    return child


def children(process: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")


# What is stored


@pytest.mark.slow
def test_two_processes_store_what_one_stores_row_for_row(db: Path, whole: tuple[Path, BatchReport]) -> None:
    found = explain_batch(str(db), ALL, workers=2)
    assert rows(db) == rows(whole[0])
    assert found.to_dict() | {"seconds": 0} == whole[1].to_dict() | {"seconds": 0}


@pytest.mark.slow
def test_a_batch_stores_what_each_neuron_gets_alone(db: Path, whole: tuple[Path, BatchReport]) -> None:
    with Index(str(db)) as index:
        index.explain(ALL[0])
        index.explain(ALL[3])
    alone, batch = ({(row[1], row[2], row[3]): row[4:] for row in rows(path)["explanation"]} for path in (db, whole[0]))
    assert alone.items() <= batch.items()
    assert len(alone) == 8


@pytest.mark.slow
def test_what_is_stored_is_not_computed_again(whole: tuple[Path, BatchReport], tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(whole[0])) as there, closing(sqlite3.connect(copy)) as here:
        there.backup(here)  # what the log beside the file still holds, too
    before = rows(copy)
    again = explain_batch(str(copy), [*ALL, *ALL], workers=1)
    assert rows(copy) == before
    assert again.to_dict() | {"seconds": 0} == whole[1].to_dict() | {"seconds": 0}
    assert {row[-2] for row in before["score"]} == {1}  # the reading


@pytest.mark.slow
@needs_proc
def test_a_killed_batch_leaves_whole_neurons_and_no_process_and_is_finished_by_running_it_again(
    db: Path, whole: tuple[Path, BatchReport]
) -> None:
    child = started(db)
    workers = children(child.pid)
    child.kill()
    child.communicate()
    left, complete = by_neuron(db), by_neuron(whole[0])
    assert 0 < len(left) < len(complete)
    assert left.items() <= complete.items()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.01)
    assert workers
    explain_batch(str(db), ALL, workers=1)
    assert rows(db) == rows(whole[0])


@pytest.mark.slow
def test_ctrl_c_ends_the_batch_with_what_is_being_computed_and_says_so(
    db: Path, whole: tuple[Path, BatchReport]
) -> None:
    child = started(db)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 1
    assert said == "stopped: the batch was stopped; run it again: what is explained is stored\n"
    left, complete = by_neuron(db), by_neuron(whole[0])
    assert 0 < len(left) < len(complete)
    assert left.items() <= complete.items()


@pytest.mark.slow
@needs_proc
def test_a_worker_that_is_killed_ends_the_batch_with_an_error_and_what_is_stored_stays(
    db: Path, whole: tuple[Path, BatchReport]
) -> None:
    child = started(db)
    os.kill(children(child.pid)[-1], signal.SIGKILL)
    _, said = child.communicate()
    assert child.returncode == 1
    assert f"{NeuronagentError.__name__}: a worker process ended" in said
    assert 0 < len(by_neuron(db)) < len(by_neuron(whole[0]))
    explain_batch(str(db), ALL, workers=1)
    assert rows(db) == rows(whole[0])


class Counted(Sequence[NeuronId]):
    """Neurons that know how many of them were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __len__(self) -> int:
        return len(ALL)

    @overload
    def __getitem__(self, place: int) -> NeuronId: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[NeuronId]: ...
    def __getitem__(self, place: int | slice) -> NeuronId | Sequence[NeuronId]:
        self.taken += 1
        return ALL[place]


@pytest.mark.slow
def test_no_more_neurons_are_computed_ahead_than_a_few_per_process(db: Path) -> None:
    neurons = Counted()
    with IndexReader.open(db) as reader:
        results = computed(str(db), Explainer(reader), neurons, 2, Event())
        for done in range(1, 5):
            assert next(results).neuron == ALL[done - 1]
            assert neurons.taken <= done + 2 * 3
        assert isinstance(results, Iterator)
        del results


# Failures


def test_a_neuron_that_is_not_there_fails_with_its_reason_and_the_others_go_on(db: Path) -> None:
    found = explain_batch(str(db), [NeuronId(0, 99), NeuronId(0, 0), NeuronId(7, 0)], workers=1)
    assert {reason: [str(n) for n in those] for reason, those in found.failures.items()} == {
        "neuron 0.99 is not in this index": ["0.99"],
        "neuron 7.0 is not in this index": ["7.0"],
    }
    assert (found.neurons, found.unexplained, found.units) == (3, 2, 4)
    assert set(by_neuron(db)) == {NeuronId(0, 0)}


def test_a_neuron_whose_row_is_damaged_fails_alone(db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE combination SET lists = x'00ff' WHERE layer = 0 AND neuron = 1")
    found = explain_batch(str(db), ALL[:3], workers=1)
    ((reason, those),) = found.failures.items()
    assert "damaged" in reason
    assert those == (NeuronId(0, 1),)
    assert set(by_neuron(db)) == {NeuronId(0, 0), NeuronId(0, 2)}


def test_an_index_that_cannot_be_written_is_said_before_anything_is_computed(db: Path) -> None:
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("CREATE TRIGGER closed BEFORE INSERT ON explanation BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(StorageError):
        explain_batch(str(db), ALL, workers=1)
    assert by_neuron(db) == {}


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(db: Path, workers: int) -> None:
    with pytest.raises(UsageError, match="worker"):
        explain_batch(str(db), ALL, workers=workers)


def test_an_imported_index_is_refused(tmp_path: Path) -> None:
    imported = tmp_path / "imported.db"
    import_gluscope(str(make_site(tmp_path / "docs", [NeuronId(3, 1)])), str(imported))
    with pytest.raises(IndexMismatchError, match="imported"):
        explain_batch(str(imported), [NeuronId(3, 1)])


def test_an_empty_batch_reports_on_nothing(db: Path) -> None:
    found = explain_batch(str(db), [], workers=2)
    assert (found.neurons, found.units, found.lift, found.tested, found.discoveries) == (0, 0, None, 0, 0)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdicts"] == {}


# The report


def test_the_report_counts_what_the_index_holds(whole: tuple[Path, BatchReport]) -> None:
    path, found = whole
    verdicts = dict.fromkeys(Verdict, 0)
    lifts: list[float] = []
    p_values: list[float] = []
    pairs: list[tuple[str, str, str]] = []
    with IndexReader.open(path) as reader:
        for neuron in ALL:
            by_combination = {
                s.explanation.combination: [row.score for row in reader.scores(s.id)]
                for s in reader.explanations(neuron)
            }
            for c in COMBINATIONS:
                scores = by_combination.get(c, [])
                verdicts[verdict(scores, enough=c in by_combination, is_rule=True)] += bool(by_combination)
                for score in scores:
                    if (score.metric, score.negative_set, score.view) == (AUROC, N0, "causal"):
                        lifts += [k.lift for k in score.controls if k.kind == STRONGEST and k.lift is not None]
                        p_values += [score.p] if score.p is not None else []
            unclear = cross_combination.not_told_apart(by_combination)
            pairs += [(str(neuron), a.value, b.value) for a, b in unclear]
    assert found.verdicts == {v: n for v, n in verdicts.items() if n}
    assert sum(found.verdicts.values()) == 4 * (found.neurons - found.unexplained)
    assert [(str(n), a.value, b.value) for n, a, b in found.not_told_apart] == pairs
    assert ("0.3", "gate+_in+", "gate+_in-") in pairs
    assert found.lift is not None
    assert found.lift.n == len(lifts)
    assert sum(found.lift.counts) == len(lifts)
    assert found.lift.quantiles[0.5] == pytest.approx(float(np.median(lifts)))
    assert found.lift.positive == sum(lift > 0 for lift in lifts)
    ordered = sorted(p_values)
    below = [i for i, p in enumerate(ordered, 1) if p <= 0.05 * i / len(ordered)]
    assert (found.tested, found.discoveries) == (len(ordered), max(below, default=0))


def test_the_report_of_part_of_the_neurons_leaves_the_others_out(whole: tuple[Path, BatchReport]) -> None:
    with IndexReader.open(whole[0]) as reader:
        part = report(reader, [NeuronId(0, 0), NeuronId(0, 0), NeuronId(0, 1)])
        none = report(reader, ALL, source="llm")
    assert (part.neurons, part.units) == (2, 6)
    assert part.verdicts[Verdict.NOT_ENOUGH] == 2
    assert (none.units, none.unexplained, none.verdicts) == (0, len(ALL), {})


# Which neurons


def test_neurons_are_selected_by_class_and_layer_in_the_models_order(db: Path) -> None:
    with Index(str(db)) as index:
        assert select_neurons(index) == ALL
        assert select_neurons(index, layers=[1], limit=3) == ALL[16:19]
        depletion = select_neurons(index, io_classes=["depletion"])
        assert depletion == [NeuronId(1, 9), NeuronId(1, 10)]
        assert select_neurons(index, io_classes=["depletion"], atypical=True) == [NeuronId(1, 10)]
        assert select_neurons(index, layers=[9]) == []
        with pytest.raises(UsageError, match="class"):
            select_neurons(index, io_classes=["digestion"])
        with pytest.raises(UsageError, match="batch"):
            select_neurons(index, limit=0)
