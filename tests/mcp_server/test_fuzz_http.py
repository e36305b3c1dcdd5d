"""JSON-RPC that no client should send, over HTTP: each request gets one answer, to its id where that can be told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import build_server
from tests.mcp_server.fuzzing import BAD_IDS, CALL, NOTHING, arguments, cases, envelope, with_id
from tests.mcp_server.serving import MODERN, Response, Served, Wire, serving

GOOD = CALL % '{"neuron":"0.1"}'


class Connection:
    """One connection of a client that sends bodies as they are."""

    def __init__(self, served: Served, wire: Wire) -> None:
        self._served, self._wire = served, wire

    def post(self, body: str | bytes, **headers: str) -> Response:
        self._wire.send(self._served.post(body if isinstance(body, bytes) else body.encode(), **headers))
        return self._wire.read()


@pytest.fixture(scope="module")
def connection(index_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """One connection for all tests: it must survive them all."""
    copy = shutil.copy(index_path, tmp_path_factory.mktemp("fuzz") / "fuzzed.db")  # some tools write
    with serving(build_server(ServerOptions(db=str(copy), live=False)), rate=0.0) as served, served.connect() as wire:
        yield Connection(served, wire)


@pytest.mark.parametrize("modern", [False, True])
def test_every_request_is_answered_to_its_id_however_broken(connection: Connection, modern: bool) -> None:
    headers = {"mcp-protocol-version": MODERN["mcp-protocol-version"]} if modern else {}
    for name, request in cases():
        response = connection.post(request, **headers)
        assert response.status in (200, 400, 404), (name, response)
        assert response.json["id"] == name, response
        if "error" in response.json:
            assert response.error["code"] in (-32600, -32601, -32602, -32020), (name, response)
    assert "structuredContent" in connection.post(with_id(GOOD, "last")).json["result"]


def test_an_id_that_is_none_is_answered_to_null_in_one_line(connection: Connection) -> None:
    for written in BAD_IDS:
        response = connection.post(GOOD.replace('"id":$', f'"id":{written}'))
        assert (response.status, response.json["id"], response.error["code"]) == (400, None, -32600)


def test_what_asks_nothing_is_taken_or_refused_in_one_line(connection: Connection) -> None:
    for line in (*NOTHING, b"\xff\xfe\x00\x80"):
        response = connection.post(line)
        assert response.status in (202, 400), (line, response)
        if response.status == 400:
            assert "Invalid request" in response.error["message"]


def test_a_batch_and_what_is_no_utf_8_are_refused_by_name(connection: Connection) -> None:
    batch = [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(2)]
    assert "batches are not supported" in connection.post(json.dumps(batch)).error["message"]
    broken = connection.post(with_id(GOOD, "broken").encode().replace(b"0.1", b"\xff\xc3"))
    assert (broken.json["id"], "no UTF-8" in broken.error["message"]) == ("broken", True)


def _fuzz_tools(connection: Connection, examples: int) -> None:
    """Calls of every tool with values of any kind: answered, foreseen, and in a shape that a client can read."""
    listed = connection.post('{"jsonrpc":"2.0","id":1,"method":"tools/list"}').json
    tools: list[dict[str, Any]] = listed["result"]["tools"]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=SLOW, derandomize=True)
    @given(st.data())
    def call(data: st.DataObject) -> None:
        for tool in tools:
            modern = data.draw(st.booleans())
            drawn = data.draw(arguments(tool), label=tool["name"])
            params = envelope({"name": tool["name"], "arguments": drawn}, modern=modern)
            request = {"jsonrpc": "2.0", "id": "drawn", "method": "tools/call", "params": params}
            response = connection.post(json.dumps(request), **(MODERN | {"mcp-name": tool["name"]} if modern else {}))
            assert response.json["id"] == "drawn"
            if "error" in response.json:  # what no parser takes, or no protocol
                assert response.error["code"] in (-32600, -32602), response
            else:
                assert "failed inside" not in response.body.decode(), response

    call()


SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


@pytest.mark.slow
def test_every_tool_answers_arguments_of_any_kind_over_http(connection: Connection) -> None:
    _fuzz_tools(connection, 60)
