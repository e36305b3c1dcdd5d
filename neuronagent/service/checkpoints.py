"""Indexes of several checkpoints of one training run: one file each, in one folder.

They differ in the checkpoint and in nothing else, so that what changes from one to the next is training. Each says its
checkpoint's name and step of itself. Those that are complete are skipped, so that the same command continues after an
interruption, and a longer one adds checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuronagent.domain import clip
from neuronagent.errors import NotFoundError, StorageError, UsageError
from neuronagent.service.build import Built
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress, Silent
from neuronagent.store.engine import is_url

Build = Callable[[BuildOptions, Progress], Built]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint to index: what it is called, and where it is: a model (folder or hub name) at a revision."""

    name: str
    model: str
    revision: str | None = None

    @property
    def file(self) -> str:
        """The name of its index within the folder of indexes."""
        return (re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "checkpoint")[:120] + ".db"


def revisions_of(model: str, revisions: Sequence[str]) -> list[Checkpoint]:
    """The checkpoints that are revisions of one model on the hub."""
    return [Checkpoint(name=revision, model=model, revision=revision) for revision in revisions]


def folders_of(model: str, folders: Sequence[str]) -> list[Checkpoint]:
    """The checkpoints that are local folders: within the folder `model`, or anywhere.

    Raises:
        NotFoundError: there is no such folder.
    """
    found: list[Checkpoint] = []
    for given in folders:
        places = (Path(model).expanduser() / given, Path(given).expanduser())
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            raise NotFoundError(
                f"there is no folder {clip(given, 200)}, nor one in {clip(model, 200)}",
                remedy="name the folders of checkpoints, each with config.json, tokenizer and safetensors",
            )
        found.append(Checkpoint(name=_name(folder, Path(model).expanduser()), model=str(folder)))
    return found


def _name(folder: Path, run: Path) -> str:
    """The path within the run's folder, which tells `step1/model` from `step2/model`; elsewhere its own name."""
    folder, run = folder.resolve(), run.resolve()
    return folder.relative_to(run).as_posix() if folder != run and folder.is_relative_to(run) else folder.name


def build_checkpoints(
    options: BuildOptions, wanted: Sequence[Checkpoint], build: Build, progress: Progress | None = None
) -> list[Built]:
    """Build the index of each checkpoint, one after the other; `options.db` is the folder that they come into.

    Raises:
        UsageError: two checkpoints have one name, or the folder is none.
        StorageError: the folder cannot be made.
        Whatever `build` raises; the checkpoints before are complete then.
    """
    progress = progress or Silent()
    folder = _folder(options.db)
    by_file: dict[str, Checkpoint] = {}
    for checkpoint in wanted:
        other = by_file.setdefault(checkpoint.file.lower(), checkpoint)  # some file systems know no capitals
        if other is not checkpoint:
            raise UsageError(
                f"two checkpoints would be {checkpoint.file}: {clip(other.name)!r} and {clip(checkpoint.name)!r}",
                remedy="name each checkpoint once, and choose folders whose names differ",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", remedy="choose another --db") from error
    done: list[Built] = []
    for place, checkpoint in enumerate(wanted, start=1):
        progress.note(f"checkpoint {place} of {len(wanted)}: {clip(checkpoint.name)}")
        done.append(
            build(
                replace(
                    options,
                    model=checkpoint.model,
                    revision=checkpoint.revision,
                    checkpoint=checkpoint.name,
                    db=str(folder / checkpoint.file),
                ),
                progress,
            )
        )
    return done


def _folder(db: str) -> Path:
    if is_url(db):
        raise UsageError(
            "several checkpoints become one file each, in a folder",
            remedy="name a folder with --db, or index each checkpoint into a database of its own",
        )
    folder = Path(db).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"{clip(db, 200)} is a file, and several checkpoints become a folder of indexes",
            remedy="name a folder with --db",
        )
    return folder
