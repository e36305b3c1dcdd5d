"""`neuronagent mcp`: real files below a home of the test's own, real processes, and servers that do one thing wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer.main

from neuronagent.cli.app import app
from neuronagent.errors import UsageError
from neuronagent.service.mcp_clients.entries import ServerEntry
from neuronagent.service.mcp_clients.starting import client_environment, try_entry
from tests.cli.conftest import Cli, Ran
from tests.mcp_server.sample import write_sample

SCRIPT = Path(__file__).with_name("scripted_server.py")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("served") / "sample.db")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder and a project folder that are the test's own."""
    for name in ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder, project = tmp_path / "home", tmp_path / "project"
    folder.mkdir()
    project.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(project)
    return folder


def configured(home: Path, wrong: str, **variables: str) -> None:
    """A client that starts a scripted server."""
    entry = {"command": sys.executable, "args": ["-I", "-S", str(SCRIPT), wrong], "env": variables}
    if variables:
        entry["args"] = [str(SCRIPT), wrong]
    (home / ".cursor").mkdir(exist_ok=True)
    (home / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": {"neuronagent": entry}}))


def examined(cli: Cli, *options: str) -> tuple[Ran, dict[str, Any]]:
    """What the doctor says of the cursor entry: every check by name."""
    ran = cli("mcp", "doctor", "--client", "cursor", "--json", *options)
    assert ran.err == ""
    checks = {check["name"]: check for check in ran.json["checks"]}
    assert ran.json["ok"] == all(check["ok"] for check in checks.values()) == (ran.code == 0)
    assert all(check["remedy"] for check in checks.values() if not check["ok"])
    return ran, checks


@pytest.mark.slow
def test_install_shows_the_entry_and_writes_it_and_uninstall_takes_it_back(cli: Cli, home: Path, db: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    arguments = ("mcp", "install", "--client", "cursor", "--db", db)
    shown = cli(*arguments, "--dry-run")
    assert shown.code == 0
    assert str(file) in shown.out
    assert '"command": ' + json.dumps(sys.executable) in shown.out
    assert not file.exists()
    asked = cli(*arguments)
    assert (asked.code, file.exists()) == (2, False)
    assert "add --yes to write it" in asked.err
    assert cli(*arguments, "--yes").code == 0
    held = json.loads(file.read_text())["mcpServers"]["neuronagent"]
    assert held["args"] == ["-m", "neuronagent", "serve", "--db", str(db)]
    again = cli(*arguments, "--yes")
    assert (again.code, "already there" in again.out) == (0, True)
    assert [path.name for path in file.parent.iterdir()] == ["mcp.json"]
    assert cli("mcp", "uninstall", "--client", "cursor").code == 2
    gone = cli("mcp", "uninstall", "--client", "cursor", "--yes")
    assert gone.code == 0
    assert json.loads(file.read_text()) == {"mcpServers": {}}
    missing = cli("mcp", "uninstall", "--client", "cursor")
    assert (missing.code, "holds no server neuronagent" in missing.out) == (0, True)


@pytest.mark.slow
def test_json_prints_the_entry_alone_and_takes_options_of_serve(cli: Cli, home: Path, db: Path) -> None:
    Path("folder").mkdir()
    options = ("--", "--toolsets", "core", "--model", "folder")
    ran = cli("mcp", "install", "--client", "json", "--name", "olmo", "--db", os.path.relpath(db), *options)
    folder = str(Path("folder").resolve())
    assert ran.json["mcpServers"]["olmo"]["args"][3:] == [
        "--db", str(db), "--toolsets", "core", "--model", folder,
    ]  # fmt: skip
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--client", "emacs"], 2, "is not one of"),
        (["--client", "json", "--db", "missing.db"], 3, "does not exist"),
        (["--client", "json", "--", "--bogus"], 2, "--bogus"),
        (["--client", "json", "--", "--db", "x"], 2, "give it to install itself"),
        (["--client", "json", "--", "extra"], 2, "extra"),
        (["--client", "json", "--", "--http"], 2, "over stdio"),
        (["--client", "json", "--db", "postgresql://me:secret@127.0.0.1:1/db"], 2, "a password"),
        (["--client", "json", "--db", "mysql://host/db"], 2, "mysql:// is not supported"),
    ],
)
def test_what_install_cannot_do_is_one_line(cli: Cli, arguments: list[str], code: int, said: str) -> None:
    ran = cli("mcp", "install", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "secret" not in ran.err
    assert ran.err.count("\n") == 1


def test_a_broken_file_is_left_alone_and_the_entry_is_shown_to_be_pasted(cli: Cli, home: Path, db: Path) -> None:
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text("model = ")
    ran = cli("mcp", "install", "--client", "codex", "--db", db, "--yes")
    assert ran.code == 7
    assert "[mcp_servers.neuronagent]" in ran.out
    assert "broken and was left as it is" in ran.err
    assert file.read_text() == "model = "


def test_what_a_client_keeps_secret_is_not_shown(cli: Cli, home: Path) -> None:
    entry = {"command": "x", "args": ["--db", "postgresql://me:s3cret@h/d"], "env": {"KEY": "s3cret"}}
    (home / ".claude.json").write_text(json.dumps({"mcpServers": {"neuronagent": entry}}))
    for command in (["uninstall", "--dry-run"], ["doctor", "--json"], ["doctor"]):
        ran = cli("mcp", command[0], "--client", "claude-code", *command[1:])
        assert ran.out
        assert "s3cret" not in ran.out + ran.err


def test_a_command_that_does_not_start_is_refused(tmp_path: Path) -> None:
    bare = ServerEntry(command=sys.executable, arguments=("-I", "-S", "-m", "neuronagent"))
    with pytest.raises(UsageError, match=r"could not start .*: .*No module named neuronagent; install the package"):
        try_entry(bare, {})
    with pytest.raises(UsageError, match=r"could not start .*No such file"):
        try_entry(ServerEntry(command=str(tmp_path / "missing"), arguments=()), {})


def test_a_client_passes_few_variables_on() -> None:
    given = {"HOME": "/h", "PATH": "/p", "OPENAI_API_KEY": "k", "PYTHONPATH": "/x"}
    assert client_environment(given) == {"HOME": "/h", "PATH": "/p"}


def test_the_doctor_asks_every_question(cli: Cli, home: Path) -> None:
    configured(home, "nothing")
    ran, checks = examined(cli)
    assert ran.code == 0
    assert list(checks) == [
        "command", "index", "start, server/discover", "initialize", "tools/list", "model_info", "search_neurons",
        "neuron_overview", "initialize first", "end of stdin", "torch",
    ]  # fmt: skip
    assert checks["tools/list"]["said"] == "3 tools"
    assert checks["neuron_overview"]["bytes"] > 20
    assert "(this is " in checks["start, server/discover"]["said"]


@pytest.mark.parametrize(
    ("wrong", "check", "said"),
    [
        ("exit", "server", r"ended with exit code 3 before it answered server/discover: ValueError: no index"),
        ("other", "server", r"says that it is somebody"),
        ("bare", "server", r"lists no tools"),
        ("split", "server", r"lists no tools"),
        ("error", "model_info", r"^the index is gone$"),
        ("banner", "stdout", r"^2 lines on stdout that are no messages, the first: Welcome to the server!$"),
        ("flood", "stdout", r"^200 lines on stdout"),
    ],
)
def test_the_doctor_says_what_a_server_does_wrong(cli: Cli, home: Path, wrong: str, check: str, said: str) -> None:
    configured(home, wrong)
    ran, checks = examined(cli)
    assert ran.code == 1
    assert not checks[check]["ok"]
    assert re.search(said, checks[check]["said"])


@pytest.mark.slow
def test_a_server_that_hangs_is_killed_with_its_children(cli: Cli, home: Path) -> None:
    configured(home, "hang")
    begun = time.monotonic()
    ran, checks = examined(cli, "--timeout", "0.3")
    assert time.monotonic() - begun < 30
    assert ran.code == 1
    found = re.fullmatch(
        r"no answer to server/discover within 0.3 s, it was killed: child (\d+)", checks["server"]["said"]
    )
    assert found
    for _ in range(100):  # until the system has noticed
        try:
            state = Path(f"/proc/{found[1]}/stat").read_text().split()[2]
        except OSError:
            break
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the child lives")


@pytest.mark.slow
def test_a_server_that_outlives_its_client_is_found(cli: Cli, home: Path) -> None:
    configured(home, "deaf")
    _, checks = examined(cli, "--timeout", "0.5")
    assert "still runs" in checks["server"]["said"]


def test_torch_at_the_start_is_found(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    configured(home, "torch", PYTHONPATH=str(tmp_path))
    ran, checks = examined(cli)
    assert ran.code == 1
    assert checks["torch"]["said"] == "imported before the first question"


@pytest.mark.parametrize(
    ("command", "arguments", "check", "said"),
    [
        ("/nowhere/python", [], "command", "/nowhere/python is not there"),
        (__file__, [], "command", "cannot be run"),
        (sys.executable, ["-c", "0", "--db", "relative.db"], "index", "no absolute path"),
        (sys.executable, ["-c", "0", "--db", "/nowhere.db"], "index", "/nowhere.db does not exist"),
        (sys.executable, ["-c", "0", "--db=/nowhere.db"], "index", "/nowhere.db does not exist"),
        (sys.executable, ["-c", "0", "--db", "mysql://h/d"], "index", "not supported"),
    ],
)
def test_the_doctor_looks_at_the_entry_first(
    cli: Cli, home: Path, command: str, arguments: list[str], check: str, said: str
) -> None:
    (home / ".cursor").mkdir()
    entry = {"command": command, "args": arguments}
    (home / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": {"neuronagent": entry}}))
    ran, checks = examined(cli)
    assert ran.code == 1
    assert said in checks[check]["said"]


def test_an_entry_that_is_not_there_or_starts_nothing_is_named(cli: Cli, home: Path) -> None:
    ran = cli("mcp", "doctor", "--client", "gemini")
    assert ran.code == 3
    assert "run neuronagent mcp install --client gemini" in ran.err
    (home / ".claude.json").write_text('{"mcpServers": {"neuronagent": {"type": "http", "url": "http://x"}}}')
    assert "starts no command" in cli("mcp", "doctor", "--client", "claude-code").err


def test_every_option_of_every_mcp_command_has_a_help_text() -> None:
    group: Any = typer.main.get_command(app)
    commands = group.commands["mcp"].commands
    assert set(commands) == {"install", "uninstall", "doctor"}
    for command in commands.values():
        assert command.help
        assert all(getattr(parameter, "help", None) for parameter in command.params)


@pytest.mark.slow
def test_options_that_the_server_refuses_are_found_before_anything_is_written(cli: Cli, home: Path, db: Path) -> None:
    ran = cli("mcp", "install", "--client", "gemini", "--db", db, "--yes", "--", "--toolsets", "bogus")
    assert ran.code == 2
    assert "'bogus'" in ran.err
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_what_install_writes_passes_the_doctor(cli: Cli, home: Path, db: Path) -> None:
    assert cli("mcp", "install", "--client", "codex", "--db", db, "--yes").code == 0
    ran = cli("mcp", "doctor", "--client", "codex")
    assert ran.code == 0, ran.out
    assert "a client can use it" in ran.out
    assert ran.out.count("\nok ") >= 12
    own = cli("mcp", "doctor", "--db", db, "--json")
    assert own.json["ok"]
    assert own.json["command"] == [sys.executable, "-m", "neuronagent", "serve", "--db", str(db)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_on_a_terminal_the_user_is_asked(home: Path, db: Path) -> None:
    import pty

    for typed, code in ((b"n\n", 1), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "neuronagent", "mcp", "install", "--client", "gemini", "--db", str(db)]
        with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            os.write(ours, typed)
            out, err = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert process.returncode == code, err
        assert b"write it?" in err
        assert (b"wrote " in out) == (code == 0)
        assert (home / ".gemini" / "settings.json").exists() == (code == 0)
