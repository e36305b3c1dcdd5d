"""Twenty questions that need several calls: a program that sees the answers alone gets each right, cheaply."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client

from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import build_server
from neuronagent.service.lookup import Index
from tests.known_index import world
from tests.mcp_server.evaluations import EVALUATIONS, EXPLAINED, Tools

pytestmark = pytest.mark.anyio
CALLS, TOKENS = 6, 6_000


@pytest.fixture(scope="module")
def planted_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The known index with a few explanations."""
    path = tmp_path_factory.mktemp("evaluations") / "planted.db"
    with sqlite3.connect(world().db) as source, sqlite3.connect(path) as copy:
        source.backup(copy)
    with Index(str(path)) as index:
        for neuron in EXPLAINED:
            index.explain(neuron)
    return path


@pytest.fixture
async def planted_client(planted_path: Path) -> AsyncIterator[Client]:
    async with Client(build_server(ServerOptions(db=str(planted_path), live=False))) as connected:
        yield connected


def test_there_are_at_least_twenty_questions_each_asked_once() -> None:
    assert len({one.question for one in EVALUATIONS}) == len(EVALUATIONS) >= 20


async def test_a_scripted_oracle_answers_every_question_in_a_few_calls(planted_client: Client) -> None:
    for one in EVALUATIONS:
        tools = Tools(planted_client)
        assert await one.solve(tools) == one.answer(), one.question
        assert 2 <= tools.calls <= CALLS, (one.question, tools.calls)
        assert tools.characters / 4 <= TOKENS, (one.question, tools.characters)
