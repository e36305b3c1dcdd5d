"""Whatever runs the pass, its numbers are the same: C++, CUDA's source run on a processor, plain torch operations."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuronagent.index import kernel
from neuronagent.index.activation import Activate, activation_of, silu
from neuronagent.index.batch import Batch
from neuronagent.index.eager import EagerEngine
from neuronagent.index.kernel import compiler
from neuronagent.index.kernel.structs import Caches, Rows, layer_of, rows_of, texts_of
from neuronagent.index.state import LayerState
from tests.index.engines import assert_same, new_recorder, padded_batches, record

torch.set_num_threads(1)
pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")

_DTYPES = [torch.float32, torch.bfloat16, torch.float16]
_KERNELS = Path(kernel.__file__).parent


@pytest.fixture(scope="module")
def gpu_source(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """The kernel of `gpu.cu`, made for this processor."""
    made = tmp_path_factory.mktemp("kernel") / "gpu.so"
    options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", f"-I{_KERNELS}"]
    subprocess.run(
        ["c++", *options, str(Path(__file__).with_name("gpu_on_cpu.cpp")), "-o", str(made)], check=True, timeout=120
    )
    return ctypes.CDLL(str(made)).run


class SourceEngine:
    """The CUDA kernel, its threads one after the other on a processor."""

    def __init__(
        self, run: Callable[..., None], backwards: bool, state: LayerState, activate: Activate, _: str
    ) -> None:
        self._run, self._backwards, self._state, self._activate = run, backwards, state, activate
        self._caches = Caches(state, keys=False)
        self._locks, self.flawed = torch.zeros(state.neurons, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)

    def refresh(self) -> None:
        self._caches.refresh()

    def check(self) -> None:
        assert not bool(self.flawed)

    def update(self, x_gate: torch.Tensor, x_in: torch.Tensor, batch: Batch) -> None:
        layer = layer_of(self._state, self._caches, self._locks, self.flawed)
        act = None if self._activate is silu else self._activate(x_gate.float()).contiguous()
        arguments = [texts_of(batch), rows_of(x_gate), rows_of(x_in), Rows() if act is None else rows_of(act)]
        columns, rows = -(-self._state.neurons // 128), min(3, len(batch.lengths))
        pointers = [ctypes.byref(argument) for argument in (layer, *arguments)]
        self._run(_DTYPES.index(x_gate.dtype), columns, rows, int(self._backwards), *pointers)
        assert not self._locks.any()


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("neurons", [1, 63, 64, 65, 200])
def test_the_pass_in_cpp_has_every_bit_of_plain_operations(dtype: torch.dtype, neurons: int) -> None:
    assert_same(record("cpu", dtype, neurons, "silu"), record("cpu", dtype, neurons, "silu", EagerEngine))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("neurons", [1, 130])
@pytest.mark.parametrize("backwards", [False, True])
def test_the_source_for_graphics_cards_has_every_bit_of_plain_operations(
    gpu_source: Callable[..., None], dtype: torch.dtype, neurons: int, backwards: bool
) -> None:
    found = record("cpu", dtype, neurons, "silu", partial(SourceEngine, gpu_source, backwards))
    assert_same(found, record("cpu", dtype, neurons, "silu", EagerEngine))


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_an_activation_that_is_computed_before_the_pass_gives_the_numbers_of_plain_operations(
    gpu_source: Callable[..., None], activation: str
) -> None:
    expected = record("cpu", torch.float32, 40, activation, EagerEngine)
    assert_same(record("cpu", torch.float32, 40, activation), expected)
    assert_same(record("cpu", torch.float32, 40, activation, partial(SourceEngine, gpu_source, False)), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", _DTYPES)
def test_the_source_for_graphics_cards_notices_a_value_that_is_not_finite(
    gpu_source: Callable[..., None], dtype: torch.dtype, value: float
) -> None:
    engine: list[Any] = []

    def make(state: LayerState, activate: Activate, name: str) -> SourceEngine:
        engine.append(SourceEngine(gpu_source, False, state, activate, name))
        return engine[0]

    recorder = new_recorder("cpu", 40, "silu", make)
    x_gate, x_in, batch = padded_batches(dtype, 40)[0]
    recorder.update(x_gate, x_in, batch("cpu"))
    assert not bool(engine[0].flawed)
    x_in[1, 0, 39] = value
    recorder.update(x_gate, x_in, batch("cpu"))
    assert bool(engine[0].flawed)


@pytest.mark.slow
def test_several_threads_record_what_one_does() -> None:
    expected = record("cpu", torch.float32, 500, "silu")
    torch.set_num_threads(3)
    try:
        assert_same(record("cpu", torch.float32, 500, "silu"), expected)
    finally:
        torch.set_num_threads(1)


def test_gate_and_in_that_are_halves_of_one_tensor_are_read_in_place() -> None:
    expected, found = new_recorder("cpu", 70, "silu"), new_recorder("cpu", 70, "silu")
    for x_gate, x_in, batch in padded_batches(torch.float32, 70):
        expected.update(x_gate, x_in, batch("cpu"))
        both = torch.cat([x_gate, x_in], dim=-1)
        found.update(both[..., :70], both[..., 70:], batch("cpu"))
    assert_same(found.result(constant_first=True), expected.result(constant_first=True))


def test_without_a_compiler_there_is_no_compiled_pass_and_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert compiler.load_library() is None
    monkeypatch.setenv("NEURONAGENT_KERNEL", "off")
    kernel.cpu.compiled.cache_clear()
    try:
        assert kernel.engine_for(torch.device("cpu")) is None
        assert "compiler" in (kernel.missing(torch.device("cpu")) or "")
    finally:
        kernel.cpu.compiled.cache_clear()


@pytest.mark.slow
def test_a_library_is_compiled_once_and_again_when_its_cache_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiler.load_library() is not None
    (made,) = (tmp_path / "neuronagent" / "kernels").iterdir()
    first = made.stat().st_mtime_ns
    assert compiler.load_library() is not None
    assert made.stat().st_mtime_ns == first
    made.unlink()
    assert compiler.load_library() is not None
    assert made.is_file()


def test_silu_is_within_two_units_in_the_last_place_and_has_its_limits() -> None:
    x = torch.cat([torch.linspace(-88, 88, 200_001), torch.randn(100_000, generator=torch.Generator().manual_seed(0))])
    exact = x.double() * torch.sigmoid(x.double())
    spacing = torch.from_numpy(np.spacing(exact.float().abs().numpy())).double()
    assert float(((silu(x).double() - exact).abs() / spacing).max()) < 2.5
    ends = silu(torch.tensor([-1e30, -100.0, -89.0, 0.0, 100.0, 1e30]))
    assert ends.tolist() == [0.0, 0.0, 0.0, 0.0, 100.0, float(np.float32(1e30))]
    assert float(silu(torch.linspace(-1.4, -1.2, 100_001)).min()) == pytest.approx(-0.27846454, abs=1e-7)


def test_activations_are_those_of_their_names() -> None:
    x = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(activation_of("gelu")(x), torch.nn.functional.gelu(x))
    torch.testing.assert_close(activation_of("gelu_pytorch_tanh")(x), torch.nn.functional.gelu(x, approximate="tanh"))
    torch.testing.assert_close(activation_of("silu")(x), torch.nn.functional.silu(x))
    with pytest.raises(ValueError, match="relu"):
        activation_of("relu")
