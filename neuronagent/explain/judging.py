"""Questions about an explanation and a passage, and who answers them: the one interface of all judges.

A judge is a language model behind a server or in this process. It sees one passage at a time, so that nothing that is
written in one can touch the answer about another. A rule needs no judge: it has a predictor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

GRADES = 10
"""Simulation grades a token from 0 to this."""


class Status(Enum):
    """How asking ended. Only `OK` counts; whatever else it was is never turned into a score."""

    OK = "ok"
    PARSE_ERROR = "parse_error"
    REFUSAL = "refusal"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    BUDGET = "budget"


class Task(Enum):
    """What is asked of a passage.

    DETECTION: does the explanation fit? In the causal view the last token is what counts, in the full view any token.
    FUZZING: is the marked token one that the explanation is about?
    WHICH: which of the explanations fits the last token best?
    SIMULATION: how strongly does each token fit, from 0 to `GRADES`?
    """

    DETECTION = "detection"
    FUZZING = "fuzzing"
    WHICH = "which"
    SIMULATION = "simulation"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question. `texts` is the explanation, or for WHICH the k of them in the order shown; an empty one is the
    control that says nothing. `tokens` are the passage's tokens as text; `marked` is the place of the token that is
    asked about: the last one in the causal view, None where none is marked (DETECTION in the full view, SIMULATION).
    """

    task: Task
    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    marked: int | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer: P(yes) for DETECTION and FUZZING, a probability per text for WHICH, a grade per token for SIMULATION;
    no `values` unless `status` is OK. Yes-or-no judges give 0 and 1."""

    status: Status
    values: tuple[float, ...] = ()


Told = Callable[[int, int], None]
"""Called with (answered, of how many) while questions are asked."""


class Judge(Protocol):
    """Answers questions.

    `name`: model, server and kind, as it is stored with every score; `prompt_version` of its prompts.
    """

    @property
    def name(self) -> str: ...
    @property
    def prompt_version(self) -> str: ...

    def ask(self, questions: Sequence[Question], told: Told | None = None) -> list[Answer]:
        """An answer for each question, in their order; equal questions are asked once.

        Raises:
            LLMError: the server refuses every request (key, model, address), or keeps failing.
            BudgetError: the budget is reached; what was answered before is kept for the next run.
            Interrupted: stopped by the user; what was answered before is kept.
        """
        ...
