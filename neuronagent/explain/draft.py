"""Explanations written by a language model: one call for all combinations of a neuron.

Several candidates are drawn. An answer that is no draft (`draft_answer`) is asked for once more, with what is wrong
with it; then the candidate is missing. Nothing is filled in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from neuronagent.domain import SignCombination
from neuronagent.explain import prompts
from neuronagent.explain.brief import Brief, CombinationBrief, Shown
from neuronagent.explain.draft_answer import LABEL_WORDS, TEXT_LENGTH, TOKENS, Draft, DraftError, answer_schema, parse
from neuronagent.explain.judging import Status
from neuronagent.explain.llm.completion import Completion, Wanted
from neuronagent.explain.prompts import Message

CANDIDATES = 3
TEMPERATURE = 0.7
MAX_TOKENS = 3_000
"""Of an answer: four combinations with every text at its longest need fewer."""
PURPOSE = "draft"
_FORM_VERSION = 1
"""Of what this module does with a brief and an answer; raised when that changes."""

Complete = Callable[[Sequence[Wanted]], Sequence[Completion]]
"""Asks a server, with its cache and budget (`llm.completion.Completer`): an answer for each, in their order."""


def draft(complete: Complete, brief: Brief, k: int = CANDIDATES) -> list[Draft]:
    """At most `k` different candidates; fewer where calls fail or answers stay unusable.

    No call is made where there is nothing to explain.

    Raises:
        LLMError, BudgetError, Interrupted: what `complete` raises; what was answered is kept.
    """
    first = wanted(brief, k)
    if not first:
        return []
    found, problems = _read(complete(first), brief.asked)
    again = {
        place: replace(first[place], messages=prompts.again("draft", first[place].messages, said, problem))
        for place, (said, problem) in problems.items()
    }
    if again:
        repaired, _ = _read(complete(list(again.values())), brief.asked)
        found |= {place: repaired[turn] for turn, place in enumerate(again) if turn in repaired}
    unique: dict[str, Draft] = {}
    for place in sorted(found):
        unique.setdefault(json.dumps([found[place].claims(c) for c in brief.asked]), found[place])
    return list(unique.values())


def wanted(brief: Brief, k: int = CANDIDATES) -> list[Wanted]:
    """The answers that `draft` asks for first, for a preview; each may cost one more, if it cannot be used."""
    if not brief.asked:
        return []
    asked = messages(brief)
    return [
        Wanted(
            messages=asked,
            purpose=PURPOSE,
            prompt_version=draft_prompt_version(),
            schema=answer_schema(brief.asked),
            temperature=TEMPERATURE,
            sample=sample,
            max_tokens=MAX_TOKENS,
        )
        for sample in range(k)
    ]


def _read(
    completions: Sequence[Completion], asked: Sequence[SignCombination]
) -> tuple[dict[int, Draft], dict[int, tuple[str, str]]]:
    """The drafts by place, and for answers that are none what was said and what is wrong with it.

    A refusal or a failed call is not asked again here: the client has tried, and a refusal stands.
    """
    found: dict[int, Draft] = {}
    problems: dict[int, tuple[str, str]] = {}
    for place, completion in enumerate(completions):
        if completion.status not in (Status.OK, Status.PARSE_ERROR):
            continue
        try:
            found[place] = parse(completion.text, asked)
        except DraftError as error:
            problems[place] = completion.text, str(error)
    return found, problems


@cache
def draft_prompt_version() -> str:
    """The version of all that a draft is asked with, stored with every text."""
    source = f"{_FORM_VERSION} {prompts.load('draft').source}"
    return f"draft-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


def messages(brief: Brief) -> list[Message]:
    """The messages that ask for a draft; a pure function of the brief."""
    return prompts.render("draft", **_variables(brief))


def _variables(brief: Brief) -> dict[str, Any]:
    return {
        "neuron": str(brief.neuron),
        "geometry": brief.facts,
        "combinations": [combination_variables(own) for own in brief.combinations],
        "contrast": [example_variables(shown) for shown in brief.contrast],
        "asked": [c.value for c in brief.asked],
        "words": LABEL_WORDS,
        "tokens": TOKENS,
        "characters": TEXT_LENGTH,
    }


def combination_variables(own: CombinationBrief) -> dict[str, Any]:
    """A combination as templates show it."""
    shares = [
        f"{100 * share:.2g} % of {what}"
        for share, what in ((own.frequency, "all tokens"), (own.mass_share, "what the neuron writes"))
        if share is not None
    ]
    size = ", ".join(shares) or "Share not known"
    return {
        "name": own.combination.value,
        "size": size
        + (" (small)" if own.small else "")
        + ("; not asked about, too few examples" if own.reason else ""),
        "promotes": _listed(own.promotes),
        "suppresses": _listed(own.suppresses),
        "examples": [example_variables(shown) for shown in own.examples],
    }


def example_variables(shown: Shown) -> dict[str, Any]:
    """A token with its passage as templates show it."""
    return {
        "combination": shown.combination.value,
        "value": shown.value,
        "strong": shown.strong,
        "passage": prompts.passage((shown.before, shown.token), 1),
        "following": _listed(shown.following),
    }


def _listed(tokens: Sequence[str]) -> str:
    return f"[{', '.join(map(prompts.quoted, tokens))}]" if tokens else ""
