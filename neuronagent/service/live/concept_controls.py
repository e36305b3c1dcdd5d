"""What a neuron must beat: how long a text is or where its token stands, one token, an ordinary neuron.

    length, or place    tokens of the text; for labelled tokens, the place of the token in its text
    token               whether one token is in the text (or is the labelled one): that with the highest AUROC
    ordinary neuron     of the neurons of the same layer that are about as often in the same combination, the one whose
                        AUROC is in the middle

Each is chosen, and turned so that higher means label 1, on the half that is searched, as the neurons are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.service.live.concept_statistics import centred_ranks
from neuronagent.service.live.concept_values import Placed

LENGTH, PLACE, TOKEN, ORDINARY = "length", "place", "token", "ordinary neuron"
_LIKE = 15
"""So many neurons of like frequency, of which the middle one is ordinary."""
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Control:
    """`scores` `[n]`, higher where label 1 is expected; `what` names the token or the neuron."""

    kind: str
    scores: _Array
    what: str = ""
    token_id: int | None = None


def text_controls(items: Sequence[Placed], labels: NDArray[np.bool_], searched: NDArray[np.bool_]) -> list[Control]:
    """The controls that need no neuron, the same for all."""
    placed = items[0].token is not None
    sizes = [item.token if item.token is not None else len(item.text.ids) for item in items]
    scores = np.array(sizes, dtype=np.float64)
    ranks = centred_ranks(scores[searched][None].astype(np.float32))[0]
    side = -1.0 if ranks[labels[searched]].sum() < 0 else 1.0
    return [Control(PLACE if placed else LENGTH, side * scores), _token(items, labels, searched)]


def _token(items: Sequence[Placed], labels: NDArray[np.bool_], searched: NDArray[np.bool_]) -> Control:
    """The AUROC of "token v is there" is ½ + (share of label 1 that has it − share of label 0 that has it)/2."""
    held = [_tokens(item) for item in items]
    counts: list[Counter[int]] = []
    for label in (True, False):
        members = np.flatnonzero(searched & (labels == label)).tolist()
        counts.append(Counter(token for number in members for token in held[number]))
    positive, negative = int((searched & labels).sum()), int((searched & ~labels).sum())
    lead = {t: counts[0][t] * negative - counts[1][t] * positive for t in sorted(counts[0].keys() | counts[1].keys())}
    best = max(lead, key=lambda token: abs(lead[token]))
    side = -1.0 if lead[best] < 0 else 1.0
    return Control(TOKEN, side * np.array([best in own for own in held], dtype=np.float64), token_id=best)


def _tokens(item: Placed) -> frozenset[int]:
    if item.token is not None:
        return frozenset({item.text.ids[item.token]})
    return frozenset(item.text.ids[item.text.first :])


def ordinary(place: int, frequencies: _Array, sums: _Array, present: NDArray[np.bool_]) -> int | None:
    """The place of the ordinary neuron for the one at `place`; None where there is no other.

    All are of one layer and combination: `frequencies` are shares of the corpus's tokens (NaN without a corpus: all
    are then alike), `sums` and `present` those of the search.
    """
    there = np.flatnonzero(present & (np.arange(len(sums)) != place))
    if not len(there):
        return None
    distance = np.nan_to_num(np.abs(np.sqrt(frequencies[there]) - np.sqrt(frequencies[place])), nan=0.0)
    near = there[np.argsort(distance, kind="stable")[:_LIKE]]
    middle = np.argsort(np.abs(sums[near]), kind="stable")[(len(near) - 1) // 2]
    return int(near[middle])
