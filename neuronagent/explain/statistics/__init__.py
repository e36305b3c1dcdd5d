"""Intervals, tests and lifts for the score of one explanation, where samples are small.

Scores rest on some twenty windows of a kind, so every interval here is chosen by what it covers at that size:

1. rates and what is linear in them: Wilson or Clopper-Pearson, combined by MOVER; precision and F1 at a base rate:
   MOVER for ratios; AUPRC: Wilson limits of its curve;
2. AUROC: Newcombe's score-type interval, never of zero width; lifts: its spread, in the order of a bootstrap's draws;
3. correlation and R²: Student's t on a transformed scale, with the standard error of a bootstrap over *texts* (windows
   of one text are not independent) or of leaving one out, whichever is larger.

Plain percentile bootstraps fall short of all of these; each function's docstring, or its module's, has the coverage
that was measured.

Arrays of scores are one-dimensional and finite. Empty input, shapes that do not fit and NaN raise ValueError:
a caller stores a score without value and with the message as its reason. Nothing here knows what a neuron is.
"""

from __future__ import annotations

from neuronagent.explain.statistics.base_rate import PrecisionRecall, auprc, effective_size, weighted_precision_recall
from neuronagent.explain.statistics.common import Array, Interval
from neuronagent.explain.statistics.correlation import Line, Tokens, fitted_line, pearson, r_squared
from neuronagent.explain.statistics.lifts import Lift, lift
from neuronagent.explain.statistics.multiple import benjamini_hochberg
from neuronagent.explain.statistics.ranking import auroc, auroc_interval, permutation_p
from neuronagent.explain.statistics.rates import (
    balanced_accuracy,
    exact_binomial,
    mean_recall,
    mover,
    sign_test,
    wilson,
)
from neuronagent.explain.statistics.resampling import bootstrap_texts
from neuronagent.explain.statistics.strata import item_weights

__all__ = [
    "Array",
    "Interval",
    "Lift",
    "Line",
    "PrecisionRecall",
    "Tokens",
    "auprc",
    "auroc",
    "auroc_interval",
    "balanced_accuracy",
    "benjamini_hochberg",
    "bootstrap_texts",
    "effective_size",
    "exact_binomial",
    "fitted_line",
    "item_weights",
    "lift",
    "mean_recall",
    "mover",
    "pearson",
    "permutation_p",
    "r_squared",
    "sign_test",
    "weighted_precision_recall",
    "wilson",
]
