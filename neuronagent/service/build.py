"""Builds an index: model and corpus in, one database out.

1. the source is read and tokenised into a working folder beside the database (`NAME.partial/`);
2. one forward pass over its batches, recorded, with checkpoints in the same folder;
3. geometry, classes and vocabulary projections of each layer, and everything into the database at once;
4. the working folder is removed.

Stopped at any moment and started again, it continues and ends with the same index.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from neuronagent.domain import IO_CLASS_THRESHOLD, SPLITS, Vector, VocabularyMatrix
from neuronagent.errors import IndexMismatchError, InputError, Interrupted, ModelError, NotAnIndexError, UsageError
from neuronagent.index import checkpoint, geometry, io_class, vocabulary
from neuronagent.index.corpus import Corpus, read_corpus
from neuronagent.index.recorder import Batch, LayerRecorder
from neuronagent.index.sources import describe, documents
from neuronagent.layout import LayerActivations, LayerWeights, TokenTable
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel, ProcessedLayer
from neuronagent.service.progress import Progress, Silent
from neuronagent.store.engine import display_name, is_url
from neuronagent.store.reader import IndexReader
from neuronagent.store.writer import write_index

PROCESSING = "norm folded into gate and in; W_U folded and centred; LayerNorm models centred over d_model; float32"
VOCABULARY_K = 10
_DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to index, and how. `max_tokens` (BOS included) defaults to 1024 or what the model can read, if less."""

    model: str
    text: str
    db: str
    revision: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    max_tokens: int | None = None
    token_budget: int | None = None
    truncate: bool | None = None
    k: int = 16
    batch_tokens: int = 4096
    sign_convention: geometry.SignConvention = "normalised"
    post_norm: Literal["folded", "raw"] = "folded"
    bos: Literal["auto", "none"] = "auto"
    salt: str = "neuronagent"
    checkpoint_seconds: float = 120.0


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
        identity = _identity(options, model, corpus, max_tokens)
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        complete = _already_there(options.db, fingerprint)
    if complete:
        progress.note(f"{display_name(options.db)} is complete already")
        shutil.rmtree(folder, ignore_errors=True)
        return Built(db=options.db, fingerprint=fingerprint, tokens=corpus.n_tokens, seconds=clock)
    signs = [_sign(model, options, layer) for layer in range(model.n_layers)]
    with _timed(clock, "pass"):
        recorders = _record(model, corpus, signs, options, fingerprint, folder, progress)
    with _timed(clock, "write"):
        progress.start("weights and database", model.n_layers, "layers")
        info = _info(options, model, corpus, identity, fingerprint, max_tokens, clock)
        write_index(
            options.db,
            info=info,
            token_table=_token_table(model, corpus),
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
    with _stops_cleanly() as stop:

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


def _identity(options: BuildOptions, model: GatedModel, corpus: Corpus, max_tokens: int) -> dict[str, Any]:
    """What the recorded numbers are a function of; its hash is the index's fingerprint."""
    return {
        "weights_hash": model.weights_hash,
        "config_hash": model.config_hash,
        "dtype": model.dtype,
        "processing": PROCESSING,
        "post_norm": options.post_norm,
        "bos": options.bos,
        "sign_convention": options.sign_convention,
        "corpus": corpus.fingerprint,
        "max_tokens": max_tokens,
        "salt": options.salt,
        "k": options.k,
    }


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


def _record(
    model: GatedModel,
    corpus: Corpus,
    signs: list[np.ndarray[Any, np.dtype[np.int8]]],
    options: BuildOptions,
    identity: str,
    folder: Path,
    progress: Progress,
) -> list[LayerRecorder]:
    """One pass over the corpus, continued from the last checkpoint."""
    recorders = [
        LayerRecorder(
            sign=torch.from_numpy(sign).to(model.device),
            k=options.k,
            salt=options.salt,
            activate=model.activate,
            name=f"layer {layer}",
        )
        for layer, sign in enumerate(signs)
    ]
    state = folder / "state.safetensors"
    run = f"{identity} {options.batch_tokens}"  # other batches round differently: a run is continued as it began
    next_batch = checkpoint.load(state, recorders, identity=run)
    batches = corpus.batches(options.batch_tokens)
    lengths = corpus.lengths
    done = int(sum(lengths[batch].sum() for batch in batches[:next_batch]))
    progress.start("recording neurons", corpus.n_tokens, "tokens")
    progress.advance(done)
    saved = time.monotonic()
    with _stops_cleanly() as stop:
        for place in range(next_batch, len(batches)):
            if stop.is_set():
                checkpoint.save(state, recorders, next_batch=place, identity=run)
                raise Interrupted(
                    f"stopped after {done:,} of {corpus.n_tokens:,} tokens; they are kept",
                    remedy="the same command continues from there",
                )
            _record_batch(model, corpus, batches[place], recorders, options.salt)
            done += int(lengths[batches[place]].sum())
            progress.advance(done)
            if time.monotonic() - saved > options.checkpoint_seconds and place + 1 < len(batches):
                checkpoint.save(state, recorders, next_batch=place + 1, identity=run)
                saved = time.monotonic()
    checkpoint.save(state, recorders, next_batch=len(batches), identity=run)
    return recorders


def _record_batch(
    model: GatedModel,
    corpus: Corpus,
    texts: np.ndarray[Any, np.dtype[np.int64]],
    recorders: list[LayerRecorder],
    salt: str,
) -> None:
    ids, lengths, first = corpus.padded(texts)
    batch = Batch.of(lengths, first, corpus.table().splits[texts], salt, str(model.device))

    def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor) -> None:
        recorders[layer].update(x_gate, x_in, batch)

    try:
        model.record(torch.from_numpy(ids), sink)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} ran out of memory on a batch of {ids.size:,} tokens", remedy="lower --batch-tokens"
        ) from error


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


