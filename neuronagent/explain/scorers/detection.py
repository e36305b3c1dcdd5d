"""Detection: does a score tell windows where the combination is strong from windows where it is not?

Against each negative set on its own: AUROC with its small-sample interval, balanced accuracy at 0.5, a one-sided
permutation p, and the lift over every control and over the strongest one, which each bootstrap draw picks anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuronagent.domain import Score, ScoreControl, Split
from neuronagent.explain import statistics
from neuronagent.explain.evidence import Window
from neuronagent.explain.items import ItemSets
from neuronagent.explain.scorers.predictor import Predictor

AUROC = "detection"
BALANCED_ACCURACY = "balanced_accuracy"
STRONGEST = "strongest"


def detection(
    predictor: Predictor,
    items: ItemSets,
    controls: Mapping[str, Predictor],
    reported: Mapping[str, Predictor],
    *,
    split: Split,
    seed: int,
    judge: str,
) -> list[Score]:
    """The detection scores against each negative set.

    `controls` compete for being the strongest; `reported` ones have a lift of their own and do not. A set that is
    missing gives a score without a value and with the reason.
    """
    scores: list[Score] = []
    for name, reason in items.missing.items():
        scores.append(_null(AUROC, name, split, len(items.positive), seed, judge, reason))
    for name, negative in items.negative.items():
        if not items.positive:
            scores.append(_null(AUROC, name, split, 0, seed, judge, f"no strong tokens in {split.value}"))
            continue
        pos, neg = predictor(items.positive), predictor(negative)
        interval = statistics.auroc_interval(pos, neg)
        accuracy = statistics.balanced_accuracy(float((pos > 0.5).sum()), len(pos), float((neg <= 0.5).sum()), len(neg))
        p = statistics.permutation_p(pos, neg, seed=seed)
        compared = _controls(predictor, items.positive, negative, controls, reported, seed)
        for metric, value, extra, p_value in (
            (AUROC, interval, compared, p),
            (BALANCED_ACCURACY, accuracy, (), None),
        ):
            scores.append(
                Score(
                    metric=metric, negative_set=name, split=split, value=value.value, lo=value.lo, hi=value.hi,
                    n_pos=len(pos), n_neg=len(neg), p=p_value, seed=seed, judge=judge, controls=extra,
                )
            )  # fmt: skip
    return scores


def _null(metric: str, name: str, split: Split, n_pos: int, seed: int, judge: str, reason: str) -> Score:
    return Score(
        metric=metric, negative_set=name, split=split, value=None, lo=None, hi=None,
        n_pos=n_pos, n_neg=0, reason=reason, seed=seed, judge=judge,
    )  # fmt: skip


def _controls(
    predictor: Predictor,
    positive: Sequence[Window],
    negative: Sequence[Window],
    controls: Mapping[str, Predictor],
    reported: Mapping[str, Predictor],
    seed: int,
) -> tuple[ScoreControl, ...]:
    """A row per control, then the strongest of `controls`."""
    texts = ([w.text.text_id for w in positive], [w.text.text_id for w in negative])
    own = (predictor(positive), predictor(negative))

    def over(group: Mapping[str, Predictor]) -> statistics.Lift:
        scores = {kind: (control(positive), control(negative)) for kind, control in group.items()}
        return statistics.lift(*own, scores, *texts, seed=seed)

    rows: list[ScoreControl] = []
    for group in (controls, reported):
        if not group:
            continue
        lift = over(group)
        for kind, interval in lift.over.items():
            rows.append(_row(kind, lift.control_auroc[kind], interval))
        if group is controls:
            best = lift.over_strongest
            rows.append(_row(STRONGEST, lift.control_auroc[lift.strongest], best))
    return tuple(rows)


def _row(kind: str, value: float, lift: statistics.Interval) -> ScoreControl:
    return ScoreControl(kind=kind, value=value, lift=lift.value, lift_lo=lift.lo, lift_hi=lift.hi)
