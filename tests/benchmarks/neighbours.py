"""How long the neighbours of every neuron take beside the bare matrix products that they cannot do without.

`python -m tests.benchmarks.neighbours [--device cuda] [--layers 8 --neurons 1376 --width 512]`

Random weights; on a GPU the shape of OLMo-7B (32 layers × 11,008 neurons, d_model 4096) unless another is given. The
floor is each product once, in the same dtype, with nothing read from it. Printed beside it: how many lists could not be
proven from their candidates and were made again; and the time of all cores together, since where others use the
machine only that means much. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from neuronagent.index.neighbours import neighbours, operations

_SMALL, _LARGE = (8, 1376, 512), (32, 11_008, 4096)


def random_layer(device: str, neurons: int, width: int) -> Callable[[int], tuple[torch.Tensor, ...]]:
    """A reader of layers of Gaussian weights, the same ones each time."""

    def read(layer: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator(device).manual_seed(layer)
        return tuple(torch.randn(neurons, width, device=device, generator=generator) for _ in range(3))

    return read


def timed(work: Callable[[], Any], device: str) -> tuple[float, float, Any]:
    """Seconds by the clock, seconds of all cores together, and the result."""
    _wait(device)
    started, processor = time.perf_counter(), time.process_time()
    result = work()
    _wait(device)
    return time.perf_counter() - started, time.process_time() - processor, result


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def bare_products(layers: int, neurons: int, width: int, device: str, dtype: torch.dtype) -> None:
    """Five products of each pair of layers (three of a layer with itself), in blocks that are overwritten."""
    a, b = (torch.randn(neurons, width, device=device).to(dtype) for _ in range(2))
    rows = neurons if device.startswith("cuda") else 1024
    products = layers * (layers - 1) // 2 * 5 + layers * 3
    out = torch.empty(min(rows, neurons), neurons, device=device, dtype=dtype)
    for _ in range(products):
        for start in range(0, neurons, rows):
            block = a[start : start + rows]
            torch.mm(block, b.T, out=out[: len(block)])


def measure(layers: int, neurons: int, width: int, device: str, dtype_name: str) -> dict[str, Any]:
    """Seconds of finding neighbours and of the bare products, by the clock and of all cores, and their ratios."""
    dtype: torch.dtype = getattr(torch, dtype_name)
    read: Any = random_layer(device, neurons, width)
    timed(lambda: bare_products(2, neurons, width, device, dtype), device)  # warms up
    floor, floor_busy, _ = timed(lambda: bare_products(layers, neurons, width, device, dtype), device)
    whole, busy, found = timed(lambda: neighbours(read, layers, device=device, dtype=dtype), device)
    return {
        "shape": f"{layers} layers × {neurons:,} neurons, d_model {width}, {dtype_name} on {device}",
        "neighbours, s": whole,
        "bare products, s": floor,
        "neighbours ÷ bare": whole / floor,
        "neighbours ÷ bare, seconds of cores": busy / floor_busy,
        "TFLOP/s": operations(layers * neurons, width) / whole / 1e12,
        "lists": found.lists,
        "lists made again": found.rechecked,
        **({"peak GB": torch.cuda.max_memory_allocated() / 1e9} if device.startswith("cuda") else {}),
    }


def small() -> dict[str, Any]:
    """On a processor, the shape that the recorder is measured with."""
    return measure(*_SMALL, "cpu", "float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default=None, help="float32, float16 or bfloat16")
    for name in ("layers", "neurons", "width"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args()
    shape = _LARGE if given.device.startswith("cuda") else _SMALL
    chosen = (given.layers, given.neurons, given.width)
    layers, neurons, width = (value or usual for value, usual in zip(chosen, shape, strict=True))
    dtype = given.dtype or ("float16" if given.device.startswith("cuda") else "float32")
    print(json.dumps(measure(layers, neurons, width, given.device, dtype), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
