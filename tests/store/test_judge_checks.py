"""Checks of judges in an index: the newest of exactly this judge, in either database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from neuronagent.store.engine import open_writer
from neuronagent.store.judge_checks import CheckedJudge, StoredCheck, add_check, find_checks, latest_check
from tests.store.made_index import Made

PASSED = CheckedJudge(
    model="some-model",
    server="http://127.0.0.1:8000/v1",
    kind="logprobs",
    prompt_version="judge-1",
    auroc=0.97,
    passed=True,
    details={"concepts": [{"concept": "digits – “7”", "true": [1.0, 0.9, 1.0], "wrong": None}]},
)


@pytest.fixture
def writer(target: str, made: Made) -> Iterator[Engine]:
    made.write(target)
    engine = open_writer(target)
    yield engine
    engine.dispose()


def latest(writer: Engine, judge: CheckedJudge = PASSED) -> StoredCheck | None:
    with writer.connect() as connection:
        return latest_check(
            connection,
            model=judge.model,
            server=judge.server,
            kind=judge.kind,
            prompt_version=judge.prompt_version,
        )


def test_a_check_comes_back_as_it_was(writer: Engine) -> None:
    number = add_check(writer, PASSED)
    stored = latest(writer)
    assert stored is not None
    assert (stored.id, stored.check) == (number, PASSED)
    assert datetime.fromisoformat(stored.created).utcoffset() == timedelta(0)


def test_the_newest_check_counts_and_earlier_ones_stay(writer: Engine) -> None:
    failed = replace(PASSED, auroc=None, passed=False, details={})
    numbers = [add_check(writer, check) for check in (PASSED, failed)]
    stored = latest(writer)
    assert stored is not None
    assert stored.check == failed
    with writer.connect() as connection:
        assert [found.id for found in find_checks(connection)] == numbers[::-1]


@pytest.mark.parametrize("field", ["model", "server", "kind", "prompt_version"])
def test_a_judge_that_differs_in_one_thing_was_not_checked(writer: Engine, field: str) -> None:
    add_check(writer, PASSED)
    assert latest(writer, replace(PASSED, **{field: "other"})) is None


def test_an_index_without_checks_has_none(writer: Engine) -> None:
    assert latest(writer) is None
    with writer.connect() as connection:
        assert find_checks(connection) == []
