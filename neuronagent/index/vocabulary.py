"""Vocabulary projections: which tokens a weight vector points at, and away from.

For each of gate, in and out: the dot products with the columns of the processed unembedding W_U (what a direction in
the residual stream promotes) and of the embedding W_E (which input tokens carry it); the k largest for `+v` and for
`−v`, and variance, skew and excess kurtosis of the cosines over the *whole* vocabulary. Ids that the tokenizer cannot
decode count in the moments and are never listed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

_ELEMENTS = 1 << 24  # scores held at a time


def project(
    vectors: torch.Tensor, matrix: torch.Tensor, decodable: torch.Tensor, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Project `vectors` `[N, d]` on the rows of `matrix` `[V, d]`.

    Returns:
        ids `[N, 2, k]` and scores `[N, 2, k]` for +v and −v (best first; id −1 where there are fewer than k tokens;
        the score is v·u, so it is negative in the second half), and moments `[N, 3]` of the cosines.
    """
    n, k_found = len(vectors), min(k, int(decodable.sum()))
    ids = np.full((n, 2, k), -1, dtype=np.int32)
    scores = np.zeros((n, 2, k), dtype=np.float32)
    moments = np.zeros((n, 3), dtype=np.float32)
    token_norms = matrix.norm(dim=1).clamp_min(1e-30)
    hidden = ~decodable
    rows = max(1, _ELEMENTS // len(matrix))
    for start in range(0, n, rows):
        block = slice(start, start + rows)
        products = vectors[block] @ matrix.T  # (rows, V)
        cosines = products / token_norms / vectors[block].norm(dim=1, keepdim=True).clamp_min(1e-30)
        moments[block] = _moments(cosines).numpy()
        for side, direction in enumerate((1.0, -1.0)):
            best = (products * direction).masked_fill(hidden, -torch.inf).topk(k_found, dim=1)
            ids[block, side, :k_found] = best.indices.cpu().numpy()
            scores[block, side, :k_found] = (best.values * direction).cpu().numpy()
    return ids, scores, moments


def _moments(cosines: torch.Tensor) -> torch.Tensor:
    """Variance, skew and excess kurtosis of each row `[rows, 3]`; skew and kurtosis are 0 where the variance is."""
    centred = cosines.double() - cosines.double().mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1)
    scale = variance.clamp_min(1e-60)
    skew = centred.pow(3).mean(dim=1) / scale.pow(1.5)
    kurtosis = centred.pow(4).mean(dim=1) / scale.square() - 3.0
    flat = variance <= 1e-30
    return torch.stack([variance, skew.masked_fill(flat, 0.0), kurtosis.masked_fill(flat, 0.0)], dim=1).float().cpu()
