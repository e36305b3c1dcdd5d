"""What may be spent, and what it costs.

A budget is hard: a request is sent only if the most that it can take still fits beside what was spent and what is on
its way. What is booked afterwards is what the server says it took; the bound where it does not say, or where it may
have worked without our getting the answer (a timeout).
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from neuronagent.domain import clip
from neuronagent.errors import UsageError

_FORM = '{"model": {"input": dollars per million tokens, "output": …}}'


@dataclass(frozen=True, kw_only=True)
class Price:
    """Dollars per million tokens."""

    input: float
    output: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Dollars for so many tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


def read_price(path: str | Path, model: str) -> Price:
    """The price of `model` in a JSON file that the user wrote: `{"model": {"input": $, "output": $}}`, per million.

    Raises:
        UsageError: no such file, not of that form, a negative price, or no such model.
    """
    try:
        content: Any = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the prices in {clip(str(path), 200)} cannot be read", remedy=f"write {_FORM}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{clip(str(path), 200)} is no JSON", remedy=f"write {_FORM}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{clip(str(path), 200)} holds no prices by model", remedy=f"write {_FORM}")
    prices = cast("dict[str, Any]", content)
    if model not in prices:
        known = ", ".join(clip(name) for name in sorted(prices)[:20]) or "none"
        raise UsageError(f"{clip(str(path), 200)} has no price for {clip(model)}", remedy=f"it knows: {known}")
    row = cast("dict[str, Any]", prices[model]) if isinstance(prices[model], dict) else {}
    dollars = [row.get(name) for name in ("input", "output")]
    if not all(_is_price(value) for value in dollars):
        raise UsageError(
            f"the price of {clip(model)} in {clip(str(path), 200)} is not two numbers from 0", remedy=f"write {_FORM}"
        )
    return Price(input=float(cast("float", dollars[0])), output=float(cast("float", dollars[1])))


def _is_price(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


class Budget:
    """Tokens and dollars that may be spent; None where there is no limit.

    Raises:
        UsageError: a negative limit.
    """

    def __init__(self, tokens: int | None = None, money: float | None = None) -> None:
        if (tokens is not None and tokens < 0) or (money is not None and not money >= 0):
            raise UsageError("a budget cannot be negative", remedy="give 0 or more")
        self.tokens, self.money = tokens, money
        self.spent_tokens, self.spent_money = 0, 0.0
        self._held_tokens, self._held_money, self._held = 0, 0.0, 0
        self._lock = threading.Lock()

    def hold(self, tokens: int, money: float) -> bool:
        """Set aside the most that a request can take; False if that does not fit."""
        with self._lock:
            if self.tokens is not None and self.spent_tokens + self._held_tokens + tokens > self.tokens:
                return False
            if self.money is not None and self.spent_money + self._held_money + money > self.money:
                return False
            self._held += 1
            self._held_tokens += tokens
            self._held_money += money
            return True

    def book(self, held: tuple[int, float], spent: tuple[int, float]) -> None:
        """Give back what was `held` for a request and book what it took."""
        with self._lock:
            self._held -= 1
            self._held_tokens -= held[0]
            self._held_money = self._held_money - held[1] if self._held else 0.0
            self.spent_tokens += spent[0]
            self.spent_money += spent[1]

    @property
    def waiting(self) -> bool:
        """Whether something is still held, so that more may fit once it is booked."""
        return self._held > 0

    def __str__(self) -> str:
        parts = [] if self.tokens is None else [f"{self.spent_tokens:,} of {self.tokens:,} tokens"]
        parts += [] if self.money is None else [f"${self.spent_money:.4f} of ${self.money:.4f}"]
        return " and ".join(parts) or f"{self.spent_tokens:,} tokens"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What asking would take: `requests` that are not answered yet (`known` are), tokens, and dollars where the price
    is known. `exact`: `prompt_tokens` were counted by the model's own tokenizer and chat template; otherwise they are
    an upper bound, and `estimate` a guess at a quarter of a token per byte. Completion tokens are an upper bound."""

    requests: int
    known: int
    prompt_tokens: int
    completion_tokens: int
    exact: bool
    estimate: int
    cost: float | None

    def __add__(self, other: Preview) -> Preview:
        return Preview(
            requests=self.requests + other.requests,
            known=self.known + other.known,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            exact=self.exact and other.exact,
            estimate=self.estimate + other.estimate,
            cost=None if self.cost is None or other.cost is None else self.cost + other.cost,
        )
