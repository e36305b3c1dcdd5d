"""The exact minimum of Σ ‖W g^i − g^j‖² + λ‖W‖², from sums of products alone (paper, eq. 6; λ is ours).

W = C (G + λI)⁻¹ with G the second moments of the source and C the products, by Cholesky in float64. λ = ridge × the
mean of Σ g² of the source's neurons. Any W's error on other tokens follows from their sums,

    Σ ‖W g^i − g^j‖² = Σ ‖g^j‖² − 2 ⟨W, C⟩ + ⟨W, W G⟩,

so that the ridge of each pair is the one with the least error on tokens that were kept aside, by powers of ten,
downhill from `_START`. (Finer steps gained nothing on a third text. Nor did a ridge for each neuron: chosen on the same
tokens, it was as good on one model and 1 to 9 % worse on another.) With an intercept all products are about the means
of the tokens that were fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronagent.errors import CorpusError, ModelError
from neuronagent.index.predictability.gram import Grams
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.predictability.scores import Pair

_START, _LEAST, _MOST = -2, -9, 4
"""Powers of ten of the ridge."""
_EXACT = 1e-6
"""An error below this share of Σ ‖g^j‖² may be that of float32 products alone: the least ridge is taken."""


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A map, its ridge (λ as a share of the mean of Σ g² of the source's neurons), and mean squared errors over
    all neurons on the tokens kept aside: its own, and that of foretelling each neuron's mean on the fitted tokens."""

    map: NeuronMap
    ridge: float
    select_mse: float
    mean_mse: float


def bytes_needed(source_width: int, target_widths: Sequence[int], *, intercept: bool) -> int:
    """What `solve` takes at most beside the sums: a matrix, its factor, solutions and their products, and the maps."""
    widest = max(target_widths, default=0)
    square, block = source_width**2, source_width * widest
    copies = 2 * square + 4 * block if intercept else 0  # about the means, and on the way there
    return 8 * (2 * square + 4 * block + copies) + 4 * (source_width + 1) * sum(target_widths)


def solve(fit: Grams, select: Grams, source: int, targets: Sequence[int], *, intercept: bool) -> dict[int, Solved]:
    """The maps from `source` to each of `targets`, of the tokens of `fit`, with the ridge that is best on those of
    `select`.

    Raises:
        CorpusError: there are no tokens to fit, or none to choose the ridge on.
    """
    for grams, what in ((fit, "fit maps on"), (select, "choose the ridge on")):
        if not grams.tokens:
            raise CorpusError(f"there are no tokens to {what}", remedy="read a text of more documents")
    mean = fit.source_sum(source) / fit.tokens if intercept else None
    known, kept = fit.second(source, mean), select.second(source, mean)
    return {target: _Problem(fit, select, Pair(source, target), mean, known, kept).best() for target in targets}


class _Problem:
    """One pair. A solution is W transposed, `[N_i, N_j]`; an error is the sum of squares over the tokens kept aside."""

    def __init__(
        self, fit: Grams, select: Grams, pair: Pair, source_mean: Tensor | None, known: Tensor, kept: Tensor
    ) -> None:
        mean = fit.target_sum(pair.target) / fit.tokens
        self._source_mean, self._target_mean = source_mean, None if source_mean is None else mean
        self._known, self._kept = known, kept
        self._products = fit.cross(pair, source_mean, self._target_mean)
        self._kept_products = select.cross(pair, source_mean, self._target_mean)
        sums, squares = select.target_sum(pair.target), select.target_squares(pair.target)
        self._numbers = select.tokens * len(sums)
        self._about_mean = float((squares - 2 * mean * sums + select.tokens * mean.square()).sum())
        self._squares = float(squares.sum()) if source_mean is None else self._about_mean
        # Not about the mean: rounding would be all of it where a source is constant. If it is dead, W = 0 for any λ.
        self._scale = float(fit.second(pair.source).diagonal().mean()) or 1.0

    def best(self) -> Solved:
        """The map with the best ridge."""
        power, error, solution = self._downhill()
        weight = solution.T
        bias = torch.zeros(len(weight), dtype=torch.float32, device=weight.device)
        if self._source_mean is not None and self._target_mean is not None:
            bias = (self._target_mean - weight @ self._source_mean).float()
        return Solved(
            map=NeuronMap(factors=(weight.float().contiguous(),), bias=bias),
            ridge=10.0**power,
            select_mse=max(0.0, error) / self._numbers,
            mean_mse=max(0.0, self._about_mean) / self._numbers,
        )

    def _downhill(self) -> tuple[int, float, Tensor]:
        """The power of ten of the best ridge, its error, and its solution."""
        at = _START
        error, solution = self._tried(at)
        if solution is None:
            raise ModelError("the activations have no finite second moments", remedy="run the model in float32")
        exact = _EXACT * self._squares
        for step, end in ((-1, _LEAST), (1, _MOST)):
            while at != end:
                less, other = self._tried(at + step)
                if other is None or not (less < error or (step < 0 and less <= exact)):
                    break
                at, error, solution = at + step, less, other
            if at < _START:
                break
        return at, error, solution

    def _tried(self, power: float) -> tuple[float, Tensor | None]:
        """The error for a ridge and the solution; infinite and None where rounding leaves the matrix no factor."""
        shifted = self._known.clone()
        shifted.diagonal().add_(10.0**power * self._scale)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        del shifted
        if int(failed):
            return math.inf, None
        solution = torch.cholesky_solve(self._products, factor)
        more = (self._kept @ solution).sub_(self._kept_products, alpha=2).mul_(solution)
        return self._squares + float(more.sum()), solution
