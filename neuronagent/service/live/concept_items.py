"""The labelled texts that a concept is searched with: reading, refusing, ordering and dividing them.

A file has one JSON object per line: `text`, `label` (1 or true: the concept is there; 0 or false: it is not), and

    position, span or token    where in the text the concept is: a character, [start, end) in characters from zero, or
                               a piece that occurs in the text exactly once; all lines say so or none does
    group                      lines of one group (a document, a minimal pair) are not independent: they stay together

Lines of one text are a group anyway. Nothing depends on the order of the lines: items are put in the order of their
hashes, and groups of one kind (all 1, all 0, both), by their hashes too, go to the half that has fewer lines of that
kind. So both halves have like shares of each label, however few lines there are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import clip
from neuronagent.errors import InputError, NotFoundError

MAX_TEXTS = 10_000
LEAST = 8
"""Texts of each label, and in each half `LEAST_IN_HALF`."""
LEAST_IN_HALF = 4
_LONGEST_LINE = 1_000_000
"""Bytes: no model reads so much."""
_PLACES = ("position", "span", "token")
_KEYS = ("text", "label", *_PLACES, "group")
_ALLOWED = 'allowed: {"text": "…", "label": 1 or 0} and, if wanted, position, span or token, and group'


@dataclass(frozen=True, kw_only=True)
class LabelledText:
    """A text and whether the concept is in it; `span` is where, [start, end) in characters, None for the whole text.
    `where` is what errors call it, such as `labelled.jsonl:12`."""

    text: str
    label: bool
    span: tuple[int, int] | None = None
    group: str | None = None
    where: str = ""


def read_labelled(name: str | Path) -> list[LabelledText]:
    """The labelled texts of a file, in its order; empty lines are passed over.

    Raises:
        NotFoundError: there is no such file.
        InputError: a line that is no labelled text; file and line are named.
    """
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            found = [_parsed(raw, f"{clip(path.name)}:{number}") for number, raw in _lines(file, path.name)]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(f"{clip(str(name)) or '(nothing)'} is no file", remedy=_ALLOWED) from error
    if not found:
        raise InputError(f"{clip(str(name))} has no labelled text", remedy=_ALLOWED)
    return found


def _lines(file: Any, name: str) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers."""
    number = texts = 0
    while raw := cast(bytes, file.readline(_LONGEST_LINE + 1)):
        number += 1
        if len(raw) > _LONGEST_LINE:
            raise InputError(f"{clip(name)}:{number} is longer than {_LONGEST_LINE:,} bytes", remedy="shorten the text")
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            texts += 1
            if texts > MAX_TEXTS:
                raise InputError(f"{clip(name)} has more than {MAX_TEXTS:,} texts", remedy="a sample of them is enough")
            yield number, raw


def _parsed(raw: bytes, where: str) -> LabelledText:
    try:
        found: Any = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is no UTF-8", remedy=_ALLOWED) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON", remedy=_ALLOWED) from error
    if not isinstance(found, dict):
        raise InputError(f"{where} is no JSON object", remedy=_ALLOWED)
    line = cast(dict[str, Any], found)
    unknown = next((key for key in line if key not in _KEYS), None)
    if unknown is not None:
        raise InputError(f"{where} has an unknown key {clip(unknown, 30)!r}", remedy=f"allowed: {', '.join(_KEYS)}")
    text, label, group = line.get("text"), line.get("label"), line.get("group")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where} has no `text`", remedy=_ALLOWED)
    if not isinstance(label, int) or label not in (0, 1):
        raise InputError(f"{where} has no `label`", remedy="allowed: 1, 0, true or false")
    if group is not None and (not isinstance(group, str | int) or len(str(group)) > 200):
        raise InputError(f"{where}: `group` is no name", remedy="allowed: a number, or a text of 200 characters")
    span = _span(line, text, where)
    return LabelledText(text=text, label=bool(label), span=span, group=_or_none(group), where=where)


def _or_none(group: object) -> str | None:
    return None if group is None else str(group)


