"""Where a model runs and in which numbers: `auto` becomes a decision that the index's identity can name."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

import torch

from neuronagent.errors import UsageError
from neuronagent.service.options import BuildOptions

TF32 = "tf32"
"""float32 weights whose matrix products CUDA makes in TF32, with ten bits of mantissa."""


def decided(options: BuildOptions, *, cuda: bool | None = None) -> BuildOptions:
    """The same options without `auto`: CUDA if there is any (`cuda`; None: looked for here), bfloat16 there.

    Raises:
        UsageError: TF32 without CUDA.
    """
    device, dtype = options.device, options.dtype
    if device == "auto":
        device = "cuda" if (torch.cuda.is_available() if cuda is None else cuda) else "cpu"
    on_cuda = device.startswith("cuda")
    if dtype == "auto":
        dtype = "bfloat16" if on_cuda else "float32"
    if dtype == TF32 and not on_cuda:
        raise UsageError(f"tf32 is asked for on {device}", remedy="use --dtype float32, or a CUDA device")
    found = replace(options, device=device, dtype=dtype)
    return replace(found, batch_tokens=found.batch_tokens if found.batch_tokens is not None else found.tokens_per_batch)


def weights_dtype(dtype: str) -> str:
    """In what the weights are loaded for `dtype`."""
    return "float32" if dtype == TF32 else dtype


@contextmanager
def products(dtype: str) -> Generator[None]:
    """Inside, CUDA multiplies float32 matrices in TF32 if `dtype` says so, else in float32, whatever was set before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if dtype == TF32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
