"""An example as markup: its tokens coloured by post, the marked one in the middle, and the whole text on demand.

A page has some 1,500 tokens, so their markup is terse: `<i class=b7 data-v="gate⇥in⇥act⇥post">`. The letter is the
token's sign combination (a–d in their order, z at an exact zero), the digit how large |post| is on the column's scale,
in ninths. The marked token is a `<b>`; the style sheet does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from neuronagent.domain import COMBINATIONS, SignCombination
from neuronagent.report import filters, visible
from neuronagent.report.content import PageCombination, PageExample

LEVELS = 9
_LETTERS = {(c.gate_sign, c.in_sign): letter for c, letter in zip(COMBINATIONS, "abcd", strict=True)}
_LINE = 38
"""Characters of the line that has the marked token in its middle: what a column of four has room for at 1280 pixels."""
_MARKED = 200
"""Characters that are shown of a marked token."""
_SIDE, _LEAST, _ROOM = 2000, 200, 180_000
"""Bytes of the whole text on either side of a marked token, at most and at least; and of all examples of a page, their
windows included, as they stand in the file: where the windows take much, less is left for the texts."""


class Drawn(NamedTuple):
    """An example, its coloured window and its whole text."""

    example: PageExample
    window: Markup
    whole: Markup


def scale(combination: PageCombination) -> float:
    """The |post| that has the full colour in this column: the largest of its examples; 0 if there is none."""
    return max((abs(example["value"]) for example in combination["examples"]), default=0.0)


def drawn(combinations: Sequence[PageCombination]) -> list[list[Drawn]]:
    """The drawings of the examples of each combination."""
    windows = [[_window(own, example, scale(own)) for example in own["examples"]] for own in combinations]
    sizes = [len(window.encode()) for found in windows for window in found]
    side = max(_LEAST, min(_SIDE, (_ROOM - sum(sizes)) // (2 * max(1, len(sizes)))))
    return [
        [Drawn(e, window, _whole(e, side)) for e, window in zip(own["examples"], found, strict=True)]
        for own, found in zip(combinations, windows, strict=True)
    ]


def _window(own: PageCombination, example: PageExample, largest: float) -> Markup:
    """Three parts that are one text: what comes before the marked token's line, that line, what comes after it."""
    combination = SignCombination(own["name"])
    letter = _LETTERS[combination.gate_sign, combination.in_sign]
    tokens, marked = example["tokens"], example["marked"]
    runs = [run(token, values, largest) for token, values in zip(tokens, example["values"], strict=True)]
    first, last = _line(tokens, marked)
    before, left = "".join(runs[:first]), "".join(runs[first:marked])
    right, after = "".join(runs[marked + 1 : last]), "".join(runs[last:])
    peak = _peak(example, letter, largest)
    return Markup(
        (f"<p>{before}</p>" if before else "")
        + f"<p class=m><span>{left}</span>{peak}<span>{right}</span></p>"
        + (f"<p>{after}</p>" if after else "")
    )


def run(token: str, values: tuple[float, float, float, float] | None, largest: float) -> str:
    """A token with its values, coloured on a scale that ends at `largest`."""
    shown = visible.token(token)
    if values is None:
        return f"<i>{shown}</i>"
    gate, x_in, _, post = values
    letter = _LETTERS.get(((gate > 0) - (gate < 0), (x_in > 0) - (x_in < 0)), "z")
    return f'<i class={letter}{_level(post, largest)} data-v="{_values(values)}">{shown}</i>'


def _peak(example: PageExample, letter: str, largest: float) -> str:
    """The marked token, whose post is known even where the model was not run again."""
    token, values, post = example["tokens"][example["marked"]], example["values"][example["marked"]], example["value"]
    said = _values(values) if values else f"?\t?\t?\t{filters.digits(post)}"
    shown = visible.token(token, _MARKED)
    return f'<b class={letter}{_level(post, largest)} tabindex=0 data-v="{said}">{shown}</b>'


def _values(values: tuple[float, float, float, float]) -> str:
    return "\t".join(map(filters.digits, values))


def _level(post: float, largest: float) -> int:
    return min(LEVELS, round(LEVELS * abs(post) / largest)) if largest else 0


def _line(tokens: Sequence[str], marked: int) -> tuple[int, int]:
    """Which tokens `[first, last)` share the marked one's line: as many on either side as half of the rest holds."""
    left = right = (_LINE - visible.token_width(tokens[marked], _MARKED)) // 2
    first, last = marked, marked + 1
    while first and (left := left - visible.token_width(tokens[first - 1])) >= 0:
        first -= 1
    while last < len(tokens) and (right := right - visible.token_width(tokens[last])) >= 0:
        last += 1
    return first, last


def _whole(example: PageExample, side: int) -> Markup:
    """The text as it is, with its line breaks; the marked token marked, and at most `side` bytes on either side."""
    tokens, marked = example["tokens"], example["marked"]
    before = example["before"] + "".join(tokens[:marked])
    after = "".join(tokens[marked + 1 :]) + example["after"]
    begins, ends = example["cut"]
    before, cut_before = _bounded(before, side, lambda text, size: text[len(text) - size :])
    after, cut_after = _bounded(after, side, lambda text, size: text[:size])
    return Markup("{}{}<mark>{}</mark>{}{}").format(
        "… " if begins or cut_before else "",
        before,
        visible.token(tokens[marked], _MARKED),
        after,
        " …" if ends or cut_after else "",
    )


def _bounded(text: str, most: int, keep: Callable[[str, int], str]) -> tuple[Markup, bool]:
    """As much of `text` as `most` bytes hold, from the side that `keep` keeps; and whether something is left out."""
    size = min(len(text), most)
    shown = visible.running(keep(text, size))
    while (weight := len(shown.encode())) > most:
        size = min(size - 1, size * most // weight)
        shown = visible.running(keep(text, size))
    return shown, size < len(text)
