"""`merge`: the shards of an index, recorded one by one, become the index that a single run would have written.

All manifests are compared before anything is read; states are then merged one layer at a time, in the order of the
shards whatever the order of the folders. What the shards read and what the model weighs is checked again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from neuronagent.domain import clip
from neuronagent.errors import IndexMismatchError, NotFoundError, StorageError
from neuronagent.index import checkpoint
from neuronagent.index.checkpoint import StateFile
from neuronagent.index.corpus import open_corpus
from neuronagent.models.bridge import open_model
from neuronagent.service.build import (
    Built,
    Prepared,
    activations,
    agreed,
    already_there,
    working_folder,
    write,
)
from neuronagent.service.devices import decided
from neuronagent.service.identity import fingerprint_of, identity_of
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.shards import Manifest
from neuronagent.service.weights_pass import layer_sign
from neuronagent.store.engine import display_name

_SAID = {
    "weights_hash": "the model's weights",
    "config_hash": "the model's configuration or tokenizer",
    "dtype": "--dtype",
    "post_norm": "--post-norm",
    "bos": "--bos",
    "sign_convention": "--sign-convention",
    "corpus": "the corpus",
    "max_tokens": "--max-tokens",
    "salt": "--salt",
    "k": "--k",
    "batch_tokens": "--batch-tokens",
    "batches": "the batches",
    "signs": "the signs of the weights",
    "layers": "the number of layers",
}


def merge_index(
    db: str, folders: Sequence[str] = (), *, model: str | None = None, progress: Progress | None = None
) -> Built:
    """Merge the shards in `folders` (by default those in the working folder of `db`) and write the index `db`.

    `model` says where the model is, if not where the shards had it.

    Raises:
        NotFoundError: no shards, or one is missing (the message says which).
        IndexMismatchError: shards that do not belong together, or another index at `db`.
        StorageError: a damaged shard, or no room.
        InputError: the model cannot be loaded, or the corpus is damaged.
    """
    progress = progress or Silent()
    own = working_folder(db)
    manifests = find_shards([Path(folder).expanduser().absolute() for folder in folders] or [own])
    first = manifests[0]
    clock = {"pass": max(manifest.seconds for manifest in manifests)}
    if already_there(db, fingerprint_of(first.identity)):
        progress.note(f"{display_name(db)} is complete already")
        tokens = open_corpus(first.folder).n_tokens
        return Built(db=db, fingerprint=fingerprint_of(first.identity), tokens=tokens)
    _note_versions(manifests, progress)
    progress.start("checking the shards", len(manifests), "shards")
    for done, manifest in enumerate(manifests, start=1):
        manifest.check_files()
        progress.advance(done)
    prepared = _prepared(first, db, model, clock)
    write(prepared, activations(prepared, [_states(manifest) for manifest in manifests]), first.sign_flips, progress)
    if any(manifest.folder == own for manifest in manifests):
        shutil.rmtree(own, ignore_errors=True)
    return prepared.built()


def find_shards(folders: Sequence[Path]) -> list[Manifest]:
    """All shards of one index, in order.

    Raises:
        As `merge_index`.
    """
    manifests = [Manifest.read(path) for folder in folders for path in sorted(folder.glob("shard-*-of-*.json"))]
    where = ", ".join(str(folder) for folder in folders)
    if not manifests:
        raise NotFoundError(
            f"there are no complete shards in {clip(where, 200)}", remedy="record some: neuronagent index --shard 0/4"
        )
    manifests.sort(key=lambda manifest: (manifest.shard.count, manifest.shard.index))
    for other in manifests[1:]:
        _check_agreement(manifests[0], other)
    for one, two in pairwise(manifests):
        if one.shard == two.shard:
            raise IndexMismatchError(
                f"{one.shard.name} is there twice, in {one.folder} and in {two.folder}",
                remedy="name one of the folders",
            )
    count = manifests[0].shard.count
    missing = sorted(set(range(count)) - {manifest.shard.index for manifest in manifests})
    if missing:
        raise NotFoundError(
            f"of {count} shards these are not in {clip(where, 200)} or not complete: {_listed(missing)}",
            remedy=f"record them: neuronagent index … --shard {missing[0]}/{count}",
        )
    return manifests


def _check_agreement(one: Manifest, other: Manifest) -> None:
    def differ(what: str, a: object, b: object) -> IndexMismatchError:
        return IndexMismatchError(
            f"{one.folder}/{one.shard.name} and {other.folder}/{other.shard.name} differ in {what}: "
            f"{clip(str(a), 70)} and {clip(str(b), 70)}",
            remedy="delete the files of the one that is not wanted"
            if one.folder == other.folder
            else "name only the folders that belong together",
        )

    if one.shard.count != other.shard.count:
        raise differ("the number of shards", one.shard.count, other.shard.count)
    ours, theirs = one.identity | one.agreed, other.identity | other.agreed
    for key in ours | theirs:
        if ours.get(key) != theirs.get(key):
            raise differ(_SAID.get(key, key), ours.get(key), theirs.get(key))


def _note_versions(manifests: Sequence[Manifest], progress: Progress) -> None:
    for name in ("neuronagent", "torch"):
        found = sorted({manifest.versions.get(name, "?") for manifest in manifests})
        if len(found) > 1:
            progress.note(f"the shards were recorded with {name} {clip(' and '.join(found))}")


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:20]))
    return shown if len(numbers) <= 20 else f"{shown} and {len(numbers) - 20} more"


def _states(manifest: Manifest) -> dict[int, StateFile]:
    """The state files of a shard by layer.

    Raises:
        StorageError: they do not hold all layers.
    """
    states = [checkpoint.read(manifest.folder / Path(name).name) for name in manifest.files]
    found = {layer: state for state in states if state is not None and state.complete for layer in state.layers}
    if sorted(found) != list(range(manifest.agreed["layers"])):
        raise StorageError(
            f"{manifest.shard.name} in {manifest.folder} does not hold every layer", remedy="record that shard again"
        )
    return found


def _prepared(manifest: Manifest, db: str, model_source: str | None, clock: dict[str, float]) -> Prepared:
    """What the shards were recorded from, found again and compared with what they say."""
    options = _options(manifest.options, db, model_source)
    model = open_model(options.model, revision=options.revision)
    corpus = open_corpus(manifest.folder)
    max_tokens = int(manifest.identity["max_tokens"])
    identity = identity_of(options, model, corpus, max_tokens)
    prepared = Prepared(
        options=options,
        model=model,
        corpus=corpus,
        max_tokens=max_tokens,
        identity=identity,
        folder=manifest.folder,
        signs=[layer_sign(model, options, layer) for layer in range(model.n_layers)],
        clock=clock,
    )
    now = identity | agreed(prepared)
    for key, said in (manifest.identity | manifest.agreed).items():
        if now.get(key) != said:
            raise IndexMismatchError(
                f"{clip(options.model, 200)} or the text in {manifest.folder} is not what was recorded: "
                f"{_SAID.get(key, key)} is another",
                remedy="name the right model with --model, or restore the folder",
            )
    return prepared


def _options(said: dict[str, Any], db: str, model: str | None) -> BuildOptions:
    known = {each.name for each in fields(BuildOptions)}
    options = BuildOptions(**{name: value for name, value in said.items() if name in known})
    own = decided(replace(options, device="auto", dtype="float32")).device  # this machine's, for the weights' numbers
    return replace(options, db=db, model=model or options.model, device=own, layers=None, shard=(0, 1))
