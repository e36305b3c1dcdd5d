"""Other people's text as markup in which everything is seen: no token is invisible, none is longer than a page.

The marks are those of `wording`; in tokens they stand in `<u>`, so that a `⏎` of ours is told from one of the text.
Joiners inside emoji and scripts, which are seen in what they make of their neighbours, stay.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from markupsafe import Markup, escape

from neuronagent import wording

_JOINER = re.compile(r"(?<=[^\x00-\x7f])([\u200c\u200d])(?=[^\x00-\x7f])")
_SPACES = re.compile("( {4,})")
_QUOTED = re.compile("`([^`]+)`")
TOKEN = 80
"""Characters that are shown of a token in its text."""
_SAID = 4000
_OURS = "neuronagent "


class _Running(dict[int, str]):
    """Code point → what stands for it in running text, for `str.translate`; filled as characters come."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = shown = character if character.isprintable() else wording.visible(character)
        return shown


_RUNNING = _Running({ord("\n"): "⏎\n", ord("\t"): "→\t"})


@lru_cache(maxsize=8192)
def token(text: str, limit: int = TOKEN) -> Markup:
    """A token within a line, long runs of spaces as their number; of what is longer than `limit`, the beginning and
    how long it is. Nothing for the empty string: the style sheet draws a thin box for it."""
    if text.isprintable() and len(text) <= limit and "    " not in text and text != " ":
        return escape(text)
    shown = Markup("").join(_pieces(text[:limit]))
    return shown if len(text) <= limit else shown + Markup("<u>… {} characters</u>").format(f"{len(text):,}")


def token_width(text: str, limit: int = TOKEN) -> int:
    """About how many columns `token` takes in a font of fixed width; at least 1."""
    shown = text if text.isascii() and text.isprintable() and "    " not in text else token(text, limit).striptags()
    wide = 0 if shown.isascii() else sum(unicodedata.east_asian_width(character) in "WF" for character in shown)
    return max(1, len(shown) + wide)


def _pieces(text: str) -> list[Markup]:
    """Spaces by number, our marks in `<u>`, everything else as it is."""
    pieces: list[Markup] = []
    for place, part in enumerate(_SPACES.split(text)):
        if place % 2:
            pieces.append(Markup("<u>␣×{}</u>").format(len(part)))
        else:
            pieces += [_piece(c) if i % 2 == 0 else escape(c) for i, run in enumerate(_JOINER.split(part)) for c in run]
    return pieces if text != " " else [Markup("<u>␣</u>")]


def _piece(character: str) -> Markup:
    if character.isprintable():
        return escape(character)
    return Markup("<u>{}</u>").format(wording.visible(character))


def running(text: str) -> Markup:
    """Running text with its own line breaks, which are marked, as everything else is that has no shape of its own."""
    if text.isprintable():
        return escape(text)
    return escape("".join(p if i % 2 else p.translate(_RUNNING) for i, p in enumerate(_JOINER.split(text))))


def said(text: str) -> Markup:
    """What somebody says of a neuron, in one paragraph; what stands in backquotes as code, its spaces seen. A command
    of ours keeps its own, to be copied."""
    parts = _QUOTED.split(wording.clipped(text, _SAID))
    return Markup("").join(
        escape(wording.visible(part)) if place % 2 == 0 else command(part) if part.startswith(_OURS) else chip(part)
        for place, part in enumerate(parts)
    )


def command(text: str) -> Markup:
    """A command, as it is typed."""
    return Markup("<code>{}</code>").format(wording.visible(text))


def chip(text: str) -> Markup:
    """A token in a list, with its spaces seen."""
    return Markup("<code>{}</code>").format(wording.token(text))
