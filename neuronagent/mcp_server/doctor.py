"""`neuronagent mcp doctor`: whether a configured command serves an index, as a client would find out.

1. The interpreter is there, and the index can be read.
2. A first process: `server/discover` and then `initialize` on one pipe, the tools in both protocols, then those that
   only read the index, about the first neuron that a search finds.
3. A second process: `initialize` first; whether torch is imported at the start; whether it ends when stdin closes.
4. All the while, stdout may carry nothing but messages.

The first thing that makes going on useless ends it. Every wait is bounded.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from neuronagent.errors import NeuronagentError
from neuronagent.mcp_server.doctor_process import ServerProblem, ServerProcess
from neuronagent.service.mcp_clients.entries import has_password
from neuronagent.service.untrusted import clean
from neuronagent.settings import DB_VARIABLE

CHEAP_TOOLS: tuple[str, ...] = (
    "layer_summary",
    "neuron_overview",
    "neuron_weights",
    "neuron_vocab",
    "neuron_examples",
    "neuron_stats",
    "neuron_predictability",
    "similar_neurons",
    "neuron_explanations",
)
"""Tools that only read the index, asked about one neuron."""
PATIENCE = 30.0
"""Seconds that an answer is waited for."""
_IN_ALL = 4
"""How many times that everything may take."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: what was found, and what to do if it is not `ok`."""

    name: str
    ok: bool
    said: str
    remedy: str = ""
    milliseconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command as a client's file has it, with the variables that the entry adds."""

    command: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def db(self) -> str | None:
        """The index that it names."""
        for place, argument in enumerate(self.arguments[:-1]):
            if argument == "--db":
                return self.arguments[place + 1]
        given = [argument.partition("=")[2] for argument in self.arguments if argument.startswith("--db=")]
        return given[0] if given else self.variables.get(DB_VARIABLE)


def examine(command: Command, *, patience: float = PATIENCE) -> list[Finding]:
    """What there is to say about a command, in the order in which it was looked at."""
    findings: list[Finding] = []
    deadline = time.monotonic() + _IN_ALL * patience
    for part in (_interpreter, _index, _first_process, _second_process):
        found = list(part(command, patience, deadline))
        findings += found
        if part is not _index and not all(finding.ok for finding in found):
            break
    return findings


def _interpreter(command: Command, patience: float, deadline: float) -> Iterator[Finding]:
    path = command.variables.get("PATH")
    there = shutil.which(command.command, path=path)
    if there is None:
        what = "is not there" if not Path(command.command).exists() else "cannot be run"
        remedy = "write the entry anew: neuronagent mcp install"
        yield Finding(name="command", ok=False, said=f"{clean(command.command, 200)} {what}", remedy=remedy)
        return
    said = clean(command.command, 200)
    if not Path(command.command).is_absolute():
        said += f" (a client may find another one than {there})"
    yield Finding(name="command", ok=True, said=said)


def _index(command: Command, patience: float, deadline: float) -> Iterator[Finding]:
    if any(map(has_password, command.arguments)):
        remedy = "leave it out of the address and keep it in ~/.pgpass"
        yield Finding(name="configuration", ok=False, said="the client's file holds a password", remedy=remedy)
    if command.db is None:
        yield Finding(name="index", ok=True, said="none is named: the server takes the only one in the data folder")
        return
    from neuronagent.mcp_server.source import IndexSource

    if "://" not in command.db and not Path(command.db).expanduser().is_absolute():
        said = f"{clean(command.db, 200)} is no absolute path, and clients start servers in folders of their own"
        yield Finding(name="index", ok=False, said=said, remedy="write the entry anew: neuronagent mcp install")
        return
    begun = time.monotonic()
    try:
        with closing(IndexSource(command.db)) as source:
            info = source.view().info
    except NeuronagentError as error:
        yield Finding(name="index", ok=False, said=clean(error.message, 300), remedy=error.remedy)
        return
    model: Any = info.get("model")
    name = cast("Mapping[str, Any]", model).get("name", "?") if isinstance(model, Mapping) else "?"
    fingerprint = clean(str(info.get("fingerprint")), 20)
    said = f"{fingerprint}, model {clean(str(name), 80)}"
    yield Finding(name="index", ok=True, said=said, milliseconds=_since(begun))


def _first_process(command: Command, patience: float, deadline: float) -> Iterator[Finding]:
    noise: list[str] = []
    try:
        with ServerProcess(_line(command), command.variables, patience=patience, deadline=deadline) as server:
            noise = server.noise
            answer = server.ask("server/discover")
            yield _timed("start, server/discover", _who(answer.result), _since(server.started), answer.size)
            answer = server.initialize()
            said = f"on the same pipe, protocol {clean(str(answer.result.get('protocolVersion')), 20)}"
            yield _timed("initialize", said, _ms(answer.seconds), answer.size)
            answer = server.ask("tools/list")
            tools = _tools(answer.result)
            old = _tools(server.ask("tools/list", modern=False).result)
            if list(tools) != list(old):
                raise ServerProblem("the two protocols list different tools", "report it")
            yield _timed("tools/list", f"{len(tools)} tools", _ms(answer.seconds), answer.size)
            yield from _calls(server, tools)
    except ServerProblem as problem:
        yield Finding(name="server", ok=False, said=problem.said, remedy=problem.remedy)
    yield from _noise(noise)


