"""How the numbers of a report on predictability are written: L2 with its digits, R² and Pearson as scores, perplexities
as in the paper's tables."""

from __future__ import annotations

import math

from neuronagent import wording
from neuronagent.predictability.substitution import Measured
from neuronagent.report.predictability_content import Spread

_MOST_PERPLEXITY = 1000.0


def digits(value: float | None) -> str:
    """A quantity with three digits: `0.0371`, `3.2e−07`, `12.4`."""
    if value is None or not math.isfinite(value):
        return "–"
    if value and (abs(value) < 0.001 or abs(value) >= 100_000):
        return wording.minus(f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e"))
    return wording.minus(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")) if value else "0"


def change(value: float | None) -> str:
    """A difference of such: `+0.0031`."""
    shown = digits(value)
    return f"+{shown}" if value is not None and value > 0 else shown


def median(spread: Spread | None) -> str:
    return wording.score(None if spread is None else spread["median"])


def quartiles(spread: Spread | None) -> str:
    """`.41 (.22–.63)`; `.02 (−.01, .13)` where a dash would be taken for a minus."""
    if spread is None:
        return "–"
    apart = ", " if spread["q1"] < 0 else "–"
    return f"{median(spread)} ({wording.score(spread['q1'])}{apart}{wording.score(spread['q3'])})"


def perplexity(value: float | None) -> str:
    """`37.78`; what is above 1000 is said as in the paper."""
    if value is None or math.isnan(value):
        return "–"
    return "> 1000" if value > _MOST_PERPLEXITY else f"{value:.2f}"


def measured(cell: Measured | None) -> str:
    return "–" if cell is None else perplexity(cell["perplexity"])


def with_interval(cell: Measured | None) -> str:
    """`37.78 [36.1–39.5]`."""
    if cell is None or cell["perplexity"] is None:
        return "–"
    if cell["lo"] is None or cell["hi"] is None:
        return perplexity(cell["perplexity"])
    return f"{perplexity(cell['perplexity'])} [{perplexity(cell['lo'])}–{perplexity(cell['hi'])}]"


def rho(value: float | None) -> str:
    """Spearman's ρ with its sign."""
    return "–" if value is None else f"ρ = {wording.signed(value)}"


def text_name(text: str) -> str:
    """A text that is scored; the own one has no name of its own."""
    return wording.short(text) if text else "own test split"


def fit_name(name: str, kind: str) -> str:
    """A fit with how it is made, where its name does not say that already."""
    shown = wording.visible(name)
    return shown if name == kind else f"{shown} ({kind})"


def nats(value: float | None) -> str:
    """A change of the loss, nats per token: `+0.170`; differences that are only rounding are none."""
    return "–" if value is None else "0" if abs(value) < 0.0005 else wording.minus(f"{value:+.3f}")


def times(ratio: float) -> str:
    """`3.1 times`."""
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"
