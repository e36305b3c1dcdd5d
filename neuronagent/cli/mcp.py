"""`neuronagent mcp`: tells MCP clients of this server, takes it back, and looks whether it works."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neuronagent.cli import serve, text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.service.mcp_clients.clients import ClientName, Scope
from neuronagent.settings import chosen_db

if TYPE_CHECKING:
    from neuronagent.mcp_server.doctor import Command, Finding
    from neuronagent.service.mcp_clients.change import Change
    from neuronagent.service.mcp_clients.clients import Client, Place
    from neuronagent.service.mcp_clients.entries import ServerEntry

NAME = "mcp"
app = typer.Typer(help="Tell MCP clients of this server, and look whether it works for them.", no_args_is_help=True)

Whose = Annotated[ClientName, typer.Option("--client", help="Whose configuration.")]
Where = Annotated[
    Scope,
    typer.Option(
        "--scope",
        help="user: everywhere. project: a file in this folder, which others may share. local: this folder, for you "
        "alone (claude-code).",
    ),
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="What the client calls the server.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write without asking; needed where nobody can be asked.")]


@app.command("install")
def install(
    client: Annotated[
        Literal[ClientName, "json"],
        typer.Option("--client", help="Whose configuration; json prints an entry for any other client."),
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- SERVE_OPTIONS", help="Options of `neuronagent serve`, such as -- --no-live."),
    ] = None,
    scope: Where = "user",
    db: Db = None,
    name: Name = "neuronagent",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add this server to a client's configuration, with absolute paths.

    All else in the file stays, comments too; what was there is kept beside it. The same again changes nothing.
    """
    from neuronagent.service.mcp_clients.change import pasteable, plan_install
    from neuronagent.service.mcp_clients.clients import CLIENTS
    from neuronagent.service.mcp_clients.entries import checked_name
    from neuronagent.service.mcp_clients.starting import try_entry

    entry = _entry(db, options or [])
    if client == "json":
        checked_name(name)
        try_entry(entry, {})
        _print({"mcpServers": {name: entry.plain()}})
        return
    chosen, place = _place(CLIENTS[client], scope)
    typer.echo(f"{place.file}\n\n{pasteable(place, checked_name(name), chosen.shown(entry))}\n")
    change = plan_install(chosen, place, name, entry)
    if not change.is_needed:
        typer.echo("already there: nothing was written")
        return
    if change.existing is not None:
        typer.echo(f"takes the place of: {_shown(change.existing)}")
    if change.kept:
        typer.echo(f"of that stay: {text.visible(', '.join(change.kept))}")
    if scope == "project":
        typer.echo("this file may be shared with others, and holds paths of this machine")
    if _may_write(dry_run, yes):
        try_entry(entry, _variables(change.existing or {}))
        _write(change, yes)
        typer.echo(f"now {chosen.then}")
        same = "" if name == "neuronagent" else f" --name {name}"
        typer.echo(f"try it: neuronagent mcp doctor --client {client}{_scope_option(scope)}{same}")


@app.command("uninstall")
def uninstall(
    client: Whose,
    scope: Where = "user",
    name: Name = "neuronagent",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove this server from a client's configuration, and nothing else."""
    from neuronagent.service.mcp_clients.change import plan_removal
    from neuronagent.service.mcp_clients.clients import CLIENTS
    from neuronagent.service.mcp_clients.entries import checked_name

    _, place = _place(CLIENTS[client], scope)
    change = plan_removal(place, checked_name(name))
    if change.existing is None:
        typer.echo(f"{place.file} holds no server {name}: nothing was written")
        return
    typer.echo(f"{place.file}\n\n{name}: {_shown(change.existing)}\n")
    if _may_write(dry_run, yes):
        _write(change, yes)


@app.command("doctor")
def doctor(
    client: Annotated[
        ClientName | None,
        typer.Option("--client", help="Try the command in this client's file (default: what install would write)."),
    ] = None,
    scope: Where = "user",
    name: Name = "neuronagent",
    db: Db = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, max=600, help="How long to wait for an answer.")
    ] = 30.0,
    json: Json = False,
) -> None:
    """Start the server as a client does, ask it, and say what is wrong; exit code 1 if something is."""
    from neuronagent.mcp_server.doctor import examine

    command, source = (_own_command(db), None) if client is None else _configured(client, scope, name)
    findings = examine(command, patience=timeout)
    wrong = [finding for finding in findings if not finding.ok]
    if json:
        _print_json(command, source, findings)
    else:
        _print_findings(command, source, findings)
    if wrong:
        raise typer.Exit(1)


def _entry(db: str | None, options: Sequence[str]) -> ServerEntry:
    """The command to write, for an index that can be read."""
    from contextlib import closing

    from neuronagent.mcp_server.source import IndexSource
    from neuronagent.service.mcp_clients.entries import server_entry

    checked = _checked_options(options)
    entry = server_entry(chosen_db(db), checked)
    with closing(IndexSource(entry.arguments[entry.arguments.index("--db") + 1])) as source:
        source.view()
    return entry


