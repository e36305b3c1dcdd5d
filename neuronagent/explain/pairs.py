"""Pairs of sentences that put an explanation to the test: one that should make the neuron fire, and the same sentence
changed as little as can be so that it should not.

What counts as a pair is decided by the sentences alone, before the model has seen them, so that nothing depends on how
a pair comes out. A pair is left out, and counted as failed, if

- a sentence is empty or longer than `LONGEST` characters,
- its two sentences have the same words, or more than half of the words differ: that is another sentence, not an edit,
- it is there twice, or nearly: both its sentences are those of an earlier pair, digits, punctuation and case aside,
- its firing sentence holds `COPIED` consecutive words of a passage that its writer was shown.

Words are what blanks separate; of a sentence with fewer than four of them the characters are compared.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAIRS = 8
"""Pairs that are asked for."""
LEAST_PAIRS = 4
"""Fewer say nothing."""
LONGEST = 400
COPIED = 8
_FEW_WORDS = 4


@dataclass(frozen=True, kw_only=True)
class Pair:
    """`fires` should make the neuron fire, `edited` should not."""

    fires: str
    edited: str

    def to_json(self) -> dict[str, str]:
        return {"fires": self.fires, "edited": self.edited}


def problems(pairs: Sequence[Pair], shown: Iterable[str] = ()) -> list[str | None]:
    """What is wrong with each pair; None for one that can be used. `shown`: the passages that its writer has seen."""
    runs = {run for passage in shown for run in _runs(passage.split())}
    seen: set[Pair] = set()
    kept: dict[tuple[str, str], int] = {}
    found: list[str | None] = []
    for place, pair in enumerate(pairs):
        wrong = "it is there twice" if pair in seen else _problem(pair, runs)
        seen.add(pair)
        if wrong is None:
            own = _plain(pair.fires), _plain(pair.edited)
            earlier = kept.setdefault(own, place)
            if earlier != place and all(own):  # of digits and marks alone nothing is left to compare
                wrong = f"nearly pair {earlier + 1} again"
        found.append(wrong)
    return found


def _plain(sentence: str) -> str:
    """The words of a sentence without case, digits and punctuation."""
    kept = "".join(" " if _is_mark(character) else character for character in sentence)
    return " ".join(kept.casefold().split())


def _is_mark(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character)[0] in "NP"


def _problem(pair: Pair, runs: set[tuple[str, ...]]) -> str | None:
    for sentence in (pair.fires, pair.edited):
        if not sentence.strip():
            return "a sentence is empty"
        if len(sentence) > LONGEST:
            return f"a sentence has {len(sentence):,} characters, {LONGEST} are allowed"
    a, b = _parts(pair)
    changed = distance(a, b)
    if not changed:
        return "both sentences are the same"
    if 2 * changed > max(len(a), len(b)):
        return f"no minimal edit: {changed} of {max(len(a), len(b))} parts differ"
    if not runs.isdisjoint(_runs(pair.fires.split())):
        return f"{COPIED} words in a row are copied from an example"
    return None


def _parts(pair: Pair) -> tuple[Sequence[str], Sequence[str]]:
    """The words of both sentences, or the characters where there are hardly any words."""
    words = pair.fires.split(), pair.edited.split()
    return words if min(map(len, words)) >= _FEW_WORDS else (" ".join(words[0]), " ".join(words[1]))


def _runs(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    lower = [word.casefold() for word in words]
    return (tuple(lower[start : start + COPIED]) for start in range(len(lower) - COPIED + 1))


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    """How many parts have to be put in, left out or replaced to make `b` of `a` (Levenshtein)."""
    above = list(range(len(b) + 1))
    for row, own in enumerate(a, start=1):
        here = [row]
        for column, other in enumerate(b, start=1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (own != other)))
        above = here
    return above[-1]
