"""Numbers and other people's text in the words that cards, pages and reports share, each in one line.

Whatever a corpus, a model or a writer says is data: control characters, escape sequences, zero-width and bidirectional
controls are shown as visible stand-ins, so that nothing in a text can move a cursor, colour a line, hide itself or
reorder what stands beside it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from pathlib import PurePath

from neuronagent.domain import SignCombination

_NAMED = {"\n": "⏎", "\r": "␍", "\t": "→", "\x7f": "␡", "\u2028": "⏎", "\u2029": "⏎", "\xa0": "⍽"}
LONGEST_TOKEN = 40
PAIRS = {"cos_gate_in": "gate · in", "cos_gate_out": "gate · out", "cos_in_out": "in · out"}
"""The cosines of a neuron's weight vectors, by their names in its geometry."""


def visible(text: str) -> str:
    """`text` in one line of characters that print as themselves."""
    if text.isprintable() and "⟦" not in text and "⟧" not in text:
        return text
    return "".join(map(_character, text))


def _character(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character in "⟦⟧":  # our own marks
        return f"⟨U+{ord(character):04X}⟩"
    if character.isprintable():
        return character
    if character < " ":
        return chr(0x2400 + ord(character))
    if unicodedata.category(character) == "Zs":
        return " "
    return f"⟨U+{ord(character):04X}⟩"


def token(text: str) -> str:
    """A token for a list: visible, its spaces too, not longer than `LONGEST_TOKEN`."""
    return clipped(visible(text).replace(" ", "␣"), LONGEST_TOKEN) or "∅"


def quoted(text: str) -> str:
    """A token in backquotes."""
    return f"`{token(text)}`"


def label(text: str) -> str:
    """What a rule says, with the spaces inside its quoted tokens visible: no line then breaks within a token."""
    return re.sub("`[^`]*`", lambda match: match[0].replace(" ", "␣"), visible(text))


def clipped(text: str, length: int) -> str:
    """At most `length` characters, the last one an ellipsis if there were more."""
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def short(name: str) -> str:
    """A name of a model, judge or corpus: the last part of a local path, any other name whole."""
    return visible(PurePath(name).name if name.startswith(("/", ".", "~")) else name)


def combination(value: SignCombination | str) -> str:
    """`gate+ in−` of `gate+_in-`."""
    return minus(SignCombination(value).value.replace("_", " "))


def minus(digits: str) -> str:
    """Digits with a true minus sign."""
    return digits.replace("-", "−")


def signed(value: float, decimals: int = 2) -> str:
    """`+0.31`, `−0.05`, never `−0.00`."""
    rounded = round(value, decimals) + 0.0
    return minus(f"{rounded:+.{decimals}f}") if rounded else f"{0:.{decimals}f}"


def number(value: float | None) -> str:
    """A signed number: two decimals, or two digits where it is small."""
    if value is None:
        return "–"
    small = 0 < abs(value) < 0.095
    return minus(f"{value:+.2g}" if small or abs(value) >= 1000 else f"{value + 0.0:+.2f}")  # −0.0 + 0.0 is 0.0


def percent(share: float | None) -> str:
    """A share: `14.7 %`; `0 %` only for nothing at all, `100 %` only for everything."""
    if share is None:
        return "–"
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def score(value: float | None) -> str:
    """A score between 0 and 1: `.91`, `.997`, `1.0`; what is small keeps two digits: `.0034`.

    Correlations may be below 0.
    """
    if value is None:
        return "–"
    if value < 0:
        return f"−{score(-value)}"
    if 0 < value < 0.095:
        return "<.0001" if value < 0.0001 else f"{value:.{1 - math.floor(math.log10(value))}f}".removeprefix("0")
    if 0.995 <= value < 1:  # nothing short of perfect looks it
        return f"{min(math.floor(value * 1000), 999) / 1000:.3f}".removeprefix("0")
    rounded = f"{value:.2f}"
    return "1.0" if rounded == "1.00" else rounded.removeprefix("0")


def interval(lo: float | None, hi: float | None) -> str:
    """`[.71–1.0]`; `[−.04, .13]` where a dash would be taken for a minus."""
    if lo is None or hi is None:
        return ""
    return f"[{score(lo)}{', ' if lo < 0 else '–'}{score(hi)}]"


def lift(value: float | None) -> str:
    """A difference of scores: `+.12`, `−.05`."""
    if value is None:
        return "–"
    return ("−" if value < 0 else "+") + score(abs(value))
