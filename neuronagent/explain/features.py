"""What a rule may look at: tokens and their neighbours, and shapes that tokens have.

Features are *causal*: what is true at a position depends on that token and the ones before it, never on what follows.
They are computed for a whole text at once, so that a rule can be run over the corpus as cheaply as over one window.

A `Condition` is one testable statement (`token is one of …`, `previous token is one of …`, `shape is digit`); it is what
rules are made of, what is printed, and what is stored: the same object in all three places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEARBY = 5
"""How many tokens before the marked one `nearby` looks at."""
_REPEAT = 64

_TOKEN_SHAPES: dict[str, re.Pattern[str]] = {
    "a number": re.compile(r"\s*\d+\s*"),
    "a capitalised word": re.compile(r"\s*[A-Z][a-z]+\s*"),
    "an upper-case word": re.compile(r"\s*[A-Z]{2,}\s*|\s*[A-Z]\s*"),
    "a lower-case word": re.compile(r" [a-z]+"),
    "the inside of a word": re.compile(r"[a-z]+"),
    "an opening bracket": re.compile(r"\s*[\w.'\"]*[(\[{]+"),
    "a closing bracket": re.compile(r"\s*['\"]*[)\]}]+[\w:;,.]*"),
    "a quotation mark": re.compile(r"\s*[\"'“”‘’`]+"),
    "an operator": re.compile(r"\s*[=+*/<>%&|^~!@-]+"),
    "other punctuation": re.compile(r"\s*[.,;:?…_#$\\-]+"),
    "a line break": re.compile(r"\s*\n\s*"),
    "spaces": re.compile(r"[ \t]+"),
}
PLACES: tuple[str, ...] = (
    "inside brackets",
    "inside quotes",
    "at the start of a line",
    "a repeated token",
    "near the beginning of the text",
)


def readable(token_bytes: bytes | None) -> str:
    """A token as text: bytes that are no UTF-8 on their own become U+FFFD."""
    return "" if token_bytes is None else token_bytes.decode("utf-8", errors="replace")


class TokenShapes:
    """The shape of every token id of a vocabulary: `[V]` bool per name of `_TOKEN_SHAPES`."""

    def __init__(self, tokens: Sequence[bytes | None]) -> None:
        self.text = [readable(token) for token in tokens]

    @cached_property
    def tables(self) -> dict[str, NDArray[np.bool_]]:
        return {
            name: np.fromiter((pattern.fullmatch(t) is not None for t in self.text), bool, len(self.text))
            for name, pattern in _TOKEN_SHAPES.items()
        }

    @cached_property
    def bracket_step(self) -> NDArray[np.int32]:
        """By how much a token changes the depth of brackets."""
        return np.array([sum(map(t.count, "([{")) - sum(map(t.count, ")]}")) for t in self.text], dtype=np.int32)

    @cached_property
    def quotes(self) -> NDArray[np.int32]:
        return np.array([t.count('"') + t.count("“") + t.count("”") for t in self.text], dtype=np.int32)

    @cached_property
    def breaks_line(self) -> NDArray[np.bool_]:
        return np.array(["\n" in t for t in self.text], dtype=np.bool_)

    @cached_property
    def blank(self) -> NDArray[np.bool_]:
        return np.array([not t.strip() for t in self.text], dtype=np.bool_)


class TextFeatures:
    """The features of every position of one text, `ids` `[T]`, BOS included at position 0."""

    def __init__(self, ids: NDArray[np.int64], shapes: TokenShapes) -> None:
        self.ids, self.shapes = ids, shapes
        self._places: dict[str, NDArray[np.bool_]] = {}

    def before(self, steps: int) -> NDArray[np.int64]:
        """The id `steps` tokens before each position, −1 where there is none."""
        shifted = np.full_like(self.ids, -1)
        if steps < len(self.ids):
            shifted[steps:] = self.ids[: len(self.ids) - steps]
        return shifted

    def place(self, name: str) -> NDArray[np.bool_]:
        """One of `PLACES` at each position; brackets and quotes are judged before the token itself."""
        if name not in self._places:
            self._places[name] = self._compute_place(name)
        return self._places[name]

    def _compute_place(self, name: str) -> NDArray[np.bool_]:
        ids = self.ids
        if name == "inside brackets":
            depth = np.cumsum(self.shapes.bracket_step[ids])
            return np.concatenate([[False], depth[:-1] > np.minimum.accumulate(np.minimum(depth, 0))[:-1]])
        if name == "inside quotes":
            return np.concatenate([[False], np.cumsum(self.shapes.quotes[ids])[:-1] % 2 == 1])
        if name == "at the start of a line":
            return self._line_start()
        if name == "a repeated token":
            return self._repeated()
        return np.arange(len(ids)) < 8

    def _line_start(self) -> NDArray[np.bool_]:
        """The first token of a line that is not blank."""
        starts = np.zeros(len(self.ids), dtype=bool)
        fresh = True
        for place, (breaks, blank) in enumerate(
            zip(self.shapes.breaks_line[self.ids].tolist(), self.shapes.blank[self.ids].tolist(), strict=True)
        ):
            starts[place] = fresh and not blank
            fresh = breaks or (fresh and (blank or place == 0))
        return starts

    def _repeated(self) -> NDArray[np.bool_]:
        last: dict[int, int] = {}
        repeated = np.zeros(len(self.ids), dtype=bool)
        for place, token in enumerate(self.ids.tolist()):
            repeated[place] = place - last.get(token, -_REPEAT - 1) <= _REPEAT
            last[token] = place
        return repeated


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One statement about a position.

    `kind` is `token`, `previous`, `pair` (previous and token), `nearby` (among the last `NEARBY` tokens before), `shape`,
    `previous shape` or `place`; `tokens` are the ids (pairs of ids for `pair`) and `name` the shape or place.
    """

    kind: str
    tokens: tuple[tuple[int, ...], ...] = ()
    name: str = ""

    def holds(self, text: TextFeatures) -> NDArray[np.bool_]:
        """Whether it is true, at each position of `text`."""
        ids = text.ids
        if self.kind == "token":
            return np.isin(ids, [t for (t,) in self.tokens])
        if self.kind == "previous":
            return np.isin(text.before(1), [t for (t,) in self.tokens])
        if self.kind == "pair":
            size = len(text.shapes.text) + 1
            return np.isin(text.before(1) * size + ids, [a * size + b for a, b in self.tokens])
        if self.kind == "nearby":
            wanted = [t for (t,) in self.tokens]
            return np.logical_or.reduce([np.isin(text.before(step), wanted) for step in range(1, NEARBY + 1)])
        if self.kind == "shape":
            return text.shapes.tables[self.name][ids]
        if self.kind == "previous shape":
            return np.concatenate([[False], text.shapes.tables[self.name][ids[:-1]]])
        return text.place(self.name)

    def describe(self, shapes: TokenShapes) -> str:
        """The statement in words, tokens in backquotes."""
        if self.kind == "shape":
            return f"on {self.name}"
        if self.kind == "previous shape":
            return f"after {self.name}"
        if self.kind == "place":
            return "on " + self.name if self.name.startswith("a ") else self.name
        listed = ", ".join(quote("".join(shapes.text[t] for t in tokens)) for tokens in self.tokens)
        return {"token": "on ", "previous": "after ", "pair": "on ", "nearby": f"within {NEARBY} tokens after "}[
            self.kind
        ] + listed

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": [list(t) for t in self.tokens], "name": self.name}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Condition:
        return cls(kind=data["kind"], tokens=tuple(tuple(t) for t in data["tokens"]), name=data["name"])


def quote(token: str) -> str:
    """A token for a sentence: in backquotes, with its line breaks and other controls made visible."""
    shown = token.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
    return f"`{shown}`"


def shape_conditions() -> Iterable[Condition]:
    """Every condition that does not depend on the vocabulary."""
    for name in _TOKEN_SHAPES:
        yield Condition(kind="shape", name=name)
        yield Condition(kind="previous shape", name=name)
    for name in PLACES:
        yield Condition(kind="place", name=name)
