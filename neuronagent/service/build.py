"""Builds an index: model and corpus in, one database out.

1. the source is read and tokenised into a working folder beside the database (`NAME.partial/`);
2. one forward pass over its batches, recorded, with checkpoints in the same folder;
3. geometry, classes and vocabulary projections of each layer, and everything into the database at once;
4. the working folder is removed.

Stopped at any moment and started again, it continues and ends with the same index.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronagent.domain import Vector, VocabularyMatrix
from neuronagent.errors import IndexMismatchError, InputError, Interrupted, NotAnIndexError, UsageError
from neuronagent.index import geometry, io_class, vocabulary
from neuronagent.index.corpus import Corpus, read_corpus
from neuronagent.index.recorder import LayerRecorder
from neuronagent.index.sources import describe, documents
from neuronagent.layout import LayerActivations, LayerWeights
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel, ProcessedLayer
from neuronagent.service.identity import fingerprint_of, identity_of, index_info, token_table
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.recording import record_corpus
from neuronagent.service.stopping import stops_cleanly
from neuronagent.store.engine import display_name, is_url
from neuronagent.store.reader import IndexReader
from neuronagent.store.writer import write_index

VOCABULARY_K = 10
_DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did: the database, its fingerprint, tokens recorded, seconds by stage."""

    db: str
    fingerprint: str
    tokens: int
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])


def build_index(options: BuildOptions, progress: Progress | None = None) -> Built:
    """Build the index that `options` describe.

    Raises:
        InputError: the model or the corpus cannot be used.
        IndexMismatchError: the database is there already and holds something else.
        StorageError: no room.
        Interrupted: Ctrl-C; the work so far is kept and the same command continues it.
    """
    progress = progress or Silent()
    _check(options)
    describe(options.text)
    progress.start("loading the model", 0, "")
    model = load_model(options.model, revision=options.revision, dtype=options.dtype, device=options.device)
    max_tokens = _max_tokens(options, model)
    folder = _working_folder(options)
    clock: dict[str, float] = {}
    with _leaves_no_stray(folder):
        with _timed(clock, "corpus"):
            corpus = _read(options, model, max_tokens, folder, progress)
        identity = identity_of(options, model, corpus, max_tokens)
        fingerprint = fingerprint_of(identity)
        complete = _already_there(options.db, fingerprint)
    if complete:
        progress.note(f"{display_name(options.db)} is complete already")
        shutil.rmtree(folder, ignore_errors=True)
        return Built(db=options.db, fingerprint=fingerprint, tokens=corpus.n_tokens, seconds=clock)
    signs = [_sign(model, options, layer) for layer in range(model.n_layers)]
    with _timed(clock, "pass"):
        recorders = record_corpus(model, corpus, signs, options, fingerprint, folder, progress)
    with _timed(clock, "write"):
        progress.start("weights and database", model.n_layers, "layers")
        info = index_info(options, model, corpus, identity, fingerprint, max_tokens, clock)
        write_index(
            options.db,
            info=info,
            token_table=token_table(model, corpus),
            texts=corpus.table(),
            layers=_layers(model, options, recorders, signs, progress),
        )
    shutil.rmtree(folder, ignore_errors=True)
    return Built(db=options.db, fingerprint=fingerprint, tokens=corpus.n_tokens, seconds=clock)


def _check(options: BuildOptions) -> None:
    for name, value, least in (("k", options.k, 1), ("batch-tokens", options.batch_tokens, 1)):
        if value < least:
            raise UsageError(f"--{name} is {value}", remedy=f"it must be at least {least}")
    if options.k > 255:
        raise UsageError(f"--k is {options.k}", remedy="it must be at most 255")


def _max_tokens(options: BuildOptions, model: GatedModel) -> int:
    if options.max_tokens is None:
        return min(_DEFAULT_MAX_TOKENS, model.max_positions)
    if options.max_tokens > model.max_positions:
        raise UsageError(
            f"--max-tokens is {options.max_tokens}, and {model.name} reads at most {model.max_positions}",
            remedy="lower --max-tokens",
        )
    return options.max_tokens


def _working_folder(options: BuildOptions) -> Path:
    """Beside the database; for a database server, in the current folder."""
    base = (
        Path(f"neuronagent-{hashlib.sha256(options.db.encode()).hexdigest()[:8]}")
        if is_url(options.db)
        else Path(options.db)
    )
    return base.expanduser().absolute().with_name(base.name + ".partial")


