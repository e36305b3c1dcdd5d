"""Entries in the files of MCP clients: where they go, that nothing else changes, and what is refused."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.errors import InputError, NeuronagentError, StorageError, UsageError
from neuronagent.service.mcp_clients import files, jsonc, toml_tables
from neuronagent.service.mcp_clients.change import installed, pasteable, plan_install, plan_removal
from neuronagent.service.mcp_clients.clients import CLIENT_NAMES, CLIENTS, ClientName, Form, Place, Scope, Surroundings
from neuronagent.service.mcp_clients.entries import ServerEntry, checked_name, has_password, server_entry

ENTRY = ServerEntry(command="/opt/py/bin/python", arguments=("-m", "neuronagent", "serve", "--db", "/data/a b.db"))
NAME = "neuronagent"
EVERY: list[tuple[ClientName, Scope]] = [(name, scope) for name in CLIENT_NAMES for scope in CLIENTS[name].scopes]


def around(folder: Path, platform: str = "linux", variables: Mapping[str, str] | None = None) -> Surroundings:
    home, project = folder / "home", folder / "project"
    return Surroundings(home=home, platform=platform, variables=variables or {}, project=project)


def where(
    folder: Path,
    client: ClientName,
    scope: Scope = "user",
    platform: str = "linux",
    variables: Mapping[str, str] | None = None,
) -> str:
    place = CLIENTS[client].place(scope, around(folder, platform, variables))
    return place.file.relative_to(folder).as_posix()


def install(place: Place, client: ClientName, entry: ServerEntry = ENTRY) -> str:
    """What the file says after installing."""
    plan_install(CLIENTS[client], place, NAME, entry).apply()
    return place.file.read_text(encoding="utf-8")


def test_every_client_has_its_places_on_every_system(tmp_path: Path) -> None:
    assert where(tmp_path, "claude-code") == "home/.claude.json"
    assert where(tmp_path, "claude-code", "local") == "home/.claude.json"
    assert where(tmp_path, "claude-code", "project") == "project/.mcp.json"
    assert where(tmp_path, "cursor") == "home/.cursor/mcp.json"
    assert where(tmp_path, "cursor", "project") == "project/.cursor/mcp.json"
    assert where(tmp_path, "vscode", "project") == "project/.vscode/mcp.json"
    assert where(tmp_path, "codex") == "home/.codex/config.toml"
    assert where(tmp_path, "codex", "project") == "project/.codex/config.toml"
    assert where(tmp_path, "gemini", "project") == "project/.gemini/settings.json"
    for platform, folder in (
        ("linux", "home/.config"),
        ("darwin", "home/Library/Application Support"),
        ("win32", "home/AppData/Roaming"),
    ):
        assert where(tmp_path, "vscode", platform=platform) == f"{folder}/Code/User/mcp.json"
        assert where(tmp_path, "claude-desktop", platform=platform) == f"{folder}/Claude/claude_desktop_config.json"
        assert where(tmp_path, "gemini", platform=platform) == "home/.gemini/settings.json"


def test_variables_move_the_places(tmp_path: Path) -> None:
    moved = {
        name: str(tmp_path / "moved")
        for name in ("XDG_CONFIG_HOME", "APPDATA", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME")
    }
    assert where(tmp_path, "vscode", variables=moved) == "moved/Code/User/mcp.json"
    assert where(tmp_path, "vscode", platform="win32", variables=moved) == "moved/Code/User/mcp.json"
    assert where(tmp_path, "vscode", platform="darwin", variables=moved).startswith("home/Library/")
    assert where(tmp_path, "claude-code", variables=moved) == "moved/.claude.json"
    assert where(tmp_path, "codex", variables=moved) == "moved/config.toml"
    assert where(tmp_path, "gemini", variables=moved) == "moved/.gemini/settings.json"


def test_claude_desktop_as_a_windows_package_has_a_folder_of_its_own(tmp_path: Path) -> None:
    inside = tmp_path / "home/AppData/Local/Packages/Claude_abc/LocalCache/Roaming/Claude"
    inside.mkdir(parents=True)
    (tmp_path / "home/AppData/Local/Packages/Claude_empty").mkdir()
    found = where(tmp_path, "claude-desktop", platform="win32")
    assert found == f"{inside.relative_to(tmp_path).as_posix()}/claude_desktop_config.json"


def test_a_scope_that_a_client_lacks_names_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cursor has no scope local; allowed: user, project"):
        where(tmp_path, "cursor", "local")


def test_the_entry_stands_where_each_client_looks(tmp_path: Path) -> None:
    for client, scope in EVERY:
        folder = tmp_path / client / scope
        place = CLIENTS[client].place(scope, around(folder))
        text = install(place, client)
        held: Any = tomllib.loads(text) if client == "codex" else json.loads(text)
        if scope == "local":
            held = held["projects"][(folder / "project").as_posix()]
        table = {"codex": "mcp_servers", "vscode": "servers"}.get(client, "mcpServers")
        typed = {"type": "stdio"} if client in ("claude-code", "cursor", "vscode") else {}
        assert held == {table: {NAME: typed | ENTRY.plain()}}
        assert installed(place, NAME) == typed | ENTRY.plain()


def test_the_same_again_changes_nothing_and_keeps_no_second_copy(tmp_path: Path) -> None:
    for client, scope in EVERY:
        place = CLIENTS[client].place(scope, around(tmp_path / client / scope))
        install(place, client)
        before = sorted(place.file.parent.iterdir())
        again = plan_install(CLIENTS[client], place, NAME, ENTRY)
        assert not again.is_needed
        assert again.existing is not None
        assert sorted(place.file.parent.iterdir()) == before


VSCODE = """\
{
    // what I use every day
    "servers": {
        "other": { "type": "http", "url": "https://x/mcp" }, // the other // one
        /* "off": {}, */
    },
    "inputs": [1.50, 1e400, "a // no comment", "\\u00e9,]"],
}
"""


def test_comments_and_every_other_character_stay(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "mcp.json", form="jsonc", servers=("servers",))
    place.file.write_text(VSCODE)
    text = install(place, "vscode")
    rest = text.replace(pasteable(place, NAME, {}), "")
    for line in VSCODE.splitlines():
        assert line in rest
    assert jsonc.parse(text)["servers"][NAME]["command"] == ENTRY.command
    plan_removal(place, NAME).apply()
    assert place.file.read_text() == VSCODE


def test_a_carriage_return_a_mark_and_tabs_stay(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "mcp.json", form="jsonc", servers=("mcpServers",))
    before = '\ufeff{\r\n\t"mcpServers": {\r\n\t\t"a": {"command": "é"}\r\n\t}\r\n}'.encode()
    place.file.write_bytes(before)
    install(place, "cursor")
    after = place.file.read_bytes()
    assert after.startswith(b"\xef\xbb\xbf{\r\n\t")
    assert after.count(b"\n") == after.count(b"\r\n") > 5
    assert b'\r\n\t\t"neuronagent": {\r\n\t\t\t"type"' in after
    plan_removal(place, NAME).apply()
    assert place.file.read_bytes() == before


def test_an_entry_keeps_what_its_user_added(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "mcp.json", form="jsonc", servers=("mcpServers",))
    place.file.write_text(
        '{"mcpServers": {"neuronagent": {"command": "old", /* mine */ "env": {"HF_HOME": "/h"}, "timeout": 9}}}'
    )
    change = plan_install(CLIENTS["cursor"], place, NAME, ENTRY)
    assert change.kept == ("env", "timeout")
    change.apply()
    assert "/* mine */" in place.file.read_text()
    assert installed(place, NAME) == {
        "type": "stdio", "env": {"HF_HOME": "/h"}, "timeout": 9, **ENTRY.plain(),
    }  # fmt: skip


def test_an_entry_with_an_address_is_replaced_as_a_whole(tmp_path: Path) -> None:
    texts: tuple[tuple[Form, str], ...] = (
        ("json", '{"mcpServers": {"neuronagent": {"url": "http://x/mcp", "headers": {}}}}'),
        ("toml", '[mcpServers.neuronagent]\nurl = "http://x"\n[mcpServers.neuronagent.http_headers]\na = "b"\n'),
    )
    for form, text in texts:
        place = Place(file=tmp_path / form, form=form, servers=("mcpServers",))
        place.file.write_text(text)
        install(place, "claude-desktop")
        assert installed(place, NAME) == ENTRY.plain()


CODEX = """\
# my settings
model = "m"   # the good one

