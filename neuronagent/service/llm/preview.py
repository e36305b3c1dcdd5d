"""What a run with a language model will cost, before it begins.

Prompts are a function of the index, so that the judge's are known to the last token where its tokenizer is on this
machine. What is not known is text that is yet to be written: a question about it is counted with the longest text that
a draft may have. Completions are bounded by what is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from neuronagent.domain import NeuronId
from neuronagent.explain.draft_answer import LONGEST_TEXT
from neuronagent.explain.judge_check import check_questions
from neuronagent.explain.judging import Question
from neuronagent.explain.llm.budget import Preview as Cost
from neuronagent.explain.subjects import Answers
from neuronagent.service.llm.asking import choices, noted
from neuronagent.service.llm.campaign import (
    Units,
    beside,
    is_done,
    is_judged,
    judged_rule,
    plan_for,
    protocol_of,
    units_of,
)
from neuronagent.service.llm.connect import Connection, connected
from neuronagent.service.llm.options import LLMOptions
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.scoring import Plan, Said

SAMPLED = 12
"""Neurons that are looked at; the numbers of a larger run are scaled up from so many, evenly spaced."""
_UNWRITTEN = "\0"
"""Begins the stand-in for a text that is yet to be written."""
_WIDE = "\U00012000"
"""A character of four bytes, which no text can have more of: as many tokens as a character can be."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a run over `neurons` would take; `sampled` of them were looked at, and the rest is like them.

    Tokens of prompts are `exact` if the models' own tokenizers counted them, else an upper bound (`estimate` is a
    guess). `unknown_texts` of the judge's requests are about texts that are yet to be written; they count in
    `prompt_bound`, not in `judge_prompt_tokens`. `cached` requests were answered before and cost nothing. Money is None
    without prices; `cost` leaves out what is unknown.
    """

    neurons: int
    sampled: int
    draft_requests: int
    draft_prompt_tokens: int
    draft_completion_bound: int
    judge_requests: int
    judge_prompt_tokens: int
    judge_completion_bound: int
    cached: int
    exact: bool
    estimate: int
    unknown_texts: int
    prompt_bound: int
    cost: float | None
    cost_bound: float | None
    model: str
    judge: str
    server: str

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"schema_version": 1, **vars(self)}


def preview(
    index: Index,
    neurons: Sequence[NeuronId],
    options: LLMOptions,
    progress: Progress | None = None,
    *,
    explanation_id: int | None = None,
) -> Preview:
    """What `explain_neurons` would take, or without a drafter `score_stored`. The servers are asked how they are asked
    best (a few short questions, kept like all answers); nothing else is sent, and nothing but these answers is stored.

    Raises:
        LLMError, BudgetError: see `connected`.
    """
    progress, some = progress or Silent(), _evenly(neurons, SAMPLED)
    with connected(options, index.target) as connection:
        units, plan = units_of(index), plan_for(index, options)
        drafts, answers = list[Cost](), Answers()
        progress.start("counting what will be asked", len(some), "neurons")
        for place, neuron in enumerate(some):
            if connection.drafter is None:
                _note_stored(index, units, neuron, connection, plan, answers, explanation_id)
            elif units.wanted(neuron) and not is_done(index, neuron, connection, plan):
                drafts.append(connection.drafter.cost(units.brief(neuron)))
                _note_campaign(index, units, neuron, connection, plan, answers, options.candidates)
            progress.advance(place + 1)
        checks = [] if connection.judge.name in index.judges_fit else check_questions()
        return _summed(connection, options, drafts, list(answers.asked), checks, len(neurons), len(some))


def _note_campaign(
    index: Index, units: Units, neuron: NeuronId, connection: Connection, plan: Plan, answers: Answers, candidates: int
) -> None:
    """Note all that will be asked about a neuron whose drafts are not written yet."""
    rules = {c: judged_rule(said, units) for c, said in units.said(neuron).items()}
    drafts = {c: [Said(text=f"{_UNWRITTEN}{neuron} {c.value} {i}") for i in range(candidates)] for c in rules}
    if not index.is_imported:
        everything = {c: [rules[c], *drafts[c]] for c in rules}
        choices(units, neuron, everything, connection.judge.name, plan, answers)
    chosen = {c: own[0] for c, own in drafts.items()}
    _take(answers, noted(units, neuron, chosen, connection.judge.name, plan))


def _note_stored(
    index: Index,
    units: Units,
    neuron: NeuronId,
    connection: Connection,
    plan: Plan,
    answers: Answers,
    explanation_id: int | None,
) -> None:
    """Note all that will be asked about the stored texts of a neuron."""
    stored = index.explanations(neuron)
    protocol = protocol_of(units, neuron, plan)
    for explanation, scores in stored:
        c, texts = explanation.explanation.combination, beside(explanation, stored, units)
        scored = is_judged(scores, connection.judge, protocol)
        if c in texts and explanation_id in (None, explanation.id) and not scored:
            _take(answers, noted(units, neuron, texts, connection.judge.name, plan, only=(c,)))


def _take(answers: Answers, other: Answers) -> None:
    answers.asked.update(other.asked)


def _summed(
    connection: Connection,
    options: LLMOptions,
    drafts: Sequence[Cost],
    asked: Sequence[Question],
    checks: Sequence[Question],
    neurons: int,
    sampled: int,
) -> Preview:
    factor = neurons / sampled if sampled else 0.0
    known = [q for q in asked if not any(text.startswith(_UNWRITTEN) for text in q.texts)]
    unknown = [q for q in asked if any(text.startswith(_UNWRITTEN) for text in q.texts)]
    judge = connection.judge
    sure, check, open_ = judge.cost(known), judge.cost(checks), judge.cost([_longest(q) for q in unknown])

    def scaled(value: float) -> int:
        return round(value * factor)

    draft_prompt = scaled(sum(cost.prompt_tokens for cost in drafts))
    draft_completion = scaled(sum(cost.completion_tokens for cost in drafts))
    costs = [cost.cost for cost in drafts]
    draft_money = None if not drafts or None in costs else sum(c for c in costs if c is not None) * factor
    money = _money(check.cost, sure.cost, factor, draft_money, bool(drafts))
    return Preview(
        neurons=neurons,
        sampled=sampled,
        draft_requests=scaled(sum(cost.requests for cost in drafts)),
        draft_prompt_tokens=draft_prompt,
        draft_completion_bound=draft_completion,
        judge_requests=scaled(sure.requests + len(unknown)) + check.requests,
        judge_prompt_tokens=scaled(sure.prompt_tokens) + check.prompt_tokens,
        judge_completion_bound=scaled(sure.completion_tokens + open_.completion_tokens) + check.completion_tokens,
        cached=scaled(sure.known + sum(cost.known for cost in drafts)) + check.known,
        exact=sure.exact and check.exact and open_.exact and all(cost.exact for cost in drafts),
        estimate=scaled(sure.estimate + open_.estimate + sum(cost.estimate for cost in drafts)) + check.estimate,
        unknown_texts=scaled(len(unknown)),
        prompt_bound=draft_prompt + scaled(sure.prompt_tokens + open_.prompt_tokens) + check.prompt_tokens,
        cost=money,
        cost_bound=None if money is None or open_.cost is None else money + open_.cost * factor,
        model=options.drafter or "",
        judge=judge.name,
        server=judge.server,
    )


def _money(
    check: float | None, sure: float | None, factor: float, drafts: float | None, drafting: bool
) -> float | None:
    if check is None or sure is None or (drafting and drafts is None):
        return None
    return check + sure * factor + (drafts or 0.0)


def _longest(question: Question) -> Question:
    """The question with the longest texts in place of those that are yet to be written, of the widest
    characters. Each keeps what tells it from the others."""
    texts = tuple(_filled(text) if text.startswith(_UNWRITTEN) else text for text in question.texts)
    return replace(question, texts=texts)


def _filled(text: str) -> str:
    name = text.removeprefix(_UNWRITTEN)
    return f"{name} {_WIDE * LONGEST_TEXT}"[:LONGEST_TEXT]


def _evenly(neurons: Sequence[NeuronId], most: int) -> list[NeuronId]:
    if len(neurons) <= most:
        return list(neurons)
    return [neurons[place * len(neurons) // most] for place in range(most)]
