"""Text from corpora, models and people as JSON strings, so that a prompt can show it and nothing in it can leave its
quotes, hide, or imitate the marks round a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

PASSAGE_LENGTH = 2_000
"""Characters of a passage that are shown: what is too much goes at the end that is further from the marked token."""


def passage(tokens: Sequence[str], marked: int | None) -> str:
    """The tokens as one JSON string, the marked one between `<<` and `>>`."""
    if marked is None:
        return _escaped(cut("".join(tokens), PASSAGE_LENGTH))
    token = cut(tokens[marked], PASSAGE_LENGTH // 4)
    left = PASSAGE_LENGTH - len(token)
    after = "".join(tokens[marked + 1 :])
    before = "".join(tokens[:marked])
    after = cut(after, max(left // 2, left - len(before)))
    before = _cut_front(before, left - len(after))
    shown = (
        _escaped(before, end=True)[:-1],
        _escaped(token, end=True, start=True)[1:-1],
        _escaped(after, start=True)[1:],
    )
    return "{}<<{}>>{}".format(*shown)


def quoted(text: str) -> str:
    """`text` as a JSON string in which everything that is not printed is escaped."""
    shown = json.dumps(text, ensure_ascii=False)
    return shown if shown.isprintable() else "".join(map(_visible, shown))


def _escaped(text: str, *, start: bool = False, end: bool = False) -> str:
    """`quoted`, with `<` and `>` escaped wherever they could be taken for a mark: in a row, or where a mark follows
    at the `start` or the `end`."""
    if "<" not in text and ">" not in text:
        return quoted(text)
    places = [r"<{2,}|>{2,}"] + [r"^[<>]+"] * start + [r"[<>]+\Z"] * end
    shown = quoted(text)[1:-1]
    escaped = re.sub("|".join(places), lambda run: "".join(f"\\u{ord(c):04x}" for c in run[0]), shown)
    return f'"{escaped}"'


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def cut(text: str, length: int) -> str:
    """The beginning of `text`, at most `length` characters."""
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def _cut_front(text: str, length: int) -> str:
    return text if len(text) <= length else "…" + text[len(text) - max(0, length - 1) :]
