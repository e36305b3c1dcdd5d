"""Makes tools of methods: what their arguments are, what they return, and what a client is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from neuronagent.mcp_server.schemas import flat_input, flat_output
from neuronagent.service.bounded import MAX_LIMIT, compact

Format = Literal["concise", "detailed"]
Model = str | None  # said once, in the instructions: leave it out
Neuron = Annotated[str, Field(description="such as 31.9634")]
Combination = Annotated[str | None, Field(description="such as gate+_in-")]
Limit = Annotated[int | None, Field(ge=1, le=MAX_LIMIT)]
Cosine = Annotated[float | None, Field(allow_inf_nan=False)]
Paging = Annotated[str | None, Field(description="next_cursor")]

READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)
"""Reads the index, or runs the model, and changes nothing; what is said of changes would mean nothing then."""
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
"""Adds to the index; the same call again adds nothing."""


def structured(found: Mapping[str, Any]) -> CallToolResult:
    """An answer in both forms: some hosts show the model only the one, some only the other."""
    answer = dict(found)
    return CallToolResult(content=[TextContent(type="text", text=compact(answer))], structured_content=answer)


def data_tool(function: Callable[..., Any], title: str, annotations: ToolAnnotations = READ_ONLY) -> Tool:
    """A tool of a function whose docstring is its description and whose result is structured."""
    tool = _tool(function, title, annotations)
    tool.fn_metadata.output_schema = flat_output(tool.fn_metadata.output_schema or {})
    return tool


def content_tool(function: Callable[..., Any], title: str, annotations: ToolAnnotations = READ_ONLY) -> Tool:
    """A tool whose result is content alone, such as a picture."""
    return _tool(function, title, annotations)


def _tool(function: Callable[..., Any], title: str, annotations: ToolAnnotations) -> Tool:
    description = " ".join((function.__doc__ or "").split())
    tool = Tool.from_function(function, title=title, description=description, annotations=annotations)
    tool.parameters = flat_input(tool.parameters)
    return tool
