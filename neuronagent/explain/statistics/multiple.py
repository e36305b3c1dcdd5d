"""Many tests at once."""

from __future__ import annotations

import numpy as np

from neuronagent.explain.statistics.common import Array, Values, column


def benjamini_hochberg(p_values: Values) -> Array:
    """Adjusted p-values, in the order given: min over j ≥ i of m·p_(j)/j, at most 1 (Benjamini and Hochberg 1995).

    Those at most q are the discoveries at a false discovery rate of q.

    Raises:
        ValueError: no p-values, NaN, or one outside of [0, 1].
    """
    p = column(p_values, "p-values")
    if p.min() < 0 or p.max() > 1:
        raise ValueError("a p-value is outside of [0, 1]")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted
