"""The fused pass on processors: `cpu.cpp`, a range of neurons per thread.

SiLU is part of the pass; any other activation is computed before it, so that every engine takes the same numbers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from neuronagent.index.activation import silu
from neuronagent.index.batch import Batch
from neuronagent.index.eager import not_finite
from neuronagent.index.kernel.compiler import load_library
from neuronagent.index.kernel.structs import Caches, Layer, Rows, Texts, layer_of, rows_of, texts_of
from neuronagent.index.state import LayerState

Kernel = Callable[..., int]

_TILE = 64  # neurons side by side in cpu.cpp
_ALONE = 1 << 15  # tokens × neurons below which handing work to threads costs more than it gains


@cache
def compiled(*defined: str) -> Kernel | None:
    """The pass compiled with these macros, or None; NEURONAGENT_KERNEL=off leaves it out."""
    if os.environ.get("NEURONAGENT_KERNEL") == "off":
        return None
    library = load_library(*defined)
    if library is None:
        return None
    kernel = library.neuronagent_record
    kernel.argtypes = [ctypes.POINTER(Layer), ctypes.POINTER(Texts), *[ctypes.POINTER(Rows)] * 3, *[ctypes.c_int64] * 2]
    kernel.restype = ctypes.c_int32
    return kernel


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="neuronagent-recorder")


class CpuEngine:
    """Adds batches to `state` by the compiled pass."""

    def __init__(
        self, state: LayerState, activate: Callable[[torch.Tensor], torch.Tensor], name: str, *defined: str
    ) -> None:
        kernel = compiled(*defined)
        assert kernel is not None, "ask `compiled` first"
        self._kernel, self._state, self._activate, self._name = kernel, state, activate, name
        self._caches = Caches(state, keys=True)
        self._layer = layer_of(state, self._caches, None, None)
        self._flawed = False

    def refresh(self) -> None:
        """The lists were changed by others."""
        self._caches.refresh()

    def check(self) -> None:
        """Raises ModelError if a value at a real token was not finite."""
        if self._flawed:
            raise not_finite(self._name)

    def update(self, x_gate: torch.Tensor, x_in: torch.Tensor, batch: Batch) -> None:
        """Take in one batch `[B, T, N]`.

        Raises:
            ModelError: a value at a real token is not finite.
        """
        gate, into = (_side_by_side(values.float()) for values in (x_gate, x_in))
        act = None if self._activate is silu else _side_by_side(self._activate(gate))
        texts, rows = texts_of(batch), [rows_of(values) if values is not None else None for values in (gate, into, act)]
        neurons = self._state.neurons

        def run(begin: int, end: int) -> int:
            return self._kernel(self._layer, texts, *rows, begin, end)

        workers = 1 if gate.numel() < _ALONE else min(torch.get_num_threads(), -(-neurons // _TILE))
        if workers == 1:
            self._flawed |= bool(run(0, neurons))
        else:
            tiles = -(-neurons // _TILE)
            ends = [min(_TILE * (tiles * place // workers), neurons) for place in range(workers)] + [neurons]
            self._flawed |= any([*_threads(workers).map(run, ends[:-1], ends[1:])])
        self.check()


def _side_by_side(values: torch.Tensor) -> torch.Tensor:
    return values if values.stride(-1) == 1 else values.contiguous()
