"""Recordings that every engine must make alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.index.activation import activation_of
from neuronagent.index.batch import Batch
from neuronagent.index.recorder import LayerRecorder
from neuronagent.layout import LayerActivations

_LENGTHS = np.array([1, 2, 40, 39, 300, 17, 5, 64])
MakeBatch = Callable[[str], Batch]


def _batch(lengths: NDArray[np.int64], first: NDArray[np.int64], splits: NDArray[np.int8]) -> MakeBatch:
    return lambda device: Batch.of(lengths, first, splits, "salt", device)


def padded_batches(dtype: torch.dtype, neurons: int) -> list[tuple[torch.Tensor, torch.Tensor, MakeBatch]]:
    """Padded batches with ties, exact zeros, values beyond both ends of the histogram, and NaN at padding."""
    generator = np.random.default_rng(0)
    made: list[tuple[torch.Tensor, torch.Tensor, MakeBatch]] = []
    start = 0
    for _ in range(3):
        lengths = generator.permutation(_LENGTHS)
        first = start + np.cumsum(lengths) - lengths
        start += int(lengths.sum())
        splits = generator.integers(0, 3, len(lengths)).astype(np.int8)
        values = generator.normal(0, 3, (2, len(lengths), int(lengths.max()), neurons))
        values *= np.exp(generator.normal(0, 2, neurons))
        values[generator.random(values.shape) < 0.05] = 0
        values = np.where(generator.random(values.shape) < 0.3, np.round(values), values)
        values[0, ..., 0] = -200  # SiLU underflows: post is always 0, and never listed
        values[:, np.arange(values.shape[2]) >= lengths[:, None]] = np.nan
        x_gate, x_in = torch.from_numpy(values).to(dtype)
        made.append((x_gate, x_in, _batch(lengths, first, splits)))
    return made


def new_recorder(device: str, neurons: int, activation: str, engine: Any = None) -> LayerRecorder:
    """A recorder with signs of both kinds."""
    sign = torch.where(torch.arange(neurons) % 3 == 0, -1.0, 1.0).to(device)
    return LayerRecorder(sign=sign, k=5, salt="salt", activate=activation_of(activation), name="layer 3", engine=engine)


def record(device: str, dtype: torch.dtype, neurons: int, activation: str, engine: Any = None) -> LayerActivations:
    """All batches, recorded."""
    recorder = new_recorder(device, neurons, activation, engine)
    for x_gate, x_in, batch in padded_batches(dtype, neurons):
        recorder.update(x_gate.to(device), x_in.to(device), batch(device))
    return recorder.result(constant_first=True)


def assert_same(found: LayerActivations, expected: LayerActivations) -> None:
    """Bit for bit, but for the order in which float64 sums were added up."""
    for name in (field.name for field in fields(LayerActivations)):
        a, b = getattr(found, name), getattr(expected, name)
        if name in ("sums", "mass"):
            np.testing.assert_allclose(a, b, rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