def _read(options: BuildOptions, model: GatedModel, max_tokens: int, folder: Path, progress: Progress) -> Corpus:
    """The corpus of `options`, read into `folder` or found there."""
    truncate = describe(options.text).truncate_by_default if options.truncate is None else options.truncate
    progress.start("reading the text", options.token_budget or 0, "tokens")
    with stops_cleanly() as stop:

        def read_so_far(tokens: int) -> None:
            progress.advance(tokens)
            if stop.is_set():
                raise Interrupted("stopped while reading the text", remedy="the same command starts it again")

        return read_corpus(
            documents(options.text),
            model.encode,
            bos_id=model.bos_id if options.bos == "auto" else None,
            vocab_size=model.vocab_size,
            max_tokens=max_tokens,
            token_budget=options.token_budget,
            truncate=truncate,
            salt=options.salt,
            folder=folder,
            progress=read_so_far,
            origin=f"{options.text}\0{model.weights_hash}\0{model.config_hash}",
        )


def _already_there(db: str, fingerprint: str) -> bool:
    if not is_url(db) and not Path(db).expanduser().exists():
        return False
    try:
        with IndexReader.open(db) as reader:
            found = reader.info().get("fingerprint")
    except NotAnIndexError:
        if is_url(db):
            return False  # an empty database; another one is refused by the writer
        raise
    if found == fingerprint:
        return True
    raise IndexMismatchError(
        f"{display_name(db)} holds another index ({found}, not {fingerprint}): another model, text or setting",
        remedy="choose another --db, or delete that index",
    )


def _sign(model: GatedModel, options: BuildOptions, layer: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    weights = model.processed_layer(layer, post_norm=options.post_norm)
    return geometry.signs(weights.w_gate, weights.w_in, options.sign_convention)


def _layers(
    model: GatedModel,
    options: BuildOptions,
    recorders: list[LayerRecorder],
    signs: list[np.ndarray[Any, np.dtype[np.int8]]],
    progress: Progress,
) -> Iterator[tuple[int, LayerWeights, LayerActivations]]:
    matrices = {VocabularyMatrix.UNEMBEDDING: model.unembedding(), VocabularyMatrix.EMBEDDING: model.embedding()}
    decodable = torch.tensor([token is not None for token in model.token_bytes()])
    for layer, (recorder, sign) in enumerate(zip(recorders, signs, strict=True)):
        weights = model.processed_layer(layer, post_norm=options.post_norm)
        constant_first = options.bos == "auto" and model.bos_id is not None
        yield (
            layer,
            layer_weights(weights, sign, list(matrices.values()), decodable),
            recorder.result(constant_first=constant_first),
        )
        progress.advance(layer + 1)


def layer_weights(
    weights: ProcessedLayer,
    sign: np.ndarray[Any, np.dtype[np.int8]],
    matrices: list[torch.Tensor],
    decodable: torch.Tensor,
) -> LayerWeights:
    """Geometry, classes and vocabulary projections of one layer under the sign convention that gave `sign`."""
    s = torch.from_numpy(sign).float()[:, None]
    vectors = {Vector.GATE: weights.w_gate, Vector.IN: weights.w_in * s, Vector.OUT: weights.w_out * s}
    cosines, norms = geometry.cosines_and_norms(*vectors.values())
    projected = [[vocabulary.project(v, m, decodable, VOCABULARY_K) for v in vectors.values()] for m in matrices]

    def stacked(part: int) -> np.ndarray[Any, Any]:  # (N, matrices, vectors, …) of ids, scores or moments
        return np.stack([np.stack([vector[part] for vector in matrix], axis=1) for matrix in projected], axis=1)

    return LayerWeights(
        cosines=cosines,
        norms=norms,
        sign=sign,
        io_class=io_class.classify(cosines),
        baselines=geometry.baselines(*vectors.values()),
        vocabulary_ids=stacked(0),
        vocabulary_scores=stacked(1),
        vocabulary_moments=stacked(2),
    )


@contextmanager
def _leaves_no_stray(folder: Path) -> Generator[None]:
    """A call that was wrong leaves no working folder behind: the right one would find another's corpus in it."""
    begun = folder.exists()
    try:
        yield
    except (InputError, IndexMismatchError):
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _timed(clock: dict[str, float], stage: str) -> Generator[None]:
    started = time.monotonic()
    yield
    clock[stage] = time.monotonic() - started
