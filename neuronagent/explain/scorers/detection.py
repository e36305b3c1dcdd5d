"""Detection: does a subject tell windows where the combination is strong from windows where it is not?

Against each negative set on its own, by `contrast`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from neuronagent.domain import Score, Split, View
from neuronagent.explain.evidence import Window
from neuronagent.explain.items import ItemSets
from neuronagent.explain.scorers.contrast import BALANCED_ACCURACY, STRONGEST, Compared, Sides, contrast
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.subjects import Subject

AUROC = "detection"

__all__ = ["AUROC", "BALANCED_ACCURACY", "STRONGEST", "detection"]


def detection(
    subject: Subject,
    items: ItemSets,
    controls: Mapping[str, Subject],
    reported: Mapping[str, Subject],
    *,
    view: View,
    split: Split,
    seed: int,
    judge: str,
    control_sets: Container[str] | None = None,
) -> list[Score]:
    """The detection scores against each negative set.

    `controls` compete for being the strongest; `reported` ones have a lift of their own and do not. Both are asked
    about the sets that `control_sets` names, by default about all. A set that is missing gives a score without a value
    and with the reason.
    """
    rows = Rows(split=split, seed=seed, judge=judge, view=view)
    scores = [rows.null(AUROC, name, reason, len(items.positive), 0) for name, reason in items.missing.items()]
    if not items.positive:
        reason = f"no strong tokens in {split.value}"
        return scores + [rows.null(AUROC, name, reason, 0, len(shown)) for name, shown in items.negative.items()]
    if not items.negative:
        return scores
    own, negatives = subject.detect(items.positive, view), items.negative
    compares = {name: control_sets is None or name in control_sets for name in negatives}
    others = {**controls, **reported} if any(compares.values()) else {}
    asked = {kind: control.detect(items.positive, view) for kind, control in others.items()}
    for name, negative in negatives.items():
        sides = {
            kind: Sides(positive=asked[kind], negative=control.detect(negative, view))
            for kind, control in (others if compares[name] else {}).items()
        }
        compared = Compared(
            own=Sides(positive=own, negative=subject.detect(negative, view)),
            controls={kind: sides[kind] for kind in controls if kind in sides},
            reported={kind: sides[kind] for kind in reported if kind in sides},
            texts=(text_ids(items.positive), text_ids(negative)),
        )
        scores += contrast(AUROC, name, compared, rows)
    return scores


def text_ids(windows: Sequence[Window]) -> list[int]:
    """The text of each window."""
    return [window.text.text_id for window in windows]
