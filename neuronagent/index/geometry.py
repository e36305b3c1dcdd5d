"""Norms, cosines and the sign convention of a layer's neurons, with what chance would give.

A gated neuron computes the same function if w_in and w_out both change sign. The *normalised* convention multiplies
both by s = sign(w_gate·w_in), so that gate and in never point apart; s is +1 where the product is 0. Everything is
computed in float64 on the CPU: a sign must not depend on the device.

Random baselines: the cosine of two Gaussian vectors of d dimensions has density ∝ (1 − x²)^((d−3)/2), the
Beta((d−1)/2, (d−1)/2) distribution on [−1, 1]; and, within a layer, cosines of vectors of *different* neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import COSINES, CosineBaseline
from neuronagent.index.workers import workers

SignConvention = Literal["normalised", "raw"]
_PAIRS = ((0, 1), (0, 2), (1, 2))  # gate, in, out in the order of COSINES
_MISMATCHED_ROWS = 1024
_ROWS = 64  # widened to float64 at a time, which then stays in the cache
_PART = 512  # rows for a core to do in turn
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
    """Lengths `[N]` of `vectors` `[N, d]` in float64."""

    def lengths(rows: torch.Tensor) -> torch.Tensor:
        return rows.double().norm(dim=1)

    return _by_rows(lengths, vectors)


def _dots(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Products `[N]` of the rows of `a` and `b` `[N, d]` in float64."""

    def products(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x.double() * y.double()).sum(dim=1)

    return _by_rows(products, a, b)


def _by_rows(numbers: Callable[..., torch.Tensor], *vectors: torch.Tensor) -> torch.Tensor:
    """`numbers` `[N]` of the rows of `vectors`, a block at a time, for a whole layer widened to float64 is large."""

    def part(start: int) -> torch.Tensor:
        blocks = zip(*(v[start : start + _PART].split(_ROWS) for v in vectors), strict=True)
        return torch.cat([numbers(*rows) for rows in blocks])

    starts = range(0, len(vectors[0]), _PART)
    with workers(torch.device("cpu"), len(starts)) as pool:
        return torch.cat(list(pool.map(part, starts)))


@cache
def gaussian_quantiles(dimensions: int, levels: tuple[float, ...] = (0.025, 0.975)) -> tuple[float, ...]:
    """Quantiles of the cosine of two Gaussian vectors; with x = sin θ the density is ∝ cos^(d−2) θ on a fine grid."""
    theta = np.linspace(-np.pi / 2, np.pi / 2, 400_001)
    density = np.cos(theta) ** max(0, dimensions - 2)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return tuple(float(np.sin(np.interp(level * mass[-1], mass, theta))) for level in levels)


def baselines(w_gate: torch.Tensor, w_in: torch.Tensor, w_out: torch.Tensor) -> dict[str, CosineBaseline]:
    """The random baselines of a layer by the name of the cosine.

    Mismatched pairs are those of up to 1,024 evenly spaced neurons with all others, a fixed choice, so that the same
    weights give the same numbers; float32 products are enough for quantiles of so many. Pairs with a vector of zeros
    (of a pruned neuron) have no cosine and are left out; where no pair is left the numbers are NaN.
    """
    vectors = [w.cpu() for w in (w_gate, w_in, w_out)]
    scales = [(1 / _norms(v).clamp_min(_TINY)).float() for v in vectors]
    scales = [torch.where(scale.isfinite(), scale, torch.nan) for scale in scales]
    n = len(vectors[0])
    rows = torch.from_numpy(np.unique(np.linspace(0, n - 1, min(n, _MISMATCHED_ROWS)).round().astype(np.int64)))
    low, high = gaussian_quantiles(w_gate.shape[1])

    def baseline(pair: tuple[int, int]) -> CosineBaseline:
        a, b = pair
        some = vectors[a][rows].float() * scales[a][rows, None]
        cosines = (some @ vectors[b].float().T).mul_(scales[b])
        cosines[torch.arange(len(rows)), rows] = cosines[:, -1].clone()  # a neuron's own makes room for the last column
        pooled = cosines[:, :-1].flatten().numpy()
        del cosines
        if scales[a].isnan().any() or scales[b].isnan().any():
            pooled = pooled[~np.isnan(pooled)]
        if not pooled.size:
            pooled = np.array([np.nan])
        lower, upper, absolute = _tails(pooled)
        return CosineBaseline(gaussian=(low, high), mismatched=(lower, upper), mismatched_absolute=absolute)

    with workers(torch.device("cpu"), len(_PAIRS)) as pool:
        return dict(zip(COSINES, pool.map(baseline, _PAIRS), strict=True))


def _tails(values: NDArray[np.floating]) -> tuple[float, float, float]:
    """The 0.025 and 0.975 quantiles of `values`, which are put in order, and the 0.95 quantile of their magnitudes.

    numpy sorts all in less time than it selects a few of so many.
    """
    values.sort()
    lower, upper = np.quantile(values, (0.025, 0.975))
    np.abs(values, out=values).sort()
    return float(lower), float(upper), float(np.quantile(values, 0.95))
