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
from pathlib import Path
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
    name = given.dtype or ("float16" if given.device.startswith("cuda") else "float32")
    dtype: torch.dtype = getattr(torch, name)
    read: Any = random_layer(given.device, neurons, width)

    timed(lambda: bare_products(2, neurons, width, given.device, dtype), given.device)  # warms up
    floor, floor_busy, _ = timed(lambda: bare_products(layers, neurons, width, given.device, dtype), given.device)
    whole, busy, found = timed(lambda: neighbours(read, layers, device=given.device, dtype=dtype), given.device)
    result: dict[str, Any] = {
        "shape": {"layers": layers, "neurons": neurons, "width": width, "device": given.device, "dtype": name},
        "seconds": {"neighbours": whole, "bare products": floor, "ratio": whole / floor},
        "processor seconds": {"neighbours": busy, "bare products": floor_busy, "ratio": busy / floor_busy},
        "operations": operations(layers * neurons, width),
        "lists": found.lists,
        "rechecked": found.rechecked,
    }
    if given.device.startswith("cuda"):
        result["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
    print(f"{layers} layers × {neurons:,} neurons, d_model {width}, {name} on {given.device}")
    rates = [result["operations"] / seconds / 1e12 for seconds in (whole, floor)]
    print(f"neighbours     {whole:8.2f} s   {rates[0]:6.2f} TFLOP/s")
    print(f"bare products  {floor:8.2f} s   {rates[1]:6.2f} TFLOP/s   ratio {whole / floor:.2f}")
    print(f"of all cores   {busy:8.2f} s and {floor_busy:.2f} s   ratio {busy / floor_busy:.2f}")
    print(f"lists made again {found.rechecked:,} of {found.lists:,}")
    Path("bench-neighbours.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
