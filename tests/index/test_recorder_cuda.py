"""On a graphics card the recorder has the numbers that it has on a processor."""

from __future__ import annotations

import pytest
import torch

from neuronagent.errors import ModelError
from neuronagent.index import kernel
from neuronagent.index.eager import EagerEngine
from tests.index.engines import assert_same, new_recorder, padded_batches, record

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card")


def test_the_pass_for_this_card_can_be_compiled() -> None:
    assert kernel.missing(torch.device("cuda")) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("neurons", [1, 130, 300])
def test_every_bit_is_that_of_the_plain_operations_on_a_processor(dtype: torch.dtype, neurons: int) -> None:
    assert_same(record("cuda", dtype, neurons, "silu"), record("cpu", dtype, neurons, "silu", EagerEngine))


def test_an_activation_that_is_computed_before_the_pass_gives_the_numbers_of_plain_operations() -> None:
    expected = record("cuda", torch.float32, 40, "gelu_pytorch_tanh", EagerEngine)
    assert_same(record("cuda", torch.float32, 40, "gelu_pytorch_tanh"), expected)


def test_a_state_that_moves_between_card_and_processor_goes_on_with_the_same_bits() -> None:
    expected = record("cpu", torch.float32, 40, "silu")
    recorder = new_recorder("cuda", 40, "silu")
    for device, (x_gate, x_in, batch) in zip(("cuda", "cpu", "cuda"), padded_batches(torch.float32, 40), strict=True):
        state = recorder.state()
        recorder = new_recorder(device, 40, "silu")
        recorder.load(state)
        recorder.update(x_gate.to(device), x_in.to(device), batch(device))
    assert_same(recorder.result(constant_first=True), expected)


def test_a_value_that_is_not_finite_is_refused_at_the_latest_when_the_state_is_saved() -> None:
    recorder = new_recorder("cuda", 40, "silu")
    x_gate, x_in, batch = padded_batches(torch.float32, 40)[0]
    x_gate[0, 0, 7] = torch.nan
    recorder.update(x_gate.cuda(), x_in.cuda(), batch("cuda"))
    with pytest.raises(ModelError, match="layer 3 are not finite"):
        recorder.state()
    with pytest.raises(ModelError, match="layer 3 are not finite"):
        recorder.update(x_gate.cuda(), x_in.cuda(), batch("cuda"))
