"""Changes one value of a JSON file, with or without comments, and leaves every other character as it is.

Comments and trailing commas are replaced by as many spaces, so that what is found in the strict JSON that remains lies
at the same place in the file. Which bytes change is then a matter of spans; nothing is ever written out anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_COMMENT = re.compile(_STRING + r"|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_REST_OF_LINE = re.compile(r"[ \t]*(//[^\r\n]*|/\*[^\r\n]*?\*/)?")
_INDENTED = re.compile(r"^([ \t]+)\S", re.MULTILINE)
_LINE_END = re.compile(r"[ \t]*\r?\n")
_DECODER = json.JSONDecoder()


class UnclearError(ValueError):
    """A text that cannot be changed without a doubt; the message says why."""


@dataclass(frozen=True)
class _Member:
    """`"key": value`, from `key_start` to `end`, the value from `start`."""

    key: str
    key_start: int
    start: int
    end: int


@dataclass(frozen=True)
class _Object:
    """An object from `start` (its brace) to `close` (the other one)."""

    start: int
    close: int
    members: tuple[_Member, ...]

    def find(self, key: str) -> _Member | None:
        found = [member for member in self.members if member.key == key]
        if len(found) > 1:
            raise UnclearError(f"it holds {key!r} twice")
        return found[0] if found else None


class _Text:
    """A text, the same without comments (`commented_out`), and strict JSON of the same length (`strict`)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.commented_out = _COMMENT.sub(_blank, text)
        self.strict = _TRAILING_COMMA.sub(_blank, self.commented_out)
        self.newline = "\r\n" if "\r\n" in text else "\n"
        indented = _INDENTED.search(self.commented_out)
        self.unit = indented[1] if indented else "  "

    def parse(self) -> Any:
        try:
            return json.loads(self.strict, parse_constant=_no_constant)
        except RecursionError as error:
            raise UnclearError("it is nested too deeply") from error

    def skip(self, place: int, text: str | None = None) -> int:
        """The place of the next character that is no space."""
        found = _SPACE.match(self.strict if text is None else text, place)
        return found.end() if found else place

    def object_at(self, start: int, name: str) -> _Object:
        if self.strict[start : start + 1] != "{":
            raise UnclearError(f"{name} is no object")
        members: list[_Member] = []
        place = self.skip(start + 1)
        while self.strict[place] != "}":
            key, after = _DECODER.raw_decode(self.strict, place)
            value = self.skip(self.skip(after) + 1)  # behind the colon
            _, end = _DECODER.raw_decode(self.strict, value)
            members.append(_Member(key, place, value, end))
            place = self.skip(end)
            if self.strict[place] == ",":
                place = self.skip(place + 1)
        return _Object(start, place, tuple(members))

    def comma_behind(self, place: int) -> int | None:
        """Where the comma behind a value is, a trailing one too."""
        comma = self.skip(place, self.commented_out)
        return comma if self.commented_out[comma] == "," else None

    def indent(self, place: int) -> str:
        """The spaces at the beginning of the line of `place`."""
        line = self.text[self.text.rfind("\n", 0, place) + 1 : place]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def begins_line(self, place: int) -> bool:
        return not self.text[self.text.rfind("\n", 0, place) + 1 : place].strip(" \t")

    def written(self, value: Any, indent: str) -> str:
        text = json.dumps(value, indent=self.unit, ensure_ascii=False)
        return text.replace("\n", self.newline + indent)


def parse(text: str) -> Any:
    """What a text holds.

    Raises:
        ValueError: it is no JSON, comments and trailing commas aside.
    """
    return _Text(text).parse()


def is_strict(text: str) -> bool:
    """Whether there are neither comments nor trailing commas."""
    return _Text(text).strict == text


