"""Scores of every neuron that a fit has maps onto: how well each map foretells it, and how well what knows less does.

Scored are the documents of the `test` split of what the fit was made from, or all documents of another text. The
baselines (`index.predictability.lookups`) are always made from the fitted tokens. Layers are scored together as far as
memory goes, and stored as they are done: what is stored for the same text is not computed again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuronagent.domain import Split
from neuronagent.errors import CorpusError, Interrupted
from neuronagent.predictability.scores import (
    BASELINES,
    DEFAULT_FIT,
    PredictorScores,
    layer_predictor,
    text_key,
)
from neuronagent.service.lookup import Index
from neuronagent.service.predict.fits import Fit, open_fit
from neuronagent.service.predict.opened_fit import OpenedFit
from neuronagent.service.predict.texts import TokenTexts, check_source, few_documents
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly
from neuronagent.settings import chosen_db
from neuronagent.store.engine import writing
from neuronagent.store.predictions import save_fit, save_scores

if TYPE_CHECKING:
    from neuronagent.service.predict.score_passes import Reading

VERSION = 1
"""Changes whenever the same maps and tokens would give other scores."""


@dataclass(frozen=True, kw_only=True)
class ScoredText:
    """What a fit was scored on, and what of it was computed now: `text` is its name among the stored scores."""

    fit: str
    text: str
    source: str
    tokens: int
    documents: int
    computed: tuple[int, ...]
    kept: tuple[int, ...]
    seconds: float


def score(
    db: str | None = None,
    name: str = DEFAULT_FIT,
    *,
    text: str | None = None,
    tokens: int | None = None,
    again: bool = False,
    memory: int | None = None,
    model: str | None = None,
    source_model: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ScoredText:
    """Score the fit `name` of the index `db` (None: the one that the command line would take) on the test documents of
    its own text, or on all of `text`, and store the scores.

    `tokens`: about so many of them; `again`: also what is stored; `memory`: bytes that tables and maps may take
    together (None: half of what is free); `model` and `source_model`: where the indexed model is now, and the one whose
    layers are the sources of a fit between two.

    Raises:
        CorpusError: no document to score on, or the text that was fitted is another one now.
        IndexMismatchError: another model than the one that was indexed, or a fit that was replaced meanwhile.
        Interrupted: by Ctrl-C; the layers that are done are stored.
        ModelError: the model cannot be loaded or run.
        NotFoundError: there is no such fit.
        StorageError: the index cannot be written.
        UsageError: an empty name of a text.
    """
    check_source(text)
    progress, begun = progress or Silent(), time.monotonic()
    db = chosen_db(db)
    with Index(db) as index, stops_cleanly() as stop:
        fit = open_fit(db, name, index.info["model"])
        with writing(db) as engine:
            fit_id = save_fit(engine, fit.name, fit.info)
        opened = OpenedFit(index, fit, model=model, source_model=source_model, device=device)
        scored = _scored_texts(opened, text, tokens, progress)
        if not scored.tokens:
            raise CorpusError(
                f"there is no text that {fit.name} was not fitted on", remedy="name one with --text, or fit on more"
            )
        key = text_key(text)
        about = _about(scored)
        targets = sorted({pair.target for pair in fit.pairs})
        stored = {} if again else index.reader.scored(fit_id)
        missing = [target for target in targets if not _is_scored(fit, target, key, about, stored)]
        if missing:
            if warning := few_documents(scored.documents, "score on"):
                progress.note(warning)
            _score_missing(db, fit, fit_id, key, about, opened, scored, missing, memory,
                           stop, progress)  # fmt: skip
    kept = tuple(target for target in targets if target not in missing)
    return ScoredText(
        fit=fit.name, text=key, source=scored.source, tokens=scored.tokens, documents=scored.documents,
        computed=tuple(missing), kept=kept, seconds=time.monotonic() - begun,
    )  # fmt: skip


def _scored_texts(opened: OpenedFit, text: str | None, tokens: int | None, progress: Progress) -> TokenTexts:
    """The test documents of the fit, or all of another text but what was fitted on."""
    if text is None:
        found = opened.texts.of(Split.TEST)
        return found if tokens is None else found.limited(tokens)
    return opened.other_texts(text, tokens, progress)


def _score_missing(
    db: str, fit: Fit, fit_id: int, key: str, about: Mapping[str, Any], opened: OpenedFit, scored: TokenTexts,
    missing: Sequence[int], memory: int | None, stop: threading.Event, progress: Progress,
) -> None:  # fmt: skip
    """Score the layers `missing`, as many at once as there is room for, and store each group."""
    from neuronagent.service.predict import score_passes as passes

    reading, fitted = opened.reading(), opened.texts.of(Split.EXPLAIN)
    keys = passes.wanted_keys(scored)
    needed = {target: passes.bytes_needed(fit, target, keys, reading) for target in missing}
    for group in groups_within(needed, _room(reading, missing[0]) if memory is None else memory):
        begun = time.monotonic()
        said = f"layers {group[0]} to {group[-1]}" if len(group) > 1 else f"layer {group[0]}"
        progress.start(f"means by token and position, {said}", fitted.tokens, "tokens")
        baselines = passes.make_baselines(reading, fitted, group, keys, _advance(progress, stop))
        progress.start(f"scoring {said}", scored.tokens, "tokens")
        found = passes.score_targets(reading, fit, scored, baselines, _advance(progress, stop))
        seconds = round((time.monotonic() - begun) / len(group), 3)
        _store(db, fit, fit_id, key, {**about, "seconds": seconds}, found)


def _store(
    db: str, fit: Fit, fit_id: int, key: str, about: Mapping[str, Any],
    found: Mapping[int, Mapping[str, PredictorScores]],
) -> None:  # fmt: skip
    """Raises `IndexMismatchError` where the fit was replaced while it was scored."""
    with writing(db) as engine:
        for target, by_predictor in found.items():
            for predictor, scores in by_predictor.items():
                save_scores(
                    engine, fit_id, target, predictor, scores, text=key, about=about, identity=fit.info["identity"]
                )


def _advance(progress: Progress, stop: threading.Event) -> Callable[[int], None]:
    def advance(done: int) -> None:
        if stop.is_set():
            raise Interrupted("stopped: the layers that were done are stored", remedy="the same command continues")
        progress.advance(done)

    return advance


def groups_within(needed: Mapping[int, int], memory: int) -> list[list[int]]:
    """Layers that follow each other, as many together as `memory` bytes allow, and at least one."""
    groups: list[list[int]] = []
    left = 0
    for layer, size in needed.items():
        if not groups or size > left:
            groups.append([])
            left = memory
        groups[-1].append(layer)
        left -= size
    return groups


def _room(reading: Reading, layer: int) -> int:
    from neuronagent.service.predict.plan import free_memory

    return free_memory(reading.model.layer_device(layer))


def _about(scored: TokenTexts) -> dict[str, Any]:
    """What is said of scores: by the same numbers they are known to be those of the same text."""
    return {
        "version": VERSION,
        "source": scored.source,
        "own": scored.own,
        "fingerprint": scored.fingerprint,
        "tokens": scored.tokens,
        "documents": scored.documents,
    }


def _is_scored(
    fit: Fit, target: int, key: str, about: Mapping[str, Any], stored: Mapping[tuple[str, int, str], Mapping[str, Any]]
) -> bool:
    predictors = (*BASELINES, *map(layer_predictor, fit.sources(target)))
    rows = [stored.get((key, target, predictor)) for predictor in predictors]
    return all(row is not None and {name: row.get(name) for name in about} == about for row in rows)
