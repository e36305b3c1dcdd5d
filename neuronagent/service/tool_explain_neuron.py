"""What the tool `explain_neuron` does: the rules' words at once, a configured language model's once it is confirmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.explain.items import N0
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.service import views
from neuronagent.service.bounded import Format, budget, fit, number
from neuronagent.service.lookup import Index
from neuronagent.service.tool_brief import WEIGHTS_ALONE
from neuronagent.service.tool_explain_results import ExplainedResult, ExplainedRow
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean

if TYPE_CHECKING:
    from neuronagent.service.llm.campaign import CampaignReport
    from neuronagent.service.llm.preview import Preview


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A configured language model: what it would take, and how it is had to write."""

    preview: Callable[[Index, NeuronId], Preview]
    run: Callable[[Index, NeuronId], CampaignReport]


def explain_neuron(
    index: Index, neuron: str, *, writer: Writer | None, confirm: bool = False, response_format: Format = "concise"
) -> ExplainedResult:
    """What the rules say of a neuron, and, once it is confirmed, what a language model writes.

    Raises:
        NotFoundError: no such neuron.
        StorageError: the index cannot be written.
        LLMError, BudgetError: the model cannot be had, or costs too much; what the rules say is stored.
    """
    found = index.neuron(neuron)
    if not found.record.combinations:
        return ExplainedResult(
            available=False, neuron=str(found.id), reason=WEIGHTS_ALONE, provenance=provenance(index),
            command="neuronagent index MODEL --text SOURCE",
        )  # fmt: skip
    index.ensure_explained(found.id)
    extra = ExplainedResult(available=True, provenance="", status="rules")
    note = "By rules alone: this server has no language model that writes; write yourself with neuron_brief. "
    if not index.explainer.wanted(found.id):
        extra["status"] = "nothing"
        note = "No combination has enough strong tokens in distinct texts to be explained. "
    elif writer is not None and not confirm:
        extra |= _previewed(writer.preview(index, found.id))
        note = "Nothing was asked yet: confirm=true asks the model, at most at this cost. Below: the rules' words. "
    elif writer is not None:
        extra |= _spent(writer.run(index, found.id))
        note = "Chosen on select, scored once on test. "
    return _explained(index, found.id, extra, note, response_format)


def _previewed(cost: Preview) -> ExplainedResult:
    return ExplainedResult(
        available=True,
        provenance="",
        status="preview",
        model=clean(cost.model, 40),
        judge=clean(cost.judge, 60),
        requests=cost.draft_requests + cost.judge_requests,
        prompt_tokens_bound=cost.prompt_bound,
        answer_tokens_bound=cost.draft_completion_bound + cost.judge_completion_bound,
        cost_bound=number(cost.cost_bound),
    )


def _spent(report: CampaignReport) -> ExplainedResult:
    return ExplainedResult(
        available=True,
        provenance="",
        status="done",
        judge=clean(report.judge, 60),
        requests=report.requests,
        spent_tokens=report.prompt_tokens + report.completion_tokens,
        spent_cost=number(report.cost),
    )


def _explained(
    index: Index, neuron: NeuronId, extra: ExplainedResult, note: str, response_format: Format
) -> ExplainedResult:
    stored, fits = index.explanations(neuron), index.judges_fit
    shown = {c: own[0] for c in COMBINATIONS if (own := views.ranked(stored, c, fits))}

    def row(c: SignCombination, width: int) -> ExplainedRow:
        if c not in shown:
            return ExplainedRow(combination=c.value, reason="too few strong tokens")
        explanation, everyone = shown[c]
        judge, scores = views.judged(everyone, fits)
        result = ExplainedRow(
            combination=c.value,
            explanation_id=explanation.id,
            text=clean(explanation.explanation.text, width),
            source=clean(explanation.explanation.source, 20),
            verdict=views.verdict_of(explanation, scores, fits) if judge else None,
        )
        first = next((s.score for s in scores if s.score.metric == AUROC and s.score.negative_set == N0), None)
        if first is None:
            return result
        result["auroc"], result["lo"], result["hi"] = map(number, (first.value, first.lo, first.hi))
        result["n_pos"], result["n_neg"] = first.n_pos, first.n_neg
        best = next((control for control in first.controls if control.kind == STRONGEST), None)
        if best is not None:
            result["lift"], result["lift_lo"], result["lift_hi"] = map(number, (best.lift, best.lift_lo, best.lift_hi))
        return result

    def render(width: int) -> ExplainedResult:
        result = ExplainedResult(**extra)
        result["neuron"], result["provenance"] = str(neuron), provenance(index)
        result["combinations"] = [row(c, width) for c in COMBINATIONS]
        result["note"] = note + "auroc on test against random tokens, lift over the strongest control, 95 % intervals. "
        return result

    return fit(render, (1_200, 600, 300, 160, 100, 60, 30, 8), budget(response_format))
