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
    from neuronagent.models.weights import ModelWeights


def check_same(info: Mapping[str, Any], model: ModelWeights, where: str) -> None:
    """Raises `IndexMismatchError` for another model than the one that was indexed: other weights, or another
    configuration or tokenizer, which change every number just as well."""
    said = info["model"]
    for key, what in (("weights_hash", "other weights"), ("config_hash", "another configuration or tokenizer")):
        if getattr(model, key) != said[key]:
            raise IndexMismatchError(
                f"{clip(where)} has {what} than the index was made from ({clip(said['name'])})",
                remedy="name the model that was indexed",
            )


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
    # A folder has no revision, a name on the hub always has one: what was a folder is never looked for on the hub.
    if named is None and said["revision"] is None and not Path(source).expanduser().is_dir():
        raise ModelError(
            f"the model that was indexed is not at {clip(source)} any more", remedy="say where it is with --model"
        )
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    revision = said["revision"] if named in (None, source) else None
    model = _loaded(named or source, revision, dtype or said["dtype"], place)
    check_same(info, model, named or source)
    return model


@lru_cache(maxsize=1)
def _loaded(source: str, revision: str | None, dtype: str, device: str) -> GatedModel:
    from neuronagent.models.bridge import load_model

    return load_model(source, revision=revision, dtype=dtype, device=device)
