"""The vectors of layers that are needed again and again: all of them in memory where there is room, else two."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neuronagent.index.candidates import RUN

ReadLayer = Callable[[int], tuple[Tensor, Tensor, Tensor]]
"""Processed weights (gate, in, out) `[N, d_model]` of a layer, signs applied; may be asked for a layer again."""

_RESIDENT_BYTES = 2e9  # of a CPU's memory: below this all layers stay there
_RESIDENT_SHARE = 0.4  # of a GPU's free memory, likewise
_NORM_ROWS = 2048  # in float64 at a time


class Layers:
    """Layers' vectors `[3, N, d_model]` on the device, the last ones used or all: float32 as they are (`dtype` None),
    or of unit length in `dtype`, with zero vectors added up to a multiple of `RUN`. A zero vector stays one."""

    def __init__(self, read: ReadLayer, n_layers: int, device: torch.device, dtype: torch.dtype | None) -> None:
        self._read, self.n_layers = read, n_layers
        self._held: dict[int, Tensor] = {}
        self.device, self._dtype = device, dtype
        self.neurons: dict[int, int] = {}
        self._norms: dict[int, Tensor] = {}
        self._room: int | None = None  # layers to keep, decided at the first

    def __getitem__(self, layer: int) -> Tensor:
        if layer in self._held:
            if not self.resident:
                self._held[layer] = self._held.pop(layer)  # the last one used
            return self._held[layer]
        vectors = self._load(layer)
        if self._room is None:
            self._room = self.n_layers if vectors.nbytes * self.n_layers <= _resident_bytes(self.device) else 2
        while len(self._held) >= self._room:
            del self._held[next(iter(self._held))]
        self._held[layer] = vectors
        return vectors

    @property
    def resident(self) -> bool:
        """Whether all layers stay, as known once one has been asked for: several threads may then ask for them."""
        return self._room == self.n_layers

    def norms(self, layer: int) -> Tensor:
        """Lengths `[3, N]`, float64, of the vectors as they are."""
        if layer not in self._norms:
            parts = self[layer].split(_NORM_ROWS, dim=1)
            self._norms[layer] = torch.cat([part.double().norm(dim=2) for part in parts], dim=1)
        return self._norms[layer]

    def _load(self, layer: int) -> Tensor:
        loaded = [w.to(self.device, torch.float32) for w in self._read(layer)]
        self.neurons[layer] = neurons = len(loaded[0])
        if self._dtype is None:
            return torch.stack(loaded)
        rows = -(-neurons // RUN) * RUN
        vectors = torch.zeros(3, rows, loaded[0].shape[1], dtype=self._dtype, device=self.device)
        for place, w in enumerate(loaded):
            for start in range(0, neurons, _NORM_ROWS):
                part = w[start : start + _NORM_ROWS].double()
                unit = part / part.norm(dim=1, keepdim=True).clamp_min(1e-300)
                vectors[place, start : start + len(part)] = unit.to(self._dtype)
        return vectors


def _resident_bytes(device: torch.device) -> float:
    return _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _RESIDENT_BYTES
