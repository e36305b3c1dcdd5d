"""A complete fit with what it was made from: its models, loaded when they are first needed, and its texts."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from neuronagent.domain import Split, clip
from neuronagent.errors import CorpusError, IndexMismatchError, UsageError
from neuronagent.service.lookup import Index
from neuronagent.service.predict.fits import Fit
from neuronagent.service.predict.texts import TokenTexts, corpus_texts, source_texts
from neuronagent.service.progress import Progress

if TYPE_CHECKING:
    from neuronagent.service.predict.fitting_models import Models
    from neuronagent.service.predict.score_passes import Reading


class OpenedFit:
    """A fit of an open index: what is stored of it is found again without loading a model."""

    def __init__(
        self, index: Index, fit: Fit, *, model: str | None = None, source_model: str | None = None,
        device: str = "auto", dtype: str | None = None,
    ) -> None:  # fmt: skip
        self.index, self.fit = index, fit
        self._model, self._source_model, self._device, self._dtype = model, source_model, device, dtype

    @cached_property
    def models(self) -> Models:
        """Both models, or one twice.

        Raises:
            IndexMismatchError, ModelError: they are not those of the fit, or cannot be loaded.
            UsageError: it is not said where the other model is, or one is named that has no part in the fit.
        """
        from neuronagent.service.predict.fitting_models import model_facts, open_models

        wanted, name = self.fit.info["source_model"], self.fit.name
        if (wanted is None) != (self._source_model is None):
            if wanted is None:
                raise UsageError(f"{name} is no fit between two models", remedy="leave out --source-model")
            raise UsageError(
                f"the maps of {name} start from another model ({clip(wanted['name'])})",
                remedy="say where it is with --source-model",
            )
        found = open_models(self.index, self._model, self._source_model, self._device, self._dtype)
        if wanted is not None:
            facts = model_facts(found.source)
            if any(facts[key] != wanted[key] for key in ("weights_hash", "config_hash")):
                raise IndexMismatchError(
                    f"the maps of {name} start from another model than {clip(facts['name'])}",
                    remedy=f"name {clip(wanted['name'])} with --source-model",
                )
        return found

    @cached_property
    def texts(self) -> TokenTexts:
        """What the fit was made from, of all splits.

        Raises:
            CorpusError: it cannot be read, or is another text by now.
        """
        said = self.fit.info["text"]
        limit = said.get("limit")
        if said["own"]:
            found = corpus_texts(self.index)
            found = found if limit is None else found.limited(limit)
        else:
            found = source_texts(self.index, self.models.target, said["source"], tokens=limit)
        if found.fingerprint != said["fingerprint"]:
            raise CorpusError(
                f"{clip(said['source'])} is not the text any more that {self.fit.name} was fitted on",
                remedy="fit it again: neuronagent predict fit --replace",
            )
        return found

    def other_texts(self, source: str, tokens: int | None, progress: Progress) -> TokenTexts:
        """The texts of another source, whatever their split, but those that maps were fitted or their ridge was chosen
        on, word by word; `progress` is told of them.

        Raises:
            CorpusError: it cannot be read.
            IndexMismatchError, UsageError: not both models can read it.
        """
        from neuronagent.service.predict.fitting_models import check_tokens

        found = source_texts(self.index, self.models.target, source, tokens=tokens)
        check_tokens(self.models, found, self.fit.info["context"])
        known = {text.ids.tobytes() for text in self.texts.texts if text.split is not Split.TEST}
        kept = tuple(text for text in found.texts if text.ids.tobytes() not in known)
        left = replace(found, texts=kept)
        if left.tokens < found.tokens:
            progress.note(f"{found.tokens - left.tokens:,} of {found.tokens:,} tokens were fitted on and are left out")
        return left

    def reading(self) -> Reading:
        """With what scores are read."""
        from neuronagent.service.predict.score_passes import Reading

        info, found = self.fit.info, self.models
        return Reading(
            model=found.target, source_model=found.source, context=info["context"], batch_tokens=info["batch_tokens"]
        )