def _second_process(command: Command, patience: float, deadline: float) -> Iterator[Finding]:
    noise: list[str] = []
    try:
        with ServerProcess(
            _line(command), command.variables, patience=patience, deadline=deadline, import_times=True
        ) as server:
            noise = server.noise
            server.initialize()
            tools = _tools(server.ask("tools/list", modern=False).result)
            yield Finding(name="initialize first", ok=True, said=f"{len(tools)} tools")
            seconds = server.end()
            yield _timed("end of stdin", "it ends", _ms(seconds), None)
            yield _torch(server.imported_torch)
    except ServerProblem as problem:
        yield Finding(name="server", ok=False, said=problem.said, remedy=problem.remedy)
    yield from _noise(noise)


def _calls(server: ServerProcess, tools: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """The tools that only read the index, each once."""
    if "model_info" in tools:
        yield from _call(server, "model_info", {})
    if "search_neurons" not in tools:
        return
    found = server.ask("tools/call", {"name": "search_neurons", "arguments": {"limit": 1}})
    yield _called("search_neurons", found.result, _ms(found.seconds), found.size)
    neuron = _first_neuron(found.result)
    if neuron is None:
        return
    known = {"neuron": neuron, "layer": int(neuron.partition(".")[0])}
    for tool in CHEAP_TOOLS:
        if tool in tools and set(tools[tool]) <= set(known):
            yield from _call(server, tool, {name: known[name] for name in tools[tool]})


def _call(server: ServerProcess, tool: str, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    answer = server.ask("tools/call", {"name": tool, "arguments": arguments})
    yield _called(tool, answer.result, _ms(answer.seconds), answer.size)


def _called(tool: str, result: Mapping[str, Any], milliseconds: float, size: int) -> Finding:
    if not result.get("isError"):
        return Finding(name=tool, ok=True, said="answers", milliseconds=milliseconds, bytes=size)
    content: Any = result.get("content")
    said = " ".join(str(item.get("text", "")) for item in content) if isinstance(content, list) else ""
    remedy = "the line says what to do; if it does not, report it"
    return Finding(name=tool, ok=False, said=clean(said, 200), remedy=remedy, milliseconds=milliseconds, bytes=size)


def _first_neuron(result: Mapping[str, Any]) -> str | None:
    held: Any = result.get("structuredContent")
    rows: Any = held.get("neurons") if isinstance(held, Mapping) else None
    first: Any = rows[0] if isinstance(rows, list) and rows else None
    neuron: Any = first.get("neuron") if isinstance(first, Mapping) else None
    return neuron if isinstance(neuron, str) and neuron.partition(".")[0].isdecimal() else None


def _tools(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the tools, each with the arguments that it needs."""
    listed: Any = result.get("tools")
    if not isinstance(listed, list) or not listed:
        raise ServerProblem("it lists no tools", "look at the options of the command, such as --toolsets")
    tools: dict[str, list[str]] = {}
    for tool in cast("list[Any]", listed):
        if not isinstance(tool, Mapping):
            raise ServerProblem("it lists tools in a form that no client reads", "report it")
        schema: Any = cast("Mapping[str, Any]", tool).get("inputSchema")
        needed: Any = schema.get("required", []) if isinstance(schema, Mapping) else []
        tools[str(cast("Mapping[str, Any]", tool).get("name"))] = [str(name) for name in needed]
    return tools


def _who(result: Mapping[str, Any]) -> str:
    """Name and version of the server, and whether it is another version than this one.

    Raises:
        ServerProblem: it is another server.
    """
    said: Any = result.get("serverInfo")
    if not isinstance(said, Mapping):
        said = cast("Mapping[str, Any]", result.get("_meta") or {}).get("io.modelcontextprotocol/serverInfo")
    given = cast("Mapping[str, Any]", said) if isinstance(said, Mapping) else {}
    name, number = clean(str(given.get("name")), 40), clean(str(given.get("version")), 40)
    if name != "neuronagent":
        raise ServerProblem(f"it says that it is {name}, not neuronagent", "look at the command")
    own = version("neuronagent")
    return f"neuronagent {number}" + ("" if number == own else f" (this is {own})")


def _torch(imported: bool) -> Finding:
    if not imported:
        return Finding(name="torch", ok=True, said="not imported at the start")
    remedy = "every start takes seconds so; report it"
    return Finding(name="torch", ok=False, said="imported before the first question", remedy=remedy)


def _noise(noise: Sequence[str]) -> Iterator[Finding]:
    if noise:
        lines = "a line" if len(noise) == 1 else f"{len(noise)} lines"
        said = f"{lines} on stdout that are no messages, the first: {noise[0]}"
        remedy = "only messages may be printed there; look what the command runs before the server"
        yield Finding(name="stdout", ok=False, said=said, remedy=remedy)


def _line(command: Command) -> tuple[str, ...]:
    return (command.command, *command.arguments)


def _timed(name: str, said: str, milliseconds: float, size: int | None) -> Finding:
    return Finding(name=name, ok=True, said=said, milliseconds=milliseconds, bytes=size)


def _since(begun: float) -> float:
    return _ms(time.monotonic() - begun)


def _ms(seconds: float) -> float:
    return round(1_000 * seconds, 1)
