"""Text from a corpus, a tokenizer or another writer, made fit to be shown to a person or a language model.

Nothing in it can move a cursor, hide text or reorder what is read: escape sequences and control characters go, line
breaks and tabs become visible marks, characters that are invisible or turn the direction of writing are written as
`<U+202E>`. Lengths are bounded. What remains is data; whoever shows it says so.
"""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = re.compile(
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # operating system commands, such as links and titles
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours and cursor movements
    r"|\x1b[ -/]*[0-~]?"
)
_VISIBLE = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\u2028": "⏎", "\u2029": "⏎"}
_JOINERS = "\u200c\u200d"  # they shape scripts and emoji
_TAGS = range(0xE0000, 0xE0080)  # an invisible copy of ASCII, only ever used to hide text
_SEEN = 4_000
"""Characters of an input that are looked at: more is never shown."""


def clean(text: str, width: int = 1_000) -> str:
    """The beginning of `text`, at most `width` characters, without anything that hides or moves."""
    return _end(_plain(text[:_SEEN]), width)


def clean_tail(text: str, width: int) -> str:
    """The end of `text`, at most `width` characters, as `clean`."""
    plain = _plain(text[-_SEEN:])
    return plain if len(plain) <= width else "…" + plain[len(plain) - width + 1 :]


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _plain(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(map(_shown, _ESCAPES.sub("", text)))


def _shown(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    category = unicodedata.category(character)
    if category == "Cc" or ord(character) in _TAGS:
        return ""
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    if category == "Cf" and character not in _JOINERS:
        return f"<U+{ord(character):04X}>"
    return character
