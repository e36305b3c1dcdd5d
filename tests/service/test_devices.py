"""What `auto` becomes, and that a precision holds inside its block only."""

from __future__ import annotations

import pytest
import torch

from neuronagent.errors import UsageError
from neuronagent.service.devices import decided, products, weights_dtype
from neuronagent.service.options import BuildOptions


@pytest.mark.parametrize(
    ("device", "dtype", "cuda", "expected"),
    [
        ("auto", "auto", False, ("cpu", "float32")),
        ("auto", "auto", True, ("cuda", "bfloat16")),
        ("auto", "float32", True, ("cuda", "float32")),
        ("auto", "tf32", True, ("cuda", "tf32")),
        ("cpu", "auto", True, ("cpu", "float32")),
        ("mps", "auto", True, ("mps", "float32")),
        ("cuda:1", "auto", False, ("cuda:1", "bfloat16")),
        ("cpu", "float16", False, ("cpu", "float16")),
    ],
)
def test_auto_is_cuda_in_bfloat16_if_there_is_any_and_else_float32(
    device: str, dtype: str, cuda: bool, expected: tuple[str, str]
) -> None:
    found = decided(BuildOptions(model="m", text="t", db="d", device=device, dtype=dtype), cuda=cuda)
    assert (found.device, found.dtype) == expected
    assert decided(found) == found


@pytest.mark.parametrize("device", ["auto", "cpu", "mps"])
def test_tf32_needs_cuda(device: str) -> None:
    with pytest.raises(UsageError, match="use --dtype float32"):
        decided(BuildOptions(model="m", text="t", db="d", device=device, dtype="tf32"), cuda=False)


def test_weights_for_tf32_are_float32() -> None:
    assert [weights_dtype(name) for name in ("tf32", "float32", "bfloat16")] == ["float32", "float32", "bfloat16"]


def raised_inside(precision: str) -> None:
    assert torch.get_float32_matmul_precision() == precision
    raise ZeroDivisionError


def test_a_precision_holds_inside_its_block_and_float32_is_exact_whatever_was_set() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with products("float32"):
            assert torch.get_float32_matmul_precision() == "highest"
        with pytest.raises(ZeroDivisionError), products("tf32"):
            raised_inside("high")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