def _checked_options(options: Sequence[str]) -> list[str]:
    """Options of `serve`, a model's folder as an absolute path.

    Raises:
        UsageError: one that cannot stand in an entry.
    """
    parser = typer.Typer(add_completion=False)
    parser.command(serve.NAME)(serve.command)
    with typer.main.get_command(parser).make_context("neuronagent serve", list(options)) as context:
        given: Mapping[str, Any] = context.params
    if any(part == "--db" or part.startswith("--db=") for part in options):
        raise UsageError("--db cannot be among the options of serve", remedy="give it to install itself")
    if given.get("over_http"):
        raise UsageError("clients talk to this entry over stdio", remedy="leave --http out")
    model = given.get("model")
    if not isinstance(model, str) or not Path(model).expanduser().is_dir():
        return list(options)
    folder = str(Path(model).expanduser().resolve())
    return [option.replace(model, folder) if option in (model, f"--model={model}") else option for option in options]


def _place(client: Client, scope: Scope) -> tuple[Client, Place]:
    from neuronagent.service.mcp_clients.clients import Surroundings

    return client, client.place(scope, Surroundings.here())


def _may_write(dry_run: bool, yes: bool) -> bool:
    """Whether it is wanted at all.

    Raises:
        UsageError: nobody can be asked.
    """
    if dry_run:
        typer.echo("nothing was written (--dry-run)")
    elif not yes and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here", remedy="add --yes to write it, or --dry-run to look only")
    return not dry_run


def _write(change: Change, yes: bool) -> None:
    """Write it, if the user says so.

    Raises:
        typer.Abort: the user says no.
    """
    if not yes:
        typer.confirm("write it?", abort=True, err=True)
    backup = change.apply()
    typer.echo(f"wrote {change.file}" + (f"; what it was before is {backup}" if backup else ""))


def _shown(entry: Mapping[str, Any]) -> str:
    """An entry in one line; values of its variables may be secret, and an address may hold a password."""
    from neuronagent.service.mcp_clients.entries import has_password

    command = entry.get("command", entry.get("url", entry.get("httpUrl", "…")))
    given = entry.get("args")
    parts = [str(command), *(str(part) for part in given)] if isinstance(given, list) else [str(command)]
    return text.clipped(text.visible(" ".join("…" if has_password(part) else part for part in parts)), 300)


def _scope_option(scope: str) -> str:
    return "" if scope == "user" else f" --scope {scope}"


def _own_command(db: str | None) -> Command:
    from neuronagent.mcp_server.doctor import Command
    from neuronagent.service.mcp_clients.entries import server_entry

    entry = server_entry(chosen_db(db))
    return Command(command=entry.command, arguments=entry.arguments)


def _configured(client: ClientName, scope: Scope, name: str) -> tuple[Command, str]:
    """The command in a client's file, and which file that is.

    Raises:
        NotFoundError: there is no entry of that name, or none that starts a command.
    """
    from neuronagent.mcp_server.doctor import Command
    from neuronagent.service.mcp_clients.change import installed
    from neuronagent.service.mcp_clients.clients import CLIENTS

    _, place = _place(CLIENTS[client], scope)
    entry = installed(place, name)
    again = f"neuronagent mcp install --client {client}{_scope_option(scope)}"
    if entry is None:
        raise NotFoundError(f"{place.file} holds no server {text.visible(name[:80])}", remedy=f"run {again}")
    command, arguments = entry.get("command"), entry.get("args", [])
    if not isinstance(command, str) or not isinstance(arguments, list):
        raise NotFoundError(f"{name} in {place.file} starts no command", remedy=f"run {again}")
    return Command(
        command=command,
        arguments=tuple(str(argument) for argument in arguments),
        variables=_variables(entry),
    ), str(place.file)


def _variables(entry: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables that an entry adds."""
    given = entry.get("env")
    return {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}


def _print_json(command: Command, source: str | None, findings: Sequence[Finding]) -> None:
    from dataclasses import asdict

    print_json(
        {
            "schema_version": 1,
            "ok": all(finding.ok for finding in findings),
            "file": source,
            "command": [command.command, *_safe(command)],
            "checks": [asdict(finding) for finding in findings],
        }
    )


def _print_findings(command: Command, source: str | None, findings: Sequence[Finding]) -> None:
    from rich.text import Text

    from neuronagent.cli import card

    with page() as out:
        out.print(Text(text.visible(" ".join((command.command, *_safe(command)))), style="dim"))
        if source:
            out.print(Text(f"from {text.visible(source)}", style="dim"))
        out.print()
        table = card.plain_table([("", "left"), ("", "left"), ("", "wrap"), ("ms", "right"), ("bytes", "right")])
        for finding in findings:
            style = "" if finding.ok else "red"
            time = "" if finding.milliseconds is None else f"{finding.milliseconds:,.1f}"
            size = "" if finding.bytes is None else f"{finding.bytes:,}"
            cells = ("ok" if finding.ok else "wrong", finding.name, text.visible(finding.said), time, size)
            table.add_row(*(Text(cell, style=style) for cell in cells))
            if not finding.ok and finding.remedy:
                table.add_row("", "", Text(f"→ {text.visible(finding.remedy)}"), "", "")
        out.print(table)
        wrong = sum(not finding.ok for finding in findings)
        out.print()
        out.print(Text("a client can use it" if not wrong else f"{wrong} of {len(findings)} wrong", style="bold"))


def _safe(command: Command) -> list[str]:
    """The arguments, without passwords."""
    from neuronagent.service.mcp_clients.entries import has_password

    return ["…" if has_password(argument) else argument for argument in command.arguments]


def _print(value: Mapping[str, Any]) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
