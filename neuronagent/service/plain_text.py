"""What people and clients write about neurons, in one line and without anything that hides."""

from __future__ import annotations

import unicodedata

from neuronagent.errors import UsageError

_BREAKS = "\n\r\t"
_JOINERS = "\u200c\u200d"  # they shape scripts and emoji


def one_line(what: str, given: str, longest: int, *, empty: str | None) -> str:
    """`given` in one line, if it can be shown as it is; line breaks become spaces. `empty` is what to do instead of
    leaving it empty, None where that is allowed.

    Raises:
        UsageError: it is empty, longer than `longest` characters, or holds control characters.
    """
    if len(given) > 10 * longest:  # before it is looked at, letter by letter
        raise UsageError(f"the {what} has {len(given):,} characters", remedy=f"write at most {longest:,}")
    refuse_hidden(what, given)
    plain = " ".join(given.split())
    if not plain.strip(_JOINERS + " "):
        if empty is None:
            return ""
        raise UsageError(f"the {what} is empty", remedy=empty)
    if len(plain) > longest:
        raise UsageError(f"the {what} has {len(plain):,} characters", remedy=f"write at most {longest:,}")
    return plain


def refuse_hidden(what: str, given: str) -> None:
    """Raises `UsageError` where a character controls, hides or is half of one."""
    for character in given:
        category = unicodedata.category(character)
        if (category in ("Cc", "Cs") and character not in _BREAKS) or (category == "Cf" and character not in _JOINERS):
            raise UsageError(
                f"the {what} holds U+{ord(character):04X}, a character that hides or controls",
                remedy="leave it out: letters, marks, spaces and line breaks are allowed",
            )
