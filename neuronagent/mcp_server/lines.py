"""A line of text as a JSON-RPC message, or as what is to be answered because it is none.

Whoever sent a request waits for its answer, so every request that can be told in a line gets one, with its id: a
string or an integer. Where that is something else, or the line is nested too deep for any parser, the answer goes to
`null`, as JSON-RPC has it. Answers and notifications that are broken, and what is no JSON at all, get none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from mcp_types import JSONRPCMessage, JSONRPCNotification, RequestId, jsonrpc_message_adapter
from pydantic import ValidationError

Id = RequestId | None


@dataclass(frozen=True)
class Refused:
    """A line that is no message: why, and the ids of the requests in it."""

    reason: str
    ids: tuple[Id, ...]


def read_line(line: bytes) -> JSONRPCMessage | Refused:
    """The message that `line` holds; what is no UTF-8 in it becomes U+FFFD."""
    text = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    try:
        message = jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValidationError:
        return _refused(text)
    # A request whose id is no string and no integer is valid as a notification, which nobody would answer.
    if (
        isinstance(message, JSONRPCNotification)
        and not message.method.startswith("notifications/")
        and (refused := _refused(text, "the id must be a string or an integer")).ids
    ):
        return refused
    return message


def read_ends(head: bytes, tail: bytes, limit: int) -> Refused:
    """What to answer to a line that is too long to be kept, of which these are the ends."""
    found = _ID_FIRST.match(head.decode("utf-8", "replace")) or _ID_LAST.search(tail.decode("utf-8", "replace"))
    return Refused(f"the line is longer than {limit:,} bytes", () if found is None else (_value(found[1]),))


def _refused(text: str, reason: str = "not a JSON-RPC 2.0 message") -> Refused:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        # Nested too deep, numbers of thousands of digits, two messages in a line, or no JSON at all.
        return Refused(reason, tuple(_ids_in(text)))
    if isinstance(found, list):
        return Refused("batches are not supported: send one message at a time", tuple(_ids_of_all(found)))
    return Refused(reason, tuple(_ids_of_all([found])))


def _ids_of_all(messages: list[Any]) -> Iterator[Id]:
    for message in messages:
        if isinstance(message, dict) and "id" in message and not message.keys() & {"result", "error"}:
            yield _usable(cast("dict[str, Any]", message)["id"])


def _usable(found: object) -> Id:
    if isinstance(found, str):
        return found if found.encode("utf-8", "ignore").decode() == found else None  # no lone surrogates
    return found if isinstance(found, int) and not isinstance(found, bool) else None


_VALUE = r'\s*:\s*(?:("(?:[^"\\]|\\.){0,1000}"|-?\d{1,400})(?=\s*[,}]))?'
_TOKEN = re.compile(r'"(?:[^"\\]+|\\.)*+(?:"|$)|[{}\[\]]', re.DOTALL)
_AFTER_ID = re.compile(_VALUE)
_ID_FIRST = re.compile(r'\s*\{[^{}\[\]]{0,1000}?"id"' + _VALUE)
_ID_LAST = re.compile(r'[}\]"]\s*,[^{}\[\]]{0,1000}?"id"' + _VALUE + r"[^{}\[\]]*\}\s*$")


def _ids_in(text: str) -> Iterator[Id]:
    """The ids of the objects of a text that no parser takes, found by counting brackets."""
    if not text.rstrip().endswith("}"):
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            depth += 1
        elif token[0] in "}]":
            depth -= 1
        elif depth == 1 and token[0] == '"id"' and (found := _AFTER_ID.match(text, token.end())):
            yield _value(found[1])


def _value(written: str | None) -> Id:
    try:
        return None if written is None else _usable(json.loads(written))
    except ValueError:
        return None
