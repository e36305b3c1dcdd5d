"""Windows whose score is written on them, and subjects that say what a test scripts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, SignCombination, Split, Text, View
from neuronagent.explain.evidence import Window

Array = NDArray[np.float64]
Says = Callable[[Sequence[Window]], Array]
_LENGTH = 10


def window(value: float, text: int, combination: SignCombination = COMBINATIONS[0], position: int = 5) -> Window:
    """A window whose `post` is `value`, in a text of its own number."""
    ids = tuple(range(_LENGTH))
    passage = Text(text_id=text, document="d", split=Split.TEST, first_token=_LENGTH * text, token_ids=ids)
    return Window(text=passage, position=position, combination=combination, post=value)


def windows(
    values: Sequence[float], first: int = 0, combination: SignCombination = COMBINATIONS[0]
) -> tuple[Window, ...]:
    """A window for each value, in texts numbered from `first`."""
    return tuple(window(value, first + number, combination) for number, value in enumerate(values))


def reads_post(shown: Sequence[Window]) -> Array:
    return np.array([w.post for w in shown], dtype=np.float64)


class Scripted:
    """Says what `says` returns, and has no answer for the texts in `silent`; `asked` are those it was asked about."""

    def __init__(self, says: Says, silent: Collection[int] = ()) -> None:
        self._says, self._silent = says, frozenset(silent)
        self.asked: list[int] = []

    def detect(self, windows: Sequence[Window], view: View) -> Array:
        return self._answer(windows)

    def fuzz(self, windows: Sequence[Window]) -> Array:
        return self._answer(windows)

    def simulate(self, windows: Sequence[Window]) -> list[Array]:
        sizes = [w.span(View.CAUSAL)[1] - w.span(View.CAUSAL)[0] for w in windows]
        return [np.full(size, value) for size, value in zip(sizes, self._answer(windows), strict=True)]

    def _answer(self, windows: Sequence[Window]) -> Array:
        self.asked += [w.text.text_id for w in windows]
        unheard = [w.text.text_id in self._silent for w in windows]
        return np.where(unheard, np.nan, self._says(windows)) if windows else np.zeros(0)
