"""Linear maps between the activations of two layers, and their files.

A map is a matrix `weight` `[N_target, N_source]`, or two factors of it of rank r, and an intercept `bias` `[N_target]`
(zeros without one). It takes `post` of the source at a token to that of the target, both in the model's own signs.
A file is safetensors, float32, and says in its metadata which map of which models it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neuronagent.errors import StorageError
from neuronagent.index.files import sync_names


@dataclass(frozen=True, kw_only=True)
class NeuronMap:
    """`factors` are applied one after the other, the first to the source: one matrix `[N_target, N_source]`, or
    `[r, N_source]` and `[N_target, r]`. float32, all on one device."""

    factors: tuple[Tensor, ...]
    bias: Tensor

    @property
    def rank(self) -> int | None:
        """r of a low-rank map; None for a full matrix."""
        return None if len(self.factors) == 1 else self.factors[0].shape[0]

    @property
    def weight(self) -> Tensor:
        """The matrix `[N_target, N_source]`."""
        return self.factors[0] if len(self.factors) == 1 else self.factors[1] @ self.factors[0]

    def __call__(self, post: Tensor) -> Tensor:
        """What is predicted `[…, N_target]` from `post` `[…, N_source]`, float32."""
        found = post.float()
        for factor in self.factors[:-1]:
            found = found @ factor.T
        flat = found.reshape(-1, found.shape[-1])
        return torch.addmm(self.bias, flat, self.factors[-1].T).reshape(*found.shape[:-1], -1)

    def to(self, device: torch.device | str) -> NeuronMap:
        return NeuronMap(factors=tuple(f.to(device) for f in self.factors), bias=self.bias.to(device))


def save_map(path: Path, found: NeuronMap, about: Mapping[str, Any]) -> None:
    """Write a map and `about` (JSON) beside its name and move it into place.

    Raises:
        StorageError: it cannot be written; a file that was there is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    tensors = {f"factor{place}": f.float().cpu().contiguous() for place, f in enumerate(found.factors)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors leaves a file that its owner alone may read
        save_file({**tensors, "bias": found.bias.float().cpu().contiguous()}, temporary,
                  metadata={"neuronagent": json.dumps(dict(about), sort_keys=True)})  # fmt: skip
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_names(path.parent)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"the map {path} cannot be written: {error}", remedy="make room and run it again") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def load_map(path: Path, device: torch.device | str = "cpu") -> tuple[NeuronMap, dict[str, Any]]:
    """The map in `path` and what it says of itself.

    Raises:
        StorageError: there is none, or it is damaged.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            about = json.loads((file.metadata() or {})["neuronagent"])
            names = sorted(name for name in file.keys() if name.startswith("factor"))  # noqa: SIM118
            factors = tuple(file.get_tensor(name) for name in names)
            bias = file.get_tensor("bias")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StorageError(f"the map {path} cannot be read: {error}", remedy="fit it again") from error
    shapes = [tuple(factor.shape) for factor in factors]
    joined = all(len(shape) == 2 for shape in shapes) and all(a[0] == b[1] for a, b in pairwise(shapes))
    if not shapes or not joined or bias.shape != shapes[-1][:1]:
        raise StorageError(f"the map {path} is damaged", remedy="fit it again")
    return NeuronMap(factors=factors, bias=bias), about


def about_map(path: Path) -> dict[str, Any] | None:
    """What the map in `path` says of itself, its numbers unread; None where there is none, or a file cut short."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["neuronagent"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    return about if isinstance(about, dict) else None
