"""Are the combinations of a neuron told apart by their explanations?

*Which of the k*: each strong window is shown with the k explanations and goes to the one that scores it highest (ties
share it): confusion, and the mean recall against 1/k. *Pairwise*: the AUROC of explanation c on strong(c) against
strong(c′). If the interval includes ½ both ways, c and c′ are not told apart, and that is a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, SignCombination, Split
from neuronagent.explain import statistics
from neuronagent.explain.evidence import Window
from neuronagent.explain.scorers.predictor import Predictor

WHICH = "which_combination"
PAIRWISE = "pairwise"


def confusion(predictors: Sequence[Predictor], windows: Sequence[Sequence[Window]]) -> NDArray[np.float64]:
    """`[k, k]`: how many windows of row c go to explanation c′; ties are shared evenly."""
    rows = np.zeros((len(predictors), len(predictors)))
    for row, shown in enumerate(windows):
        scores = np.stack([predictor(shown) for predictor in predictors], axis=1)  # (windows, k)
        best = np.isclose(scores, scores.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
        rows[row] = (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
    return rows


def cross_combination(
    predictors: Mapping[SignCombination, Predictor],
    windows: Mapping[SignCombination, Sequence[Window]],
    *,
    split: Split,
    seed: int,
    judge: str,
) -> dict[SignCombination, list[Score]]:
    """For each combination: the share of its windows that goes to each explanation, and its pairwise AUROCs."""
    order = list(predictors)
    if len(order) < 2:
        return {c: [] for c in order}
    counts = confusion([predictors[c] for c in order], [windows[c] for c in order])
    scores: dict[SignCombination, list[Score]] = {c: [] for c in order}
    for row, c in enumerate(order):
        n = len(windows[c])
        for column, other in enumerate(order):
            share = statistics.wilson(min(counts[row, column], n), n)
            scores[c].append(_score(WHICH, other, share, split, n, 0, seed, judge))
            if other is not c:
                between = statistics.auroc_interval(predictors[c](windows[c]), predictors[c](windows[other]))
                scores[c].append(_score(PAIRWISE, other, between, split, n, len(windows[other]), seed, judge))
    return scores


def _score(
    metric: str,
    other: SignCombination,
    value: statistics.Interval,
    split: Split,
    n_pos: int,
    n_neg: int,
    seed: int,
    judge: str,
) -> Score:
    return Score(
        metric=metric, negative_set=other.value, split=split, value=value.value, lo=value.lo, hi=value.hi,
        n_pos=n_pos, n_neg=n_neg, seed=seed, judge=judge,
    )  # fmt: skip


def overall(scores: Mapping[SignCombination, Sequence[Score]]) -> statistics.Interval | None:
    """The mean recall of *which of the k*, from the stored shares; chance is 1/k. None below two combinations."""
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
