"""The tools that write and score explanations: the client's own model writes, or a configured one does.

Scoring takes seconds, with a judge minutes. One explanation is scored at a time, and progress is told to clients that
ask for it; tools that read the index do not wait.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult
from pydantic import Field

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import NeuronagentError
from neuronagent.mcp_server.making import WRITES, Combination, Format, Model, Neuron, data_tool, structured
from neuronagent.mcp_server.noting import Notes
from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.questions import Asks
from neuronagent.service.tool_explain_results import BriefResult, ExplainedResult, ScoredResult

if TYPE_CHECKING:
    from neuronagent.service.llm.options import LLMOptions
    from neuronagent.service.llm.purse import Purse
    from neuronagent.service.lookup import Index
    from neuronagent.service.tool_explain import Judge
    from neuronagent.service.tool_explain_neuron import Writer

_WAIT_SECONDS = 60.0
_UNNAMED = "unnamed client"
Text = Annotated[str, Field(max_length=100_000)]
Words = Annotated[list[str] | None, Field(max_length=100)]
Ctx = Context[Any, Any]


class ExplainTools:
    """The explain tools over an index; `asks` has the model run, None: nobody has."""

    def __init__(self, source: SharedSource, options: ServerOptions, asks: Asks | None) -> None:
        self._source, self._options, self._asks = source, options, asks
        self._reading, self._scoring = _Shared(source), _Shared(source)

    def tools(self) -> list[Tool]:
        """All of them, in the order in which a client lists them; with `read_only` those that write are left out."""
        read = [data_tool(self.neuron_brief, "Brief for writing an explanation")]
        if self._options.read_only:
            return read
        return [
            *read,
            data_tool(self.submit_explanation, "Submit an explanation", WRITES),
            data_tool(self.explain_neuron, "Explain a neuron", WRITES),
            data_tool(self.score_explanation, "Score an explanation", WRITES),
        ]

    def neuron_brief(
        self, neuron: Neuron, combination: Combination = None, response_format: Format = "concise", model: Model = None
    ) -> Annotated[CallToolResult, BriefResult]:
        """Get the evidence for explaining a neuron yourself: per sign combination examples with what followed, output
        tokens, geometry, contrast, and the form of an answer.

        Call it before submit_explanation; combination gives more examples. Not for browsing: use neuron_examples.
        Output: evidence of the explain split, brief_id. Example: {"neuron": "31.9634"}
        """
        from neuronagent.service.tool_brief import neuron_brief

        with self._reading.index(model) as index:
            found = neuron_brief(
                index, neuron, combination=combination, response_format=response_format, submits=self._submits
            )
        return structured(found)

    def submit_explanation(
        self,
        neuron: Neuron,
        combination: Annotated[str, Field(description="such as gate+_in-")],
        label: Annotated[Text, Field(description="at most 8 words")],
        trigger: Annotated[Text, Field(description="what it responds to, or what is about to come")],
        ctx: Ctx,
        brief_id: Annotated[str | None, Field(description="of neuron_brief; without it the text is marked")] = None,
        context: Annotated[Text, Field(description="what stands before it")] = "",
        not_when: Annotated[Text, Field(description="what looks alike but is not it")] = "",
        summary: Text = "",
        promotes: Annotated[Words, Field(description="output tokens it makes likelier")] = None,
        suppresses: Words = None,
        confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5,
        positive: Annotated[Words, Field(description="up to 8 sentences that should fire")] = None,
        negative: Annotated[Words, Field(description="their minimal edits that should not, same order")] = None,
        author: Annotated[str | None, Field(description="default: the client's name")] = None,
        response_format: Format = "concise",
        model: Model = None,
    ) -> Annotated[CallToolResult, ScoredResult]:
        """Store your explanation of one sign combination of a neuron and score it: claims and sentences on the live
        model, held-out texts by a judge if there is one.

        Call neuron_brief first. The same text again changes nothing. Not for reading: use neuron_explanations. Output:
        id, scores, verdict, what is missing. Example:
        {"neuron": "31.9634", "combination": "++", "label": "digits", "trigger": "a digit"}
        """
        from neuronagent.service.submitting import Submission
        from neuronagent.service.tool_explain import submit_explanation

        client = _client(ctx)
        submission = Submission(
            neuron=NeuronId.parse(neuron),
            combination=SignCombination.parse(combination),
            author=client if author is None else author,
            model=client,
            label=label,
            trigger=trigger,
            context=context,
            not_when=not_when,
            summary=summary,
            promotes=promotes or (),
            suppresses=suppresses or (),
            confidence=confidence,
            positive=positive or (),
            negative=negative or (),
            brief_id=brief_id,
        )
        with self._scoring.index(model) as index:
            found = submit_explanation(
                index,
                submission,
                asks=self._asks,
                judge=self._judge(Notes(ctx)),
                fresh=lambda: self._source.view(model),
                response_format=response_format,
            )
        return structured(found)

    def explain_neuron(
        self,
        neuron: Neuron,
        ctx: Ctx,
        confirm: Annotated[bool, Field(description="ask the configured language model, at the cost shown")] = False,
        response_format: Format = "concise",
        model: Model = None,
    ) -> Annotated[CallToolResult, ExplainedResult]:
        """Have a neuron explained: by rules at once and free; by a configured language model with confirm=true, after
        its cost was shown.

        Not for writing yourself: use neuron_brief. Output: text, verdict, AUROC, lift per combination. Example:
        {"neuron": "31.9634"}
        """
        from neuronagent.service.tool_explain_neuron import explain_neuron

        with self._scoring.index(model) as index:
            found = explain_neuron(
                index, neuron, writer=self._writer(Notes(ctx)), confirm=confirm, response_format=response_format
            )
        return structured(found)

    def score_explanation(
        self,
        neuron: Neuron,
        ctx: Ctx,
        explanation_id: Annotated[int | None, Field(ge=1, le=2**53, description="of neuron_explanations")] = None,
        combination: Combination = None,
        response_format: Format = "concise",
        model: Model = None,
    ) -> Annotated[CallToolResult, ScoredResult]:
        """Score a stored explanation with what it was not scored with yet, live model or judge, and show its scores.

        Name explanation_id, or combination for the current one. Not for new texts: use submit_explanation. Output:
        scores with intervals and controls, verdict, what is missing. Example:
        {"neuron": "31.9634", "combination": "gate+_in+"}
        """
        from neuronagent.service.tool_explain import score_explanation

        with self._scoring.index(model) as index:
            found = score_explanation(
                index,
                neuron,
                explanation_id=explanation_id,
                combination=combination,
                asks=self._asks,
                judge=self._judge(Notes(ctx)),
                response_format=response_format,
            )
        return structured(found)

    @property
    def _submits(self) -> bool:
        """Whether a client has the tool that takes what it writes."""
        tools = self._options.tools
        return not self._options.read_only and (not tools or "submit_explanation" in tools)

    @cached_property
    def _purse(self) -> Purse | None:
        if self._options.llm is None:
            return None
        from neuronagent.service.llm.purse import Purse

        return Purse(self._options.llm)

    def _judge(self, notes: Notes) -> Judge | None:
        purse, options = self._purse, self._options.llm
        if purse is None or options is None:
            return None

        def judge(index: Index, neuron: NeuronId, explanation_id: int) -> None:
            from neuronagent.service.llm.campaign import score_stored

            def ask(left: LLMOptions) -> Any:
                return score_stored(index, [neuron], left, notes, explanation_id=explanation_id)

            purse.run(ask, _reader_of(options))

        return judge

    def _writer(self, notes: Notes) -> Writer | None:
        purse, options = self._purse, self._options.llm
        if purse is None or options is None or options.drafter is None:
            return None
        from neuronagent.service.llm.campaign import explain_neurons
        from neuronagent.service.llm.preview import preview
        from neuronagent.service.tool_explain_neuron import Writer

        return Writer(
            preview=lambda index, neuron: preview(index, [neuron], purse.left(options), notes),
            run=lambda index, neuron: purse.run(lambda left: explain_neurons(index, [neuron], left, notes)),
        )


def _reader_of(options: LLMOptions) -> LLMOptions:
    """The same models, to judge only, on few windows: a client waits."""
    from neuronagent.service.llm.options import plan_of

    return replace(options, drafter=None, judge=options.judge_model, plan=plan_of("quick", "detection"))


class _Shared:
    """An index for one call at a time, kept from call to call for what its explainer has read."""

    def __init__(self, source: SharedSource) -> None:
        self._source = source
        self._turn = threading.Lock()
        self._index: Index | None = None

    @contextmanager
    def index(self, model: str | None) -> Generator[Index]:
        """The index, for this call alone.

        Raises:
            NeuronagentError: it cannot be had, or others have waited for it too long.
        """
        view = self._source.view(model)
        if not self._turn.acquire(timeout=_WAIT_SECONDS):
            raise NeuronagentError("another explanation is being scored", remedy="call again in a moment")
        try:
            if self._index is None or self._index.reader is not view.reader:
                self._index = view
            yield self._index
        finally:
            self._turn.release()


def _client(ctx: Ctx) -> str:
    """What the client calls itself; what cannot be shown of that is left out."""
    from neuronagent.service.untrusted import clean

    params = ctx.request_context.session.client_params
    info = None if params is None else params.client_info
    name = "" if info is None else " ".join(clean(f"{info.name} {info.version}", 80).split())
    return name or _UNNAMED
