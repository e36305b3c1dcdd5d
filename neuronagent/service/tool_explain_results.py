"""The keys of what the tools for writing and scoring explanations return; as `tool_results.py`."""

from __future__ import annotations

from typing import Required

from typing_extensions import TypedDict

from neuronagent.service.tool_results import NeuronResult, ScoreRow


class BriefExample(TypedDict, total=False):
    value: Required[float]
    text: Required[str]
    next: str
    weak: bool
    combination: str


class BriefCombination(TypedDict, total=False):
    combination: Required[str]
    frequency: float | None
    mass_share: float | None
    small: bool
    not_asked: str
    promotes: list[str]
    suppresses: list[str]
    examples: list[BriefExample]


class BriefResult(NeuronResult, total=False):
    brief_id: str
    io_class: str | None
    geometry: str | None
    predictability: str | None
    to_explain: list[str]
    combinations: list[BriefCombination]
    contrast: list[BriefExample]
    answer: dict[str, str]


class ScoredResult(NeuronResult, total=False):
    """An explanation with its scores. `missing`: what was not scored, why, and what a person can run for it;
    `left_out`: what is wrong with pairs and tokens that do not count."""

    explanation_id: int
    combination: str
    text: str
    source: str
    author: str | None
    new: bool
    replaced: list[int]
    attempt: int
    may_have_seen_test: bool
    verdict: str | None
    judge: str | None
    scores: list[ScoreRow]
    missing: list[str]
    left_out: list[str]


class ExplainedRow(TypedDict, total=False):
    combination: Required[str]
    explanation_id: int
    text: str
    source: str
    verdict: str | None
    auroc: float | None
    lo: float | None
    hi: float | None
    n_pos: int
    n_neg: int
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None
    reason: str


class ExplainedResult(NeuronResult, total=False):
    """`status`: rules (no language model here), preview (not run: confirm it), done, or nothing (too few examples)."""

    status: str
    combinations: list[ExplainedRow]
    model: str
    judge: str
    requests: int
    prompt_tokens_bound: int
    answer_tokens_bound: int
    cost_bound: float | None
    spent_tokens: int
    spent_cost: float | None
