"""How results leave: JSON for programs, or text for people through one console; talk goes to stderr."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

from neuronagent.domain import finite

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 100
_LEAST_WIDTH, _MOST_WIDTH = 72, 160
# JSON may hold these raw, but a terminal must not: C1 controls, zero-width and bidi controls, lone surrogates.
_UNSAFE = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def say(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """`value` as one line of JSON; a number that is not finite becomes null."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(finite(value), ensure_ascii=not unicode, allow_nan=False, separators=(",", ":"))
    print(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))  # noqa: T201


@contextmanager
def page() -> Generator[Console]:
    """A console for results, printed at once at the end: as wide as the terminal; in a pipe `PIPED_WIDTH` wide, without
    colours and without spaces at the ends of lines."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    drawn = StringIO()
    yield Console(
        file=drawn,
        width=width(),
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    lines = drawn.getvalue()
    sys.stdout.write(lines if terminal else "\n".join(line.rstrip() for line in lines.split("\n")))
    sys.stdout.flush()


def width() -> int:
    """Columns to fill: COLUMNS, else the terminal's, else `PIPED_WIDTH`."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        columns = int(given)
    else:
        columns = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if sys.stdout.isatty() else PIPED_WIDTH
    return max(_LEAST_WIDTH, min(columns, _MOST_WIDTH))
