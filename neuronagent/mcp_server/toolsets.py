"""Which tools a server lists: all groups, cut down to the toolsets, tools and permissions that it was started with."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mcp.server.mcpserver.tools import Tool

from neuronagent.domain import clip
from neuronagent.errors import UsageError
from neuronagent.mcp_server.core import CoreTools
from neuronagent.mcp_server.explaining import ExplainTools
from neuronagent.mcp_server.live import LiveTools
from neuronagent.mcp_server.options import TOOLSETS, ServerOptions
from neuronagent.mcp_server.reporting import ReportTools
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.questions import Asks

SLOW = ("live", "explain")
"""The toolsets whose tools may take long."""


def tools_of(toolset: str, options: ServerOptions, source: SharedSource, asks: Asks | None) -> list[Tool]:
    """The tools of a toolset, in the order in which a client lists them; `asks` has the model run, None: nobody."""
    if toolset == "core":
        return CoreTools(source).tools()
    if toolset == "live":
        return [] if asks is None else LiveTools(source, asks).tools()
    if toolset == "explain":
        return ExplainTools(source, options, asks).tools()
    return ReportTools(source).tools()


def chosen_tools(options: ServerOptions, source: SharedSource, asks: Asks | None) -> dict[str, list[Tool]]:
    """By toolset the tools that `options` leave: those of the toolsets, of these the named ones, without those that
    write if the server is to read only.

    Raises:
        UsageError: a name that there is not, or that the other options leave out; or nothing is left.
    """
    _check("toolset", options.toolsets, TOOLSETS)
    groups = {name: tools_of(name, options, source, asks) for name in TOOLSETS if name in options.toolsets}
    left = {name: [tool for tool in group if _allowed(tool, options)] for name, group in groups.items()}
    _check("tool", options.tools, [tool.name for group in left.values() for tool in group])
    chosen = {
        name: [tool for tool in group if not options.tools or tool.name in options.tools]
        for name, group in left.items()
    }
    if not any(chosen.values()):
        raise UsageError("no tool is left with these options", remedy=f"allowed toolsets: {', '.join(TOOLSETS)}")
    return chosen


def _allowed(tool: Tool, options: ServerOptions) -> bool:
    writes = tool.annotations is None or not tool.annotations.read_only_hint
    return not (options.read_only and writes)


def _check(what: str, names: Iterable[str], allowed: Collection[str]) -> None:
    for name in names:
        if name not in allowed:
            raise UsageError(
                f"there is no {what} {clip(name)!r} with these options", remedy=f"allowed: {', '.join(allowed)}"
            )
