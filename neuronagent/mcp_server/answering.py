"""What all groups of tools that read an index have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mcp_types import CallToolResult

from neuronagent.mcp_server.making import structured
from neuronagent.mcp_server.shared import SharedSource

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index


class IndexTools:
    """Tools over an index. What they do lives in `neuronagent.service`, imported with the first call, so that a server
    is ready before the database layer is loaded."""

    def __init__(self, source: SharedSource) -> None:
        self._source = source

    def _answer(self, model: str | None, ask: Callable[[Index], Mapping[str, Any]]) -> CallToolResult:
        return structured(ask(self._source.view(model)))
