"""Fuzzing: with one token of a window marked, is it the one at which the neuron really is strong?

The same windows with the mark on the peak and on a wrong token of like position and frequency, both in the full view: a
causal window ends at the peak and gives it away. The two windows of a pair are of one text, which makes the AUROC vary
less than its interval, that of independent sides, allows for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuronagent.domain import Score, Split, View
from neuronagent.explain.evidence import Window
from neuronagent.explain.scorers.contrast import Compared, Sides, contrast
from neuronagent.explain.scorers.detection import text_ids
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.subjects import Subject

FUZZING = "fuzzing"
WRONG_MARKS = "wrong marks"


def fuzzing(
    subject: Subject,
    true: Sequence[Window],
    wrong: Sequence[Window],
    *,
    split: Split,
    seed: int,
    judge: str,
    controls: Mapping[str, Subject] | None = None,
    reported: Mapping[str, Subject] | None = None,
    missing: str = "no window has both a true and a wrong mark",
) -> list[Score]:
    """AUROC and balanced accuracy of the true marks against the wrong ones; controls as in `detection`.

    Without windows on one of the sides there is no value, for the reason `missing`.
    """
    rows = Rows(split=split, seed=seed, judge=judge, view=View.FULL)
    if not true or not wrong:
        return [rows.null(FUZZING, WRONG_MARKS, missing, len(true), len(wrong))]

    def sides(asked: Subject) -> Sides:
        return Sides(positive=asked.fuzz(true), negative=asked.fuzz(wrong))

    compared = Compared(
        own=sides(subject),
        controls={kind: sides(control) for kind, control in (controls or {}).items()},
        reported={kind: sides(control) for kind, control in (reported or {}).items()},
        texts=(text_ids(true), text_ids(wrong)),
    )
    return contrast(FUZZING, WRONG_MARKS, compared, rows)
