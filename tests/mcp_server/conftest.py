"""Fixtures for the MCP server: an index per session, and a client in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import NeuronServer, build_server
from tests.mcp_server.sample import write_sample


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def index_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("index") / "sample.db")


@pytest.fixture(scope="session")
def nasty_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("index") / "nasty.db", nasty=True)


@pytest.fixture(scope="session")
def server(index_path: Path) -> NeuronServer:
    """One for all tests, as it would be for all clients: making twenty tools takes longer than most tests."""
    return build_server(ServerOptions(db=str(index_path)))


@pytest.fixture(scope="session")
def nasty_server(nasty_path: Path) -> NeuronServer:
    return build_server(ServerOptions(db=str(nasty_path)))


@pytest.fixture
async def client(server: NeuronServer) -> AsyncIterator[Client]:
    async with Client(server) as connected:
        yield connected


async def asked(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured answer of a call that must succeed; its text must say the same."""
    import json

    result = await client.call_tool(tool, arguments)
    text = getattr(result.content[0], "text", "")
    assert not result.is_error, text
    assert result.structured_content is not None
    assert json.loads(text) == result.structured_content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """The text of a call that must fail."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return getattr(result.content[0], "text", "")
