"""The report tools: a picture of a neuron, and a summary with the address of the whole report."""

from __future__ import annotations

import base64
from typing import Annotated

import anyio
import anyio.to_thread
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent

from neuronagent.mcp_server.answering import IndexTools
from neuronagent.mcp_server.making import Model, Neuron, content_tool, data_tool, structured
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.tool_more_results import Report


class ReportTools(IndexTools):
    """The report tools over an index."""

    def __init__(self, source: SharedSource) -> None:
        super().__init__(source)
        self._one_picture = anyio.CapacityLimiter(1)

    def tools(self) -> list[Tool]:
        """All of them, in the order in which a client lists them."""
        return [
            content_tool(self.neuron_plot, "Neuron picture"),
            data_tool(self.neuron_report, "Neuron report"),
        ]

    async def neuron_plot(self, neuron: Neuron, model: Model = None) -> CallToolResult:
        """Draw one neuron: how strong it is in each sign combination, and its cosines among its layer's IO classes.

        Use it to show a person. Not for numbers: use neuron_stats or neuron_weights. Output: a PNG and a caption.
        Example: {"neuron": "31.9634"}
        """
        # Drawing holds the interpreter more than reading does: one picture at a time leaves room for other calls.
        picture, caption = await anyio.to_thread.run_sync(self._draw, neuron, model, limiter=self._one_picture)
        image = ImageContent(type="image", data=base64.b64encode(picture).decode(), mime_type="image/png")
        return CallToolResult(content=[image, TextContent(type="text", text=caption)])

    def neuron_report(self, neuron: Neuron, model: Model = None) -> Annotated[CallToolResult, Report]:
        """Summarise one neuron in Markdown, with the address of its full report as a resource.

        Use it to hand results to a person. Not for a first look: use neuron_overview. Output: summary, uri of the
        report. Example: {"neuron": "31.9634"}
        """
        from neuronagent.service.tool_report import neuron_report

        report = neuron_report(self._source.view(model), neuron)
        result = structured(report)
        link = ResourceLink(
            type="resource_link",
            uri=report.get("uri", ""),
            name=f"report-{report.get('neuron')}",
            title=f"Report on neuron {report.get('neuron')}",
            mime_type="text/markdown",
        )
        return result.model_copy(update={"content": [*result.content, link]})

    def _draw(self, neuron: str, model: str | None) -> tuple[bytes, str]:
        from neuronagent.service.tool_plot import neuron_plot

        return neuron_plot(self._source.view(model), neuron)
