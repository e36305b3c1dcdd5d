"""Hypotheses of the agent: claims with a prediction that the model can refute, and what came of it.

A prediction is a number of pairs of texts (`explain.pairs`). The first should make the neuron fire in the combination,
the second, its minimal edit, should not; what is no such pair, a pair that is there twice or copied from an example
among them, is not run. s(text) is the largest |post| at any token that is in the combination, position 0 left out. A
pair is right if s(first) > s(second); equal values are not right. The fate of a hypothesis is decided by code:

- *held*: the pairs are right more often than a coin (exact one-sided sign test, p ≤ .05), and at least half of the
  first texts are not weak for the combination, which is to say that s reaches its median;
- *refuted*: no more than half of the pairs are right, or less than a quarter of the first texts reach the
  median;
- *undecided*: what lies between;
- *failed*: fewer than four pairs could be run.

Eight pairs hold from seven right ones on (p = .035). A hypothesis that held has survived one small test of its own
choice; what it is worth is what it scores on `select` and `test`, like any other text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError

from neuronagent.domain import SignCombination
from neuronagent.explain import prompts
from neuronagent.explain.brief import Brief, Shown
from neuronagent.explain.draft import combination_variables, example_variables
from neuronagent.explain.draft_answer import (
    ANSWER_LENGTH,
    LABEL_WORDS,
    TEXT_LENGTH,
    TOKENS,
    Claims,
    ClaimsAnswer,
    DraftError,
    NeededText,
    StrictModel,
    draft_error,
)
from neuronagent.explain.llm.chat import read_object
from neuronagent.explain.llm.completion import Wanted
from neuronagent.explain.pairs import LEAST_PAIRS, PAIRS, Pair
from neuronagent.explain.statistics import sign_test

MOST_PROPOSALS = 5
LEVEL = 0.05
"""Of the sign test."""
TEMPERATURE = 0.7
MAX_TOKENS = 4_000
PURPOSE = "agent"
_FORM_VERSION = 1


class Fate(Enum):
    """What came of a hypothesis."""

    HELD = "held"
    UNDECIDED = "undecided"
    REFUTED = "refuted"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A hypothesis before its test."""

    claims: Claims
    pairs: tuple[Pair, ...]

    @property
    def prediction(self) -> dict[str, Any]:
        """As it is stored before the run."""
        return {"pairs": [pair.to_json() for pair in self.pairs]}


@dataclass(frozen=True, kw_only=True)
class MeasuredPair:
    """s of both texts of a pair; None where a text was not run, with the `reason`."""

    pair: Pair
    fires: float | None
    edited: float | None
    reason: str | None = None

    @property
    def right(self) -> bool | None:
        return None if self.fires is None or self.edited is None else self.fires > self.edited


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the model did with a prediction: of `n` pairs that could be run `right` came out as predicted, with the sign
    test's one-sided `p`; `reach` first texts reached the `median` of |post| in the combination, `strong` its `tau`."""

    fate: Fate
    n: int
    right: int
    reach: int
    strong: int
    p: float | None
    median: float
    tau: float
    pairs: tuple[MeasuredPair, ...]

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "fate": self.fate.value,
            "pairs": [measured.pair.to_json() | {
                "fires_value": measured.fires, "edited_value": measured.edited, "right": measured.right,
                "reason": measured.reason,
            } for measured in self.pairs],
        }  # fmt: skip


