"""The neurons that scatters of a report on predictability are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PredictionPoints:
    """Of the layers that are shown, by layer: `token` R² from the token alone and from the nearest layer `[N, 2]`;
    `scale` standard deviation, L2 and R² `[N, 3]`. All are finite, standard deviations are above 0."""

    token: Mapping[int, Array]
    scale: Mapping[int, Array]


NONE = PredictionPoints(token={}, scale={})