def put(text: str, path: Sequence[str], value: Any) -> str:
    """`text` with `value` at `path`; objects on the way are made where they are missing.

    Raises:
        UnclearError: something on the way is no object or is there twice, or a comment would be lost.
        ValueError: it is no JSON.
    """
    source = _Text(text if text.strip() else "{}\n")
    source.parse()
    start = end = source.skip(0)
    for depth, key in enumerate(path):
        found = source.object_at(start, ".".join(path[:depth]) or "the file")
        member = found.find(key)
        if member is None:
            for inner in reversed(path[depth + 1 :]):
                value = {inner: value}
            return _insert(source, found, key, value)
        start, end = member.start, member.end
    if source.commented_out[start:end] != source.text[start:end]:
        raise UnclearError(f"a comment within {'.'.join(path)} would be lost")
    return source.text[:start] + source.written(value, source.indent(start)) + source.text[end:]


def drop(text: str, path: Sequence[str]) -> str:
    """`text` without what is at `path`, which must be there.

    Raises:
        UnclearError: something on the way is no object or is there twice.
        ValueError: it is no JSON.
    """
    source = _Text(text)
    source.parse()
    start = source.skip(0)
    for depth, key in enumerate(path):
        found = source.object_at(start, ".".join(path[:depth]) or "the file")
        member = found.find(key)
        if member is None:
            raise UnclearError(f"there is no {'.'.join(path)}")
        start = member.start
        if depth == len(path) - 1:
            return _cut(source, found, member)
    raise UnclearError("nothing to remove was named")


def _insert(source: _Text, within: _Object, key: str, value: Any) -> str:
    """A member behind the last one, in a line of its own."""
    text, members = source.text, within.members
    outer = source.indent(within.start)
    inner = outer + source.unit
    if members and source.begins_line(members[0].key_start):
        inner = source.indent(members[0].key_start)
    added = f"{source.newline}{inner}{json.dumps(key, ensure_ascii=False)}: {source.written(value, inner)}"
    if members:
        last = members[-1].end
        comma = source.comma_behind(last)
        place = last if comma is None else comma + 1
        comment = _REST_OF_LINE.match(text, place)
        if comment and comment[1]:
            place = comment.end()
        before = text[:last] + ("," if comma is None else "") + text[last:place]
        added += "" if comma is None else ","  # as the others have it
    else:
        place = within.start + 1 + len(text[within.start + 1 : within.close].rstrip())
        before = text[:place]
    gap = text[place : within.close]
    if not gap.strip() and "\n" not in gap:
        return before + added + source.newline + outer + text[within.close :]
    return before + added + text[place:]


def _cut(source: _Text, within: _Object, member: _Member) -> str:
    """Without one member, its comma, and the line that it leaves empty."""
    text, place = source.text, within.members.index(member)
    start, end = member.key_start, member.end
    cuts: list[tuple[int, int]] = []
    comma = source.comma_behind(end)
    if comma is not None and not text[end:comma].strip():
        end = comma + 1
    elif comma is not None:
        cuts.append((comma, comma + 1))
    elif place:
        previous = source.comma_behind(within.members[place - 1].end)
        if previous is not None and not text[previous + 1 : start].strip():
            return text[:previous] + text[end:]
        if previous is not None:
            cuts.append((previous, previous + 1))
    rest = _LINE_END.match(text, end)
    if rest and source.begins_line(start):
        start, end = text.rfind("\n", 0, start) + 1, rest.end()
    for first, last in sorted([*cuts, (start, end)], reverse=True):
        text = text[:first] + text[last:]
    close = within.close - (len(source.text) - len(text))
    if len(within.members) == 1 and not text[within.start + 1 : close].strip():
        return text[: within.start + 1] + text[close:]
    return text


def _blank(match: re.Match[str]) -> str:
    found = match[0]
    return found if found[0] == '"' else re.sub(r"[^\r\n]", " ", found)


def _no_constant(constant: str) -> Any:
    raise UnclearError(f"{constant} is no JSON")


def with_value(value: Any, path: Sequence[str], put_there: Any) -> Any:
    """A copy of `value`, which `parse` gave, with another value at `path`: what `put` must come to."""
    if not path:
        return put_there
    held: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    return {**held, path[0]: with_value(held.get(path[0]), path[1:], put_there)}


def without_value(value: Any, path: Sequence[str]) -> Any:
    """A copy of `value` without what is at `path`: what `drop` must come to."""
    if len(path) == 1:
        return {key: held for key, held in value.items() if key != path[0]}
    return {**value, path[0]: without_value(value[path[0]], path[1:])}
