"""What installing or removing an entry comes to in a client's file, and doing it.

A change is computed on the text of the file and then checked: what the file says must differ from what it said before
in this one entry alone. Otherwise nothing is written, and a person has to do it by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from neuronagent.errors import InputError
from neuronagent.service.mcp_clients import files, jsonc, toml_tables
from neuronagent.service.mcp_clients.clients import Client, Place
from neuronagent.service.mcp_clients.entries import ServerEntry

Edit = tuple[tuple[str, ...], Any]


@dataclass(frozen=True, kw_only=True)
class Change:
    """`before` (None: no file) becomes `after`. `existing`: the entry of that name that is there, if there is one;
    `kept`: its keys that stay as they are."""

    file: Path
    before: str | None
    after: str
    existing: Mapping[str, Any] | None
    kept: tuple[str, ...] = ()

    @property
    def is_needed(self) -> bool:
        return self.after != (self.before or "")

    def apply(self) -> Path | None:
        """Write the file; returns where the earlier one was kept.

        Raises:
            StorageError: it was changed since it was read.
        """
        return files.replace(self.file, self.before, self.after)


class _Format(Protocol):
    def parse(self, text: str) -> Any: ...
    def put(self, text: str, path: Sequence[str], value: Any) -> str: ...
    def drop(self, text: str, path: Sequence[str]) -> str: ...


def plan_install(client: Client, place: Place, name: str, entry: ServerEntry) -> Change:
    """The change that makes `entry` the server `name`.

    An entry of that name that starts a command keeps the keys that are not ours, such as env; one that names an address
    is replaced.

    Raises:
        InputError: the file is broken, or cannot be changed without touching something else.
    """
    shown = client.shown(entry)
    found = _Found(place, name, "put the entry into it by hand")
    existing = found.entry()
    where = (*place.servers, name)
    edits: list[Edit] = [(where, shown)]
    kept: tuple[str, ...] = ()
    if existing is not None and "command" in existing:
        edits = [((*where, key), value) for key, value in shown.items() if existing.get(key) != value]
        kept = tuple(key for key in existing if key not in shown)
    return found.change(put=edits, existing=existing, kept=kept)


def plan_removal(place: Place, name: str) -> Change:
    """The change that removes the server `name`; `existing` is None if there is none.

    Raises:
        InputError: the file is broken, or cannot be changed without touching something else.
    """
    found = _Found(place, name, "remove it by hand")
    existing = found.entry()
    return found.change(drop=existing is not None, existing=existing)


def installed(place: Place, name: str) -> Mapping[str, Any] | None:
    """The entry `name` as the client reads it; None where there is none.

    Raises:
        InputError: the file is broken.
    """
    return _Found(place, name, "repair it").entry()


def pasteable(place: Place, name: str, shown: Mapping[str, Any]) -> str:
    """The entry as a person would write it into the file."""
    if place.form == "toml":
        return toml_tables.put("", (*place.servers, name), shown).strip()
    return json.dumps(jsonc.with_value({}, (*place.servers, name), shown), indent=2, ensure_ascii=False)


class _Found:
    """A client's file as it is now; `by_hand` says what a person would do instead of us."""

    def __init__(self, place: Place, name: str, by_hand: str) -> None:
        self._place, self._by_hand = place, by_hand
        self._where = (*place.servers, name)
        self._format: _Format = cast("_Format", toml_tables if place.form == "toml" else jsonc)
        self._text = files.read(place.file)
        self._mark, self._body = files.split_mark(self._text or "")
        self._value = self._parsed()

    def entry(self) -> Mapping[str, Any] | None:
        held = self._value
        for key in self._where:
            if not isinstance(held, Mapping):
                raise self._refusal("where the servers are listed is no object")
            held = cast("Mapping[str, Any]", held).get(key)
            if held is None:
                return None
        if not isinstance(held, Mapping):
            raise self._refusal(f"{'.'.join(self._where)} is no object")
        return cast("Mapping[str, Any]", held)

    def change(
        self,
        *,
        existing: Mapping[str, Any] | None,
        put: Sequence[Edit] = (),
        drop: bool = False,
        kept: tuple[str, ...] = (),
    ) -> Change:
        text, expected = self._body, self._value
        also = expected
        try:
            for path, value in put:
                text = self._format.put(text, path, value)
                expected = jsonc.with_value(expected, path, value)
            if drop:
                text = self._format.drop(text, self._where)
                expected = jsonc.without_value(expected, self._where)
                also = self._without_empty_parent(expected)
            if self._read_back(text) not in ((expected, also) if drop else (expected,)):
                raise jsonc.UnclearError("something else would change with it")
        except ValueError as error:
            raise self._refusal(str(error)) from error
        return Change(file=self._place.file, before=self._text, after=self._mark + text, existing=existing, kept=kept)

    def _read_back(self, text: str) -> Any:
        """What a text says; an emptied TOML file is an empty table, a missing JSON file an empty object."""
        return self._format.parse(text) if text.strip() else {}

    def _without_empty_parent(self, value: Any) -> Any:
        """`value` as a TOML file says it whose only server went: a table without a header of its own goes with it."""
        parent: Any = value
        for key in self._place.servers:
            parent = parent[key]
        return jsonc.without_value(value, self._place.servers) if self._place.form == "toml" and not parent else value

    def _parsed(self) -> Any:
        try:
            if self._place.form == "json" and self._body.strip() and not jsonc.is_strict(self._body):
                raise ValueError("it holds a comment or a trailing comma, which the client does not take")
            return self._read_back(self._body)
        except ValueError as error:
            raise InputError(
                f"{self._place.file} is broken and was left as it is: {error}",
                remedy="repair it and run this again",
            ) from error

    def _refusal(self, reason: str) -> InputError:
        return InputError(f"{self._place.file} was left as it is: {reason}", remedy=self._by_hand)
