"""Builds an index: model and corpus in, one database out.

1. the source is read and tokenised into a working folder beside the database (`NAME.partial/`);
2. the forward pass over its batches, recorded, with checkpoints in the same folder;
3. geometry, classes and vocabulary projections of each layer, and everything into the database at once;
4. the working folder is removed.

Stopped at any moment and started again, it continues and ends with the same index. A build of one shard, or of some
layers, ends after step 2; `merge` or the call that records the last layers does the rest.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.errors import IndexMismatchError, InputError, Interrupted, NotAnIndexError, UsageError
from neuronagent.index.checkpoint import StateFile
from neuronagent.index.corpus import Corpus, read_corpus
from neuronagent.index.files import alone
from neuronagent.index.sources import describe, documents
from neuronagent.layout import LayerActivations
from neuronagent.models.bridge import load_model
from neuronagent.models.weights import ModelWeights
from neuronagent.service.add_neighbours import add_missing_neighbours
from neuronagent.service.ahead import ahead
from neuronagent.service.devices import decided, weights_dtype
from neuronagent.service.identity import fingerprint_of, identity_of, index_info, measured_sign_flips, token_table
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.recording import Part, record
from neuronagent.service.shards import Manifest, Shard, batches_hash, described, merged, signs_hash
from neuronagent.service.stopping import stops_cleanly
from neuronagent.service.weights_pass import layer_sign, weight_layers
from neuronagent.service.whole_pass import WholePass
from neuronagent.store.engine import display_name, is_empty, is_url, open_unchecked
from neuronagent.store.failures import storage_errors
from neuronagent.store.reader import IndexReader
from neuronagent.store.writer import write_index

_DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did: the database, its fingerprint, tokens recorded, seconds by stage. `waiting` says what the
    index still needs before it is written; it is empty when there is one."""

    db: str
    fingerprint: str
    tokens: int
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    waiting: str = ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What every later step needs: the options without `auto`, the model, the corpus, what names the index, s of every
    neuron by layer, the working folder and the seconds by stage so far."""

    options: BuildOptions
    model: ModelWeights
    corpus: Corpus
    max_tokens: int
    identity: dict[str, Any]
    folder: Path
    signs: list[NDArray[np.int8]]
    clock: dict[str, float]

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.identity)

    def part(self, shard: Shard) -> Part:
        """What `shard` records."""
        return Part(
            name=shard.name,
            run=f"{self.fingerprint} {self.options.tokens_per_batch} {shard.name}",
            batches=shard.batches(self.corpus.batches(self.options.tokens_per_batch)),
            folder=self.folder,
        )

    def built(self, waiting: str = "") -> Built:
        tokens, db = self.corpus.n_tokens, self.options.db
        return Built(db=db, fingerprint=self.fingerprint, tokens=tokens, seconds=self.clock, waiting=waiting)


def build_index(options: BuildOptions, progress: Progress | None = None) -> Built:
    """Build the index that `options` describe, or the part of it that they ask for.

    Raises:
        InputError: the model or the corpus cannot be used.
        IndexMismatchError: the database is there already and holds something else.
        StorageError: no room, or another process is at the same work.
        Interrupted: Ctrl-C; the work so far is kept and the same command continues it.
    """
    options, progress = decided(options), progress or Silent()
    check(options)
    progress.start("loading the model", 0, "")
    model = load_model(
        options.model,
        revision=options.revision,
        dtype=weights_dtype(options.dtype),
        device=options.device,
        device_map=options.device_map,
    )
    prepared = prepare(options, model, progress)
    if isinstance(prepared, Built):
        return prepared
    shard = Shard(index=options.shard[0], count=options.shard[1])
    part = prepared.part(shard)
    with alone(prepared.folder / f"{shard.name}.lock", wait=False, doing=f"recording in {prepared.folder}"):
        if shard.count > 1 and _is_recorded(prepared, shard):
            progress.note(f"shard {shard.index} of {shard.count} is complete already")
            return prepared.built(waiting=_next_step(prepared, shard))
        with timed(prepared.clock, "pass"):
            record(model, prepared.corpus, prepared.signs, options, part, progress)
        recorded = part.recorded()
        missing = [layer for layer in range(model.n_layers) if layer not in recorded]
        if missing:
            left = f"{len(missing)} of {model.n_layers} layers are not recorded yet"
            return prepared.built(waiting=f"{left}; the same command without --layers records them")
        flips = measured_sign_flips(options, model, prepared.corpus) if shard.index == 0 else None
        if shard.count > 1:
            manifest_of(prepared, shard, recorded, flips).write()
            return prepared.built(waiting=_next_step(prepared, shard))
        write(prepared, activations(prepared, [recorded]), flips, progress)
    shutil.rmtree(prepared.folder, ignore_errors=True)
    return prepared.built()


def prepare(options: BuildOptions, model: ModelWeights, progress: Progress) -> Prepared | Built:
    """Read the corpus, or find that the index is complete already; `model` need not be loaded.

    Raises:
        As `build_index`.
    """
    folder = working_folder(options.db)
    clock: dict[str, float] = {}
    _check_layers(options, model)
    max_tokens = _max_tokens(options, model)
    with _leaves_no_stray(folder, unless=options.shard[1] > 1):
        with timed(clock, "corpus"):
            corpus = _read(options, model, max_tokens, folder, progress)
        identity = identity_of(options, model, corpus, max_tokens)
        complete = already_there(options.db, fingerprint_of(identity))
    if complete:
        progress.note(f"{display_name(options.db)} is complete already")
        add_missing_neighbours(options, model, progress)
        shutil.rmtree(folder, ignore_errors=True)
        return Built(db=options.db, fingerprint=fingerprint_of(identity), tokens=corpus.n_tokens, seconds=clock)
    return Prepared(
        options=options,
        model=model,
        corpus=corpus,
        max_tokens=max_tokens,
        identity=identity,
        folder=folder,
        signs=[layer_sign(model, options, layer) for layer in range(model.n_layers)],
        clock=clock,
    )


def activations(prepared: Prepared, parts: list[dict[int, StateFile]]) -> Iterable[LayerActivations]:
    """What the parts recorded, in the order of their shards, layer by layer."""
    options, model = prepared.options, prepared.model
    constant_first = options.bos == "auto" and model.bos_id is not None
    return merged(parts, prepared.signs, k=options.k, salt=options.salt, constant_first=constant_first)


def write(
    prepared: Prepared,
    recorded: Iterable[LayerActivations],
    sign_flips: Mapping[str, float] | None,
    progress: Progress,
) -> None:
    """The numbers of the weights, what was `recorded`, and everything else, into the database.

    Raises:
        StorageError: no room; what was recorded is still there.
    """
    options, model, corpus = prepared.options, prepared.model, prepared.corpus
    with timed(prepared.clock, "write"):
        progress.start("weights and database", model.n_layers, "layers")
        whole = WholePass(model, options, progress)
        write_index(
            options.db,
            info=index_info(
                options,
                model,
                corpus,
                prepared.identity,
                prepared.fingerprint,
                prepared.max_tokens,
                prepared.clock,
                sign_flips,
            ),
            token_table=token_table(model, corpus),
            texts=corpus.table(),
            layers=ahead(weight_layers(model, options, recorded, progress, whole)),
            whole=whole.result,
        )


def manifest_of(
    prepared: Prepared, shard: Shard, recorded: dict[int, StateFile], sign_flips: Mapping[str, float] | None
) -> Manifest:
    """The manifest of a shard that is complete."""
    options = prepared.options
    files = {state.path.name: state.path for state in recorded.values()}
    return Manifest(
        folder=prepared.folder,
        shard=shard,
        identity=prepared.identity,
        agreed=agreed(prepared),
        options=asdict(replace(options, max_tokens=prepared.max_tokens, layers=None)),
        files={name: described(path) for name, path in files.items()},
        sign_flips=None if sign_flips is None else dict(sign_flips),
        seconds=round(prepared.clock.get("pass", 0.0), 2),
        versions={"neuronagent": version("neuronagent"), "torch": torch.__version__},
    )


def agreed(prepared: Prepared) -> dict[str, Any]:
    """What shards have in common besides the identity of their index."""
    return {
        "batch_tokens": prepared.options.tokens_per_batch,
        "batches": batches_hash(prepared.corpus.batches(prepared.options.tokens_per_batch)),
        "signs": signs_hash(prepared.signs),
        "layers": prepared.model.n_layers,
    }


def working_folder(db: str) -> Path:
    """Beside the database; for a database server, in the current folder."""
    base = Path(f"neuronagent-{hashlib.sha256(db.encode()).hexdigest()[:8]}") if is_url(db) else Path(db)
    return base.expanduser().absolute().with_name(base.name + ".partial")


def already_there(db: str, fingerprint: str) -> bool:
    """Whether `db` is this very index already; False where there is room for it.

    Raises:
        IndexMismatchError: something else is there.
    """
    if not is_url(db) and not Path(db).expanduser().exists():
        return False
    try:
        with IndexReader.open(db) as reader:
            found = reader.info().get("fingerprint")
    except NotAnIndexError:
        if is_url(db) and _has_no_tables(db):
            return False
        raise
    if found == fingerprint:
        return True
    raise IndexMismatchError(
        f"{display_name(db)} holds another index ({found}, not {fingerprint}): another model, text or setting",
        remedy="choose another --db, or delete that index",
    )


@contextmanager
def timed(clock: dict[str, float], stage: str) -> Generator[None]:
    """Note in `clock` how long the block took."""
    started = time.monotonic()
    yield
    clock[stage] = time.monotonic() - started


def check(options: BuildOptions) -> None:
    """Find what is wrong with the options before anything is loaded.

    Raises:
        UsageError, CorpusError: it is.
    """
    least = {
        "k": options.k,
        "batch-tokens": options.tokens_per_batch if options.batch_tokens is None else options.batch_tokens,
        "passes": options.passes,
    }
    for name, value in least.items():
        if value < 1:
            raise UsageError(f"--{name} is {value}", remedy="it must be at least 1")
    if options.k > 255:
        raise UsageError(f"--k is {options.k}", remedy="it must be at most 255")
    describe(options.text)


def _check_layers(options: BuildOptions, model: ModelWeights) -> None:
    wrong = [layer for layer in options.layers or () if not 0 <= layer < model.n_layers]
    if wrong or options.layers == ():
        raise UsageError(
            f"{model.name} has no layer {wrong[0]}" if wrong else "no layers are asked for",
            remedy=f"its layers are 0 to {model.n_layers - 1}",
        )


def _max_tokens(options: BuildOptions, model: ModelWeights) -> int:
    if options.max_tokens is None:
        return min(_DEFAULT_MAX_TOKENS, model.max_positions)
    if options.max_tokens > model.max_positions:
        raise UsageError(
            f"--max-tokens is {options.max_tokens}, and {model.name} reads at most {model.max_positions}",
            remedy="lower --max-tokens",
        )
    return options.max_tokens


def _read(options: BuildOptions, model: ModelWeights, max_tokens: int, folder: Path, progress: Progress) -> Corpus:
    """The corpus of `options`, read into `folder` or found there; shards that begin at once wait for the first."""
    truncate = describe(options.text).truncate_by_default if options.truncate is None else options.truncate
    progress.start("reading the text", options.token_budget or 0, "tokens")
    with alone(folder / "corpus.lock", wait=True, doing="reading the text"), stops_cleanly() as stop:

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


def _has_no_tables(url: str) -> bool:
    engine = open_unchecked(url)
    try:
        with storage_errors(display_name(url)), engine.connect() as connection:
            return is_empty(connection)
    finally:
        engine.dispose()


def _is_recorded(prepared: Prepared, shard: Shard) -> bool:
    """Whether this shard's manifest is there.

    Raises:
        IndexMismatchError: it is one of another index.
    """
    path = prepared.folder / f"{shard.name}.json"
    if not path.exists():
        return False
    manifest = Manifest.read(path)
    if (manifest.identity, manifest.agreed) != (prepared.identity, agreed(prepared)):
        raise IndexMismatchError(
            f"{path} is a shard of another index, or made with other settings",
            remedy="repeat its command, choose another --db, or delete that folder",
        )
    return True


def _next_step(prepared: Prepared, shard: Shard) -> str:
    shards = [Shard(index=i, count=shard.count) for i in range(shard.count)]
    missing = sum(not (prepared.folder / f"{each.name}.json").exists() for each in shards)
    then = f"neuronagent merge {display_name(prepared.options.db)}"
    if missing:
        return f"{missing} of {shard.count} shards are not in {prepared.folder} yet; when they are: {then}"
    return f"all {shard.count} shards are there; now: {then}"


@contextmanager
def _leaves_no_stray(folder: Path, *, unless: bool) -> Generator[None]:
    """A call that was wrong leaves no working folder behind: the right one would find another's corpus in it.
    `unless` others may be at work there."""
    begun = unless or folder.exists()
    try:
        yield
    except (InputError, IndexMismatchError):
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)
        raise
