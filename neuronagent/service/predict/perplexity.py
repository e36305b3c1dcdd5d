"""Perplexities with intervals over documents, from sums of losses by document.

With s_d the sum of the losses and n_d the number of tokens of document d, the mean loss is L = Σs_d ÷ Σn_d and the
perplexity exp L. Documents are the units that vary: L moves by z_d = (s_d − L·n_d) ÷ Σn with each of them, and
√(D/(D−1) · Σz_d²) is its standard error, with Student's t of D − 1 degrees of freedom; limits are taken before exp. The
change from the unmodified model is treated alike, with the differences of the sums: what makes a document hard for both
does not widen it. Of several random draws k the perplexity is the mean of theirs, z_d their sum weighted by exp L_k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.predictability.intervals import student_quantile
from neuronagent.predictability.substitution import Measured

_MOST_LOSS = 700.0
"""Its exp is still a number."""

Sums = NDArray[np.float64]


def measured(counts: Sums, original: Sums, runs: Sequence[Sums]) -> Measured:
    """`counts`, `original` and each of `runs` `[D]`: tokens, and sums of losses of the unmodified model and of each
    draw (one where nothing is drawn), by document; NaN where a loss is not finite."""
    total = counts.sum()
    sums = np.stack(runs)
    if not np.isfinite(sums).all():
        return nothing("logits are not finite")
    losses = sums.sum(1) / total
    weights = np.exp(losses - losses.max())
    height = float(losses.max() + math.log(weights.mean()))
    weights /= weights.sum()
    z = weights @ (sums - losses[:, None] * counts) / total
    change = float((losses - original.sum() / total).mean())
    moved = (sums.mean(0) - original - change * counts) / total
    width, change_width = _half_width(z), _half_width(moved)
    found = Measured(
        perplexity=_exp(height),
        lo=None if width is None else _exp(height - width),
        hi=None if width is None else _exp(height + width),
        loss=float(losses.mean()),
        change=change,
        change_lo=None if change_width is None else change - change_width,
        change_hi=None if change_width is None else change + change_width,
        draws=[_exp(float(loss)) for loss in losses] if len(runs) > 1 else [],
        reason=None,
    )
    if width is None:
        found["reason"] = "an interval takes two documents"
    if found["perplexity"] is None:
        found["reason"] = f"the perplexity is too large for a number: exp {height:.0f}"
    return found


def nothing(reason: str) -> Measured:
    """No number, and why."""
    return Measured(
        perplexity=None, lo=None, hi=None, loss=None, change=None, change_lo=None, change_hi=None, draws=[],
        reason=reason,
    )  # fmt: skip


def _half_width(z: Sums) -> float | None:
    documents = len(z)
    if documents < 2:
        return None
    return student_quantile(documents - 1) * math.sqrt(documents / (documents - 1) * float(z @ z))


def _exp(loss: float) -> float | None:
    return math.exp(loss) if loss < _MOST_LOSS else None
