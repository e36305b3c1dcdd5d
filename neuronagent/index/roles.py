"""Functional roles of neurons (Gurnee et al. 2024, adapted to gated neurons; IO-functionality paper, appendix F).

With c the cosines of w_out with the columns of processed W_U, over the whole vocabulary:

1. *partition*: the P neurons of the model with the highest variance of c, P = max(1, round(1000 · neurons / 352,256)).
2. *prediction* / *suppression*: excess kurtosis of c above the highest among the partition neurons; prediction where
   skew(c) · (typical sign) > 0. The typical sign is that of cos(gate,in), + where it is 0.
3. *entropy*: in the last layer, ‖projection of w_out on the null space of W_U‖ / ‖w_out‖ above Q3 + 3 IQR of that layer
   and above ½. The null space is spanned by the last k left singular vectors of W_U, k = 40 at d_model 4096 and in
   proportion; if more singular values than k are 0, by all of theirs, since nothing tells these apart.
4. *attention deactivation* / *activation*: with a head h of the next layer |cos(w_out, W_Q[h]·k_h(BOS))| > √½; the
   head of the largest decides, deactivation where that cosine · (typical sign) > 0.

The first role that holds counts. A neuron that writes nothing (w_out = 0) has none. Not a role, but computed here as
well: the double-checking score (section 7.2 of the paper), for every neuron, whether or not |cos(gate,in)| ≤ τ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import ROLES, Role, RoleThresholds

ENTROPY_SHARE = 0.5
ENTROPY_IQRS = 3.0
ATTENTION = math.sqrt(0.5)
_REFERENCE_NEURONS, _REFERENCE_PARTITION = 352_256, 1000  # OLMo-7B, the paper's
_REFERENCE_WIDTH, _REFERENCE_DIMENSIONS = 4096, 40
_ZERO = 1e-6  # a singular value below this share of the largest is rounding
_ROWS = 1024  # vectors widened to float64 at a time
_ELEMENTS = 1 << 24  # of W_U in float64 at a time


@dataclass(frozen=True, kw_only=True)
class RoleNumbers:
    """What the assignment needs of one layer of N neurons, each `[N]`; cosines are in the index's convention.

    `variance`, `skew`, `kurtosis` float32 of cos(w_out, W_U); `cos_gate_in`; `attention` scores, None where the next
    layer has none; `entropy` shares, None for all layers but the last.
    """

    variance: NDArray[np.float32]
    skew: NDArray[np.float32]
    kurtosis: NDArray[np.float32]
    cos_gate_in: NDArray[np.float64]
    attention: NDArray[np.float32] | None
    entropy: NDArray[np.float32] | None


def null_space(unembedding: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis `[d_model, k]`, float64, of what hardly moves any logit; `unembedding`: W_U `[V, d_model]`.

    The left singular vectors of W_U as `[d_model, V]` are the eigenvectors of its d_model × d_model Gram matrix.
    """
    width = unembedding.shape[1]
    device = unembedding.device if unembedding.device.type == "cuda" else torch.device("cpu")  # float64 is needed
    gram = torch.zeros(width, width, dtype=torch.float64, device=device)
    for part in unembedding.split(max(1, _ELEMENTS // width)):
        rows = part.to(device, torch.float64)
        gram += rows.T @ rows
    squares, vectors = torch.linalg.eigh(gram.cpu())  # ascending
    k = max(1, round(_REFERENCE_DIMENSIONS * width / _REFERENCE_WIDTH))
    zeros = int((squares.clamp_min(0).sqrt() <= _ZERO * squares[-1].clamp_min(0).sqrt()).sum())
    return vectors[:, : max(k, zeros)]


def entropy_shares(w_out: torch.Tensor, basis: torch.Tensor) -> NDArray[np.float32]:
    """‖projection on `basis` `[d_model, k]`‖ / ‖w_out‖ `[N]` of `w_out` `[N, d_model]`; 0 for a zero vector."""
    shares: list[torch.Tensor] = []
    for part in w_out.split(_ROWS):
        vectors = part.double().cpu()
        shares.append((vectors @ basis).norm(dim=1) / vectors.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny))
    return torch.cat(shares).float().numpy()


def attention_scores(w_out: torch.Tensor, directions: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """The cosine `[N]` of largest magnitude over the heads of the next layer, and that head `[N]`.

    `directions` `[heads, d_model]`: W_Q[h]·k_h(BOS) of each head h. The first head of several that are equal; a zero
    vector has cosine 0.
    """
    towards = _unit(directions.double().cpu()).T
    cosines = torch.cat([_unit(part.double().cpu()) @ towards for part in w_out.split(_ROWS)])  # (N, heads)
    heads = cosines.abs().argmax(dim=1)
    best = cosines.gather(1, heads[:, None])[:, 0].clamp(-1.0, 1.0)
    return best.float().numpy(), heads.to(torch.int16).numpy()


class DoubleChecking:
    """Collects, from tiles of cosines, max over u of min(|cos(gate,u)|, |cos(in,u)|) and its token u.

    `scores` float32 and `tokens` int32 `[N]`; id −1 and score 0 where no token can be decoded; of equal ones the first.
    """

    def __init__(self, neurons: int, decodable: torch.Tensor) -> None:
        """`decodable` `[V]`: the tokens that count."""
        self.scores = np.zeros(neurons, np.float32)
        self.tokens = np.full(neurons, -1, np.int32)
        self._hidden = ~decodable

    def watch(self, neurons: slice, tokens: slice, cosines: torch.Tensor) -> None:
        """Take in a tile `[vectors, neurons, tokens]` whose first two vectors are gate and in; for `project_all`."""
        both = torch.minimum(cosines[0].abs(), cosines[1].abs())
        both.masked_fill_(self._hidden[tokens].to(both.device), 0.0)
        best = both.max(dim=1)
        scores = best.values.clamp_max(1.0).float().cpu().numpy()
        better = scores > self.scores[neurons]
        self.scores[neurons][better] = scores[better]
        self.tokens[neurons][better] = best.indices.cpu().numpy()[better] + tokens.start


def assign(
    layers: Sequence[RoleNumbers], *, entropy_dimensions: int | None, attention_reason: str | None
) -> tuple[list[NDArray[np.int8]], RoleThresholds]:
    """The role of every neuron, as places `[N]` in `domain.ROLES` or −1 per layer, and the thresholds found.

    `layers` are all layers of the model in order; ties in variance go to the earlier neuron.
    """
    variance, skew, kurtosis = (
        np.concatenate([getattr(numbers, name) for numbers in layers]) for name in ("variance", "skew", "kurtosis")
    )
    typical = np.concatenate([np.where(numbers.cos_gate_in < 0, -1, 1) for numbers in layers])
    roles = np.full(len(variance), -1, np.int8)

    n_partition = max(1, round(_REFERENCE_PARTITION * len(variance) / _REFERENCE_NEURONS))
    partition = np.argsort(-variance, kind="stable")[:n_partition]
    partition = partition[variance[partition] > 0]
    least = float(variance[partition].min()) if len(partition) else 0.0
    peak = float(kurtosis[partition].max()) if len(partition) else 0.0
    _put(roles, np.isin(np.arange(len(roles)), partition), Role.PARTITION)

    peaked = (kurtosis > peak) & (variance > 0)
    _put(roles, peaked & (skew * typical > 0), Role.PREDICTION)
    _put(roles, peaked, Role.SUPPRESSION)

    start, outlier = 0, None
    for numbers in layers:
        mine, sign = slice(start, start + len(numbers.variance)), typical[start : start + len(numbers.variance)]
        start = mine.stop
        if numbers.entropy is not None:
            outlier = _outlier(numbers.entropy)
            _put(roles[mine], (numbers.entropy > outlier) & (numbers.entropy > ENTROPY_SHARE), Role.ENTROPY)
        if numbers.attention is not None:
            strong = np.abs(numbers.attention) > ATTENTION
            _put(roles[mine], strong & (numbers.attention * sign > 0), Role.ATTENTION_DEACTIVATION)
            _put(roles[mine], strong, Role.ATTENTION_ACTIVATION)
    thresholds = RoleThresholds(
        partition_neurons=len(partition),
        partition_variance=least,
        kurtosis=peak,
        entropy_dimensions=entropy_dimensions,
        entropy_outlier=outlier,
        entropy_share=ENTROPY_SHARE,
        attention=ATTENTION,
        attention_reason=attention_reason,
    )
    return np.split(roles, np.cumsum([len(numbers.variance) for numbers in layers])[:-1]), thresholds


def _put(roles: NDArray[np.int8], where: NDArray[np.bool_], role: Role) -> None:
    """Give `role` to the neurons `where` it holds and that have none."""
    roles[where & (roles < 0)] = ROLES.index(role)


def _outlier(shares: NDArray[np.float32]) -> float:
    low, high = np.quantile(shares.astype(np.float64), (0.25, 0.75))
    return float(high + ENTROPY_IQRS * (high - low))


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=1, eps=1e-30)
