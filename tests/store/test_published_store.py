"""Published numbers and traces in both databases: what is written comes back, and search finds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, Quantity, QuantityStatistics, SignCombination
from neuronagent.errors import NotFoundError, StorageError, UsageError
from neuronagent.published import (
    IMPORTED,
    PublishedBatch,
    PublishedCombination,
    PublishedExample,
    PublishedNeuron,
    Trace,
)
from neuronagent.store.engine import open_writer
from neuronagent.store.published import PublishedQuery, batch_of, write_published
from neuronagent.store.reader import IndexReader
from neuronagent.store.traces import add_traces, set_traces
from tests.store.made_index import Made

TOKENS = ["<|endoftext|>", "\ud800", "\x00", " the", "日本"]
NONE = QuantityStatistics(mean=None, min=None, max=None)


def neuron(layer: int, index: int, *, frequency: float | None, entries: int) -> PublishedNeuron:
    def own(c: SignCombination) -> PublishedCombination:
        found = tuple(PublishedExample(c.write_sign * (5.0 - i), i, None if i % 2 else i) for i in range(entries))
        return PublishedCombination(
            combination=c,
            frequency=frequency,
            statistics={q: QuantityStatistics(mean=0.25, min=None, max=1.5) if entries else NONE for q in Quantity},
            lists={q: found if q is Quantity.POST else () for q in Quantity},
        )

    return PublishedNeuron(
        neuron=NeuronId(layer, index), combinations={c: own(c) for c in COMBINATIONS}, repaired=("frequency",)
    )


NEURONS = [
    neuron(2, 7, frequency=0.2, entries=3),
    neuron(2, 9, frequency=None, entries=0),
    neuron(5, 1, frequency=0.05, entries=1),
]
TRACE = Trace(text=1, start=2, values=np.arange(12, dtype=np.float32).reshape(3, 4))


def write(target: str) -> None:
    write_published(
        target,
        info={"fingerprint": "f", "protocol": IMPORTED},
        batches=[batch_of(NEURONS[:2]), batch_of(NEURONS[2:])],
        tokens=TOKENS,
        texts=[(0, 1, 2), (0, 3, 4, 3, 3)],
        traces=[(NEURONS[0].neuron, [TRACE])],
    )


def test_published_numbers_come_back_as_they_were_written(target: str) -> None:
    write(target)
    with IndexReader.open(target) as reader:
        assert list(reader.published.neurons()) == NEURONS
        assert [reader.published.neuron(n.neuron) for n in NEURONS] == NEURONS
        assert reader.published.layers() == {2: 2, 5: 1}
        assert reader.published.tokens == TOKENS
        assert reader.published.text(1) == (0, 3, 4, 3, 3)
        assert reader.layers() == {}
        with pytest.raises(NotFoundError, match=r"2 \(2\), 5 \(1\)"):
            reader.published.neuron(NeuronId(0, 0))
        with pytest.raises(NotFoundError):
            reader.published.text(2)
        trace = reader.trace(NEURONS[0].neuron, 1)
        assert trace is not None
        assert (trace.text, trace.start) == (1, 2)
        np.testing.assert_array_equal(trace.values, TRACE.values)
        assert reader.trace(NEURONS[0].neuron, 0) is None
        assert reader.traces(NEURONS[1].neuron) == []


def test_published_neurons_are_found_by_what_was_published(target: str) -> None:
    write(target)
    c = COMBINATIONS[1]
    with IndexReader.open(target) as reader:

        def found(query: PublishedQuery) -> list[str]:
            rows, total = reader.published.search(query)
            assert total >= len(rows)
            return [str(row.neuron) for row in rows]

        assert found(PublishedQuery(layers=(2,))) == ["2.7", "2.9"]
        assert found(PublishedQuery(frequency={c: (0.1, None)})) == ["2.7"]
        assert found(PublishedQuery(frequency={c: (None, 0.1)})) == ["5.1"]
        assert found(PublishedQuery(sort="frequency_pm")) == ["5.1", "2.7", "2.9"]
        assert found(PublishedQuery(sort="frequency_pm", descending=True)) == ["2.7", "5.1", "2.9"]
        assert found(PublishedQuery(descending=True, limit=1, offset=1)) == ["2.9"]
        assert found(PublishedQuery(explanation="nothing says this")) == []
        with pytest.raises(UsageError, match="no sort key"):
            found(PublishedQuery(sort="cos_in_out"))


def test_traces_are_added_to_a_computed_index_and_replaced(target: str, made: Made) -> None:
    made.write(target)
    who = NeuronId(1, 3)
    engine = open_writer(target)
    add_traces(engine, who, [TRACE, Trace(text=4, start=0, values=np.zeros((2, 4), np.float32))])
    add_traces(engine, who, [Trace(text=1, start=0, values=np.ones((5, 4), np.float32))])
    engine.dispose()
    with IndexReader.open(target) as reader:
        assert [(t.text, t.start, t.values.shape) for t in reader.traces(who)] == [(1, 0, (5, 4)), (4, 0, (2, 4))]
        assert reader.neuron(who).neuron == who


def test_traces_of_many_neurons_are_stored_all_or_none_and_read_together(target: str, made: Made) -> None:
    made.write(target)
    a, b, c = NeuronId(0, 2), NeuronId(1, 3), NeuronId(1, 0)
    ones = [Trace(text=text, start=text, values=np.full((3, 4), text, np.float32)) for text in (5, 1)]

    def failing() -> Iterator[tuple[NeuronId, list[Trace]]]:
        yield c, ones
        raise RuntimeError("no more")

    engine = open_writer(target)
    set_traces(engine, [(a, ones), (b, [*ones, TRACE]), (c, [])])
    with pytest.raises(RuntimeError, match="no more"):
        set_traces(engine, failing())
    engine.dispose()
    with IndexReader.open(target) as reader:
        found = reader.many_traces([b, a, c, NeuronId(7, 7), a])
        assert {neuron: [(t.text, t.start) for t in traces] for neuron, traces in found.items()} == {
            a: [(1, 1), (5, 5)],
            b: sorted({5: 5, 1: 1, TRACE.text: TRACE.start}.items()),
        }
        assert reader.many_traces([]) == {}
        assert [t.values.tolist() for t in found[a]] == [t.values.tolist() for t in reader.traces(a)]


def test_a_damaged_trace_is_an_error(tmp_path: Path, made: Made) -> None:
    path = str(tmp_path / "damaged.db")
    made.write(path)
    engine = open_writer(path)
    add_traces(engine, NeuronId(1, 3), [TRACE])
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trace SET \"values\" = x'000000803f'")
    engine.dispose()
    with IndexReader.open(path) as reader, pytest.raises(StorageError, match="a trace has 1 values"):
        reader.traces(NeuronId(1, 3))


def test_a_failed_import_leaves_the_old_index(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    write(str(path))
    before = path.read_bytes()

    def failing() -> Iterator[PublishedBatch]:
        yield batch_of(NEURONS[:1])
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_published(path, info={"fingerprint": "g", "protocol": IMPORTED}, batches=failing())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["theirs.db"]
