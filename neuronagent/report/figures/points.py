"""The neurons that scatters are made of, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Points:
    """`clouds`: cos(gate,in), cos(gate,out) and cos(in,out) `[N, 3]` of the neurons of chosen layers, by layer.
    `frequency`: cos(in,out) and the share of tokens with x_gate > 0 `[M, 2]` of all neurons; none without a corpus. All
    are finite."""

    clouds: Mapping[int, Array]
    frequency: Array
