"""What `predict functional` is asked for, and what a layer has before anything is run: whose errors count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronagent.errors import UsageError
from neuronagent.predictability.scores import DEFAULT_FIT, layer_predictor, source_layer
from neuronagent.service.predict.fits import Fit
from neuronagent.service.predict.selection import Errors
from neuronagent.service.predict.texts import TokenTexts, check_source
from neuronagent.store.reader import IndexReader

VERSION = 1
"""Changes whenever the same scores and tokens would give other results."""
TOKENS, NGRAMS, SEEDS, OUTLIER_RATIO = 200_000, 1_000, 100, 100.0
NEAREST, MEAN_OF_SOURCES = "nearest", "mean"


@dataclass(frozen=True, kw_only=True)
class FunctionalOptions:
    """`text`: another one than the fit's test split. `tokens`: about so many are read. `ngrams`: so many of each size.
    `seeds`: of random tokens. `source`: `nearest` or `mean`, whose errors count. `memory`: bytes that sums may take
    (None: half of what is free). `again`: compute also what is stored."""

    db: str
    name: str = DEFAULT_FIT
    text: str | None = None
    tokens: int = TOKENS
    ngrams: int = NGRAMS
    seeds: int = SEEDS
    source: str = NEAREST
    outlier_ratio: float = OUTLIER_RATIO
    memory: int | None = None
    model: str | None = None
    device: str = "auto"
    again: bool = False

    def check(self) -> None:
        """Raises `UsageError` for what cannot be."""
        if self.source not in (NEAREST, MEAN_OF_SOURCES):
            raise UsageError("no such source of errors", remedy=f"allowed: {NEAREST}, {MEAN_OF_SOURCES}")
        check_source(self.text)
        for name, value, least in (("tokens", self.tokens, 1), ("ngrams", self.ngrams, 1), ("seeds", self.seeds, 2)):
            if value < least:
                raise UsageError(f"{value} are too few {name}", remedy=f"at least {least}")
        if not self.outlier_ratio > 0:
            raise UsageError("the ratio of an outlier must be above 0", remedy="100 is the usual one")

    def settings(self, fit: Fit) -> dict[str, Any]:
        """What results depend on, beside scores and tokens."""
        return {
            "version": VERSION,
            "fit": fit.info["identity"],
            "ngrams": self.ngrams,
            "seeds": self.seeds,
            "source": self.source,
            "outlier_ratio": self.outlier_ratio,
        }


@dataclass(frozen=True, kw_only=True)
class LayerErrors:
    """The errors of a layer's neurons `[N]`, whose they are, or why there are none. `identity`: of all that its results
    are a function of."""

    layer: int
    errors: Errors
    predictor: str | None
    reason: str | None
    identity: str


def errors_of(
    reader: IndexReader, fit: Fit, fit_id: int, layer: int, texts: TokenTexts, key: str, options: FunctionalOptions
) -> LayerErrors:
    """From the scores on the text `key`, or if there are none on the fit's own test split."""
    stored = reader.layer_predictions(fit_id, layer, key) or reader.layer_predictions(fit_id, layer)
    predictors = _predictors(fit, layer, options.source)
    found = [stored[name] for name in predictors if name in stored]
    if found and len(found) == len(predictors):
        errors = Errors(l2=np.mean([s.rmse for s in found], axis=0), r2=np.mean([s.r2 for s in found], axis=0))
        name = predictors[0] if len(predictors) == 1 else f"mean of {_layers(predictors)}"
        reason = None
    else:
        nothing = np.full(reader.layers()[layer], np.nan)
        errors, name = Errors(l2=nothing, r2=nothing), None
        reason = "it is not scored" if predictors else "the fit has no map to it from a layer below"
    said = {**options.settings(fit), "layer": layer, "text": texts.fingerprint, "errors": _hash(errors), "of": name}
    identity = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
    return LayerErrors(layer=layer, errors=errors, predictor=name, reason=reason, identity=identity)


def _predictors(fit: Fit, layer: int, source: str) -> list[str]:
    """Those whose errors count: of the nearest source below; with two models, of the one at like depth."""
    sources = fit.sources(layer)
    if source == MEAN_OF_SOURCES:
        return [layer_predictor(each) for each in sources]
    nearest = fit.nearest(layer)
    return [] if nearest is None else [layer_predictor(nearest)]


def _layers(predictors: Sequence[str]) -> str:
    found = [source_layer(name) for name in predictors]
    return f"layers {', '.join(map(str, found))}"


def _hash(errors: Errors) -> str:
    return hashlib.sha256(errors.l2.tobytes() + errors.r2.tobytes()).hexdigest()
