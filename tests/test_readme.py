"""The README's examples run as they stand, on the index that its first command leaves behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from neuronagent.service.demo import demo_db, run_demo

pytestmark = pytest.mark.slow

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language; those marked `no-test` need a download or another program."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the demo's index, made from fewer tokens."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURONAGENT_DATA", str(folder))
        run_demo(tokens=12_000)
        assert demo_db().exists()
    return folder


def run(arguments: list[str], data: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NEURONAGENT_DATA": str(data)}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=data,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def foretold(data: Path) -> Path:
    """The same after the README's own `predict fit` and `predict scores`, on which others build: tests of one
    module may run in any order, in several processes."""
    for command in FIRST:
        assert run(["-m", "neuronagent", *shlex.split(command, comments=True)[1:]], data).returncode == 0
    return data


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
FIRST = [line for line in COMMANDS if re.match(r"neuronagent predict (fit|scores) +(--tokens \d+ +)?#", line)]


def test_the_readme_has_commands_and_python() -> None:
    assert len(COMMANDS) >= 8
    assert len(FIRST) == 2
    assert blocks("python")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_works(command: str, data: Path, request: pytest.FixtureRequest) -> None:
    program, *arguments = shlex.split(command, comments=True)
    assert program == "neuronagent"
    if arguments[0] == "predict":
        request.getfixturevalue("foretold")
    done = run(["-m", "neuronagent", *arguments], data)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_python_of_the_readme_runs(data: Path) -> None:
    done = run(["-c", "\n".join(blocks("python"))], data)
    assert done.returncode == 0, done.stderr
    assert "0.480" not in done.stderr
    assert done.stdout


def test_the_json_of_the_readme_is_json() -> None:
    for block in blocks("json"):
        assert json.loads(block)["mcpServers"]["neuronagent"]["args"][0] == "serve"


def test_the_readme_shows_a_card_that_is_not_empty() -> None:
    (card,) = blocks("text")
    assert "gate− in−" in card
    assert "verdict" in card


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 7, 8, 130])
def test_every_exit_code_is_documented(code: int) -> None:
    assert re.search(rf"^\| {code} \|", README, re.MULTILINE)


def test_every_command_is_mentioned() -> None:
    for name in (
        "index", "info", "show", "explain", "explanations", "score", "judge-check", "search", "check", "demo", "serve",
        "run", "attribute", "ablate", "steer", "report", "plot", "mcp install", "mcp doctor", "mcp uninstall",
        "predict fit", "predict scores", "predict substitute", "predict functional", "predict report",
    ):  # fmt: skip
        assert re.search(rf"neuronagent {name}|make {name}", README), name
