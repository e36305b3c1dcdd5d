"""Changes one table of a TOML file and leaves every other line as it is.

Python reads TOML but does not write it. Here a table is a run of lines from its `[header]` to the next one; keys within
it are replaced line by line. Files that write the same table in another way (inline, or with dotted keys) are refused,
and whoever calls this compares what `parse` says before and after.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from neuronagent.service.mcp_clients.jsonc import UnclearError

_HEADER = re.compile(r"\s*\[\s*([^\[\]#]+?)\s*\]\s*(?:#.*)?")
_TOKEN = re.compile(
    r"""\"{3}(?:[^\\]|\\.)*?\"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[\]{}\n]""", re.DOTALL
)
_ARRAY_HEADER = re.compile(r"\s*\[\[")
_KEY = re.compile(r"""\s*(?:"([^"\\]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*=""")


def parse(text: str) -> Any:
    """What a text holds.

    Raises:
        ValueError: it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise UnclearError("it is nested too deeply") from error


def put(text: str, path: Sequence[str], value: Any) -> str:
    """`text` with `value` at `path`: a table, behind all others if it is new, or one key of a table that is there.

    Raises:
        UnclearError: the table is not written as `[header]` and `key = value`, or a comment would be lost.
        ValueError: it is no TOML.
    """
    parse(text)
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        if _regions(text, path):
            text = drop(text, path)
        return _append(text, path, table)
    own = [region for region in _regions(text, path[:-1]) if region[2] == tuple(path[:-1])]
    if len(own) != 1:
        raise UnclearError(f"there is no [{'.'.join(path[:-1])}] in it")
    lines = _lines(text)
    start, end, _ = own[0]
    newline = _newline(text)
    for number in range(start + 1, end):
        found = _KEY.match(lines[number])
        if found and path[-1] in found.groups():
            last, comment = _value_end(lines, number, end)
            lines[number : last + 1] = [_line(path[-1], value) + comment + newline]
            return "".join(lines)
    if not lines[start].endswith("\n"):
        lines[start] += newline
    lines.insert(start + 1, _line(path[-1], value) + newline)
    return "".join(lines)


def drop(text: str, path: Sequence[str]) -> str:
    """`text` without the table at `path` and the tables within it; comments between tables stay.

    Raises:
        UnclearError: it is not written as `[header]`.
        ValueError: it is no TOML.
    """
    parse(text)
    regions = _regions(text, path)
    if not regions:
        raise UnclearError(f"there is no [{'.'.join(path)}] in it")
    lines = _lines(text)
    runs: list[tuple[int, int]] = []
    for start, end, _ in regions:
        first = runs.pop()[0] if runs and runs[-1][1] == start else start
        runs.append((first, end))
    for start, end in reversed(runs):
        while end > start + 1 and _is_blank(lines[end - 1]):
            end -= 1
        follows = end == len(lines) or not lines[end].strip()
        if start and not lines[start - 1].strip() and follows:
            start -= 1
        del lines[start:end]
    return "".join(lines)


def _append(text: str, path: Sequence[str], table: Mapping[str, Any]) -> str:
    newline = _newline(text)
    if text and not text.endswith("\n"):
        text += newline
    lines = [f"[{'.'.join(map(_name, path))}]", *(_line(key, value) for key, value in table.items())]
    return text + (newline if text.strip() else "") + "".join(line + newline for line in lines)


def _regions(text: str, path: Sequence[str]) -> list[tuple[int, int, tuple[str, ...]]]:
    """First line, line behind the last, and name of the table at `path` and of those within it, in the file's order."""
    lines = _lines(text)
    headers = [(number, _header(lines[number])) for number in _beginnings(text)]
    starts = [(number, name) for number, name in headers if name is not None]
    ends = [*(number for number, _ in starts[1:]), len(lines)][: len(starts)]
    wanted = tuple(path)
    return [
        (number, end, name)
        for (number, name), end in zip(starts, ends, strict=True)
        if name[: len(wanted)] == wanted and name
    ]


def _lines(text: str) -> list[str]:
    """The lines with their ends; only what ends a line in TOML does."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _beginnings(text: str) -> list[int]:
    """The numbers of the lines that begin outside of strings and arrays: a header can stand nowhere else."""
    found, line, depth = [0] if text else [], 0, 0
    for token in _TOKEN.findall(text):
        line += token.count("\n")
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        if token == "\n" and not depth:
            found.append(line)
    return [number for number in found if number < len(_lines(text))]


def _header(line: str) -> tuple[str, ...] | None:
    """The name of the table that a line begins; () for an array of tables."""
    if _ARRAY_HEADER.match(line):
        return ()
    found = _HEADER.fullmatch(line.rstrip("\r\n"))
    if found is None:
        return None
    try:
        held: Any = tomllib.loads(f"[{found[1]}]")
    except tomllib.TOMLDecodeError:
        return None
    name: list[str] = []
    while held:
        ((key, held),) = held.items()
        name.append(key)
    return tuple(name)


def _value_end(lines: Sequence[str], number: int, end: int) -> tuple[int, str]:
    """The last line of a value that begins in line `number`, and the comment behind it.

    Raises:
        UnclearError: there are comments within it.
    """
    for last in range(number, end):
        chunk = "".join(lines[number : last + 1])
        value = _loads(chunk)
        if value is None:
            continue
        for place in (found.start() for found in re.finditer(r"\s*#", lines[last])):
            kept = "".join(lines[number:last]) + lines[last][:place]
            if _loads(kept) == value:
                return _checked(kept, last, lines[last][place:].rstrip("\r\n"))
        return _checked(chunk, last, "")
    raise UnclearError("where a value of it ends is not clear")


def _checked(value: str, last: int, comment: str) -> tuple[int, str]:
    if "\n" in value.rstrip() and "#" in value:
        raise UnclearError("a comment within a value would be lost")
    return last, comment


def _loads(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _line(key: str, value: str | Sequence[str]) -> str:
    written = _string(value) if isinstance(value, str) else f"[{', '.join(map(_string, value))}]"
    return f"{_name(key)} = {written}"


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    """A basic string; JSON's rules are TOML's but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
