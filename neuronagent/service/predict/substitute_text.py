"""One text of `predict substitute`: its windows, the cells that are missing, and how they are measured and stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuronagent.domain import Split
from neuronagent.errors import CorpusError, Interrupted, UsageError
from neuronagent.predictability.scores import DEFAULT_FIT, OWN_TEST, text_key
from neuronagent.predictability.substitution import (
    HALVES_KIND,
    KIND,
    METRICS,
    SOURCES,
    Chunk,
    SubstitutionSettings,
    SubstitutionText,
    settings_id,
    text_result_key,
)
from neuronagent.service.predict.halves import split_hash
from neuronagent.service.predict.opened_fit import OpenedFit
from neuronagent.service.predict.perplexity import measured, nothing
from neuronagent.service.predict.substitute_plan import PlannedCell, halves_cells, runs_of, table_cells
from neuronagent.service.predict.texts import few_documents
from neuronagent.service.predict.windows import Windows, make_windows
from neuronagent.service.progress import Progress
from neuronagent.store.engine import writing
from neuronagent.store.predictions import save_result

if TYPE_CHECKING:
    from neuronagent.models.gated import GatedModel
    from neuronagent.service.predict.substitute_runs import Tops

VERSION = 1
"""Changes whenever the same settings would give other numbers."""
SCHEMA = 1
TOKENS, CHUNKS, DRAWS, BATCH_TOKENS = 20_000, 4, 5, 4096
_READ_AHEAD = 10
"""Of another text so many times the tokens that are measured on are read, and windows taken from all of it."""


@dataclass(frozen=True, kw_only=True)
class SubstituteOptions:
    """`texts`: others than the fit's own test documents, which are always measured on. `tokens`: about so many
    predictions of each text (None: all). `window`, `stride`: None for the index's longest text, and no overlap.
    `source`: this layer foretells all layers above it, in place of the nearest. `sources`: clean, chained or both.
    `halves`: Figure 4 too, with the first of `sources`. `draws`: of random maps. `memory`: bytes for random maps at
    once (None: half of what is free). `again`: compute also what is stored."""

    db: str
    name: str = DEFAULT_FIT
    texts: tuple[str, ...] = ()
    tokens: int | None = TOKENS
    window: int | None = None
    stride: int | None = None
    source: int | None = None
    sources: tuple[str, ...] = SOURCES
    chunks: int = CHUNKS
    draws: int = DRAWS
    halves: bool = False
    again: bool = False
    memory: int | None = None
    batch_tokens: int = BATCH_TOKENS
    model: str | None = None
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Job:
    """An opened fit and what is done with it; `tops`: the halves, where they are asked for."""

    options: SubstituteOptions
    opened: OpenedFit
    fit_id: int
    chunks: list[Chunk]
    tops: Tops
    stop: threading.Event
    progress: Progress


def on_text(job: Job, source: str | None, windows: Windows, said: str) -> tuple[str, int, int]:
    """Measure on one text, as `windows_of` gives it: its settings' id, how many cells it has, and how many of them were
    missing."""
    options, index = job.options, job.opened.index
    key = text_key(source)
    settings = SubstitutionSettings(
        version=VERSION, identity=job.opened.fit.info["identity"], text=key, fingerprint=windows.fingerprint,
        window=windows.window, stride=windows.stride, source=options.source,
        chunks=[chunk["layers"] for chunk in job.chunks], seeds=list(range(options.draws)),
    )  # fmt: skip
    of = settings_id(settings)
    cells = list(table_cells(of, job.chunks, options.sources, options.draws))
    if options.halves and source is None:
        places = ((place, metric) for place in range(len(job.chunks)) for metric in METRICS)
        splits = {(place, metric): split_hash(job.chunks[place], metric, job.tops) for place, metric in places}
        cells += halves_cells(of, job.chunks, options.sources[0], splits)
    stored: dict[str, dict[str, Any]] = {}
    if not options.again:
        for kind in (KIND, HALVES_KIND):
            stored |= index.reader.prediction_results(job.fit_id, kind)
    missing = [cell for cell in cells if stored.get(cell.key, {"split": ""}).get("split") != cell.split]
    if missing or text_result_key(of) not in stored:
        _measure(job, windows, settings, said, missing)
    return of, len(cells), len(missing)


def windows_of(job: Job, source: str | None) -> tuple[Windows, str]:
    """The windows of a text, and where it comes from.

    Raises:
        CorpusError: it has none.
    """
    options, opened = job.options, job.opened
    if source is None:
        texts = opened.texts.of(Split.TEST)
    else:
        ahead = None if options.tokens is None else options.tokens * _READ_AHEAD
        texts = opened.other_texts(source, ahead, job.progress)
    found = make_windows(texts, options.window, options.stride)
    found = found if options.tokens is None else found.limited(options.tokens)
    if not found.predictions:
        raise CorpusError(
            f"{texts.source} has no token to predict that {opened.fit.name} was not fitted on",
            remedy="name a text with --text, or fit on more documents",
        )
    return found, texts.source


def _measure(
    job: Job, windows: Windows, settings: SubstitutionSettings, source: str, missing: Sequence[PlannedCell]
) -> None:
    """Measure the unmodified model and the cells `missing`, and store them chunk by chunk."""
    from neuronagent.service.predict.replacing import losses_of_runs
    from neuronagent.service.predict.substitute_runs import ChunkMaps, measured_cells

    options, model = job.options, job.opened.models.target
    _check_window(windows, model)
    where = "the test documents" if settings["text"] == OWN_TEST else source
    job.progress.start(f"unmodified model on {where}", windows.predictions, "tokens")
    advance = _advance(job, windows.predictions)
    own = losses_of_runs(model, windows, (), advance, options.batch_tokens)
    of = settings_id(settings)
    text = SubstitutionText(
        schema_version=SCHEMA, settings_id=of, settings=settings, source=source, tokens=windows.predictions,
        available=windows.available, documents=windows.documents, windows=len(windows.windows), chunks=job.chunks,
        stays=[layer for chunk in job.chunks for layer in chunk["stays"]],
        original=measured(own.counts, own.original, [own.original]), device=model.device.type,
        warnings=_warnings(job, windows),
    )  # fmt: skip
    for line in text["warnings"]:
        job.progress.note(f"warning: {line}")
    _store(job, [(KIND, text_result_key(of), dict(text))])
    for place, chunk in enumerate(job.chunks):
        cells = [cell for cell in missing if cell.chunk == place]
        if not chunk["replaced"]:
            _store(job, [(cell.kind, cell.key, cell.value(of, _without(chunk))) for cell in cells])
        elif cells:
            total = windows.predictions * (1 + len(runs_of(cells)))
            job.progress.start(f"{chunk['name']} of {len(job.chunks)} on {where}", total, "tokens")
            maps = ChunkMaps(job.opened.fit, model, chunk, job.tops, settings["seeds"])
            groups = measured_cells(
                model, windows, maps, cells, _advance(job, total), options.batch_tokens, options.memory
            )
            for ready, found in groups:
                values = [cell.value(of, each) for cell, each in zip(ready, found, strict=True)]
                _store(job, [(cell.kind, cell.key, value) for cell, value in zip(ready, values, strict=True)])


def _without(chunk: Chunk) -> Any:
    layers = ", ".join(map(str, chunk["layers"]))
    return nothing(f"no layer of it ({layers}) has a map from a lower layer")


def _check_window(windows: Windows, model: GatedModel) -> None:
    if windows.window > model.max_positions:
        raise UsageError(
            f"a window of {windows.window:,} is more than the model reads",
            remedy=f"allowed: {model.max_positions:,} tokens",
        )


def _warnings(job: Job, windows: Windows) -> list[str]:
    """What a reader of the numbers should know."""
    found: list[str] = []
    context = job.opened.fit.info["context"]
    if context is not None:
        found.append(
            f"the maps were fitted on a context of {context} tokens and are used in windows of {windows.window}"
        )
    if warning := few_documents(windows.documents, "measure on"):
        found.append(warning)
    indexed = str((job.opened.index.info.get("identity") or {}).get("dtype", "float32"))
    if indexed != "float32":
        found.append(f"the model runs in float32; it was indexed in {indexed}")
    return found


def _store(job: Job, results: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Raises `IndexMismatchError` where the fit was replaced meanwhile."""
    fit = job.opened.fit
    with writing(job.options.db) as engine:
        for kind, key, value in results:
            save_result(engine, job.fit_id, kind, key, value, identity=fit.info["identity"])


def _advance(job: Job, total: int) -> Callable[[int], None]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        if job.stop.is_set():
            raise Interrupted("stopped: the chunks that were done are stored", remedy="the same command continues")
        done = min(total, done + more)
        job.progress.advance(done)

    return advance
