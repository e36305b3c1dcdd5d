"""What of the weights needs all layers: functional roles and neighbours.

While the layers stream by, `layer_roles` computes the numbers behind the roles of each and keeps the few that decide;
`result`, called after the last layer, assigns the roles over the whole model and then finds the neighbours, for which
the layers are read again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.index import neighbours, roles
from neuronagent.index.roles import DoubleChecking, RoleNumbers
from neuronagent.layout import LayerNeighbours, LayerRoles, LayerWeights, WholeModel
from neuronagent.models.weights import ModelWeights
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress

_OUT = 2  # place of w_out among gate, in, out


class WholePass:
    """One pass over a model's layers, in order; `options.device` is decided, not `auto`."""

    def __init__(self, model: ModelWeights, options: BuildOptions, progress: Progress) -> None:
        self._model, self._options, self._progress = model, options, progress
        self._numbers: list[RoleNumbers] = []
        self._signs: list[NDArray[np.int8]] = []
        # Now, before W_U, W_E and a layer take up the memory for it.
        self._keys = [] if model.no_attention_scores is not None else list(model.bos_keys())
        place = options.device if options.device.startswith("cuda") else "cpu"
        self._basis = roles.null_space(model.unembedding().to(place)).clone()  # not a part of something larger

    def layer_roles(self, layer: int, w_out: torch.Tensor, found: LayerWeights, checking: DoubleChecking) -> LayerRoles:
        """The numbers behind the roles of `layer`, the next one; `w_out` and `found` are signed."""
        scores = heads = shares = None
        directions = self._directions(layer)
        if directions is not None:
            scores, heads = roles.attention_scores(w_out, directions)
        if layer == self._model.n_layers - 1:
            shares = roles.entropy_shares(w_out, self._basis)
        moments = found.vocabulary_moments[:, 0, _OUT]
        self._numbers.append(
            RoleNumbers(
                variance=moments[:, 0],
                skew=moments[:, 1],
                kurtosis=moments[:, 2],
                cos_gate_in=found.cosines[:, 0],
                attention=scores,
                entropy=shares,
            )
        )
        self._signs.append(found.sign)
        return LayerRoles(
            attention_scores=scores,
            attention_heads=heads,
            entropy_shares=shares,
            double_checking=checking.scores,
            double_checking_tokens=checking.tokens,
        )

    def result(self) -> WholeModel:
        """Roles and neighbours, when every layer has been seen."""
        reason = self._model.no_attention_scores
        places, thresholds = roles.assign(
            self._numbers, entropy_dimensions=self._basis.shape[1], attention_reason=reason
        )
        found = self._neighbours()
        return WholeModel(
            roles=dict(enumerate(places)),
            neighbours=enumerate(found.layers),
            info={"roles": asdict(thresholds), "neighbours": found.info},
        )

    def _directions(self, layer: int) -> torch.Tensor | None:
        """W_Q[h]·k_h(BOS) `[heads, d_model]` of the layer after `layer`; None where there are none."""
        if self._model.no_attention_scores is not None or layer == self._model.n_layers - 1:
            return None
        return self._model.attention_reads(layer + 1).towards(self._keys[layer + 1])

    def _neighbours(self) -> _Found:
        model, device = self._model, self._options.device
        neurons = sum(len(sign) for sign in self._signs)
        reason = neighbours_reason(self._options, neurons, model.d_model)
        if reason is not None:
            return _Found(layers=[], info={"k": 0, "lists": 0, "rechecked": 0, "reason": reason})
        pairs = model.n_layers * (model.n_layers + 1) // 2
        self._progress.start("neighbours", pairs, "pairs of layers")
        found = neighbours.neighbours(self._read, model.n_layers, device=device, progress=self._progress.advance)
        info = {"k": neighbours.NEIGHBOURS_K, "lists": found.lists, "rechecked": found.rechecked, "reason": None}
        return _Found(layers=found.layers, info=info)

    def _read(self, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weights = self._model.processed_layer(layer, post_norm=self._options.post_norm)
        sign = torch.from_numpy(self._signs[layer]).float()[:, None]
        return weights.w_gate, weights.w_in.mul_(sign), weights.w_out.mul_(sign)


@dataclass(frozen=True)
class _Found:
    layers: list[LayerNeighbours]
    info: dict[str, Any]


def neighbours_reason(options: BuildOptions, neurons: int, d_model: int) -> str | None:
    """Why an index goes without neighbours, in words; None where it has them."""
    if options.neighbours == "off":
        return "left out (--neighbours off)"
    work = neighbours.operations(neurons, d_model)
    if options.neighbours == "on" or options.device.startswith("cuda") or work <= neighbours.CPU_BUDGET:
        return None
    return f"they take {work:.1e} floating point operations, too many for a CPU unless asked for (--neighbours on)"
