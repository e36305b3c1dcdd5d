"""Checkpoints of a made-up training run whose numbers are known: w_out of each neuron is turned towards or away from
its w_in, and the gate stays at right angles to both."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny_models import D_MODEL, SPECS, save_tiny

NEURONS = 48


def cosine(layer: int, neuron: int, progress: float) -> float:
    """cos(in,out) of a neuron: evenly spread from 0 up to `progress` in layer 0, and down to −`progress` in layer 1."""
    return (1 if layer == 0 else -1) * progress * (neuron + 0.5) / NEURONS


def turned_checkpoint(folder: Path, progress: float) -> Path:
    """A Llama of two layers with 48 neurons, at `progress` (0 to 1) of its training."""
    save_tiny(SPECS["llama"], folder)
    path = folder / "model.safetensors"
    tensors = load_file(str(path))
    for layer in range(2):
        prefix = f"model.layers.{layer}"
        gate, inner, across = _frame(torch.Generator().manual_seed(layer))
        cosines = torch.tensor([cosine(layer, neuron, progress) for neuron in range(NEURONS)], dtype=torch.float64)
        out = cosines[:, None] * inner + (1 - cosines**2).sqrt()[:, None] * across
        lengths = torch.linspace(0.5, 2, NEURONS, dtype=torch.float64)[:, None]
        tensors[f"{prefix}.post_attention_layernorm.weight"] = torch.ones(D_MODEL)
        tensors[f"{prefix}.mlp.gate_proj.weight"] = (gate * lengths).float()
        tensors[f"{prefix}.mlp.up_proj.weight"] = (inner * lengths.flip(0)).float()
        tensors[f"{prefix}.mlp.down_proj.weight"] = (out * lengths).T.contiguous().float()
    save_file(tensors, str(path), metadata={"format": "pt"})
    return folder


def _frame(random: torch.Generator) -> list[torch.Tensor]:
    """Three orthonormal directions for each neuron, each `[N, d_model]`."""
    vectors = torch.randn(NEURONS, D_MODEL, 3, generator=random, dtype=torch.float64)
    return list(torch.linalg.qr(vectors).Q.unbind(dim=2))