def _token_table(model: GatedModel, corpus: Corpus) -> TokenTable:
    return TokenTable(
        token_bytes=model.token_bytes(),
        norm_unembedding=model.unembedding().norm(dim=1).numpy(),
        norm_embedding=model.embedding().norm(dim=1).numpy(),
        counts=corpus.token_counts(model.vocab_size),
    )


def _info(
    options: BuildOptions,
    model: GatedModel,
    corpus: Corpus,
    identity: dict[str, Any],
    fingerprint: str,
    max_tokens: int,
    clock: Mapping[str, float],
) -> dict[str, Any]:
    splits, lengths = corpus.table().splits, corpus.lengths
    return {
        "fingerprint": fingerprint,
        "identity": identity,
        "model": {
            "name": _display_name(model.name),
            "source": model.name,
            "revision": model.revision,
            "weights_hash": model.weights_hash,
            "config_hash": model.config_hash,
            "family": model.family,
            "activation": model.activation,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "d_mlp": model.d_mlp,
            "vocab_size": model.vocab_size,
            "dtype": model.dtype,
            "bos_id": model.bos_id,
        },
        "sign_convention": options.sign_convention,
        "io_class_threshold": IO_CLASS_THRESHOLD,
        "corpus": {
            "source": options.text,
            "fingerprint": corpus.fingerprint,
            "texts": corpus.n_texts,
            "documents": len(set(corpus.table().documents)),
            "tokens": corpus.n_tokens,
            "skipped": corpus.skipped,
            "tokens_by_split": {s.value: int(lengths[splits == s.position].sum()) for s in SPLITS},
        },
        "max_tokens": max_tokens,
        "token_budget": options.token_budget,
        "bos": options.bos,
        "post_norm": options.post_norm,
        "salt": options.salt,
        "k": options.k,
        "batch_tokens": options.batch_tokens,
        "sign_flips": _sign_flips(options, model, corpus),
        "seconds": {name: round(seconds, 2) for name, seconds in clock.items()},
        "versions": {
            "neuronagent": version("neuronagent"),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "python": platform.python_version(),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _display_name(source: str) -> str:
    """A hub name as it is; of a local folder its own name, since a path says nothing to others."""
    folder = Path(source).expanduser()
    return folder.resolve().name if folder.is_dir() else source


def _sign_flips(options: BuildOptions, model: GatedModel, corpus: Corpus) -> dict[str, float] | None:
    """Share of x_gate and x_in whose sign differs from float32's on the first texts; None for a float32 index."""
    if model.dtype == "float32":
        return None
    ids, lengths, _ = corpus.padded(np.arange(min(4, corpus.n_texts)))
    valid = torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])
    exact = load_model(options.model, revision=options.revision, dtype="float32", device="cpu")
    seen: list[list[torch.Tensor]] = []
    for reader in (model, exact):
        kept: list[torch.Tensor] = []

        def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor, kept: list[torch.Tensor] = kept) -> None:
            kept.append(torch.stack([x_gate.cpu()[valid] > 0, x_in.cpu()[valid] > 0]))

        reader.record(torch.from_numpy(ids), sink)
        seen.append(kept)
    flips = torch.stack([(a != b).float().mean(dim=(1, 2)) for a, b in zip(*seen, strict=True)]).mean(dim=0)
    return {"x_gate": float(flips[0]), "x_in": float(flips[1]), "tokens": float(valid.sum())}


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


@contextmanager
def _stops_cleanly() -> Generator[threading.Event]:
    """The first Ctrl-C only sets the event, so that the work stops between two batches; a second one is immediate."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
