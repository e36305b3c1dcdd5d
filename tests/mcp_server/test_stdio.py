"""The server as a process: both eras on one pipe, noise, the end of stdin, an index that goes away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mcp_server.pipe import INITIALIZE, ROOT, Pipe
from tests.mcp_server.sample import write_sample

WEIGHTS = {"name": "neuron_weights", "arguments": {"neuron": "0.1"}}


@pytest.mark.slow
def test_a_client_that_begins_with_initialize_is_served(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        assert pipe.initialize()["result"]["serverInfo"]["name"] == "neuronagent"
        assert WEIGHTS["name"] in {tool["name"] for tool in pipe.ask("tools/list")["result"]["tools"]}
        assert pipe.ask("tools/call", WEIGHTS)["result"]["structuredContent"]["neuron"] == "0.1"
        assert pipe.end()[:2] == (0, "")


@pytest.mark.slow
def test_a_client_may_probe_with_discover_and_then_initialize(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        assert "supportedVersions" in pipe.ask("server/discover", modern=True)["result"]
        assert pipe.initialize()["result"]["protocolVersion"] == INITIALIZE["protocolVersion"]
        assert not pipe.ask("tools/call", WEIGHTS)["result"].get("isError")
        assert pipe.ask("tools/list", modern=True)["result"]["resultType"] == "complete"
        assert pipe.end()[0] == 0


@pytest.mark.slow
def test_a_client_may_initialize_and_then_speak_the_new_protocol(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        pipe.initialize()
        assert not pipe.ask("tools/call", WEIGHTS, modern=True)["result"].get("isError")
        assert "supportedVersions" in pipe.ask("server/discover", modern=True)["result"]
        assert WEIGHTS["name"] in {tool["name"] for tool in pipe.ask("tools/list")["result"]["tools"]}


@pytest.mark.slow
def test_a_bare_discover_is_refused_and_initialize_still_works(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        assert pipe.ask("server/discover")["error"]["code"] == -32601
        assert "result" in pipe.initialize()


NOISE = ("garbage", "", "[1, 2]", '{"jsonrpc": "2.0"}', '"\\ud800"', "\x00\x1b[2J")


@pytest.mark.slow
def test_lines_that_are_no_messages_are_passed_over(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        for line in NOISE:
            pipe.write(line)
        assert "result" in pipe.initialize()
        for line in NOISE:
            pipe.write(line)
            assert not pipe.ask("tools/call", WEIGHTS)["result"].get("isError")
        code, out, _ = pipe.end()
        assert (code, out) == (0, "")


@pytest.mark.slow
def test_a_broken_request_with_an_id_is_answered(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        pipe.initialize()
        for line in ('{"id": "a"}', '{"jsonrpc": "2.0", "id": "a", "method": 5}', '{"jsonrpc":"1.0","id":"a"}'):
            pipe.write(line)
            answer = pipe.read()
            assert (answer["id"], answer["error"]["code"]) == ("a", -32600)


TOO_MUCH = (
    '{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"x":' + "[" * 5000 + "]" * 5000 + "}}",
    '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"\\ud800","id":"b"},"id":"a"}',
    '{"id":"a","jsonrpc":"2.0","method":"tools/call","params":{"n":' + "9" * 5000 + "}}",
)


@pytest.mark.slow
def test_a_request_that_no_parser_takes_is_answered_too(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        pipe.initialize()
        for line in TOO_MUCH:
            pipe.write(line)
            assert pipe.read()["id"] == "a"
        assert pipe.ask("ping")["result"] == {}


@pytest.mark.slow
def test_an_unknown_method_is_an_error_and_the_server_goes_on(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        pipe.initialize()
        assert pipe.ask("tools/destroy")["error"]["code"] == -32601
        assert pipe.ask("ping")["result"] == {}


def test_what_was_asked_before_stdin_closed_is_answered(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        pipe.initialize()
        for _ in range(20):
            pipe.post("tools/call", WEIGHTS)
        code, out, _ = pipe.end()
        answers = out.splitlines()
        assert code == 0
        assert len(answers) == 20
        assert not any('"error"' in answer or '"isError":true' in answer for answer in answers)


@pytest.mark.slow
def test_an_index_that_goes_away_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "live.db")
    kept = tmp_path / "kept.db"
    with Pipe(path) as pipe:
        pipe.initialize()
        assert not pipe.ask("tools/call", WEIGHTS)["result"].get("isError")
        path.rename(kept)
        gone = pipe.ask("tools/call", WEIGHTS)["result"]
        assert gone["isError"]
        assert "live.db is not there any more" in gone["content"][0]["text"]
        shutil.copy(kept, path)
        assert not pipe.ask("tools/call", WEIGHTS)["result"].get("isError")
        os.replace(write_sample(tmp_path / "other.db", fingerprint="another"), path)
        replaced = pipe.ask("tools/call", WEIGHTS)["result"]
        assert "was replaced by another index (another)" in replaced["content"][0]["text"]
        assert pipe.end()[0] == 0


@pytest.mark.slow
def test_a_file_that_is_no_index_is_an_error_of_the_call(tmp_path: Path) -> None:
    path = tmp_path / "no.db"
    path.write_text("hello")
    with Pipe(path) as pipe:
        pipe.initialize()
        result = pipe.ask("tools/call", WEIGHTS)["result"]
        assert result["isError"]
        assert "is no SQLite file" in result["content"][0]["text"]


def test_a_missing_index_ends_the_process_with_one_line(tmp_path: Path) -> None:
    with Pipe(tmp_path / "missing.db") as pipe:
        code, out, err = pipe.end()
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "missing.db does not exist" in err


def test_neither_start_nor_calls_load_torch_or_the_database_early() -> None:
    script = (
        "import sys; from neuronagent.mcp_server.options import ServerOptions;"
        "from neuronagent.mcp_server.server import build_server; build_server(ServerOptions(db='x.db'));"
        "print([m for m in ('torch', 'transformers', 'sqlalchemy', 'pandas', 'numpy') if m in sys.modules]);"
        "import neuronagent.service.tool_search, neuronagent.service.tool_explanations, neuronagent.mcp_server.source;"
        "print([m for m in ('torch', 'transformers', 'transformer_lens', 'datasets') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.split("\n")[:2] == ["[]", "[]"]
