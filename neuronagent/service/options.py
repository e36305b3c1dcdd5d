"""What a build is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to index, and how. `max_tokens` (BOS included) defaults to 1024 or what the model can read, if less."""

    model: str
    text: str
    db: str
    revision: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    max_tokens: int | None = None
    token_budget: int | None = None
    truncate: bool | None = None
    k: int = 16
    batch_tokens: int = 4096
    sign_convention: Literal["normalised", "raw"] = "normalised"
    post_norm: Literal["folded", "raw"] = "folded"
    bos: Literal["auto", "none"] = "auto"
    salt: str = "neuronagent"
    checkpoint_seconds: float = 120.0
