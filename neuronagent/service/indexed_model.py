"""The model that an index was made from, loaded: nothing else may be run beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronagent.domain import clip
from neuronagent.errors import IndexMismatchError, ModelError

if TYPE_CHECKING:
    from neuronagent.models.gated import GatedModel


def model_at_hand(info: Mapping[str, Any]) -> str | None:
    """The folder of the model that an index was made from, if it is still there: no download is begun unasked."""
    source = str((info.get("model") or {}).get("source") or "")
    return source if source and (Path(source).expanduser() / "config.json").is_file() else None


def indexed_model(info: Mapping[str, Any], named: str | None, device: str, dtype: str | None = None) -> GatedModel:
    """The model that was indexed, loaded once per process: from `named` (a folder or a name on the hub), None for where
    it was; `device` may be `auto`; `dtype` None for the one that it was indexed in.

    Raises:
        IndexMismatchError: another model than the one that was indexed.
        ModelError: it is not there any more, or cannot be loaded.
    """
    import torch

    said = info["model"]
    source = str(said["source"])
    if named is None and Path(source).is_absolute() and not Path(source).is_dir():
        raise ModelError(
            f"the model that was indexed is not at {clip(source)} any more", remedy="say where it is with --model"
        )
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    revision = said["revision"] if named in (None, source) else None
    model = _loaded(named or source, revision, dtype or said["dtype"], place)
    if model.weights_hash != said["weights_hash"]:
        raise IndexMismatchError(
            f"{clip(named or source)} has other weights than the index was made from ({clip(said['name'])})",
            remedy="name the model that was indexed",
        )
    return model


@lru_cache(maxsize=1)
def _loaded(source: str, revision: str | None, dtype: str, device: str) -> GatedModel:
    from neuronagent.models.bridge import load_model

    return load_model(source, revision=revision, dtype=dtype, device=device)