def outcome(pairs: Sequence[MeasuredPair], *, median: float, tau: float) -> Outcome:
    """The fate of a hypothesis whose pairs were run."""
    run = [pair for pair in pairs if pair.right is not None]
    n, right = len(run), sum(bool(pair.right) for pair in run)
    reach, strong = (sum((pair.fires or 0.0) >= least for pair in run) for least in (median, tau))
    p = sign_test(right, n) if n else None
    if n < LEAST_PAIRS or p is None:
        fate = Fate.FAILED
    elif 2 * right <= n or 4 * reach < n:
        fate = Fate.REFUTED
    else:
        fate = Fate.HELD if p <= LEVEL and 2 * reach >= n else Fate.UNDECIDED
    return Outcome(
        fate=fate, n=n, right=right, reach=reach, strong=strong, p=p, median=median, tau=tau, pairs=tuple(pairs)
    )


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A text and what speaks against it, as the next prompt shows it. `outcome` is None for the text that was stored
    before; `auroc`: how well it tells firing passages of `explain` from others, None where no judge could say."""

    text: str
    outcome: Outcome | None
    auroc: float | None = None
    missed: tuple[Shown, ...] = ()
    false_alarms: tuple[Shown, ...] = ()


class _PairAnswer(StrictModel):
    fires: NeededText
    edited: NeededText


def _some(pairs: list[_PairAnswer]) -> list[_PairAnswer]:
    if not LEAST_PAIRS <= len(pairs) <= 2 * PAIRS:
        raise ValueError(f"not between {LEAST_PAIRS} and {2 * PAIRS} pairs")
    return pairs


class _ProposalAnswer(ClaimsAnswer):
    pairs: Annotated[list[_PairAnswer], AfterValidator(_some)]


def _several(proposals: list[_ProposalAnswer]) -> list[_ProposalAnswer]:
    if not 1 <= len(proposals) <= MOST_PROPOSALS:
        raise ValueError(f"not between 1 and {MOST_PROPOSALS} hypotheses")
    return proposals


class _Answer(StrictModel):
    hypotheses: Annotated[list[_ProposalAnswer], AfterValidator(_several)]


def parse(text: str) -> list[Proposal]:
    """The hypotheses that an answer holds.

    Raises:
        DraftError: it is not JSON of the form asked for, or is too long.
    """
    value = read_object(text) if len(text) <= ANSWER_LENGTH else None
    if value is None:
        raise DraftError("the answer is not one JSON object, or is too long")
    try:
        answer = _Answer.model_validate(value)
    except ValidationError as error:
        raise draft_error(error) from error
    return [
        Proposal(
            claims=own.claims(), pairs=tuple(Pair(fires=pair.fires, edited=pair.edited) for pair in own.pairs[:PAIRS])
        )
        for own in answer.hypotheses
    ]


@cache
def agent_prompt_version() -> str:
    """The version of all that the agent is asked with, stored with every hypothesis."""
    source = f"{_FORM_VERSION} {prompts.load('agent').source}"
    return f"agent-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


def wanted(
    brief: Brief, c: SignCombination, levels: tuple[float, float], history: Sequence[Tried], proposals: int
) -> Wanted:
    """The next question to the model: a pure function of the brief, the `levels` median and τ, and what was tried."""
    return Wanted(
        messages=prompts.render("agent", **_variables(brief, c, levels, history, proposals)),
        purpose=PURPOSE,
        prompt_version=agent_prompt_version(),
        schema=_Answer.model_json_schema(),
        temperature=TEMPERATURE,
        max_tokens=MAX_TOKENS,
    )


def _variables(
    brief: Brief, c: SignCombination, levels: tuple[float, float], history: Sequence[Tried], proposals: int
) -> dict[str, Any]:
    return {
        "neuron": str(brief.neuron),
        "combination": c.value,
        "geometry": brief.facts,
        "median": f"{levels[0]:.3g}",
        "tau": f"{levels[1]:.3g}",
        "combinations": [combination_variables(own) for own in brief.combinations],
        "contrast": [example_variables(shown) for shown in brief.contrast],
        "history": [_tried(place, tried) for place, tried in enumerate(history)],
        "proposals": proposals,
        "pairs": PAIRS,
        "words": LABEL_WORDS,
        "tokens": TOKENS,
        "characters": TEXT_LENGTH,
    }


def _tried(number: int, tried: Tried) -> dict[str, Any]:
    found = tried.outcome
    return {
        "number": number,
        "fate": "stored" if found is None else found.fate.value,
        "text": prompts.quoted(tried.text),
        "verdict": "" if found is None else verdict(found),
        "pairs": [] if found is None else [_pair(measured) for measured in found.pairs],
        "auroc": None if tried.auroc is None else f"{tried.auroc:.2f}",
        "missed": [example_variables(shown) for shown in tried.missed],
        "false_alarms": [example_variables(shown) for shown in tried.false_alarms],
    }


def verdict(found: Outcome) -> str:
    """What came of a hypothesis, in one sentence."""
    return (
        f"{found.right} of {found.n} pairs came out as predicted; {found.reach} of {found.n} first texts made it fire."
    )


def _pair(measured: MeasuredPair) -> Mapping[str, str]:
    judged = {True: "right", False: "wrong", None: "not run"}[measured.right]
    return {
        "judged": judged,
        "fires": prompts.quoted(measured.pair.fires),
        "edited": prompts.quoted(measured.pair.edited),
        "fires_value": _value(measured.fires),
        "edited_value": _value(measured.edited),
        "reason": f" ({measured.reason})" if measured.reason else "",
    }


def _value(value: float | None) -> str:
    return "was not run" if value is None else f"reaches {value:.3g}"
