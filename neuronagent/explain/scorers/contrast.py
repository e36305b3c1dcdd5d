"""What detection and fuzzing share: do the scores of positives lie above those of negatives, and above the controls'?

AUROC with its small-sample interval, balanced accuracy at ½, a one-sided permutation p, and the lift over every control
and over the strongest one, which each bootstrap draw picks anew. A lift is paired: it is over the items for which the
subject and all controls of the comparison have an answer. A control for which too many answers failed has no value,
and then nobody knows which the strongest is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neuronagent.domain import Score, ScoreControl
from neuronagent.explain import statistics
from neuronagent.explain.scorers.failures import answered, too_many_failed
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.statistics import Array

BALANCED_ACCURACY = "balanced_accuracy"
STRONGEST = "strongest"


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Scores of positives and of negatives, NaN where there is no answer."""

    positive: Array
    negative: Array

    @property
    def too_many_failed(self) -> str | None:
        return too_many_failed(answered(self.positive), answered(self.negative))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A subject and its controls over the same items; `texts` numbers the text of each positive and negative.

    `controls` compete for being the strongest; `reported` ones have a lift of their own and do not.
    """

    own: Sides
    controls: Mapping[str, Sides]
    reported: Mapping[str, Sides]
    texts: tuple[list[int], list[int]]


def contrast(metric: str, negative_set: str, compared: Compared, rows: Rows) -> list[Score]:
    """The scores `metric` and balanced accuracy; both sides have items."""
    own = compared.own
    positive, negative = own.positive[answered(own.positive)], own.negative[answered(own.negative)]
    n_pos, n_neg = len(positive), len(negative)
    n_failed = len(own.positive) + len(own.negative) - n_pos - n_neg
    if own.too_many_failed is not None:
        reason = own.too_many_failed
        return [
            rows.null(m, negative_set, reason, n_pos, n_neg, n_failed=n_failed) for m in (metric, BALANCED_ACCURACY)
        ]
    hits, rejected = float((positive > 0.5).sum()), float((negative <= 0.5).sum())
    p = statistics.permutation_p(positive, negative, seed=rows.seed)
    ranked, accuracy = (
        statistics.auroc_interval(positive, negative),
        statistics.balanced_accuracy(hits, n_pos, rejected, n_neg),
    )
    lifts = _lifts(compared, compared.controls, rows.seed, strongest=True)
    lifts += _lifts(compared, compared.reported, rows.seed, strongest=False)
    return [
        rows.value(metric, negative_set, ranked, n_pos, n_neg, n_failed=n_failed, p=p, controls=lifts),
        rows.value(BALANCED_ACCURACY, negative_set, accuracy, n_pos, n_neg, n_failed=n_failed),
    ]


def _lifts(
    compared: Compared, controls: Mapping[str, Sides], seed: int, *, strongest: bool
) -> tuple[ScoreControl, ...]:
    """A row per control, then the strongest of them if that is asked for."""
    if not controls:
        return ()
    known = {kind: sides for kind, sides in controls.items() if sides.too_many_failed is None}
    every = [compared.own, *known.values()]
    kept = answered(*(s.positive for s in every)), answered(*(s.negative for s in every))
    if not known or not kept[0].any() or not kept[1].any():
        return tuple(_unknown(kind) for kind in (*controls, *([STRONGEST] if strongest else [])))
    p_texts, n_texts = (
        [t for t, k in zip(texts, side, strict=True) if k] for texts, side in zip(compared.texts, kept, strict=True)
    )
    scores = {kind: (s.positive[kept[0]], s.negative[kept[1]]) for kind, s in known.items()}
    own = compared.own.positive[kept[0]], compared.own.negative[kept[1]]
    lift = statistics.lift(*own, scores, p_texts, n_texts, seed=seed)
    rows = [
        _row(kind, lift.control_auroc[kind], lift.over[kind]) if kind in known else _unknown(kind) for kind in controls
    ]
    if strongest and (len(known) < len(controls) or too_many_failed(*kept)):
        rows.append(_unknown(STRONGEST))
    elif strongest:
        rows.append(_row(STRONGEST, lift.control_auroc[lift.strongest], lift.over_strongest))
    return tuple(rows)


def _row(kind: str, value: float, lift: statistics.Interval) -> ScoreControl:
    return ScoreControl(kind=kind, value=value, lift=lift.value, lift_lo=lift.lo, lift_hi=lift.hi)


def _unknown(kind: str) -> ScoreControl:
    return ScoreControl(kind=kind, value=None, lift=None, lift_lo=None, lift_hi=None)
