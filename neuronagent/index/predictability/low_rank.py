"""The maps of a given rank whose predictions differ least from those of a full map.

Of all matrices of rank r the one with the least Σ ‖(W − W_r) g‖² is W_r = U Uᵀ W, where U `[N_target, r]` are the
eigenvectors of W G Wᵀ with the largest eigenvalues, G = Σ g gᵀ: the principal axes of what is predicted. (The singular
vectors of W alone would spend the rank on directions in which the source never goes.) With an intercept g is counted
from its mean, and the prediction at the mean stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuronagent.errors import UsageError
from neuronagent.index.predictability.maps import NeuronMap


def low_rank(found: NeuronMap, rank: int, second: Tensor, mean: Tensor | None = None) -> tuple[NeuronMap, float]:
    """The map of rank `rank` (two factors), and the share of the predicted second moment that it keeps; `found` itself
    and 1 where a full map is no larger.

    `second` `[N, N]` float64: of the source, about `mean` `[N]` where the map has an intercept (`Grams.second`).

    Raises:
        UsageError: a rank below 1.
    """
    if rank < 1:
        raise UsageError(f"{rank} is no rank", remedy="name one from 1 on")
    weight = found.weight.double()
    if rank * sum(weight.shape) >= weight.numel():
        return found, 1.0
    predicted = weight @ second @ weight.T
    values, vectors = torch.linalg.eigh((predicted + predicted.T) / 2)
    axes, total = vectors[:, -rank:], float(values.clamp_min(0).sum())
    kept = float(values[-rank:].clamp_min(0).sum()) / total if total > 0 else 1.0
    inner = axes.T @ weight
    bias = found.bias if mean is None else found.bias + ((weight - axes @ inner) @ mean).to(found.bias)
    return NeuronMap(factors=(inner.float(), axes.float().contiguous()), bias=bias), kept
