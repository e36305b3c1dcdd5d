"""Are the combinations of a neuron told apart by their explanations?

*Which of the k*: each strong window is shown with the k explanations and goes to the one that scores it highest (ties
share it): confusion, and the mean recall against 1/k. A judge sees the k texts together; rules score one by one.
*Pairwise*: the AUROC of explanation c on strong(c) against strong(c′). If the interval includes ½ both ways, c and c′
are not told apart, and that is a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, SignCombination, Split, View
from neuronagent.explain import statistics
from neuronagent.explain.evidence import Window
from neuronagent.explain.scorers.failures import answered, too_many_failed
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.statistics import Array
from neuronagent.explain.subjects import Subject

WHICH = "which_combination"
PAIRWISE = "pairwise"
_NONE = "no strong tokens"


def shares(scores: Array) -> NDArray[np.float64]:
    """`[windows, k]` → `[k]`: how many windows go to each explanation; ties are shared evenly."""
    best = np.isclose(scores, scores.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
    return (best / best.sum(axis=1, keepdims=True)).sum(axis=0)


def cross_combination(
    subjects: Mapping[SignCombination, Subject],
    windows: Mapping[SignCombination, Sequence[Window]],
    *,
    split: Split,
    seed: int,
    judge: str,
    which: Mapping[SignCombination, Array] | None = None,
) -> dict[SignCombination, list[Score]]:
    """For each combination: the share of its windows that goes to each explanation, and its pairwise AUROCs.

    `windows[c]` are strong in c. `which[c]` `[windows, k]` is how well each of the k texts, in the order
    of `subjects`, fits the windows of c where all were shown together; without it their own scores are compared.
    """
    order, rows = list(subjects), Rows(split=split, seed=seed, judge=judge)
    if len(order) < 2:
        return {c: [] for c in order}
    # [c][c′]: what explanation c says of the windows of c′
    said = {c: {d: subjects[c].detect(windows[d], View.CAUSAL) for d in order} for c in order}
    scores: dict[SignCombination, list[Score]] = {}
    for c in order:
        fits = which[c] if which is not None else np.stack([said[d][c] for d in order], axis=1)
        scores[c] = _which(order, fits, rows)
        scores[c] += [_pair(d, said[c][c], said[c][d], rows) for d in order if d is not c]
    return scores


def _which(order: Sequence[SignCombination], fits: Array, rows: Rows) -> list[Score]:
    held = answered(fits)
    n, n_failed = int(held.sum()), int((~held).sum())
    reason = too_many_failed(held) if len(held) else _NONE
    if reason is not None:
        return [rows.null(WHICH, d.value, reason, n, 0, n_failed=n_failed) for d in order]
    counts = [min(float(count), n) for count in shares(fits[held])]
    return [
        rows.value(WHICH, d.value, statistics.wilson(count, n), n, 0, n_failed=n_failed)
        for d, count in zip(order, counts, strict=True)
    ]


def _pair(other: SignCombination, own: Array, others: Array, rows: Rows) -> Score:
    held = answered(own), answered(others)
    sizes = int(held[0].sum()), int(held[1].sum())
    n_failed = len(own) + len(others) - sum(sizes)
    reason = too_many_failed(*held) if len(own) and len(others) else _NONE
    if reason is not None:
        return rows.null(PAIRWISE, other.value, reason, *sizes, n_failed=n_failed)
    between = statistics.auroc_interval(own[held[0]], others[held[1]])
    return rows.value(PAIRWISE, other.value, between, *sizes, n_failed=n_failed)


def overall(scores: Mapping[SignCombination, Sequence[Score]]) -> statistics.Interval | None:
    """The mean recall of *which of the k*, from the stored shares; chance is 1/k. None below two combinations, or if
    one has no value."""
    own = [s for c, rows in scores.items() for s in rows if s.metric == WHICH and s.negative_set == c.value]
    if len(own) < 2 or any(s.value is None for s in own):
        return None
    return statistics.mean_recall([(s.value or 0.0) * s.n_pos for s in own], [s.n_pos for s in own])


def not_told_apart(scores: Mapping[SignCombination, Sequence[Score]]) -> list[tuple[SignCombination, SignCombination]]:
    """Pairs whose pairwise interval includes ½ both ways."""
    unclear: set[tuple[SignCombination, SignCombination]] = set()
    for c, rows in scores.items():
        for score in rows:
            if score.metric == PAIRWISE and score.lo is not None and score.lo <= 0.5:
                unclear.add((c, SignCombination(score.negative_set)))
    order = list(SignCombination)
    return [(a, b) for a in order for b in order[order.index(a) + 1 :] if (a, b) in unclear and (b, a) in unclear]
