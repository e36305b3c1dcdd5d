"""One budget over all that a server asks of language models: each run gets what the runs before it left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from neuronagent.errors import BudgetError, NeuronagentError
from neuronagent.service.llm.campaign import CampaignReport
from neuronagent.service.llm.options import LLMOptions

WAIT_SECONDS = 20.0
"""For another run to end: whoever waits holds up a thread that could answer something else."""


class Purse:
    """Runs one at a time, each within what is left of `options`' budget."""

    def __init__(self, options: LLMOptions) -> None:
        self._options = options
        self._turn = threading.Lock()
        self._tokens, self._money = 0, 0.0

    def run(self, ask: Callable[[LLMOptions], CampaignReport], options: LLMOptions | None = None) -> CampaignReport:
        """Run `ask` with `options` (default: those of the server), their budgets cut down to what is left.

        Raises:
            NeuronagentError: another run is under way, or what `ask` raises.
        """
        if not self._turn.acquire(timeout=WAIT_SECONDS):
            raise NeuronagentError("another explanation is being written or scored", remedy="ask again in a moment")
        try:
            report = ask(self.left(options or self._options))
            self._tokens += report.prompt_tokens + report.completion_tokens
            self._money += report.cost or 0.0
            return report
        except BudgetError:  # the next question would not have fitted: nothing worth naming is left
            self._tokens, self._money = self._options.budget_tokens or 0, self._options.budget_money or 0.0
            raise
        finally:
            self._turn.release()

    def left(self, options: LLMOptions) -> LLMOptions:
        """`options` with what is left of the budget."""
        tokens, money = self._options.budget_tokens, self._options.budget_money
        return replace(
            options,
            budget_tokens=None if tokens is None else max(0, tokens - self._tokens),
            budget_money=None if money is None else max(0.0, money - self._money),
        )
