"""The fused pass on graphics cards: `gpu.cu`, compiled by NVRTC for the card at hand; no compiler need be installed.

NVRTC and the driver are called through NVIDIA's `cuda-bindings`, which torch for CUDA brings along.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from neuronagent.errors import ModelError
from neuronagent.index.activation import silu
from neuronagent.index.batch import Batch
from neuronagent.index.eager import not_finite
from neuronagent.index.kernel.structs import Caches, Rows, layer_of, rows_of, texts_of
from neuronagent.index.state import LayerState

_HERE = Path(__file__).parent
_THREADS = 128  # as in gpu.cu
_TEXTS = 32  # threads that share a neuron
_KERNELS = {torch.float32: b"record_float32", torch.bfloat16: b"record_bfloat16", torch.float16: b"record_float16"}


class Module:
    """The compiled kernels of one card."""

    def __init__(self, driver: Any, binary: bytes) -> None:
        self._driver = driver
        module = _checked(driver.cuModuleLoadData(binary))
        self._kernels = {dtype: _checked(driver.cuModuleGetFunction(module, name)) for dtype, name in _KERNELS.items()}

    def launch(self, dtype: torch.dtype, grid: tuple[int, int], stream: int, *arguments: ctypes.Structure) -> None:
        """Start the kernel for activations of `dtype`; `arguments` are copied."""
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        _checked(
            self._driver.cuLaunchKernel(
                self._kernels[dtype], *grid, 1, _THREADS, 1, 1, 0, stream, ctypes.addressof(addresses), 0
            )
        )


@cache
def compiled(device: torch.device) -> Module | None:
    """The kernels for `device`, or None where they cannot be compiled; NEURONAGENT_KERNEL=off leaves them out."""
    if os.environ.get("NEURONAGENT_KERNEL") == "off":
        return None
    try:
        driver = importlib.import_module("cuda.bindings.driver")
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    except ImportError:
        return None
    with torch.cuda.device(device):
        torch.cuda.current_stream().synchronize()  # the context is made when it is first used
        return Module(driver, _compile(nvrtc, torch.cuda.get_device_capability(device)))


def _compile(nvrtc: Any, capability: tuple[int, int]) -> bytes:
    source = (_HERE / "gpu.cu").read_bytes()
    header = (_HERE / "shared.h").read_bytes()
    program = _checked(nvrtc.nvrtcCreateProgram(source, b"gpu.cu", 1, [header], [b"shared.h"]))
    options = [b"--gpu-architecture=sm_%d%d" % capability, b"--fmad=false", b"--std=c++17"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status) != 0:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        raise ModelError(
            f"the recorder cannot be compiled for this card: {log.decode(errors='replace')[:2000]}",
            remedy="set NEURONAGENT_KERNEL=off to do without, which is several times slower",
        )
    binary = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, binary))
    return binary


def _checked(answer: tuple[Any, ...]) -> Any:
    """The value of a call of the driver or of NVRTC."""
    status, *values = answer
    if int(status) != 0:
        raise ModelError(f"the graphics card's driver reports {status!r}", remedy="try again, or use --device cpu")
    return values[0] if values else None


class CudaEngine:
    """Adds batches to `state`, without waiting for the card."""

    def __init__(self, state: LayerState, activate: Callable[[torch.Tensor], torch.Tensor], name: str) -> None:
        module, device = compiled(state.sign.device), state.sign.device
        assert module is not None, "ask `compiled` first"
        self._module, self._state, self._activate, self._name = module, state, activate, name
        self._caches = Caches(state, keys=False)
        self._locks = torch.zeros(state.neurons, dtype=torch.int32, device=device)
        self._flawed = torch.zeros(1, dtype=torch.int32, device=device)
        self._layer = layer_of(state, self._caches, self._locks, self._flawed)
        self._reported = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        self._copied = torch.cuda.Event()

    def refresh(self) -> None:
        """The lists were changed by others."""
        self._caches.refresh()

    def check(self) -> None:
        """Waits for the card. Raises ModelError if a value at a real token was not finite."""
        if bool(self._flawed.item()):
            raise not_finite(self._name)

    def update(self, x_gate: torch.Tensor, x_in: torch.Tensor, batch: Batch) -> None:
        """Take in one batch `[B, T, N]`.

        Raises:
            ModelError: a value of an earlier batch is not finite.
        """
        if self._copied.query() and bool(self._reported.item()):
            raise not_finite(self._name)
        gate, into = (values if values.stride(-1) == 1 else values.contiguous() for values in (x_gate, x_in))
        act = None if self._activate is silu else self._activate(gate.float()).contiguous()
        grid = (-(-self._state.neurons // _THREADS), min(len(batch.lengths), _TEXTS))
        with torch.cuda.device(gate.device):
            stream = torch.cuda.current_stream()
            self._module.launch(
                gate.dtype,
                grid,
                stream.cuda_stream,
                self._layer,
                texts_of(batch),
                rows_of(gate),
                rows_of(into),
                Rows() if act is None else rows_of(act),
            )
            self._reported.copy_(self._flawed, non_blocking=True)
            self._copied.record(stream)