[mcp_servers.other]
command = "x"
args = [
  "[mcp_servers.neuronagent]", # no header
]
note = '''
[mcp_servers.neuronagent]
'''

# about profiles
[profiles.a]
pi = 3.140
when = 2026-11-20T12:00:00Z

[[things]]
a = 1
"""


def test_a_toml_file_keeps_its_lines(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "config.toml", form="toml", servers=("mcp_servers",))
    place.file.write_text(CODEX)
    text = install(place, "codex")
    assert text.startswith(CODEX)
    assert tomllib.loads(text)["mcp_servers"][NAME] == ENTRY.plain()
    plan_removal(place, NAME).apply()
    assert place.file.read_text() == CODEX


def test_a_toml_table_is_changed_in_place(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "config.toml", form="toml", servers=("mcp_servers",))
    place.file.write_text(
        'a = 1\n\n [ "mcp_servers" . neuronagent ] # mine\n# why\ncommand = "old" # here\nstartup_timeout_sec = 20\n'
        'args = [\n  "x",\n]\n\n[mcp_servers.neuronagent.env]\nHF_HOME = "/h"\n\n# next\n[b]\nc = 1\n'
    )
    text = install(place, "codex")
    assert text == (
        f'a = 1\n\n [ "mcp_servers" . neuronagent ] # mine\n# why\ncommand = "{ENTRY.command}" # here\n'
        'startup_timeout_sec = 20\nargs = ["-m", "neuronagent", "serve", "--db", "/data/a b.db"]\n\n'
        '[mcp_servers.neuronagent.env]\nHF_HOME = "/h"\n\n# next\n[b]\nc = 1\n'
    )
    plan_removal(place, NAME).apply()
    assert place.file.read_text() == "a = 1\n\n# next\n[b]\nc = 1\n"


BROKEN = (
    ("json", '{"mcpServers": {'),
    ("json", "[]"),
    ("json", '{"mcpServers": []}'),
    ("json", '{"mcpServers": {"neuronagent": 5}}'),
    ("json", '{"a": NaN}'),
    ("json", "{} {}"),
    ("json", '{"a": 1} // no'),
    ("json", "[" * 100_000),
    ("jsonc", '{/* "a": 1}'),
    ("jsonc", '{"servers": {}, "servers": {}}'),
    ("jsonc", '{"servers": {"neuronagent": {"command": "a", "args": [/* b */]}}}'),
    ("toml", "a = "),
    ("toml", "servers = 5"),
    ("toml", "servers = {neuronagent = {command = 'a'}}"),
    ("toml", "servers.neuronagent.command = 'a'"),
    ("toml", "servers = {other = {}}"),
    ("toml", "[servers.neuronagent]\ncommand = 'a'\nargs = [\n 'b', # c\n]\n"),
)


@pytest.mark.parametrize(("form", "text"), BROKEN)
def test_what_cannot_be_changed_safely_is_left_alone(tmp_path: Path, form: Any, text: str) -> None:
    place = Place(file=tmp_path / "f", form=form, servers=("servers" if form != "json" else "mcpServers",))
    place.file.write_text(text)
    with pytest.raises(InputError, match="left as it is") as raised:
        plan_install(CLIENTS["claude-desktop"], place, NAME, ENTRY)
    assert raised.value.remedy
    assert "\n" not in str(raised.value)
    assert place.file.read_text() == text
    assert list(tmp_path.iterdir()) == [place.file]


def test_a_file_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"a": "\xe9"}')
    (tmp_path / "folder").mkdir()
    for name, said in (("latin", "no text in UTF-8"), ("folder", "is no file")):
        place = Place(file=tmp_path / name, form="json", servers=("mcpServers",))
        with pytest.raises(InputError, match=said):
            plan_install(CLIENTS["gemini"], place, NAME, ENTRY)


def test_an_empty_file_is_taken_as_an_empty_configuration(tmp_path: Path) -> None:
    for form in ("json", "toml"):
        place = Place(file=tmp_path / form, form=form, servers=("mcpServers",))
        place.file.write_text(" \n")
        install(place, "claude-desktop")
        assert installed(place, NAME) == ENTRY.plain()


def test_removing_what_is_not_there_changes_nothing(tmp_path: Path) -> None:
    for form in ("json", "jsonc", "toml"):
        place = Place(file=tmp_path / form, form=form, servers=("mcpServers",))
        change = plan_removal(place, NAME)
        assert change.existing is None
        assert not change.is_needed
    assert not list(tmp_path.iterdir())


def test_the_file_behind_a_link_is_replaced_with_its_permissions_and_a_copy(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles" / "real.json", tmp_path / "link.json"
    real.parent.mkdir()
    real.write_text("{}\n")
    real.chmod(0o600)
    link.symlink_to(real)
    place = Place(file=link, form="json", servers=("mcpServers",))
    backup = plan_install(CLIENTS["gemini"], place, NAME, ENTRY).apply()
    assert link.is_symlink()
    assert "mcpServers" in real.read_text()
    assert backup is not None
    assert (backup.parent, backup.read_text()) == (real.parent, "{}\n")
    assert [path.stat().st_mode & 0o777 for path in (real, backup)] == [0o600, 0o600]
    second = plan_removal(place, NAME).apply()
    assert second not in (None, backup)
    assert len(list(real.parent.iterdir())) == 3


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "f.json", form="json", servers=("mcpServers",))
    place.file.write_text("{}")
    change = plan_install(CLIENTS["gemini"], place, NAME, ENTRY)
    place.file.write_text('{"new": 1}')
    with pytest.raises(StorageError, match="changed by another program"):
        change.apply()
    assert place.file.read_text() == '{"new": 1}'
    assert list(tmp_path.iterdir()) == [place.file]


def test_two_that_write_at_once_do_not_lose_an_entry(tmp_path: Path) -> None:
    place = Place(file=tmp_path / "f.json", form="json", servers=("mcpServers",))

    def add(number: int) -> bool:
        try:
            plan_install(CLIENTS["gemini"], place, f"n{number}", ENTRY).apply()
        except StorageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        written = [number for number, done in enumerate(pool.map(add, range(40))) if done]
    assert written
    assert sorted(json.loads(place.file.read_text())["mcpServers"]) == sorted(f"n{number}" for number in written)
    assert len(list(tmp_path.iterdir())) == len(written)  # a copy for each but the first


def test_what_a_killed_process_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    left = tmp_path / ".f.json.neuronagent-new"
    left.write_text("half")
    with pytest.raises(StorageError, match="another process is writing"):
        files.replace(tmp_path / "f.json", None, "{}")
    os.utime(left, (1, 1))
    assert files.replace(tmp_path / "f.json", None, "{}") is None
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_when_the_file_cannot_be_written_nothing_is_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text("{}")
    with pytest.raises(UnicodeEncodeError):
        files.replace(file, "{}", "\ud800")
    assert file.read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_entry_is_absolute_and_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = server_entry("a.db", ["--no-live"])
    assert entry.command == sys.executable
    assert entry.arguments == ("-m", "neuronagent", "serve", "--db", str(tmp_path / "a.db"), "--no-live")
    assert server_entry("postgresql://me@host/db").arguments[4] == "postgresql://me@host/db"
    for secret in ("postgresql://me:s3cret@host/db", "postgresql://host/db?user=a&password=s3cret", "x://a:b@[::"):
        with pytest.raises(UsageError, match="password") as raised:
            server_entry(secret)
        assert "s3cret" not in str(raised.value)
    assert not has_password("/a:b@c")
    with pytest.raises(UsageError, match="characters"):
        server_entry("a\x1b[2J.db")


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 65, 'a"'])
def test_a_name_that_some_client_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a server"):
        checked_name(name)


def test_what_a_client_would_replace_is_refused() -> None:
    entry = ServerEntry(command="/p", arguments=("--db", "/a/${HOME}/b.db"))
    for client in ("claude-code", "cursor", "vscode", "gemini"):
        with pytest.raises(UsageError, match="replaces what follows"):
            CLIENTS[client].shown(entry)
    assert CLIENTS["codex"].shown(entry) == entry.plain()


_KEYS = st.sampled_from(["mcpServers", "a", "b", "c/*", "d//", 'e"', "{"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["//", "/*", "*/", ",}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)
_SPACES = st.sampled_from(["", " ", "\n", "\n  ", "\r\n\t", " // x,\n", "/* } */", "\n/* a\n, */\n"])


def _written(draw: Any, value: Any) -> str:
    """`value` as somebody might write it: spaces, comments and trailing commas anywhere."""

    def space() -> str:
        return draw(_SPACES)

    def comma(number: int) -> str:
        return "," + space() if number and draw(st.booleans()) else ""

    if isinstance(value, dict):
        inner = [f"{json.dumps(k)}{space()}:{space()}{_written(draw, v)}" for k, v in value.items()]
    elif isinstance(value, list):
        inner = [_written(draw, v) for v in value]
    else:
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    joined = ",".join(space() + part + space() for part in inner)
    brackets = "{}" if isinstance(value, dict) else "[]"
    return brackets[0] + space() + joined + comma(len(inner)) + brackets[1]


@settings(max_examples=80, deadline=None)
@given(st.data(), st.dictionaries(_KEYS, _VALUES, max_size=4), st.sampled_from(["n", "a", "{"]))
def test_any_file_with_comments_takes_an_entry_and_gives_it_back(data: Any, value: dict[str, Any], name: str) -> None:
    value["mcpServers"] = dict.fromkeys(value, 1)
    text = _written(data.draw, value) + data.draw(_SPACES)
    assert jsonc.parse(text) == value
    was_there = name in value["mcpServers"]
    after = jsonc.put(text, ("mcpServers", name), {"x": [1]})
    assert jsonc.parse(after) == jsonc.with_value(value, ("mcpServers", name), {"x": [1]})
    assert after.count("//") == text.count("//")
    assert after.count("/*") == text.count("/*")
    back = jsonc.drop(after, ("mcpServers", name))
    expected = value if not was_there else jsonc.without_value(value, ("mcpServers", name))
    assert jsonc.parse(back) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(CODEX.split("\n\n")), unique=True),
    st.sampled_from(["[mcp_servers.neuronagent]\ncommand = 'x' # y\n", "[mcp_servers.neuronagent]\nurl = 'x'\n", ""]),
    st.booleans(),
)
def test_any_toml_file_keeps_its_other_tables(parts: list[str], own: str, returns: bool) -> None:
    text = "\n\n".join([*sorted(parts, key=lambda part: "model" not in part), own])
    text = text.replace("\n", "\r\n") if returns else text
    before = toml_tables.parse(text)
    path = ("mcp_servers", NAME)
    after = toml_tables.put(text, path, ENTRY.plain())
    assert toml_tables.parse(after) == jsonc.with_value(before, path, ENTRY.plain())
    if own:
        changed = toml_tables.put(text, (*path, "command"), 'a"\\\x7f')
        assert toml_tables.parse(changed) == jsonc.with_value(before, (*path, "command"), 'a"\\\x7f')
    gone = toml_tables.parse(toml_tables.drop(after, path))
    expected = jsonc.without_value(toml_tables.parse(after), path)
    assert gone == expected or gone == {key: held for key, held in expected.items() if held != {}}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everything")
def test_a_read_only_file_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text("{}")
    file.chmod(0o400)
    with pytest.raises(NeuronagentError, match="read-only"):
        files.replace(file, "{}", "{ }")
