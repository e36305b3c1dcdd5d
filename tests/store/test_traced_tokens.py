"""Traced tokens come back as they were stored, in either database; what is damaged is not passed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import Engine, text

from neuronagent.domain import COMBINATIONS, NeuronId, Split
from neuronagent.errors import StorageError
from neuronagent.store.engine import open_writer
from neuronagent.store.reader import IndexReader
from neuronagent.store.traced import StoredTokens, set_traced_tokens
from tests.store.made_index import Made

ONE, TWO = NeuronId(0, 1), NeuronId(1, 2)


def tokens(n: int = 500, seed: int = 0, version: str = "v1") -> StoredTokens:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4)).astype(np.float32)
    values[:, 0] = values[:, 1] * values[:, 3]  # post = x_in · act
    numbers = np.sort(rng.choice(2**32 - 2, n, replace=False)).astype(np.int64)
    sets = {Split.TEST: {COMBINATIONS[1]: {"N2": (5, 3, 9), "N3": ()}, COMBINATIONS[3]: {}}}
    return StoredTokens(numbers=numbers, values=values, sets=sets, plan_version=version)


@pytest.fixture
def writer(target: str, made: Made) -> Iterator[Engine]:
    made.write(target)
    engine = open_writer(target)
    yield engine
    engine.dispose()


@pytest.fixture
def reader(target: str, writer: Engine) -> Iterator[IndexReader]:
    with IndexReader.open(target) as opened:
        yield opened


def assert_same(found: StoredTokens | None, stored: StoredTokens) -> None:
    assert found is not None
    assert np.array_equal(found.numbers, stored.numbers)
    assert np.array_equal(found.values, stored.values)
    assert (found.sets, found.plan_version) == (stored.sets, stored.plan_version)


def test_what_is_stored_comes_back_bit_for_bit(writer: Engine, reader: IndexReader) -> None:
    stored = {ONE: tokens(), TWO: tokens(3, seed=1)}
    set_traced_tokens(writer, stored.items())
    for neuron, own in stored.items():
        assert_same(reader.traced_tokens(neuron), own)
    assert reader.traced_tokens(NeuronId(0, 0)) is None
    assert reader.plan_versions() == {ONE: "v1", TWO: "v1"}


def test_a_neuron_without_tokens_has_been_run_all_the_same(writer: Engine, reader: IndexReader) -> None:
    nothing = replace(tokens(0), sets={Split.TEST: {}})
    set_traced_tokens(writer, [(ONE, nothing)])
    assert_same(reader.traced_tokens(ONE), nothing)


def test_a_later_run_takes_the_place_of_an_earlier_one(writer: Engine, reader: IndexReader) -> None:
    set_traced_tokens(writer, [(ONE, tokens()), (TWO, tokens())])
    set_traced_tokens(writer, [(ONE, tokens(20, seed=2, version="v2"))])
    assert_same(reader.traced_tokens(ONE), tokens(20, seed=2, version="v2"))
    assert reader.plan_versions() == {ONE: "v2", TWO: "v1"}


def test_a_batch_is_stored_as_a_whole_or_not_at_all(writer: Engine, reader: IndexReader) -> None:
    wrong = tokens()
    wrong.values[7, 0] += 1
    with pytest.raises(ValueError, match="post"):
        set_traced_tokens(writer, [(ONE, tokens()), (TWO, wrong)])
    assert reader.plan_versions() == {}


def test_numbers_that_do_not_ascend_are_refused(writer: Engine) -> None:
    for numbers in ([3, 3, 4], [4, 3, 5], [-1, 2, 3]):
        with pytest.raises(ValueError, match="ascend"):
            set_traced_tokens(writer, [(ONE, replace(tokens(3), numbers=np.array(numbers)))])


@pytest.mark.parametrize(
    "change",
    [
        "sets = '{'",
        "sets = '[]'",
        """sets = '{"test": {"gate": {}}}'""",
        """sets = '{"test": {"gate+_in+": {"N2": ["x"]}}}'""",
        '"values" = numbers',
    ],
)
def test_a_damaged_row_is_an_error_that_says_what_to_do(writer: Engine, reader: IndexReader, change: str) -> None:
    set_traced_tokens(writer, [(ONE, tokens())])
    with writer.begin() as connection:
        connection.execute(text(f"UPDATE traced_tokens SET {change.replace(':', chr(92) + ':')}"))
    with pytest.raises(StorageError, match="damaged") as failure:
        reader.traced_tokens(ONE)
    assert failure.value.remedy
