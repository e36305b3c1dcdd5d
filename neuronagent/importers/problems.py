"""What was wrong with a source: counted by kind, with the first cases in words, while the rest is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from neuronagent.domain import clip

KEPT = 3
_LONGEST = 160


@dataclass(kw_only=True)
class Problem:
    """One kind of problem: how often it was met, and where first."""

    what: str
    count: int = 0
    examples: list[str] = field(default_factory=list[str])


class Problems:
    """Counts problems by kind, in the order in which they are first met."""

    def __init__(self) -> None:
        self._found: dict[str, Problem] = {}

    def add(self, what: str, where: str) -> None:
        """One more of the kind `what`, at `where`; untrusted text in it is bounded."""
        own = self._found.setdefault(what, Problem(what=what))
        own.count += 1
        if len(own.examples) < KEPT:
            own.examples.append(clip(where, _LONGEST))

    @property
    def all(self) -> Sequence[Problem]:
        return list(self._found.values())
