"""What the model loses when predictions take the place of its neurons: `neuronagent predict substitute` (paper, § 4).

Measured on the `test` documents of what the fit was made from, and on any other text, with the whole model in float32,
norms and soft-caps included. What is stored of the same settings is not computed again; a run that is stopped keeps the
chunks of layers that are done.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuronagent.errors import UsageError
from neuronagent.predictability.scores import OWN_TEST, text_key
from neuronagent.predictability.substitution import METRICS, SOURCES, Chunk
from neuronagent.service.lookup import Index
from neuronagent.service.predict.fits import Fit, open_fit
from neuronagent.service.predict.halves import top_halves
from neuronagent.service.predict.opened_fit import OpenedFit
from neuronagent.service.predict.substitute_plan import (
    halves_cells,
    make_chunks,
    runs_of,
    sources_below,
    table_cells,
)
from neuronagent.service.predict.substitute_text import BATCH_TOKENS, Job, SubstituteOptions, on_text, windows_of
from neuronagent.service.predict.texts import check_source
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly
from neuronagent.store.engine import writing
from neuronagent.store.predictions import save_fit

__all__ = ["BATCH_TOKENS", "Preview", "SubstituteOptions", "Substituted", "preview", "substitute"]


@dataclass(frozen=True, kw_only=True)
class Substituted:
    """By text, `""` the own one: the settings that its results are stored under, and how many cells were computed and
    were there already."""

    fit: str
    settings: dict[str, str]
    computed: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What the same command would measure on each text: cells, and forward passes over all its tokens."""

    fit: str
    texts: tuple[str, ...]
    tokens: int | None
    chunks: list[Chunk]
    cells: int
    runs: int


def substitute(options: SubstituteOptions, progress: Progress | None = None) -> Substituted:
    """Measure and store all cells that `options` ask for.

    Raises:
        CorpusError: a text without anything to measure on, or the fitted text is another one now.
        IndexMismatchError: another model than the one that was indexed.
        Interrupted: by Ctrl-C; the chunks that are done are stored.
        ModelError: the model cannot be loaded or run.
        NotFoundError: no such fit, no map from a lower layer, or no scores to make halves by.
        StorageError: the index cannot be written.
        UsageError: a fit between two models, or options that cannot be.
    """
    _check(options)
    with Index(options.db) as index, stops_cleanly() as stop:
        fit, chunks = _opened_chunks(index, options)
        with writing(options.db) as engine:
            fit_id = save_fit(engine, fit.name, fit.info)
        tops = top_halves(index, fit_id, fit.name, chunks) if options.halves else {}
        opened = OpenedFit(index, fit, model=options.model, device=options.device, dtype="float32")
        job = Job(
            options=options, opened=opened, fit_id=fit_id, chunks=chunks, tops=tops, stop=stop,
            progress=progress or Silent(),
        )  # fmt: skip
        found: dict[str, str] = {}
        computed = kept = 0
        sources = (None, *dict.fromkeys(options.texts))
        texts = [windows_of(job, source) for source in sources]  # what cannot be read is told before hours are spent
        for source, windows in zip(sources, texts, strict=True):
            of, cells, missing = on_text(job, source, *windows)
            found[text_key(source)] = of
            computed, kept = computed + missing, kept + cells - missing
    return Substituted(fit=fit.name, settings=found, computed=computed, kept=kept)


def preview(options: SubstituteOptions) -> Preview:
    """What the same options would take; nothing is computed, written or loaded.

    Raises:
        As `substitute`.
    """
    _check(options)
    with Index(options.db) as index:
        fit, chunks = _opened_chunks(index, options)
    tables = list(table_cells("", chunks, options.sources, options.draws))
    splits = {(place, metric): "" for place in range(len(chunks)) for metric in METRICS}
    halves = list(halves_cells("", chunks, options.sources[0], splits)) if options.halves else []
    runs = [
        1 + len(runs_of([cell for cell in cells if cell.chunk == place]))
        for cells in (tables, halves)
        if cells
        for place, chunk in enumerate(chunks)
        if chunk["replaced"]
    ]
    return Preview(
        fit=fit.name, texts=(OWN_TEST, *dict.fromkeys(options.texts)), tokens=options.tokens, chunks=chunks,
        cells=len(tables) + len(halves), runs=sum(runs),
    )  # fmt: skip


def _check(options: SubstituteOptions) -> None:
    """Raises `UsageError` for options that cannot be."""
    for text in options.texts:
        check_source(text)
    if not options.sources or any(word not in SOURCES for word in options.sources):
        raise UsageError(
            f"{', '.join(options.sources) or 'nothing'} names no sources", remedy="allowed: clean, chained"
        )
    for value, what in ((options.tokens, "tokens"), (options.draws, "draws"), (options.batch_tokens, "batch tokens")):
        if value is not None and value < 1:
            raise UsageError(f"{value} {what} are none", remedy="allowed: 1 or more")


def _opened_chunks(index: Index, options: SubstituteOptions) -> tuple[Fit, list[Chunk]]:
    fit = open_fit(options.db, options.name, index.info["model"])
    if fit.info["source_model"] is not None:
        raise UsageError(
            f"the maps of {fit.name} start from another model, which does not run beside this one",
            remedy="fit maps within the model: neuronagent predict fit",
        )
    layers = len(index.reader.layers())
    if options.source is not None and not 0 <= options.source < layers:
        raise UsageError(f"there is no layer {options.source}", remedy=f"layers are 0 to {layers - 1}")
    return fit, make_chunks(layers, options.chunks, sources_below(fit, layers, options.source))
