"""What long work tells of itself: the CLI draws it, the tests and the Python API may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """`start` opens a stage of `total` units (0: unknown), `advance` says how many are done in all, `note` a line."""

    def start(self, stage: str, total: int, unit: str) -> None: ...
    def advance(self, done: int) -> None: ...
    def note(self, line: str) -> None: ...


class Silent:
    """Says nothing."""

    def start(self, stage: str, total: int, unit: str) -> None: ...
    def advance(self, done: int) -> None: ...
    def note(self, line: str) -> None: ...
