"""What is kept of layers: the last that were asked for, whichever thread asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

from neuronagent.service.lookup import Index
from neuronagent.service.per_layer import PerLayer
from neuronagent.store.reader import IndexReader
from tests.known_index import world


def test_the_layers_that_were_asked_for_last_are_kept() -> None:
    asked: list[int] = []

    def read(reader: IndexReader, layer: int) -> str:
        asked.append(layer)
        return f"layer {layer} of {reader.name}"

    layer = PerLayer(read, 2)
    with Index(str(world().db)) as index:
        said = [layer(index.reader, number) for number in (0, 1, 0, 2, 0, 1)]
    assert asked == [0, 1, 2, 1]  # 0 was asked for again and stayed, 1 went
    assert said == [f"layer {number} of {index.reader.name}" for number in (0, 1, 0, 2, 0, 1)]


def test_threads_that_crowd_out_each_other_s_layers_all_get_theirs() -> None:
    def read(_: IndexReader, layer: int) -> int:
        return layer

    layer = PerLayer(read, 1)
    with Index(str(world().db)) as index, ThreadPoolExecutor(8) as threads:
        asked = [place % 5 for place in range(800)]
        assert list(threads.map(layer, repeat(index.reader), asked)) == asked
