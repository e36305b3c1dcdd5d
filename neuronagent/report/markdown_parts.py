"""Parts of Markdown: code spans, rows of tables, and numbers, whose minus signs are ASCII."""

from __future__ import annotations

import math
import re

from neuronagent import wording
from neuronagent.domain import SignCombination


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


def combination_name(combination: str) -> str:
    return wording.name(SignCombination(combination))


def signed(value: float | None) -> str:
    return f"{value:+.3f}" if value is not None and math.isfinite(value) else "–"


def number(value: float | None) -> str:
    return f"{value:+.4g}" if value is not None and math.isfinite(value) else "–"


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
    return f"{100 * value:.2f} %" if value is not None and math.isfinite(value) else "–"
