"""The tools that find their way in an index: what it is of, its layers, its neurons by criteria and by likeness.

A method is a tool: its name, its docstring and its signature are what a client sees.
"""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult
from pydantic import Field

from neuronagent.mcp_server.answering import IndexTools
from neuronagent.mcp_server.making import Combination, Cosine, Format, Limit, Model, Neuron, Paging, data_tool
from neuronagent.service.tool_more_results import LayerSummary, Similar
from neuronagent.service.tool_results import ModelInfo, SearchResult, Sort, TokenPlace


class FindingTools(IndexTools):
    """The tools that lead to neurons."""

    def tools(self) -> list[Tool]:
        """All of them, in the order in which a client lists them."""
        return [
            data_tool(self.model_info, "Model and index"),
            data_tool(self.layer_summary, "Layer summary"),
            data_tool(self.search_neurons, "Search neurons"),
            data_tool(self.similar_neurons, "Similar neurons"),
        ]

    def model_info(
        self, response_format: Format = "concise", model: Model = None
    ) -> Annotated[CallToolResult, ModelInfo]:
        """Say which model and corpus this server holds: layers, neurons, conventions, splits, neurons per IO class.

        Call it first, once. Not for one neuron: use neuron_overview. Output: sizes, corpus, classes; detailed: by
        layer, settings. Example: {}
        """
        from neuronagent.service import tools

        return self._answer(model, lambda index: tools.model_info(index, response_format=response_format))

    def layer_summary(
        self,
        layer: Annotated[int, Field(ge=0)],
        response_format: Format = "concise",
        model: Model = None,
    ) -> Annotated[CallToolResult, LayerSummary]:
        """Summarise a layer, from zero: IO classes, roles, median cosines with baseline, combinations, extreme neurons.

        Use it to choose neurons. Not for one neuron: use neuron_overview. Output: counts, rows, extremes. Example:
        {"layer": 1}
        """
        from neuronagent.service import tool_layers

        return self._answer(model, lambda i: tool_layers.layer_summary(i, layer, response_format=response_format))

    def search_neurons(
        self,
        layers: Annotated[list[int] | None, Field(max_length=200)] = None,
        io_class: Annotated[str | None, Field(description="such as atypical depletion")] = None,
        role: Annotated[str | None, Field(description="such as prediction, entropy")] = None,
        token: Annotated[str | None, Field(description="text of one token")] = None,
        token_in: Annotated[TokenPlace, Field(description="where token is")] = "out_top",
        explanation: Annotated[str | None, Field(description="words in a stored one")] = None,
        combination: Combination = None,
        min_frequency: Annotated[float | None, Field(allow_inf_nan=False, description="of combination, 0–1")] = None,
        min_mass_share: Annotated[float | None, Field(allow_inf_nan=False, description="of combination, 0–1")] = None,
        min_cos_in_out: Cosine = None,
        max_cos_in_out: Cosine = None,
        min_cos_gate_in: Cosine = None,
        max_cos_gate_in: Cosine = None,
        min_cos_gate_out: Cosine = None,
        max_cos_gate_out: Cosine = None,
        sort: Sort | None = None,
        descending: bool | None = None,
        response_format: Format = "concise",
        limit: Limit = None,
        cursor: Paging = None,
        model: Model = None,
    ) -> Annotated[CallToolResult, SearchResult]:
        """Find neurons by token, IO class, role, cosines, layer, frequency of a sign combination, explanation text.

        All criteria must hold. out_top: tokens that +w_out promotes, out_bottom: that -w_out does; a combination:
        tokens of its strongest examples. Not for a neuron you know: use neuron_overview. Output: total, rows. Example:
        {"token": "dog", "io_class": "enrichment"}
        """
        from neuronagent.service.tool_search import Criteria, search_neurons

        criteria = Criteria(
            layers=tuple(layers or ()),
            io_class=io_class,
            role=role,
            token=token,
            token_in=token_in,
            explanation=explanation,
            combination=combination,
            min_frequency=min_frequency,
            min_mass_share=min_mass_share,
            min_cos_in_out=min_cos_in_out,
            max_cos_in_out=max_cos_in_out,
            min_cos_gate_in=min_cos_gate_in,
            max_cos_gate_in=max_cos_gate_in,
            min_cos_gate_out=min_cos_gate_out,
            max_cos_gate_out=max_cos_gate_out,
            sort=sort,
            descending=descending,
        )
        return self._answer(
            model,
            lambda index: search_neurons(index, criteria, response_format=response_format, limit=limit, cursor=cursor),
        )

    def similar_neurons(
        self,
        neuron: Neuron,
        kind: Literal["all", "similar", "opposite", "upstream", "downstream"] = "all",
        vector: Literal["gate", "in", "out"] | None = None,
        response_format: Format = "concise",
        limit: Limit = None,
        model: Model = None,
    ) -> Annotated[CallToolResult, Similar]:
        """List the neurons nearest to one by weights: similar, opposite, upstream (writers), downstream (readers).

        Use it to follow a circuit. Not for likeness of meaning: compare examples. Output: lists of [neuron, cosine],
        what chance gives. Example: {"neuron": "31.9634"}
        """
        from neuronagent.service import tool_neighbours

        return self._answer(
            model,
            lambda index: tool_neighbours.similar_neurons(
                index, neuron, kind=kind, vector=vector, response_format=response_format, limit=limit
            ),
        )
