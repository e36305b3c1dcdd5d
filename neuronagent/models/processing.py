"""Processed weights (definitions.md, "Model and weights"), all in float32 and per family.

1. `w_gate, w_in` times the scale of the norm before the MLP (Gemma: 1 + w); that norm's bias b goes into
   `b_gate = b_gate + w_gate·b` and `b_in`, with the weights as loaded.
2. LayerNorm models: `w_in` and `w_out` are centred over d_model, `w_gate` is not.
3. `w_out` times the scale of the norm after the MLP, where there is one.
4. `W_U` times the final norm's scale, centred over the vocabulary, and over d_model too in LayerNorm models.
5. `W_Q` and `W_K` times the scale of the norm before attention, and centred over d_model in LayerNorm models: such a
   norm takes the mean away, so that a part along (1, …, 1) reads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 4096  # widened to float64 at a time


@dataclass(frozen=True, kw_only=True)
class ProcessedLayer:
    """Processed weights of one layer, float32 on the CPU: `[N, d_model]`, one row per neuron; biases `[N]`."""

    w_gate: Tensor
    w_in: Tensor
    w_out: Tensor
    b_gate: Tensor | None
    b_in: Tensor | None


@dataclass(frozen=True, kw_only=True)
class AttentionReads:
    """What one layer's attention reads, float32 on the CPU, the norm before it folded in.

    `w_q` `[heads, head_dim, d_model]` and `w_k` `[key groups, head_dim, d_model]`; biases `b_q` and `b_k` of the same
    shape less d_model, or None. Head h uses the keys of group `h // (heads // key groups)`.
    """

    w_q: Tensor
    w_k: Tensor
    b_q: Tensor | None
    b_k: Tensor | None

    def towards(self, keys: Tensor) -> Tensor:
        """Directions of the residual stream `[heads, d_model]`: what, added to it, raises each head's score for the
        key of its group in `keys` `[key groups, head_dim]`: W_Q[h]ᵀ·k. Rotary embeddings are left out."""
        per_head = keys.repeat_interleave(len(self.w_q) // len(keys), dim=0)
        return torch.einsum("hcd,hc->hd", self.w_q, per_head)


def fold(rows: Tensor, bias: Tensor | None, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Rows and bias that do to `x` what `rows` `[n, d]` and `bias` `[n]` do to `scale·x + shift`."""
    if shift is not None:
        moved = rows @ shift
        bias = moved if bias is None else bias + moved
    return (rows if scale is None else rows * scale), bias


def centre_columns(rows: Tensor) -> None:
    """Take the mean over rows from every row, in place."""
    # The mean over a vocabulary of 256,000 needs more than float32's sums; the difference does not.
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for block in rows.split(_ROWS):
        total += block.sum(dim=0, dtype=torch.float64)
    rows -= (total / len(rows)).float()


def centre_rows(rows: Tensor) -> None:
    """Take from every row its own mean, in place."""
    for block in rows.split(_ROWS):
        block -= block.mean(dim=1, keepdim=True, dtype=torch.float64).float()
