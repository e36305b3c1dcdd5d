"""An open index keeps some texts in memory, never all."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from neuronagent.domain import COMBINATIONS
from neuronagent.service import lookup
from neuronagent.service.lookup import Index
from tests.known_index import world


def test_examples_are_the_same_however_few_texts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    neurons = ("0.0", "0.3", "1.9")
    with Index(str(world().db)) as index:
        expected = [index.neuron(neuron).examples(c) for neuron in neurons for c in COMBINATIONS]
    assert len({example.text_id for examples in expected for example in examples}) > 5
    monkeypatch.setattr(lookup, "TEXTS_KEPT", 2)
    with Index(str(world().db)) as index:
        assert [index.neuron(neuron).examples(c) for neuron in neurons for c in COMBINATIONS] == expected
        assert len(vars(index)["_texts"]) == 2


def test_threads_that_crowd_out_each_other_s_texts_all_get_theirs() -> None:
    count = len(world().texts)
    assert count > lookup.TEXTS_KEPT  # otherwise nothing is ever crowded out

    def read(seed: int) -> bool:
        draw = random.Random(seed)
        wanted = [set(draw.sample(range(count), 64)) for _ in range(20)]
        return all(index.load_texts(ids).keys() == ids for ids in wanted)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Index(str(world().db)) as index, ThreadPoolExecutor(4) as threads:
            assert all(threads.map(read, range(4)))
    finally:
        sys.setswitchinterval(before)
