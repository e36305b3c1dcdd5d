"""The recorder's fused pass, compiled when it is first needed: C++ for processors, CUDA for graphics cards.

One text, `shared.h`, says what happens with one token of one neuron; `cpu.cpp` runs it over 32 neurons side by side as
vector instructions, `gpu.cu` with a thread per neuron. Both are an `Engine` of `recorder.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuronagent.index.kernel import cpu, cuda
from neuronagent.index.state import LayerState

Activate = Callable[[torch.Tensor], torch.Tensor]


def engine_for(
    device: torch.device,
) -> Callable[[LayerState, Activate, str], cpu.CpuEngine | cuda.CudaEngine] | None:
    """The compiled engine for states that live on `device`; None where there is none."""
    if device.type == "cpu":
        return cpu.CpuEngine if cpu.compiled() is not None else None
    if device.type == "cuda":
        return cuda.CudaEngine if cuda.compiled(device) is not None else None
    return None


def missing(device: torch.device) -> str | None:
    """Why recording on `device` will be slow, in words; None where the fused pass runs."""
    if device.type == "cpu" and cpu.compiled() is None:
        return (
            "no C++ compiler, or no room for what it makes in the cache folder: recording takes several times longer; "
            "install g++ or clang"
        )
    if device.type == "cuda" and cuda.compiled(device) is None:
        return "NVRTC or cuda-bindings is missing: recording takes several times longer; pip install cuda-bindings"
    if device.type not in ("cpu", "cuda"):
        return f"there is no fused pass for {device.type}: recording takes several times longer"
    return None
