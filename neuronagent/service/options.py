"""What a build is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to index, and how.

    `max_tokens` (BOS included) defaults to 1024 or what the model can read, if less. `device` and `dtype` `auto`: CUDA
    if there is any, and bfloat16 there, float32 elsewhere; `batch_tokens` None depends on the device as well.
    `device_map` `auto` spreads a model over several devices. `shard` (i, n) records every n-th batch only, `layers`
    only these layers, in `passes` forward passes over the text: none of the three changes a number of the index.
    `neighbours` `auto` leaves them out where a CPU would take long. `checkpoint` is what the model is called among
    several of one training run; the index says it.
    """

    model: str
    text: str
    db: str
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    device_map: str | None = None
    max_tokens: int | None = None
    token_budget: int | None = None
    truncate: bool | None = None
    k: int = 16
    batch_tokens: int | None = None
    sign_convention: Literal["normalised", "raw"] = "normalised"
    post_norm: Literal["folded", "raw"] = "folded"
    bos: Literal["auto", "none"] = "auto"
    salt: str = "neuronagent"
    checkpoint_seconds: float = 300.0
    shard: tuple[int, int] = (0, 1)
    layers: tuple[int, ...] | None = None
    passes: int = 1
    neighbours: Literal["auto", "on", "off"] = "auto"
    checkpoint: str | None = None

    @property
    def tokens_per_batch(self) -> int:
        """Tokens of a forward pass, padding included: what a processor's cache or a graphics card likes."""
        return self.batch_tokens or (32_768 if self.device.startswith("cuda") else 4096)
