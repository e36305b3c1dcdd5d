"""What a run with a language model is asked for. A key is never among it: keys come from the environment alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from neuronagent.errors import UsageError
from neuronagent.explain.items import SIZES
from neuronagent.service.scoring import Plan

LLM_VARIABLE = "NEURONAGENT_LLM"
LOCAL = "local:"
"""Before the folder or hub name of a judge that runs in this process."""
SCORES = ("full", "fuzzing", "simulation")
"""Scores that may be left out, each of which costs calls; detection in the causal view and *which of the k* may not."""


@dataclass(frozen=True, kw_only=True)
class LLMOptions:
    """A run with a language model.

    `drafter` writes explanations (None: nothing is written, only scored), `judge` reads them; either is a model's name
    on its server, the judge also `local:FOLDER`. Without `judge` the drafter judges itself, which is said with every
    score. `budget_tokens` and `budget_money` are hard limits over the whole run; None is none.
    """

    drafter: str | None = None
    judge: str | None = None
    base_url: str | None = None
    judge_url: str | None = None
    candidates: int = 3
    plan: Plan = field(default_factory=Plan)
    budget_tokens: int | None = None
    budget_money: float | None = None
    prices: Path | None = None
    concurrency: int = 8
    timeout: float = 120.0

    def __post_init__(self) -> None:
        """Raises `UsageError` for what cannot be meant."""
        if not (self.drafter or self.judge):
            raise UsageError("no language model is named", remedy=f"give --llm NAME or set {LLM_VARIABLE}")
        if (self.drafter or "").startswith(LOCAL):
            raise UsageError(
                "a model in this process can judge, but it does not write",
                remedy=f"name a model on a server with --llm, and --judge {self.drafter}",
            )
        for name, value, least in (
            ("--candidates", self.candidates, 1),
            ("--concurrency", self.concurrency, 1),
            ("--budget-tokens", self.budget_tokens, 0),
            ("--budget", self.budget_money, 0),
        ):
            if value is not None and not value >= least:
                raise UsageError(f"{name} {value} is too small", remedy=f"{least} is the least")

    @property
    def judge_model(self) -> str:
        """Who judges."""
        return self.judge or self.drafter or ""


def plan_of(sizes: str, scores: str | None) -> Plan:
    """A plan from the names of its sizes (`quick`, `default`, `full`) and of its scores, separated by commas.

    Raises:
        UsageError: a name that does not exist.
    """
    if sizes not in SIZES:
        raise UsageError(f"{sizes!r} is no size of item sets", remedy=f"allowed: {', '.join(SIZES)}")
    wanted = set(SCORES) if scores is None else {name.strip() for name in scores.split(",") if name.strip()}
    unknown = sorted(wanted - {*SCORES, "detection"})
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no score", remedy=f"allowed: detection, {', '.join(SCORES)}")
    return Plan(
        sizes=SIZES[sizes],
        full_view="full" in wanted,
        fuzzing="fuzzing" in wanted,
        simulation="simulation" in wanted,
    )


def llm_of_environment(given: str | None) -> str | None:
    """The language model that is asked for: the option, else `NEURONAGENT_LLM`. A key alone is no consent."""
    return given or os.environ.get(LLM_VARIABLE) or None
