"""Keeps what a tool returns within a number of tokens: pages of rows with cursors, and renderings that shrink to fit.

Sizes are those of the compact JSON text, four characters to a token. A page that would be too long holds fewer rows
and its cursor begins after the last one shown, so nothing is skipped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from neuronagent.domain import clip
from neuronagent.errors import UsageError

Format = Literal["concise", "detailed"]
CONCISE, DETAILED = 2_000, 8_000
"""Characters of JSON: 500 and 2,000 tokens."""
MAX_LIMIT = 50

Row = TypeVar("Row")
Shape = TypeVar("Shape")
Size = TypeVar("Size")


def compact(value: object) -> str:
    """JSON without spaces, other scripts as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def budget(response_format: Format, limit: int | None = None) -> int:
    """Characters allowed; who names a limit of rows wants them, whatever the format."""
    return CONCISE if response_format == "concise" and limit is None else DETAILED


def checked_limit(limit: int | None, default: int) -> int:
    """The number of rows wanted.

    Raises:
        UsageError: less than one or more than `MAX_LIMIT`.
    """
    wanted = default if limit is None else limit
    if not 1 <= wanted <= MAX_LIMIT:
        remedy = f"allowed: 1–{MAX_LIMIT}; ask for more with next_cursor"
        raise UsageError(f"limit is {clip(str(wanted), 20)}", remedy=remedy)
    return wanted


class Cursor:
    """The cursors of one query: an offset, and a digest by which another query's cursor is known."""

    def __init__(self, *query: object) -> None:
        self._digest = hashlib.sha256(repr(query).encode("utf-8", "replace")).hexdigest()[:8]

    def at(self, offset: int) -> str:
        return f"{offset}.{self._digest}"

    def offset(self, cursor: str | None) -> int:
        """The offset that `cursor` stands for; 0 without one.

        Raises:
            UsageError: it is not one of this query's.
        """
        if not cursor:
            return 0
        number, _, digest = cursor.partition(".")
        if digest != self._digest or not number.isascii() or not number.isdigit() or len(number) > 12:
            remedy = "pass next_cursor of the last answer unchanged, with the same other arguments, or leave it out"
            raise UsageError(f"cursor {clip(cursor, 30)!r} does not belong to this query", remedy=remedy)
        return int(number)


def page(
    rows: Sequence[Row],
    render: Callable[[list[Row], str | None], Shape],
    *,
    cursor: Cursor,
    offset: int,
    total: int,
    room: int,
) -> tuple[Shape, int]:
    """As many of `rows`, the first of which is at `offset`, as fit into `room`, and how many those are."""
    # The numbers in the frame grow with the rows shown: a count, and the cursor in two places.
    used = len(compact(render([], cursor.at(offset)))) + 3 * len(str(total))
    shown = 0
    for row in rows:
        used += len(compact(row)) + 1
        if used > room:
            break
        shown += 1
    end = offset + shown
    following = cursor.at(end) if end < total and (shown or not rows) else None
    return render(list(rows[:shown]), following), shown


def fit(render: Callable[[Size], Shape], sizes: Iterable[Size], room: int) -> Shape:
    """The first rendering that fits into `room`; the last one where none does."""
    result: Shape | None = None
    for size in sizes:
        result = render(size)
        if len(compact(result)) <= room:
            return result
    assert result is not None
    return result


def more(shown: int, total: int, cursor: str | None) -> str:
    """Says in words that there is more, and how to get it."""
    return f"{shown} of {total} shown; the rest: same arguments with cursor {cursor}. " if cursor else ""


def number(value: float | None) -> float | None:
    """Four significant digits; None where there is no finite number."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def numbers(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {key: number(value) for key, value in values.items()}
