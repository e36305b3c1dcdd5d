"""The base-rate view of what a judge reads, which cannot be run over a corpus: windows stand for it.

Strong windows stand for the strong tokens of the corpus, by half octaves of |post| whose sizes are exact; random
windows that are not strong stand for all other tokens. Precision, recall, F1 and AUPRC are those of this weighted
sample. Where none of n random windows is called a match, precision is no 1: the false positive rate is at most 3/n
(Hanley and Lippman-Hand 1983), and precision at least what follows from that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, Split, View
from neuronagent.explain import statistics
from neuronagent.explain.evidence import CombinationEvidence, Strength, Window
from neuronagent.explain.items import magnitude_bin
from neuronagent.explain.scorers.base_rate import AUPRC, CORPUS, F1, PRECISION, RECALL
from neuronagent.explain.scorers.failures import answered, too_many_failed
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.statistics import Array, Interval
from neuronagent.explain.subjects import Subject
from neuronagent.layout import HISTOGRAM_EDGES

FALSE_POSITIVE_RATE = "false_positive_rate"
METRICS = (RECALL, PRECISION, F1, AUPRC, FALSE_POSITIVE_RATE)
_ABOVE_HALF = float(np.nextafter(0.5, 1))


def judged_base_rate(
    subject: Subject,
    own: CombinationEvidence,
    positive: Sequence[Window],
    random: Sequence[Window],
    *,
    split_tokens: int,
    split: Split,
    seed: int,
    judge: str,
) -> list[Score]:
    """Recall, precision, F1, AUPRC and false positive rate of `score > 0.5` at the corpus base rate, causal view.

    `positive` are strong windows; `random` windows at uniformly random tokens, of which the strong ones are left out
    and the grey ones are not. The split has `split_tokens` (position 0 left out).
    """
    rows = Rows(split=split, seed=seed, judge=judge)
    random = [w for w in random if own.strength(w) is not Strength.STRONG]
    found, others = subject.detect(positive, View.CAUSAL), subject.detect(random, View.CAUSAL)
    held = answered(found), answered(others)
    n_pos, n_neg = int(held[0].sum()), int(held[1].sum())
    n_failed = len(found) + len(others) - n_pos - n_neg
    strong = own.strong_count(split)
    reason = too_many_failed(*held)
    if not n_pos or not n_neg or not strong:
        reason = reason or ("no random tokens" if n_pos and strong else "no strong tokens")
    if reason is not None:
        return [rows.null(metric, CORPUS, reason, n_pos, n_neg, n_failed=n_failed) for metric in METRICS]
    scores = np.concatenate([found[held[0]], others[held[1]]])
    kept = [w for w, k in zip([*positive, *random], np.concatenate(held), strict=True) if k]
    label = np.arange(len(scores)) < n_pos
    weights = np.concatenate([_weights(own, kept[:n_pos], split), np.full(n_neg, (split_tokens - strong) / n_neg)])
    return _scores(scores, label, weights, kept, rows, (n_pos, n_neg, n_failed))


def _weights(own: CombinationEvidence, positive: Sequence[Window], split: Split) -> Array:
    """How many strong tokens of the corpus each window stands for: those of its half octave."""
    totals = np.array(own.record.histogram[split], dtype=np.float64)
    totals[: 0 if own.tau is None else int(np.searchsorted(HISTOGRAM_EDGES, own.tau)) + 1] = 0
    return statistics.item_weights(np.array([magnitude_bin(w) for w in positive], dtype=np.intp), totals)


def _scores(
    scores: Array,
    label: NDArray[np.bool_],
    weights: Array,
    windows: Sequence[Window],
    rows: Rows,
    counts: tuple[int, int, int],
) -> list[Score]:
    n_pos, n_neg, n_failed = counts
    texts = [w.text.text_id for w in windows]

    def value(metric: str, interval: Interval) -> Score:
        return rows.value(metric, CORPUS, interval, n_pos, n_neg, n_failed=n_failed)

    def null(metric: str, reason: str, *limits: float) -> Score:
        held = (limits[0], limits[1]) if limits else (None, None)
        return rows.null(metric, CORPUS, reason, n_pos, n_neg, n_failed=n_failed, limits=held)

    measured = statistics.weighted_precision_recall(scores, label, weights, texts, threshold=_ABOVE_HALF)
    wrong, bound = int((scores[~label] > 0.5).sum()), measured.false_positive_bound
    found = [value(RECALL, measured.recall)]
    if measured.precision is None:
        found += [null(metric, "it fires at none of the windows") for metric in (PRECISION, F1)]
    elif bound is not None:
        seen = f"no false positive among {n_neg} random windows: at most {100 * bound:.1f} % are"
        found.append(null(PRECISION, seen, measured.precision.lo, 1.0))
        found.append(null(F1, seen, measured.f1.lo, measured.f1.hi))
    else:
        found += [value(PRECISION, measured.precision), value(F1, measured.f1)]
    if np.ptp(scores) == 0:
        found.append(null(AUPRC, "it scores all windows alike"))
    else:
        found.append(value(AUPRC, statistics.auprc(scores, label, weights, texts)))
    if bound is not None:
        return [*found, null(FALSE_POSITIVE_RATE, f"none was seen among {n_neg} random windows", 0.0, bound)]
    return [*found, value(FALSE_POSITIVE_RATE, statistics.wilson(wrong, n_neg))]