def _span(line: dict[str, Any], text: str, where: str) -> tuple[int, int] | None:
    """Where the line says that the concept is, None where it does not say."""
    given = [key for key in _PLACES if line.get(key) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise InputError(f"{where} has {' and '.join(given)}", remedy="say the place once")
    value: Any = line[given[0]]
    if given[0] == "token":
        if not isinstance(value, str) or not value or value not in text:
            raise InputError(f"{where}: `token` is no part of the text", remedy="name a piece that occurs once")
        start = text.index(value)
        if value in text[start + 1 :]:
            raise InputError(f"{where}: `token` occurs more than once", remedy="give `position` or `span` instead")
        return start, start + len(value)
    ends: list[Any] = [value, value + 1] if _whole(value) else cast(list[Any], value if isinstance(value, list) else [])
    wanted = "position" if _whole(value) else "span"
    if wanted != given[0] or len(ends) != 2 or not all(map(_whole, ends)) or not 0 <= ends[0] < ends[1] <= len(text):
        shape = "a number from 0" if given[0] == "position" else "[start, end) with start < end,"
        raise InputError(f"{where}: `{given[0]}` is not in the text", remedy=f"allowed: {shape} up to {len(text)}")
    return int(ends[0]), int(ends[1])


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """Labelled texts in the order of their hashes, each once. `labels`, `groups` and `searched` `[n]`: whether the
    concept is there, the number of the group, and whether it is in the half that is searched (else held out).
    `doubled` counts lines that were there already; `hash` is of all the others."""

    items: tuple[LabelledText, ...]
    labels: NDArray[np.bool_]
    groups: NDArray[np.intp]
    searched: NDArray[np.bool_]
    doubled: int
    hash: str

    @property
    def placed(self) -> bool:
        """Whether a token of each text is labelled, not the text."""
        return self.items[0].span is not None


def labelled_set(given: Sequence[LabelledText], salt: str) -> LabelledSet:
    """`given` in order, divided by `salt`.

    Raises:
        InputError: too few or too many texts of a label, in all or in a half; some have a place and others none; one
            text with both labels.
    """
    if len(given) > MAX_TEXTS:
        raise InputError(f"{len(given):,} texts are too many", remedy=f"allowed: {MAX_TEXTS:,}; a sample is enough")
    items = _each_once(given)
    _refuse_few([item.label for item in items], LEAST, "in all")
    places = {item.span is None: item for item in items}
    if len(places) == 2:
        raise InputError(
            f"{named(places[True])} has no place, {named(places[False])} has one",
            remedy="give all lines a position, span or token, or none",
        )
    labels = np.array([item.label for item in items])
    names = [_group(item) for item in items]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    groups = np.array([numbers[name] for name in names], dtype=np.intp)
    searched = _halves(list(numbers), groups, labels, salt)
    for half, said in ((searched, "in the half that is searched"), (~searched, "in the half that is held out")):
        _refuse_few(labels[half].tolist(), LEAST_IN_HALF, said)
    return LabelledSet(
        items=tuple(items),
        labels=labels,
        groups=groups,
        searched=searched,
        doubled=len(given) - len(items),
        hash=_digest(json.dumps([(item.text, item.label, item.span, item.group) for item in items]))[:16],
    )


def _each_once(given: Iterable[LabelledText]) -> list[LabelledText]:
    """Items in the order of their hashes, without those that are there twice."""
    found: dict[tuple[str, tuple[int, int] | None], LabelledText] = {}
    texts: dict[str, LabelledText] = {}
    for item in given:
        before, first = found.setdefault((item.text, item.span), item), texts.setdefault(item.text, item)
        if before.label is not item.label:
            raise InputError(
                f"{named(before)} and {named(item)} have the same text and different labels",
                remedy="give a text one label, or say where the concept is",
            )
        if first.group != item.group:
            raise InputError(
                f"{named(first)} and {named(item)} have the same text and different groups",
                remedy="give a text one group",
            )
    return sorted(found.values(), key=lambda item: (_digest(item.text), item.span or (0, 0)))


def _refuse_few(labels: Sequence[bool], least: int, where: str) -> None:
    for label in (True, False):
        count = sum(one is label for one in labels)
        if count < least:
            raise InputError(
                f"{count} texts have label {int(label)} {where}",
                remedy=f"at least {least} of each label are needed (copies count once, and groups stay together)",
            )


def named(item: LabelledText) -> str:
    """What errors call an item."""
    return item.where or repr(clip(item.text, 40))


def _group(item: LabelledText) -> tuple[bool, str]:
    """What lines have in common that stay together: the group, else the text."""
    return (False, item.text) if item.group is None else (True, item.group)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _halves(
    names: Sequence[tuple[bool, str]], groups: NDArray[np.intp], labels: NDArray[np.bool_], salt: str
) -> NDArray[np.bool_]:
    """Which items are in the half that is searched, `[n]`."""
    sizes = np.bincount(groups, minlength=len(names))
    positive = np.bincount(groups, weights=labels, minlength=len(names))
    kinds = (positive > 0).astype(int) + 2 * (positive < sizes)
    order = sorted(range(len(names)), key=lambda g: _digest(f"{salt}\0{int(names[g][0])}{names[g][1]}"))
    chosen = np.zeros(len(names), dtype=np.bool_)
    counts = np.zeros((4, 2), dtype=np.int64)
    for group in order:
        held_out, searched = counts[kinds[group]]
        chosen[group] = searched <= held_out
        counts[kinds[group], int(chosen[group])] += sizes[group]
    return chosen[groups]
