"""What a rule may look at: tokens and their neighbours, and shapes that tokens have.

Features are *causal*: what is true at a position depends on that token and the ones before it, never on what follows.
They are computed for a whole text at once, so that a rule can be run over the corpus as cheaply as over one window.

A `Condition` is one testable statement (`token is one of …`, `previous token is one of …`, `shape is a number`); it is
what rules are made of, what is printed, and what is stored: the same object in all three places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import token_text

NEARBY = 5
"""How many tokens before the marked one `nearby` looks at."""
_REPEAT = 64
_TEXTS_KEPT = 2048

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
    "other punctuation": re.compile(r"\s*[.,;:!?…_#$\\-]+"),
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


class TokenShapes:
    """The shape of every token id of a vocabulary: `[V + 1]` bool per name of `_TOKEN_SHAPES`; id −1 has none."""

    def __init__(self, tokens: Sequence[bytes | None]) -> None:
        self.text = [token_text(token) for token in tokens]
        self._places: dict[int, tuple[Sequence[int], NDArray[np.uint8]]] = {}

    def places(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """For each token of a text, bit i says whether `PLACES[i]` holds there. Kept for the texts asked for lately."""
        # By identity: comparing or hashing a long text would cost as much as this saves. A text that is kept here keeps
        # its identity to itself.
        known = self._places.pop(id(ids), None)
        if known is None:
            while len(self._places) >= _TEXTS_KEPT:
                del self._places[next(iter(self._places))]
            everywhere = Positions.of_texts([ids], self)
            held = np.stack([everywhere.place(name) for name in PLACES])
            known = ids, np.packbits(held, axis=0, bitorder="little")[0]
        self._places[id(ids)] = known
        return known[1]

    @cached_property
    def tables(self) -> dict[str, NDArray[np.bool_]]:
        return {
            name: np.array([pattern.fullmatch(t) is not None for t in self.text] + [False], dtype=np.bool_)
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


class Positions:
    """Positions of the corpus at which conditions can be tested: all of some texts, or chosen ones.

    What is asked of them twice is computed once.

    `back(step)` are the ids `step` tokens before each position (0: there), −1 where the text had not begun.
    """

    def __init__(
        self,
        shapes: TokenShapes,
        back: Callable[[int], NDArray[np.int64]],
        place: Callable[[str], NDArray[np.bool_]],
    ) -> None:
        self.shapes = shapes
        self.back = cache(back)
        self.place = cache(place)

    @classmethod
    def of_texts(cls, texts: Sequence[Sequence[int]], shapes: TokenShapes) -> Positions:
        """Every position of `texts`, one text behind the other."""
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        ids = np.array([token for text in texts for token in text], dtype=np.int64)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = _Places(ids, starts, shapes)

        def back(step: int) -> NDArray[np.int64]:
            source = np.arange(len(ids)) - step
            return np.where(source >= starts, ids[np.maximum(source, 0)], -1)

        return cls(shapes, back, places.compute)

    @classmethod
    def chosen(cls, where: Sequence[tuple[Sequence[int], int]], shapes: TokenShapes) -> Positions:
        """Single positions, each with the token ids of its text: no more of a text is read than a condition needs."""

        def back(step: int) -> NDArray[np.int64]:
            return np.array([ids[p - step] if p >= step else -1 for ids, p in where], dtype=np.int64)

        @cache
        def places() -> NDArray[np.uint8]:
            return np.array([shapes.places(ids)[p] for ids, p in where], dtype=np.uint8)

        def place(name: str) -> NDArray[np.bool_]:
            return (places() >> PLACES.index(name)) & 1 == 1

        return cls(shapes, back, place)

    def at(self, chosen: NDArray[np.int64]) -> Positions:
        """Some of these positions, by number."""
        return Positions(self.shapes, lambda step: self.back(step)[chosen], lambda name: self.place(name)[chosen])

    def __len__(self) -> int:
        return len(self.back(0))


class _Places:
    """`PLACES` at each token of texts that lie behind one another; brackets and quotes are judged before the token."""

    def __init__(self, ids: NDArray[np.int64], starts: NDArray[np.int64], shapes: TokenShapes) -> None:
        self.ids, self.starts, self.shapes = ids, starts, shapes
        self.position = np.arange(len(ids)) - starts

    def compute(self, name: str) -> NDArray[np.bool_]:
        if name == "inside brackets":
            return self._before(self.shapes.bracket_step) > 0
        if name == "inside quotes":
            return self._before(self.shapes.quotes) % 2 == 1
        if name == "at the start of a line":
            return self._line_start()
        if name == "a repeated token":
            return self._repeated()
        return self.position < 8

    def _before(self, amounts: NDArray[np.int32]) -> NDArray[np.int64]:
        """The sum of `amounts` by token id over the tokens of the text before each position."""
        total = np.concatenate([[0], np.cumsum(amounts[self.ids], dtype=np.int64)])
        return total[:-1] - total[self.starts]

    def _line_start(self) -> NDArray[np.bool_]:
        """The first token of a line that is not blank; BOS ends a line, and is none."""
        breaks = self.shapes.breaks_line[self.ids] | (self.position == 0)
        solid = ~self.shapes.blank[self.ids] & (self.position > 0)
        place = np.arange(len(self.ids))
        last_break = np.maximum.accumulate(np.where(breaks, place, 0))
        last_break = np.concatenate([[0], last_break[:-1]])  # strictly before
        solids = np.concatenate([[0], np.cumsum(solid)])
        return solid & (solids[place] == solids[last_break + 1])

    def _repeated(self) -> NDArray[np.bool_]:
        """The same token at most `_REPEAT` tokens earlier in the text."""
        order = np.lexsort((self.position, self.ids, self.starts))
        same = (np.diff(self.ids[order]) == 0) & (np.diff(self.starts[order]) == 0)
        near = same & (np.diff(self.position[order]) <= _REPEAT)
        repeated = np.zeros(len(self.ids), dtype=np.bool_)
        repeated[order[1:]] = near
        return repeated


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One statement about a position.

    `kind` is `token`, `previous`, `pair` (previous and token), `nearby` (among the last `NEARBY` tokens before),
    `shape`, `previous shape` or `place`; `tokens` are the ids (pairs of ids for `pair`), `name` the shape or place.
    """

    kind: str
    tokens: tuple[tuple[int, ...], ...] = ()
    name: str = ""

    def holds(self, at: Positions) -> NDArray[np.bool_]:
        """Whether it is true, at each position."""
        if self.kind == "token":
            return _among(at.back(0), self.tokens)
        if self.kind == "previous":
            return _among(at.back(1), self.tokens)
        if self.kind == "pair":
            return np.logical_or.reduce([(at.back(1) == a) & (at.back(0) == b) for a, b in self.tokens])
        if self.kind == "nearby":
            return np.logical_or.reduce([_among(at.back(step), self.tokens) for step in range(1, NEARBY + 1)])
        if self.kind == "shape":
            return at.shapes.tables[self.name][at.back(0)]
        if self.kind == "previous shape":
            return at.shapes.tables[self.name][at.back(1)]
        return at.place(self.name)

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


def _among(ids: NDArray[np.int64], tokens: tuple[tuple[int, ...], ...]) -> NDArray[np.bool_]:
    """Which of `ids` are in a set; id −1 is in none."""
    return (np.array(tokens, dtype=np.int64).reshape(-1, 1) == ids).any(axis=0)


def quote(token: str) -> str:
    """A token for a sentence: in backquotes, with its line breaks and other controls made visible."""
    shown = token.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    shown = shown.replace("`", "\\x60")
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
    return f"`{shown}`"


def shape_conditions() -> Iterable[Condition]:
    """Every condition that does not depend on the vocabulary."""
    for name in _TOKEN_SHAPES:
        yield Condition(kind="shape", name=name)
        yield Condition(kind="previous shape", name=name)
    for name in PLACES:
        yield Condition(kind="place", name=name)
