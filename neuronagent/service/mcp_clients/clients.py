"""The MCP clients that can be configured: where each keeps its servers, in which format, and how an entry looks.

    client          user                                      project                  local
    claude-code     ~/.claude.json                            .mcp.json                ~/.claude.json, under the project
    claude-desktop  Claude/claude_desktop_config.json ¹
    cursor          ~/.cursor/mcp.json                        .cursor/mcp.json
    vscode          Code/User/mcp.json ¹                      .vscode/mcp.json
    codex           ~/.codex/config.toml                      .codex/config.toml
    gemini          ~/.gemini/settings.json                   .gemini/settings.json

¹ in ~/.config, ~/Library/Application Support or %APPDATA%. Environment variables that move these folders are followed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from neuronagent.errors import UsageError
from neuronagent.service.mcp_clients.entries import ServerEntry

ClientName = Literal["claude-code", "claude-desktop", "cursor", "vscode", "codex", "gemini"]
Scope = Literal["user", "project", "local"]
Form = Literal["json", "jsonc", "toml"]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What decides where a client's files lie; `project` is the folder that project files belong to."""

    home: Path
    platform: str
    variables: Mapping[str, str]
    project: Path

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process."""
        return cls(home=Path.home(), platform=sys.platform, variables=os.environ, project=Path.cwd())

    def folder(self, variable: str, *default: str) -> Path:
        """The folder that a variable names, else one below the home folder."""
        given = self.variables.get(variable)
        return self.project / given if given else self.home.joinpath(*default)

    def applications(self) -> Path:
        """Where programs with windows keep what a user chose."""
        if self.platform == "win32":
            return self.folder("APPDATA", "AppData", "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.folder("XDG_CONFIG_HOME", ".config")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A file, its format, and the keys that lead to the table of servers in it."""

    file: Path
    form: Form
    servers: tuple[str, ...]


Locate = Callable[[Surroundings], Place]


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client. `typed`: entries say that they are served over stdio. `expands`: what it replaces within arguments.
    `then`: what a user does for the entry to take effect."""

    name: ClientName
    scopes: Mapping[Scope, Locate]
    typed: bool
    expands: str
    then: str

    def place(self, scope: Scope, surroundings: Surroundings) -> Place:
        """Where the servers of `scope` are listed.

        Raises:
            UsageError: it has no such scope.
        """
        if scope not in self.scopes:
            raise UsageError(f"{self.name} has no scope {scope}", remedy=f"allowed: {', '.join(self.scopes)}")
        return self.scopes[scope](surroundings)

    def shown(self, entry: ServerEntry) -> dict[str, Any]:
        """`entry` in this client's words.

        Raises:
            UsageError: it holds something that the client would replace.
        """
        for part in (entry.command, *entry.arguments):
            if self.expands and self.expands in part:
                raise UsageError(
                    f"{self.name} replaces what follows {self.expands!r} in {part!r}",
                    remedy="give the folder or file another name, or a link without that character",
                )
        return ({"type": "stdio"} if self.typed else {}) | entry.plain()


def _claude_file(around: Surroundings) -> Path:
    return around.folder("CLAUDE_CONFIG_DIR") / ".claude.json"


def _claude_project(around: Surroundings) -> Place:
    path = around.project.as_posix()  # with / on Windows too
    return Place(file=_claude_file(around), form="json", servers=("projects", path, "mcpServers"))


def _claude_desktop(around: Surroundings) -> Place:
    """Installed as a Windows package, the program sees a folder of its own in place of %APPDATA%."""
    folder = around.applications() / "Claude"
    if around.platform == "win32":
        packages = around.folder("LOCALAPPDATA", "AppData", "Local") / "Packages"
        inside = sorted(found / "LocalCache" / "Roaming" / "Claude" for found in packages.glob("Claude_*"))
        known = [found for found in inside if found.is_dir()]
        folder = known[0] if known else folder
    return _json(folder / "claude_desktop_config.json", "json")


def _json(file: Path, form: Form = "jsonc", servers: str = "mcpServers") -> Place:
    return Place(file=file, form=form, servers=(servers,))


def _toml(folder: Path) -> Place:
    return Place(file=folder / "config.toml", form="toml", servers=("mcp_servers",))


_ALL = (
    Client(
        name="claude-code",
        scopes={
            "user": lambda around: _json(_claude_file(around), "json"),
            "project": lambda around: _json(around.project / ".mcp.json", "json"),
            "local": _claude_project,
        },
        typed=True,
        expands="${",
        then="start a new session of Claude Code; /mcp lists its servers",
    ),
    Client(
        name="claude-desktop",
        scopes={"user": _claude_desktop},
        typed=False,
        expands="",
        then="quit Claude Desktop and start it again",
    ),
    Client(
        name="cursor",
        scopes={
            "user": lambda around: _json(around.home / ".cursor" / "mcp.json"),
            "project": lambda around: _json(around.project / ".cursor" / "mcp.json"),
        },
        typed=True,
        expands="${",
        then="restart Cursor; its settings list the MCP servers",
    ),
    Client(
        name="vscode",
        scopes={
            "user": lambda around: _json(around.applications() / "Code" / "User" / "mcp.json", servers="servers"),
            "project": lambda around: _json(around.project / ".vscode" / "mcp.json", servers="servers"),
        },
        typed=True,
        expands="${",
        then="run `MCP: List Servers` in VS Code and start it",
    ),
    Client(
        name="codex",
        scopes={
            "user": lambda around: _toml(around.folder("CODEX_HOME", ".codex")),
            "project": lambda around: _toml(around.project / ".codex"),
        },
        typed=False,
        expands="",
        then="start a new session of Codex; /mcp lists its servers",
    ),
    Client(
        name="gemini",
        scopes={
            "user": lambda around: _json(around.folder("GEMINI_CLI_HOME") / ".gemini" / "settings.json"),
            "project": lambda around: _json(around.project / ".gemini" / "settings.json"),
        },
        typed=False,
        expands="$",
        then="start Gemini CLI again; /mcp lists its servers",
    ),
)
CLIENTS: Mapping[ClientName, Client] = {client.name: client for client in _ALL}
CLIENT_NAMES = cast("tuple[ClientName, ...]", get_args(ClientName))
