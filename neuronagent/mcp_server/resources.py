"""Resources: a neuron as JSON, its report in Markdown, and the guide to what the words mean.

What a client reads here may end up with whoever writes explanations, so it holds examples of the explain split only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.resources import ResourceSecurity

from neuronagent.mcp_server.shared import SharedSource

GUIDE = "neuronagent://guide"
NEURON = "neuron://{model}/{neuron}"
REPORT = "neuron://{model}/{neuron}/report"
TEMPLATES = (NEURON, REPORT)
_NO_PATH = ResourceSecurity(exempt_params={"model"})  # a model's name may look like a path; no file is opened by it


def guide() -> str:
    """The glossary: sign combinations, classes, roles, splits, scores, verdicts, how to work."""
    return Path(__file__).with_name("guide.md").read_text(encoding="utf-8")


class Resources:
    """The resources over an index."""

    def __init__(self, source: SharedSource) -> None:
        self._source = source

    def add_to(self, server: MCPServer[Any]) -> None:
        server.resource(
            GUIDE,
            name="guide",
            title="Guide: sign combinations, classes, scores",
            description="What words mean: sign combinations, classes, roles, splits, scores, verdicts; how to work.",
            mime_type="text/markdown",
        )(guide)
        server.resource(
            NEURON,
            name="neuron",
            title="Neuron",
            description="All that the index holds of a neuron, as JSON; examples of the explain split. About 40 kB.",
            mime_type="application/json",
            security=_NO_PATH,
        )(self.neuron)
        server.resource(
            REPORT,
            name="report",
            title="Neuron report",
            description="A neuron's geometry, statistics, examples (explain split), explanations and scores, as text.",
            mime_type="text/markdown",
            security=_NO_PATH,
        )(self.report)

    def neuron(self, model: str, neuron: str) -> str:
        from neuronagent.service.bounded import compact
        from neuronagent.service.tool_report import neuron_json

        return compact(neuron_json(self._source.view(model).neuron(neuron)))

    def report(self, model: str, neuron: str) -> str:
        from neuronagent.service.tool_report import markdown

        return markdown(self._source.view(model).neuron(neuron))
