"""Student's t for any number of degrees of freedom, fractions too."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_STEPS = 4096
_BISECTIONS = 60


@lru_cache(maxsize=64)
def student_quantile(df: float, level: float = 0.95) -> float:
    """The two-sided quantile: |t| is below it with chance `level`.

    With t = √df · tan φ, the chance of |t| < x is the share of ∫cos^{df−1} φ dφ over 0…π/2 that lies below
    φ = atan(x/√df). Right to six digits from one degree of freedom on.

    Raises:
        ValueError: no degrees of freedom, or a level that is not between 0 and 1.
    """
    if not df > 0 or not 0 < level < 1:
        raise ValueError(f"no quantile for {df} degrees of freedom at {level}")
    # u = φ^… would be needed for df < 1 only, where the density is infinite at π/2: there the rule is merely rough.
    edges = np.linspace(0.0, math.pi / 2, _STEPS + 1)
    density = np.cos((edges[1:] + edges[:-1]) / 2) ** (df - 1)
    shares = np.concatenate([[0.0], np.cumsum(density)]) / density.sum()
    angle = float(np.interp(level, shares, edges))
    return math.sqrt(df) * math.tan(angle)
