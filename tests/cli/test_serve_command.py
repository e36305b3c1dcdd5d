"""`neuronagent serve`: what is refused before anything is opened, and the server that the command starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
TOKEN = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEURONAGENT_TOKEN", "NEURONAGENT_LLM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--port 80", "--port is for a server on a port; add --http"),
        ("--no-pages", "--no-pages is for a server on a port; add --http"),
        ("--allowed-origin https://x", "--allowed-origin is for a server on a port"),
        ("--http --host 0.0.0.0", "needs a token and --allowed-host"),
        ("--http --host 0.0.0.0 --allowed-host x", "needs a token and --allowed-host"),
        ("--http --port 70000", "--port"),
        ("--http --request-timeout nan", "--request-timeout must be positive"),
        ("--http --rate-limit -1", "requests per second"),
        ("--http --token-file nowhere", "the token file nowhere cannot be read: No such file"),
        ("--http --allowed-host *", "'*' is no host"),
        ("--live-timeout 0", "--live-timeout must be positive"),
        ("--toolsets core,nope", "there is no toolset 'nope'"),
        ("--tools nope", "there is no tool 'nope'"),
        ("--tools ,", "--tools names nothing"),
        ("--budget-tokens 5", "--budget-tokens is about a language model"),
        ("--http --toolsets core --tools neuron_plot", "there is no tool 'neuron_plot'"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(cli: Cli, made_db: Path, arguments: str, said: str) -> None:
    ran = cli("serve", "--db", made_db, *arguments.split())
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("how", ["--http", "--stdio"])
def test_an_index_that_is_not_there_is_said_at_once(cli: Cli, tmp_path: Path, how: str) -> None:
    ran = cli("serve", "--db", tmp_path / "none.db", how)
    assert ran.code == 3
    assert "does not exist" in ran.err


@pytest.mark.parametrize("token", ["short", "two words and more of them"])
def test_a_weak_token_is_refused_and_not_repeated(
    cli: Cli, made_db: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONAGENT_TOKEN", token)
    ran = cli("serve", "--db", made_db, "--http")
    assert ran.code == 2
    assert token not in ran.err


def test_an_empty_token_file_is_no_token(cli: Cli, made_db: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    ran = cli("serve", "--db", made_db, "--http", "--token-file", tmp_path / "token")
    assert ran.code == 2
    assert "is empty" in ran.err


def test_a_port_that_is_taken_is_said_in_one_line(cli: Cli, made_db: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = cli("serve", "--db", made_db, "--http", "--port", str(taken.getsockname()[1]))
    assert ran.code == 2
    assert "Address already in use" in ran.err


@pytest.mark.slow
def test_over_http_it_serves_the_tools_that_were_asked_for_until_control_c(made_db: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    command = [sys.executable, "-m", "neuronagent", "serve", "--db", str(made_db), "--http", "--port", "0",
        "--token-file", str(tmp_path / "token"), "--tools", "model_info,neuron_weights"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.match(r"serving made\.db at (http://127\.0\.0\.1:\d+/mcp) with a token", line)
        assert found, line
        assert anyio.run(_talk, found[1]) == ["model_info", "neuron_weights"]
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "error: interrupted\n"
        assert process.wait(20) == 130


@pytest.mark.slow
@pytest.mark.parametrize("pages", [True, False])
def test_over_http_people_find_pages_unless_told_otherwise(made_db: Path, pages: bool) -> None:
    command = [sys.executable, "-m", "neuronagent", "serve", "--db", str(made_db), "--http", "--port", "0",
        *([] if pages else ["--no-pages"])]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.match(r"serving made\.db at (http://127\.0\.0\.1:\d+)/mcp", process.stderr.readline())
        assert found
        if pages:
            assert process.stderr.readline() == f"pages for a browser: {found[1]}/\n"
        answer = httpx2.get(f"{found[1]}/neuron/0.1", timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert answer.status_code == (200 if pages else 404)
    assert answer.headers["content-type"].split(";")[0] == ("text/html" if pages else "application/json")


async def _talk(url: str) -> list[str]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        answer = await client.call_tool("neuron_weights", {"neuron": "0.1"})
        assert not answer.is_error
        return [tool.name for tool in (await client.list_tools()).tools]
