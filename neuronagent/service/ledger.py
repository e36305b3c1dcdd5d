"""Counts the identities that a check looks at: how often each was checked, how often it did not hold, where first."""

from __future__ import annotations

from dataclasses import dataclass

KEPT = 3


@dataclass(kw_only=True)
class Finding:
    """One identity: how often it was checked, how often it did not hold, and the first failures in words."""

    name: str
    checked: int = 0
    wrong: int = 0
    examples: list[str]

    @property
    def ok(self) -> bool:
        return not self.wrong


class Ledger:
    """Counts checks by name, in the order in which they are first made."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}

    def __call__(self, name: str, holds: bool, where: str, *found: object) -> None:
        """`found`: the values that should have agreed, for a failure's line."""
        own = self.findings.setdefault(name, Finding(name=name, examples=[]))
        own.checked += 1
        if not holds:
            own.wrong += 1
            if len(own.examples) < KEPT:
                own.examples.append(where + (": " + ", ".join(map(str, found)) if found else ""))
