"""The index of a server, opened with the first call: a server is ready before the database layer is loaded."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuronagent.mcp_server.source import IndexSource
    from neuronagent.service.lookup import Index


class SharedSource:
    """What all tools of a server read from: the index at `db`."""

    def __init__(self, db: str) -> None:
        self.db = db

    @cached_property
    def _source(self) -> IndexSource:
        from neuronagent.mcp_server.source import IndexSource

        return IndexSource(self.db)

    def view(self, model: str | None = None) -> Index:
        """The index for one call.

        Raises:
            NotFoundError: `model` is not what it is an index of.
            NeuronagentError: it cannot be opened, is gone, or is another one than at first.
        """
        from neuronagent.service.tools import check_model

        index = self._source.view()
        check_model(index, model)
        return index
