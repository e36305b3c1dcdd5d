"""Counts the identities that a check looks at: how often each was checked, how often it did not hold, where first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        own = self._finding(name)
        own.checked += 1
        if not holds:
            own.wrong += 1
            if len(own.examples) < KEPT:
                own.examples.append(where + (": " + ", ".join(map(str, found)) if found else ""))

    def each(
        self,
        name: str,
        holds: NDArray[np.bool_] | np.bool_,
        where: Callable[..., str],
        *found: NDArray[np.generic],
        applies: NDArray[np.bool_] | None = None,
    ) -> None:
        """Many checks at once: `holds` of any shape, of which those count where it `applies`; `where` names the place
        of a failure from its indices, and `found` has `holds`' shape, or begins with the same axes. A check that
        applies nowhere was not made."""
        holds = np.asarray(holds)
        checked = holds.size if applies is None else int(applies.sum())
        if not checked:
            return
        own = self._finding(name)
        wrong = ~holds if applies is None else ~holds & applies
        own.checked += checked
        count = int(wrong.sum())
        if not count:
            return
        own.wrong += count
        for place in np.argwhere(wrong)[: KEPT - len(own.examples)]:
            at = tuple(place.tolist())
            values = ", ".join(str(array[at[: array.ndim]]) for array in found)
            own.examples.append(where(*at) + (f": {values}" if found else ""))

    def _finding(self, name: str) -> Finding:
        return self.findings.setdefault(name, Finding(name=name, examples=[]))
