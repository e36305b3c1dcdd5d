"""The tools that run the model: what neurons do on a text, what becomes of it without them, and what it writes if they
are changed.

The model lives in another process (`service.live.worker`), is loaded with the first call, and answers one question at a
time; tools that read the index do not wait for it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult
from pydantic import Field

from neuronagent.mcp_server.leaving import leavable
from neuronagent.mcp_server.making import Combination, Format, Limit, Model, data_tool, structured
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.questions import Asks
from neuronagent.service.tool_live_results import Ablated, Activated, SteeredResult

LiveText = Annotated[str, Field(min_length=1, max_length=65_536, description="what the model reads")]
Chosen = Annotated[list[str], Field(min_length=1, max_length=8, description="such as 31.9634")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class LiveTools:
    """The live tools over an index and its model."""

    def __init__(self, source: SharedSource, asks: Asks) -> None:
        self._source, self._asks = source, asks

    def tools(self) -> list[Tool]:
        """All of them, in the order in which a client lists them."""
        return [
            data_tool(leavable(self.activate_text), "Run the model on a text"),
            data_tool(leavable(self.ablate_neurons), "Ablate neurons"),
            data_tool(leavable(self.steer_neurons), "Steer neurons"),
        ]

    def activate_text(
        self,
        text: LiveText,
        neurons: Annotated[
            list[str] | None, Field(min_length=1, max_length=8, description="default: rank those of one token")
        ] = None,
        position: Annotated[int | None, Field(description="token, BOS is 0, -1 the last")] = None,
        target: Annotated[str | None, Field(description="rank by effect on this next token, such as ' again'")] = None,
        combination: Combination = None,
        layers: Annotated[list[int] | None, Field(max_length=200)] = None,
        response_format: Format = "concise",
        limit: Limit = None,
        model: Model = None,
    ) -> Annotated[CallToolResult, Activated]:
        """Run the model on your own text: gate, in, post and sign combination of neurons at its tokens; without
        neurons, the strongest of one token, or those with the largest direct effect on a target token's logit.

        Use it to test what makes a neuron fire. Not for corpus examples: use neuron_examples. Output: tokens and
        counts per neuron, or ranked neurons. Example: {"text": "Please try", "neurons": ["31.9634"]}
        """
        from neuronagent.service.tool_live import activate_text

        index = self._source.view(model)
        return structured(
            activate_text(
                index,
                self._asks,
                text,
                neurons=neurons,
                position=position,
                target=target,
                combination=combination,
                layers=layers,
                limit=limit,
                response_format=response_format,
            )
        )

    def ablate_neurons(
        self,
        text: LiveText,
        neurons: Chosen,
        mode: Literal["zero", "mean"] = "zero",
        combination: Combination = None,
        controls: Annotated[int, Field(ge=0, le=20, description="random draws")] = 5,
        seed: Seed = 0,
        response_format: Format = "concise",
        model: Model = None,
    ) -> Annotated[CallToolResult, Ablated]:
        """Take neurons out of the model on your own text, everywhere or in one sign combination, and compare its
        predictions: loss, KL, entropy, changed next tokens, beside random neurons of like frequency.

        Use it to see whether they matter there. Not for what is written instead: use steer_neurons. Output: each
        measure with its control. Example: {"text": "Please try", "neurons": ["31.9634"]}
        """
        from neuronagent.service.tool_interventions import ablate_neurons

        index = self._source.view(model)
        return structured(
            ablate_neurons(
                index,
                self._asks,
                text,
                neurons,
                mode=mode,
                combination=combination,
                controls=controls,
                seed=seed,
                response_format=response_format,
            )
        )

    def steer_neurons(
        self,
        text: LiveText,
        neurons: Chosen,
        mode: Literal["set", "add", "scale"] = "set",
        value: Annotated[float | None, Field(allow_inf_nan=False, description="of post; default: strong token")] = None,
        combination: Combination = None,
        new_tokens: Annotated[int, Field(ge=1, le=64)] = 24,
        seed: Seed = 0,
        response_format: Format = "concise",
        model: Model = None,
    ) -> Annotated[CallToolResult, SteeredResult]:
        """Let the model continue your text with post of neurons set, raised or scaled: as it is, steered, and with
        random neurons of like frequency steered likewise.

        Use it to see what neurons make the model say. Not for what they do unchanged: use ablate_neurons. Output:
        three continuations, tokens promoted and suppressed. Example: {"text": "Please try", "neurons": ["31.9634"]}
        """
        from neuronagent.service.tool_interventions import steer_neurons

        index = self._source.view(model)
        return structured(
            steer_neurons(
                index,
                self._asks,
                text,
                neurons,
                mode=mode,
                value=value,
                combination=combination,
                new_tokens=new_tokens,
                seed=seed,
                response_format=response_format,
            )
        )
