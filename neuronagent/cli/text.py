"""Text for a terminal: the words of `neuronagent.wording`, and what depends on the width of a cell."""

from __future__ import annotations

from neuronagent.wording import (
    LONGEST_TOKEN,
    clipped,
    combination,
    interval,
    label,
    lift,
    minus,
    number,
    percent,
    quoted,
    score,
    short,
    signed,
    token,
    visible,
)

__all__ = [
    "LONGEST_TOKEN",
    "clipped",
    "combination",
    "interval",
    "keep_end",
    "keep_start",
    "label",
    "lift",
    "minus",
    "number",
    "percent",
    "quoted",
    "score",
    "short",
    "signed",
    "token",
    "visible",
]


def keep_end(text: str, cells: int) -> str:
    """The last characters of `text` that fit in `cells`, padded on the left: the side where a context ends."""
    from rich.cells import cell_len

    if cell_len(text) > cells:
        while text and cell_len(text) > cells - 1:
            text = text[max(1, len(text) - cells) :] if len(text) > 2 * cells else text[1:]
        text = "…" + text
    return " " * (cells - cell_len(text)) + text


def keep_start(text: str, cells: int) -> str:
    """The first characters of `text` that fit in `cells`, not padded."""
    from rich.cells import cell_len

    if cell_len(text) <= cells:
        return text
    text = text[: max(0, cells)]
    while text and cell_len(text) > cells - 1:
        text = text[:-1]
    return text + "…" if cells > 0 else ""
