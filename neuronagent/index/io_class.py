"""The input-output class of a neuron, from its three cosines (IO-functionality paper, section 4.2, Table 1).

`approx(x)` is +1 above τ, −1 below −τ, else 0; exactly ±τ counts as 0. The class is read off approx(cos(in,out)) and
|approx(cos(gate,out))|. It is *typical* if approx(cos(gate,in)) is what the other two imply: their product for
enrichment and depletion, 0 otherwise; orthogonal output is always typical. The paper's own counts of atypical
neurons in Table 2 come from a sign slip in its code; this is the rule as its text states it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import IO_CLASS_THRESHOLD, IO_CLASSES, IOClass

_NAMES = {
    (1, 1): "enrichment",
    (1, 0): "conditional enrichment",
    (-1, 1): "depletion",
    (-1, 0): "conditional depletion",
    (0, 1): "proportional change",
    (0, 0): "orthogonal output",
}


def approx(cosine: NDArray[np.float64], threshold: float = IO_CLASS_THRESHOLD) -> NDArray[np.int8]:
    """+1, 0 or −1 for each cosine; strict, so that a cosine of exactly ±`threshold` gives 0."""
    return (cosine > threshold).astype(np.int8) - (cosine < -threshold).astype(np.int8)


def classify(cosines: NDArray[np.float64], threshold: float = IO_CLASS_THRESHOLD) -> NDArray[np.int8]:
    """Places in `domain.IO_CLASSES` for cosines `[N, 3]` of (gate,in), (gate,out), (in,out)."""
    gate_in, gate_out, in_out = (approx(cosines[:, column], threshold) for column in range(3))
    classes = np.full(len(cosines), -1, dtype=np.int8)
    for (direction, gate), name in _NAMES.items():
        member = (in_out == direction) & (np.abs(gate_out) == gate)
        expected = in_out * gate_out if direction and gate else np.zeros_like(in_out)
        typical = (gate_in == expected) | (name == "orthogonal output")
        classes[member & typical] = IO_CLASSES.index(IOClass(name))
        if (member & ~typical).any():
            classes[member & ~typical] = IO_CLASSES.index(IOClass(name, atypical=True))
    return classes
