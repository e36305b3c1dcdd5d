"""What can change about a neuron shows in its state, in either database; reading one page shows the same from both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy import Engine

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, Split
from neuronagent.published import Trace
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.content import neuron_content, revisions
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation, add_score, make_current
from neuronagent.store.hypotheses import Supposed, predict, settle
from neuronagent.store.reader import IndexReader
from neuronagent.store.traces import add_traces
from tests.mcp_server.sample import write_sample

MINE, OTHER = NeuronId(0, 3), NeuronId(0, 4)
SAID = Explanation(neuron=MINE, combination=COMBINATIONS[1], source="human", text="first", claims={}, evidence_hash="e")
SCORE = Score(metric="detection", negative_set="N0", split=Split.TEST, value=0.9, lo=0.8, hi=0.97, n_pos=20, n_neg=40)
SUPPOSED = Supposed(
    run="r", round=1, neuron=MINE, combination=COMBINATIONS[0], text="t", claims={}, prediction={}, model="m",
    server="s", prompt_version="p",
)  # fmt: skip


def trace(count: int) -> Trace:
    return Trace(text=2, start=1, values=np.ones((count, 4), np.float32))


def test_whatever_happens_to_a_neuron_changes_its_state_and_no_other_s(target: str, reader: IndexReader) -> None:
    engine = open_writer(target)
    ids: dict[str, int] = {}

    def say(text: str) -> Callable[[Engine], None]:
        return lambda engine: ids.update({text: add_explanation(engine, replace(SAID, text=text))})

    def score(value: float) -> Callable[[Engine], Any]:
        return lambda e: add_score(e, ids["first"], replace(SCORE, value=value), protocol_version="p")

    happens: list[Callable[[Engine], Any]] = [
        say("first"),
        score(0.9),
        score(0.4),
        say("second"),
        lambda e: make_current(e, ids["first"]),
        lambda e: ids.update(supposed=predict(e, [SUPPOSED])[0]),
        lambda e: settle(e, ids["supposed"], "held", {}),
        lambda e: add_traces(e, MINE, [trace(3)]),
        lambda e: add_traces(e, MINE, [trace(5)]),
    ]
    seen, untouched = [reader.states([MINE])[MINE]], reader.states([OTHER])[OTHER]
    for happened in happens:
        happened(engine)
        seen.append(reader.states([OTHER, MINE])[MINE])
        assert seen[-1] != seen[-2]
        assert reader.states([MINE])[MINE] == seen[-1]  # alone or with others
    assert seen[5] == seen[3]  # the first text is current again, with the scores that it had
    assert reader.states([OTHER])[OTHER] == untouched == []
    say("first")(engine)
    assert reader.states([MINE])[MINE] == seen[-1]  # said already
    engine.dispose()


def test_many_neurons_are_read_together_and_one_that_is_not_there_is_empty(reader: IndexReader) -> None:
    asked = [NeuronId(layer, index) for layer in (1, 0, 9) for index in range(12)]
    assert reader.states(asked) == {neuron: [] for neuron in asked}
    assert reader.states([]) == {}


@pytest.mark.slow
def test_a_page_and_its_revision_are_the_same_from_both_databases(postgresql: str, tmp_path: Path) -> None:
    contents: list[Any] = []
    for where in (postgresql, str(tmp_path / "same.db")):
        write_sample(cast(Path, where))
        with Index(where) as index:
            pages = [neuron_content(index, NeuronId(0, number)) for number in range(3)]
            contents.append((pages, list(revisions(index.reader, [NeuronId(1, 1), NeuronId(0, 5)]).values())))
    (pages, hashes), (same_pages, same_hashes) = contents
    assert hashes == same_hashes
    for page, same in zip(pages, same_pages, strict=True):
        assert page == same
