"""The models that a fit runs: the one of the index, and for maps between two models that of the sources beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuronagent.domain import clip
from neuronagent.errors import IndexMismatchError, UsageError
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.models.weights import ModelWeights
from neuronagent.service.live.model import open_live
from neuronagent.service.lookup import Index
from neuronagent.service.predict.fits import ModelFacts
from neuronagent.service.predict.texts import TokenTexts


@dataclass(frozen=True, kw_only=True)
class Models:
    """`target` has the neurons that are foretold, `source` those that foretell them; the same in most fits."""

    target: GatedModel
    source: GatedModel

    @property
    def are_one(self) -> bool:
        return self.source is self.target


def open_models(
    index: Index, model: str | None, source_model: str | None, device: str, dtype: str | None = None
) -> Models:
    """The model of `index`, in `dtype` (None: float32 on a CPU and elsewhere as it was indexed), and the other one on
    the same device in the same numbers.

    Raises:
        UsageError: an index of published numbers, which no model belongs to.
        IndexMismatchError, ModelError: another model than the one that was indexed, or none.
    """
    target = open_live(index, model, device=device, dtype=dtype).model
    if source_model is None:
        return Models(target=target, source=target)
    source = load_model(source_model, dtype=target.dtype, device=str(target.device))
    return Models(target=target, source=source)


def check_tokens(models: Models, texts: TokenTexts, context: int | None) -> None:
    """Both models must mean the same by every id of `texts`, and read them whole, or windows of `context` tokens.

    Raises:
        IndexMismatchError: the other model has another tokenizer.
        UsageError: it reads shorter texts only.
    """
    if models.are_one or not texts.texts:
        return
    name = clip(model_name(models.source))
    target, source = models.target.token_bytes(), models.source.token_bytes()
    remedy = "name a model that was trained with the tokenizer of the indexed one"
    if texts.first and models.source.bos_id != models.target.bos_id:
        raise IndexMismatchError(f"{name} begins texts with another token than the model of this index", remedy=remedy)
    for number in np.unique(np.concatenate([text.ids for text in texts.texts])).tolist():
        if number >= len(source) or source[number] != target[number]:
            raise IndexMismatchError(
                f"{name} has another tokenizer than the model of this index: token {number} is not the same",
                remedy=remedy,
            )
    longest = max(len(text.ids) for text in texts.texts)
    longest = longest if context is None else min(longest, context + texts.first)
    if longest > models.source.max_positions:
        raise UsageError(
            f"{name} reads {models.source.max_positions:,} tokens, and texts of this index have up to {longest:,}",
            remedy="index the model with a smaller --max-tokens, or limit what is read with --context",
        )


def model_facts(model: ModelWeights) -> ModelFacts:
    """Which model it is."""
    return ModelFacts(
        name=model_name(model),
        weights_hash=model.weights_hash,
        config_hash=model.config_hash,
        layers=model.n_layers,
    )


def model_name(model: ModelWeights) -> str:
    """A hub name as it is; of a local folder its own name, since a path says nothing to others."""
    folder = Path(model.name).expanduser()
    return folder.resolve().name if folder.is_dir() else model.name
