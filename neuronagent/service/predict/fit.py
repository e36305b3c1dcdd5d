"""`neuronagent predict fit`: maps between the activations of layers, from the texts of an index or from others.

    fit(FitOptions(db="model.db", pairs="adjacent"))

Maps are fitted on the documents of `explain`; their ridge is chosen on `select`; `test` is not looked at. As many pairs
at once as `memory` allows: more passes read the text again. Stopped at any moment and started again it continues, and
ends with the same maps.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from neuronagent.domain import finite
from neuronagent.errors import ModelError, StorageError
from neuronagent.index.predictability.maps import save_map
from neuronagent.predictability.scores import FitKind, Pair
from neuronagent.service.predict.fits import Fit, FitInfo, ModelFacts
from neuronagent.service.predict.fitting import READ, Job
from neuronagent.service.predict.fitting_adagrad import adagrad
from neuronagent.service.predict.fitting_checkpoint import Checkpoint
from neuronagent.service.predict.fitting_folder import FittingFolder
from neuronagent.service.predict.fitting_least_squares import least_squares
from neuronagent.service.predict.fitting_models import model_facts
from neuronagent.service.predict.fitting_prepare import FitOptions, Prepared, prepare, warnings_of
from neuronagent.service.predict.plan import size
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly
from neuronagent.store.engine import writing
from neuronagent.store.predictions import save_fit

__all__ = ["FitOptions", "Preview", "fit", "preview"]

_SCHEMA = 1
_NOTED_SECONDS = 1.0  # a kill loses at most what was solved in this time


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a fit would take: passes over the text, memory, disk, tokens."""

    name: str
    pairs: tuple[Pair, ...]
    passes: int
    memory: int
    allowed: int
    disk: int
    tokens: int
    warnings: tuple[str, ...]


def fit(options: FitOptions, progress: Progress | None = None) -> Fit:
    """Fit the maps that `options` describe; what is complete already is not fitted again.

    Raises:
        UsageError: options that do not go together, pairs that do not exist, too little memory.
        CorpusError: a text without documents to fit on, or to choose the ridge on.
        IndexMismatchError: another model or tokenizer, or another fit of this name.
        StorageError: no room, or another process fits the same name.
        Interrupted: Ctrl-C; the same command continues.
    """
    progress = progress or Silent()
    begun = time.perf_counter()
    ready = prepare(options, progress)
    work = FittingFolder(ready.folder, ready.identity)
    with work.alone():
        info = work.complete(replace=options.replace)
        lost = [] if info is None else Fit(ready.folder, info).lost()
        if lost:
            progress.note(f"{len(lost)} of the {len(ready.pairs)} maps of {options.name} are lost: it is fitted again")
        if info is not None and not lost:
            progress.note(f"the fit {options.name} is complete already")
        else:
            _check_room(ready)
            with writing(ready.db):
                pass  # an index that cannot be written is told now, not after hours
            work.begin()
            work.seconds["preparing"] = work.seconds.get("preparing", 0.0) + time.perf_counter() - begun
            for line in warnings_of(ready):
                progress.note(f"warning: {line}")
            _run(ready, work, progress)
            info = work.finish(_info(ready, work))
        with writing(ready.db) as engine:
            save_fit(engine, options.name, info)
    return Fit(ready.folder, info)


def preview(options: FitOptions, progress: Progress | None = None) -> Preview:
    """What the same fit would take; nothing is computed or written.

    Raises:
        As `fit`.
    """
    ready = prepare(options, progress or Silent())
    plan = ready.plan(ready.pairs)
    return Preview(
        name=options.name,
        pairs=ready.pairs,
        passes=len(plan.passes),
        memory=plan.memory,
        allowed=ready.memory,
        disk=ready.shape.disk(ready.pairs),
        tokens=sum(ready.texts[split].tokens for split in READ),
        warnings=tuple(warnings_of(ready)),
    )


def _check_room(ready: Prepared) -> None:
    """Raises `StorageError` where the maps do not fit on the disk."""
    wanted, place = ready.shape.disk(ready.pairs), ready.folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < wanted:
        raise StorageError(
            f"the maps take {size(wanted)}, and {place} has {size(free)} left", remedy="make room, or use --rank"
        )


def _run(ready: Prepared, work: FittingFolder, progress: Progress) -> None:
    """Fit what is not there yet, pass by pass."""
    options = ready.options
    _plan(ready, work)
    with stops_cleanly() as stop:
        job = Job(
            models=ready.models,
            texts=ready.texts,
            shape=ready.shape,
            context=options.context,
            batch_tokens=options.batch_tokens,
            intercept=options.intercept,
            rank=options.rank,
            progress=progress,
            stop=stop,
            clock=work.seconds,
        )
        for place, pairs in enumerate(work.passes):
            wanted = work.left(pairs)
            if not wanted:
                continue
            said = f", pass {place + 1} of {len(work.passes)}" if len(work.passes) > 1 else ""
            checkpoint = Checkpoint(
                work.partial / "grams.safetensors", work.identity, pairs, options.checkpoint_seconds, progress
            )
            if options.kind is FitKind.ADAGRAD:
                passes = adagrad(job, wanted, said)
            else:
                passes = least_squares(job, pairs, wanted, checkpoint, said)
            try:
                for pair, found, facts in passes:
                    if not math.isfinite(facts["select_mse"]):
                        raise ModelError(f"the map {pair} is not finite", remedy="run the model in float32")
                    with job.timed("writing"):
                        save_map(work.map_path(pair), found, _about(ready, pair))
                        work.by_pair[pair.key] = facts
                        work.write_plan(every=_NOTED_SECONDS)
            finally:
                work.write_plan()
            checkpoint.remove()


def _plan(ready: Prepared, work: FittingFolder) -> None:
    """Keep to the passes that were begun, so that the maps are the same bit for bit, if they still fit."""
    if any(ready.shape.memory(each) > ready.memory for each in work.passes if work.left(each)) or not work.passes:
        work.passes = [*ready.plan(work.left(ready.pairs)).passes]
    work.write_plan()


def _about(ready: Prepared, pair: Pair) -> dict[str, Any]:
    """What a map says of itself."""
    return {
        "format": 1,
        "identity": ready.identity,
        "pair": [*pair],
        "model": model_facts(ready.models.target),
        "source_model": None if ready.models.are_one else model_facts(ready.models.source),
    }


def _info(ready: Prepared, work: FittingFolder) -> FitInfo:
    options, models = ready.options, ready.models
    other: ModelFacts | None = None if models.are_one else model_facts(models.source)
    return FitInfo(
        schema_version=_SCHEMA,
        name=options.name,
        identity=work.identity,
        kind=options.kind.value,
        spec=options.pairs.strip().lower(),
        pairs=[(pair.source, pair.target) for pair in ready.pairs],
        intercept=options.intercept,
        rank=options.rank,
        context=options.context,
        model=model_facts(models.target),
        source_model=other,
        text=ready.facts,
        dtype=models.target.dtype,
        device=models.target.device.type,
        batch_tokens=options.batch_tokens,
        by_pair=finite({pair.key: work.by_pair[pair.key] for pair in ready.pairs}),
        warnings=warnings_of(ready),
        seconds={name: round(seconds, 2) for name, seconds in work.seconds.items()},
        versions={
            "neuronagent": version("neuronagent"), "torch": torch.__version__, "transformers": version("transformers")
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
