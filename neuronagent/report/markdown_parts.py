"""Parts of Markdown: code spans, rows of tables, and numbers, whose minus signs are ASCII."""

from __future__ import annotations

import math
import re

from neuronagent import wording


def code(text: str, width: int) -> str:
    """`text`, at most `width` characters and each of them visible, in a code span."""
    return fenced(wording.clipped(wording.visible(text[: width + 1]), width))


def cell(text: str, width: int) -> str:
    """`code` within a table, where a bar ends the cell even in a code span: a broken bar stands for it."""
    return code(text, width).replace("|", "¦")


def fenced(shown: str) -> str:
    """A code span that ends nowhere within it."""
    shown = shown or "∅"
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    ends = {shown[0], shown[-1]}
    # Markdown takes away one space at each end, if there is one at both, but not of spaces alone.
    padding = " " if "`" in ends or (ends == {" "} and shown.strip(" ")) else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def signed(value: float | None) -> str:
    """With three decimals, or one digit of what these would make nothing of: `-0.0004`; `0` has no sign."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.3f}" if abs(value) >= 0.0005 else f"{value:+.1g}" if value else "0"


def number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.4g}" if value else "0"


def score(value: float | None) -> str:
    """A score: three decimals, or three digits where it is small."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3g}" if 0 < abs(value) < 0.0995 else f"{value:.3f}"


def digits(value: float | None) -> str:
    return f"{value:.3g}" if value is not None and math.isfinite(value) else "–"


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """In percent, with two decimals; 0 and 100 only where it is nothing, or everything."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0 < value < 0.00005:
        return "<0.01 %"
    return ">99.99 %" if 0.99995 <= value < 1 else f"{100 * value:.2f} %"
