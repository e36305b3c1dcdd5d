"""Norms, cosines and the sign convention of a layer's neurons, with what chance would give.

A gated neuron computes the same function if w_in and w_out both change sign. The *normalised* convention multiplies
both by s = sign(w_gate·w_in), so that gate and in never point apart; s is +1 where the product is 0. Everything is
computed in float64 on the CPU: a sign must not depend on the device.

Random baselines: the cosine of two Gaussian vectors of d dimensions has density ∝ (1 − x²)^((d−3)/2), the
Beta((d−1)/2, (d−1)/2) distribution on [−1, 1]; and, within a layer, cosines of vectors of *different* neurons.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import CosineBaseline

SignConvention = Literal["normalised", "raw"]
COSINES: tuple[str, ...] = ("cos_gate_in", "cos_gate_out", "cos_in_out")
_PAIRS = ((0, 1), (0, 2), (1, 2))  # gate, in, out in the order of COSINES
_MISMATCHED_ROWS = 1024
_ROWS = 64  # widened to float64 at a time, which then stays in the cache
_TINY = torch.finfo(torch.float64).tiny


def signs(w_gate: torch.Tensor, w_in: torch.Tensor, convention: SignConvention) -> NDArray[np.int8]:
    """s `[N]` for processed weights `[N, d_model]`: +1 or −1 under `normalised`, all +1 under `raw`."""
    if convention == "raw":
        return np.ones(len(w_gate), dtype=np.int8)
    product = _dots(w_gate.cpu(), w_in.cpu())
    return torch.where(product < 0, -1, 1).to(torch.int8).numpy()


def cosines_and_norms(
    w_gate: torch.Tensor, w_in: torch.Tensor, w_out: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines `[N, 3]` in the order of `COSINES` and norms `[N, 3]` of gate, in, out; a zero vector has cosine 0."""
    vectors = [w.cpu() for w in (w_gate, w_in, w_out)]
    norms = torch.stack([_norms(v) for v in vectors], dim=1)
    products = torch.stack([_dots(vectors[a], vectors[b]) for a, b in _PAIRS], dim=1)
    scale = torch.stack([norms[:, a] * norms[:, b] for a, b in _PAIRS], dim=1)
    cosines = torch.where(scale > 0, products / scale.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    return cosines.clamp(-1.0, 1.0).numpy(), norms.numpy()


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Lengths `[N]` of `vectors` `[N, d]` in float64, a block of rows at a time: a whole layer so widened is large."""
    return torch.cat([rows.double().norm(dim=1) for rows in vectors.split(_ROWS)])


def _dots(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Products `[N]` of the rows of `a` and `b` `[N, d]` in float64."""
    pairs = zip(a.split(_ROWS), b.split(_ROWS), strict=True)
    return torch.cat([(x.double() * y.double()).sum(dim=1) for x, y in pairs])


def gaussian_quantiles(dimensions: int, levels: tuple[float, ...] = (0.025, 0.975)) -> tuple[float, ...]:
    """Quantiles of the cosine of two Gaussian vectors; with x = sin θ the density is ∝ cos^(d−2) θ on a fine grid."""
    theta = np.linspace(-np.pi / 2, np.pi / 2, 400_001)
    density = np.cos(theta) ** max(0, dimensions - 2)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return tuple(float(np.sin(np.interp(level * mass[-1], mass, theta))) for level in levels)


def baselines(w_gate: torch.Tensor, w_in: torch.Tensor, w_out: torch.Tensor) -> dict[str, CosineBaseline]:
    """The random baselines of a layer by the name of the cosine.

    Mismatched pairs are those of up to 1,024 evenly spaced neurons with all others, a fixed choice, so that the same
    weights give the same numbers; float32 products are enough for quantiles of so many.
    """
    vectors = [w.cpu() for w in (w_gate, w_in, w_out)]
    scales = [(1 / _norms(v).clamp_min(_TINY)).float() for v in vectors]
    n = len(vectors[0])
    rows = torch.from_numpy(np.unique(np.linspace(0, n - 1, min(n, _MISMATCHED_ROWS)).round().astype(np.int64)))
    other = torch.arange(n) != rows[:, None]
    low, high = gaussian_quantiles(w_gate.shape[1])
    result: dict[str, CosineBaseline] = {}
    for name, (a, b) in zip(COSINES, _PAIRS, strict=True):
        some = vectors[a][rows].float() * scales[a][rows, None]
        pooled = (some @ vectors[b].float().T * scales[b])[other].numpy() if n > 1 else np.array([np.nan])
        lower, upper = np.quantile(pooled, (0.025, 0.975))
        result[name] = CosineBaseline(
            gaussian=(low, high),
            mismatched=(float(lower), float(upper)),
            mismatched_absolute=float(np.quantile(np.abs(pooled), 0.95)),
        )
    return result
