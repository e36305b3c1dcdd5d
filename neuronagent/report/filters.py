"""What templates may do with numbers and with other people's text; the forms are those of `wording`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from neuronagent import wording
from neuronagent.report import visible

_GOOD, _BAD, _NONE = (
    {"supported"},
    {"not supported", "scoring failed", "judge unfit"},
    {"not enough examples", "not scored", "not judged"},
)


def count(value: int | None) -> str:
    """`35,856`."""
    return "–" if value is None else f"{value:,}"


def digits(value: float | None) -> str:
    """A signed number with at most three significant digits, none invented: `+19.3`, `−0.08`, `−1.2e−05`, `0`."""
    if value is None or not math.isfinite(value):
        return "–"
    return wording.minus(f"{value:+.3g}") if value else "0"


def short_digits(value: float | None) -> str:
    """A number that has no sign, with three significant digits: `1.88`."""
    return digits(value).removeprefix("+")


def clip(text: str, length: int = 200) -> str:
    """At most `length` characters."""
    return wording.clipped(text, length)


def interval(limits: tuple[float | None, float | None]) -> str:
    """`[.71–1.0]`; nothing where there is none."""
    return wording.interval(*limits)


def tone(verdict: str) -> str:
    """How a verdict is coloured; its words always stand beside."""
    return "good" if verdict in _GOOD else "bad" if verdict in _BAD else "soft" if verdict in _NONE else "doubt"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "clip": clip,
    "combination": wording.combination,
    "count": count,
    "digits": digits,
    "short_digits": short_digits,
    "number": wording.number,
    "percent": wording.percent,
    "score": wording.score,
    "interval": interval,
    "lift": wording.lift,
    "tone": tone,
    "short": wording.short,
    "said": visible.said,
    "token": visible.token,
    "chip": visible.chip,
}


def seen(value: Any) -> Any:
    """What every expression of a template goes through: plain text in characters that print as themselves, so that
    none can hide, move or reorder anything, or be something that no file can hold; then it is escaped."""
    return wording.visible(value) if type(value) is str else value
