"""Functional neurons, background neurons and outliers of a fit (paper § 5): `neuronagent predict functional`.

    1. The loss at every token decides which are hard and easy: one forward pass with the head.
    2. Sums of every neuron by n-gram, class of loss, position and bin of random tokens: a forward pass for as many
       layers as fit into memory.
    3. Layer by layer, from these sums and the stored scores: what `FunctionalLayer` says; stored as it is done.
    4. From what is stored of all layers: outliers, and the contingency with IO classes and roles.

The tokens are those of the fit's `test` split, or of another text. How predictable a neuron is, is taken from the
scores of its headline predictor (the nearest layer below that there is a map from), or their mean over all sources.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from neuronagent.domain import Split
from neuronagent.errors import CorpusError, IndexMismatchError, Interrupted, NotFoundError, UsageError
from neuronagent.predictability.functional import (
    KIND,
    NEURONS_KIND,
    FunctionalLayer,
    FunctionalSummary,
    FunctionalView,
    SensitiveNeurons,
    layer_key,
    summary_key,
)
from neuronagent.predictability.scores import text_key
from neuronagent.service.lookup import Index
from neuronagent.service.predict.fits import Fit, open_fit
from neuronagent.service.predict.functional_prepare import FunctionalOptions, LayerErrors, errors_of
from neuronagent.service.predict.functional_summary import LayerNeurons, class_r2, contingency
from neuronagent.service.predict.opened_fit import OpenedFit
from neuronagent.service.predict.scoring import groups_within
from neuronagent.service.predict.texts import TokenTexts, source_texts
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly
from neuronagent.store.engine import writing
from neuronagent.store.predictions import save_fit, save_result

if TYPE_CHECKING:
    from neuronagent.models.gated import GatedModel

__all__ = ["FunctionalOptions", "functional", "functional_view"]

FEW_TOKENS = 20_000


def functional(options: FunctionalOptions, progress: Progress | None = None) -> FunctionalSummary:
    """Analyse every layer of the model, and store it: what is stored with the same settings is not computed again.

    Raises:
        CorpusError: there is no text to read, or the text that was fitted is another one now.
        IndexMismatchError: another model than the one that was indexed.
        Interrupted: by Ctrl-C; the layers that are done are stored.
        ModelError: the model cannot be loaded or run.
        NotFoundError: there is no such fit, or it has no scores.
        StorageError: the index cannot be written.
        UsageError: settings that cannot be, or a fit that reads windows.
    """
    options.check()
    progress = progress or Silent()
    with Index(options.db) as index, stops_cleanly() as stop:
        fit = open_fit(options.db, options.name, index.info["model"])
        if fit.info["context"] is not None:
            raise UsageError(
                f"the fit {fit.name} reads windows of {fit.info['context']} tokens", remedy="name one of whole texts"
            )
        with writing(options.db) as engine:
            fit_id = save_fit(engine, fit.name, fit.info)
        work = _Work(index, fit, fit_id, options, progress, stop)
        return work.run()


def functional_view(options: FunctionalOptions) -> FunctionalView:
    """All that is stored of the fit `options.name` on the text of `options`.

    Raises:
        NotFoundError: nothing is.
    """
    with Index(options.db) as index:
        key = text_key(options.text)
        fit_id = next((each.id for each in index.reader.fits() if each.name == options.name), None)
        found = {} if fit_id is None else index.reader.prediction_results(fit_id, KIND)
        summary = found.get(summary_key(key))
        if summary is None:
            raise NotFoundError("functional neurons were not looked for", remedy="run: neuronagent predict functional")
        layers = [found[layer_key(layer, key)] for layer in summary["layers"] if layer_key(layer, key) in found]
        return {"fit": options.name, "summary": cast(FunctionalSummary, summary), "layers": cast(Any, layers)}


class _Work:
    """One run over the layers of an index."""

    def __init__(
        self, index: Index, fit: Fit, fit_id: int, options: FunctionalOptions, progress: Progress, stop: threading.Event
    ) -> None:
        self._index, self._fit, self._fit_id, self._options = index, fit, fit_id, options
        self._progress, self._stop = progress, stop
        self._key = text_key(options.text)
        self._seconds: dict[str, float] = {}

    def run(self) -> FunctionalSummary:
        texts = self._texts()
        reader, fit = self._index.reader, self._fit
        known = [
            errors_of(reader, fit, self._fit_id, layer, texts, self._key, self._options)
            for layer in sorted(reader.layers())
        ]
        if all(each.predictor is None for each in known):
            raise NotFoundError(
                f"the fit {self._fit.name} has no scores of a layer from one below it",
                remedy=f"run: neuronagent predict scores --fit {self._fit.name}",
            )
        missing = [each for each in known if self._options.again or self._stored(each) is None]
        if missing:
            self._analyse(texts, missing)
        return self._summary(texts, known)

    def _texts(self) -> TokenTexts:
        options, two = self._options, self._fit.info["source_model"] is not None
        opened = OpenedFit(self._index, self._fit, model=options.model, device=options.device)
        if options.text is None:
            if two and not self._fit.info["text"]["own"]:
                raise UsageError(f"the text of {self._fit.name} is read by two models", remedy="name one with --text")
            found = opened.texts.of(Split.TEST)
        elif two:
            found = source_texts(self._index, self._model(), options.text, tokens=options.tokens)
        else:
            found = opened.other_texts(options.text, options.tokens, self._progress)
        found = found if found.tokens <= options.tokens else found.limited(options.tokens)
        if not found.tokens:
            raise CorpusError(
                f"there is no text that {self._fit.name} was not fitted on", remedy="name one with --text"
            )
        if found.tokens < FEW_TOKENS:
            self._progress.note(f"{found.tokens:,} tokens only: {_FEW}")
        return found

    def _model(self) -> GatedModel:
        from neuronagent.service.live.model import open_live

        return open_live(self._index, self._options.model, device=self._options.device).model

    def _stored(self, known: LayerErrors) -> tuple[FunctionalLayer, SensitiveNeurons] | None:
        """What is stored of a layer with the same settings; None without."""
        key, reader = layer_key(known.layer, self._key), self._index.reader
        found = [reader.prediction_results(self._fit_id, kind, key).get(key) for kind in (KIND, NEURONS_KIND)]
        if any(each is None or each.get("identity") != known.identity for each in found):
            return None
        return cast("tuple[FunctionalLayer, SensitiveNeurons]", tuple(found))

    def _analyse(self, texts: TokenTexts, missing: Sequence[LayerErrors]) -> None:
        """Run the model, and store layer by layer."""
        from neuronagent.service.predict import functional_passes as passes

        model, options = self._model(), self._options
        begun = time.monotonic()
        self._progress.start("losses", texts.tokens, "tokens")
        reading = passes.read_properties(model, texts, options.ngrams, options.seeds, self._advance)
        self._seconds["losses and properties"] = round(time.monotonic() - begun, 3)
        widths = self._index.reader.layers()
        needed = {each.layer: reading.bytes_needed(widths[each.layer]) for each in missing}
        by_layer = {each.layer: each for each in missing}
        memory = passes.room(model, missing[0].layer) if options.memory is None else options.memory
        for group in groups_within(needed, memory):
            begun = time.monotonic()
            said = f"layers {group[0]} to {group[-1]}" if len(group) > 1 else f"layer {group[0]}"
            self._progress.start(f"sums of {said}", texts.tokens, "tokens")
            sums = passes.sum_layers(reading, group, self._advance)
            first = passes.values_at_bos(reading, group)
            self._seconds["sums"] = round(self._seconds.get("sums", 0.0) + time.monotonic() - begun, 3)
            begun = time.monotonic()
            self._progress.start(f"neurons of {said}", len(group), "layers")
            for done, layer in enumerate(group, 1):
                own = by_layer[layer]
                found = passes.finish_layer(
                    reading, layer, sums.pop(layer), first.get(layer), own.errors, own.predictor, own.reason,
                    own.identity, options.outlier_ratio,
                )  # fmt: skip
                key = layer_key(layer, self._key)
                self._save({(KIND, key): found[0], (NEURONS_KIND, key): found[1]})
                self._advance(done)
            self._seconds["neurons"] = round(self._seconds.get("neurons", 0.0) + time.monotonic() - begun, 3)

    def _advance(self, done: int) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped: the layers that were done are stored", remedy="the same command continues")
        self._progress.advance(done)

    def _save(self, results: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Raises `IndexMismatchError` where the fit was replaced meanwhile."""
        with writing(self._options.db) as engine:
            for (kind, key), value in results.items():
                save_result(engine, self._fit_id, kind, key, value, identity=self._fit.info["identity"])

    def _summary(self, texts: TokenTexts, known: Sequence[LayerErrors]) -> FunctionalSummary:
        """What is over all layers: stored anew only where a layer changed."""
        key = summary_key(self._key)
        identity = hashlib.sha256(" ".join(each.identity for each in known).encode()).hexdigest()[:32]
        before = self._index.reader.prediction_results(self._fit_id, KIND, key).get(key)
        if before is not None and before.get("identity") == identity and not self._seconds:
            return cast(FunctionalSummary, before)
        layers: list[LayerNeurons] = []
        for each in known:
            stored = self._stored(each)
            if stored is None:
                raise IndexMismatchError("another run has stored other results meanwhile", remedy="run it again")
            classes = self._index.reader.neuron_classes(each.layer)
            layers.append(
                LayerNeurons(
                    result=stored[0],
                    sensitive=stored[1],
                    errors=each.errors,
                    classes=[own for own, _ in classes],
                    roles=[role for _, role in classes],
                )
            )
        outliers = [outlier for layer in layers for outlier in layer.result["outliers"]]
        found: FunctionalSummary = {
            "text": self._key,
            "source": texts.source,
            "tokens": texts.tokens,
            "documents": texts.documents,
            "layers": [each.layer for each in known],
            "settings": self._options.settings(self._fit),
            "outlier_ratio": self._options.outlier_ratio,
            "outliers": sorted(outliers, key=lambda outlier: -outlier["ratio"]),
            "contingency": contingency(layers),
            "classes": class_r2(layers),
            "warnings": [f"{texts.tokens:,} tokens only: {_FEW}"] if texts.tokens < FEW_TOKENS else [],
            "seconds": self._seconds,
            "identity": identity,
        }
        self._save({(KIND, key): cast("Mapping[str, Any]", found)})
        return found


_FEW = "a property of few tokens says little"
