"""The MCP server: which tools, resources and prompts there are, and what a client reads when something goes wrong."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, GetPromptResult, InputRequiredResult
from pydantic import AnyUrl, ValidationError

from neuronagent.domain import clip
from neuronagent.errors import NeuronagentError, NotFoundError
from neuronagent.mcp_server.completions import Completions
from neuronagent.mcp_server.faults import lines, protocol_error, root, unknown
from neuronagent.mcp_server.instructions import instructions
from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.prompts import Prompts
from neuronagent.mcp_server.resources import GUIDE, TEMPLATES, Resources
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.mcp_server.stdio import serve_stdio
from neuronagent.mcp_server.toolsets import SLOW, chosen_tools
from neuronagent.service.live.worker import LiveWorker

SLOW_CALLS = 12
"""Calls of tools that may take long which hold a thread at once; others wait without, so that tools that read the index
always find one."""


class NeuronServer(MCPServer[Any]):
    """An `MCPServer` that refuses arguments it does not know and answers errors in one line each."""

    def __init__(
        self,
        tools: list[Tool],
        source: SharedSource,
        *,
        slow: Collection[str] = (),
        worker: LiveWorker | None = None,
    ) -> None:
        """`slow`: the names of the tools that may take long. `worker` has the model run, and is closed by `close`."""
        names = [tool.name for tool in tools]
        super().__init__(
            name="neuronagent",
            title="neuronagent: what MLP neurons do",
            version=version("neuronagent"),
            instructions=instructions(names),
            tools=tools,
            subscriptions=False,  # nothing that it lists changes, and a stream of nothing would stay open
        )
        self._allowed = {tool.name: list(tool.parameters["properties"]) for tool in tools}
        self._slow = frozenset(slow)
        self._room = anyio.Semaphore(SLOW_CALLS)
        self.source, self.worker = source, worker
        Resources(source).add_to(self)
        Prompts(names).add_to(self)
        self.completion()(Completions(source).complete)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        allowed = self._allowed.get(name)
        if allowed is None:
            raise ToolError(unknown("tool", name, self._allowed))
        strange = [argument for argument in arguments if argument not in allowed]
        if strange:
            raise ToolError("\n".join(unknown("argument", argument, allowed) for argument in strange[:5]))
        try:
            async with self._room if name in self._slow else nullcontext():
                return await super().call_tool(name, arguments, context)
        except ToolError as error:
            raise ToolError(_explain(name, error)) from None

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        try:
            return await super().read_resource(uri, context)
        except ResourceNotFoundError:
            line = f"there is no resource {clip(str(uri))!r}: allowed: {', '.join([GUIDE, *TEMPLATES])}"
            raise MCPError(code=INVALID_PARAMS, message=line, data={"uri": str(uri)}) from None
        except ResourceError as error:
            raise protocol_error("reading the resource", root(error)) from None

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        prompts = {prompt.name: prompt.arguments or [] for prompt in self._prompt_manager.list_prompts()}
        if name not in prompts:
            raise MCPError(code=INVALID_PARAMS, message=unknown("prompt", name, prompts))
        given, known = arguments or {}, {argument.name: argument.required for argument in prompts[name]}
        wrong = [unknown("argument", argument, known) for argument in given if argument not in known][:5]
        wrong += [
            f"{argument} is required" for argument, required in known.items() if required and argument not in given
        ]
        if wrong:
            raise MCPError(code=INVALID_PARAMS, message="\n".join(wrong))
        try:
            return await super().get_prompt(name, arguments, context)
        except ValueError as error:
            raise protocol_error(f"prompt {name}", root(error)) from None

    def close(self) -> None:
        """End the model's process, if there is one."""
        if self.worker is not None:
            self.worker.close()

    async def run_stdio_async(self) -> None:
        """Serve one client on stdin and stdout; see `stdio.py`."""
        await serve_stdio(self._lowlevel_server)


def build_server(options: ServerOptions) -> NeuronServer:
    """A server as asked for; the index is opened with the first call.

    Raises:
        UsageError: a toolset or tool that there is not, or none is left.
    """
    # Before the SDK sets up logging of its own, whose rich tracebacks would hold up every other call.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    source = SharedSource(options.db)
    worker = None
    if options.live:
        worker = LiveWorker(options.db, model=options.model, device=options.device, timeout=options.live_timeout)
    toolsets = chosen_tools(options, source, worker)
    tools = [tool for group in toolsets.values() for tool in group]
    slow = {tool.name for name in SLOW for tool in toolsets.get(name, ())}
    return NeuronServer(tools, source, slow=slow, worker=worker)


def run_stdio(options: ServerOptions) -> None:
    """Serve an index on stdin and stdout until the client closes stdin.

    Raises:
        NotFoundError: there is no such file.
        UsageError: a toolset or tool that there is not.
    """
    require_index(options.db)
    server = build_server(options)
    try:
        server.run("stdio")
    finally:
        server.close()


def require_index(db: str) -> None:
    """Whether there is something to serve, which is said at once and not with the first call.

    Raises:
        NotFoundError: there is no such file.
    """
    if "://" not in db and not Path(db).expanduser().is_file():
        raise NotFoundError(f"{db} does not exist", remedy="name an index file, or make one with neuronagent index")


def _explain(tool: str, error: ToolError) -> str:
    """What a client reads of a tool's error; one that the tool worded itself stays as it is."""
    cause = error.__cause__
    if isinstance(cause, NeuronagentError | ValidationError):
        return lines(tool, cause)
    return str(error) if cause is None or isinstance(cause, ToolError) else lines(tool, cause)
