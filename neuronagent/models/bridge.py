"""Opening a model: a hub name or a local folder becomes a `GatedModel`, or `ModelWeights` where weights are enough.

Attention: transformers' fused implementation (sdpa) where the family has one, else its eager one. TransformerLens
always uses the eager one, 3 times slower at 1,024 tokens; recording therefore runs on the Hugging Face modules, and
`GatedModel.bridge()` is there for what needs TransformerLens' hooks.
"""

from __future__ import annotations

import torch

from neuronagent.domain import clip
from neuronagent.errors import UsageError
from neuronagent.models.checkpoint import find_checkpoint, open_tokenizer, open_weights
from neuronagent.models.gated import GatedModel
from neuronagent.models.weights import ModelWeights

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    name_or_folder: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    device_map: str | None = None,
    attention: str | None = None,
) -> GatedModel:
    """Load a gated language model and its tokenizer.

    Args:
        name_or_folder: a folder with config.json, tokenizer and safetensors (read without any network), or a name
            on the Hugging Face hub.
        revision: branch, tag or commit on the hub.
        dtype: `float32`, `bfloat16` or `float16`; weights and activations have it.
        device: `cpu`, `mps`, `cuda` or `cuda:1`.
        device_map: `auto` spreads the layers over all devices that there are, the CPU last.
        attention: `sdpa` or `eager`; by default the faster one that the family has.

    Raises:
        UsageError: an option that does not exist, or a device that is not there.
        UnsupportedArchitectureError: a model whose MLP is not understood.
        ModelError: files that are missing or broken.
    """
    if dtype not in DTYPES:
        raise UsageError(f"{clip(dtype)!r} is not a dtype", remedy=f"allowed: {', '.join(DTYPES)}")
    if device_map not in (None, "auto"):
        raise UsageError(f"{clip(device_map)!r} is not a device map", remedy="allowed: auto")
    place = _device(device)
    checkpoint = find_checkpoint(name_or_folder, revision)
    allowed = checkpoint.family.attention
    if attention is not None and attention not in allowed:
        raise UsageError(
            f"{clip(attention)!r} is no attention implementation for {checkpoint.config.model_type}",
            remedy=f"allowed: {', '.join(allowed)}",
        )
    tokenizer, backend = open_tokenizer(checkpoint)
    live = open_weights(
        checkpoint, dtype=DTYPES[dtype], device=place, attention=attention or allowed[0], device_map=device_map
    )
    return GatedModel(checkpoint, live, tokenizer, backend)


def open_model(name_or_folder: str, *, revision: str | None = None) -> ModelWeights:
    """A model's weights and tokenizer without loading it: tensors are read from its files when asked for.

    Raises:
        UnsupportedArchitectureError: a model whose MLP is not understood.
        ModelError: files that are missing or broken.
    """
    checkpoint = find_checkpoint(name_or_folder, revision)
    tokenizer, backend = open_tokenizer(checkpoint)
    weights = ModelWeights(checkpoint, tokenizer, backend)
    weights.check()
    return weights


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"{clip(name)!r} is not a device", remedy="allowed: cpu, mps, cuda, cuda:1, …")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"{name} is asked for, but torch sees {found} CUDA devices", remedy="use cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("mps is asked for, but torch cannot use it here", remedy="use cpu")
    return device
