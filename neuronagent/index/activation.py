"""The activation `act(x_gate)` as the recorder takes it.

SiLU is written out in operations that IEEE 754 rounds exactly (multiply, add, divide, never fused), so that the passes
on processors and graphics cards and the one in plain torch operations have the same bits, on any machine. Its exp is
within one unit in the last place; against torch's own SiLU 99 % of results are the same and the rest differ in the
last place. GELU, exact or by tanh, is torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

Activate = Callable[[torch.Tensor], torch.Tensor]

# exp(r) = 1 + r + r²·(c2 + c3·r + …) for |r| ≤ ln 2 / 2, minimax in relative error (3e-9). As in kernel/shared.h.
_COEFFICIENTS = (
    0.4999999403953552,
    0.1666652113199234,
    0.04166839271783829,
    0.00836874544620514,
    0.0013814535923302174,
)
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.44269504, 0.693359375, -2.12194440e-4
_ROUNDING = 12582912.0  # 1.5 · 2²³: adding and taking it away again rounds to an integer


def silu(x: torch.Tensor) -> torch.Tensor:
    """x / (1 + exp(−x)) in float32."""
    t = (-x.float()).clamp_(-87.0, 89.0)
    n = (t * _LOG2_E + _ROUNDING) - _ROUNDING
    r = (t - n * _LN2_HIGH) - n * _LN2_LOW
    p = torch.full_like(r, _COEFFICIENTS[-1])
    for coefficient in reversed(_COEFFICIENTS[:-1]):
        p = p * r + coefficient
    exponent = n.int()
    half = exponent >> 1  # 2ⁿ in two steps: 2¹²⁸ is no float
    p = ((p * r) * r + r) + 1.0
    p = (p * _power(half)) * _power(exponent - half)
    return x.float() / (1.0 + p)


def _power(exponent: torch.Tensor) -> torch.Tensor:
    return ((exponent + 127) << 23).view(torch.float32)


def activation_of(name: str) -> Activate:
    """The activation by Hugging Face's name.

    Raises:
        ValueError: a name that is not in `models.families.ACTIVATIONS`.
    """
    if name == "silu":
        return silu
    if name in ("gelu", "gelu_pytorch_tanh"):
        return partial(functional.gelu, approximate="tanh" if name == "gelu_pytorch_tanh" else "none")
    raise ValueError(name)
