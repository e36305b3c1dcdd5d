"""Shards: every n-th batch of a corpus recorded by a process of its own, with a manifest that says of what.

Batches are formed of the whole corpus before they are dealt out, so that a merge of shards is the single run. A shard's
manifest is written last, and so its existence means "complete"; it holds everything that must agree.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import clip
from neuronagent.errors import StorageError, UsageError
from neuronagent.index.checkpoint import StateFile
from neuronagent.index.files import sync_names
from neuronagent.index.state import LayerState
from neuronagent.layout import LayerActivations

MANIFEST_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `index`-th of `count` shards, from zero."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"there is no shard {self.index} of {self.count}", remedy=f"shards are 0 to {self.count - 1}"
            )

    @classmethod
    def parse(cls, given: str) -> Shard:
        """`2/8`.

        Raises:
            UsageError: anything else, or 8/8: shards are counted from zero.
        """
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", given, re.ASCII)
        if found is None:
            raise UsageError(f"{clip(given)!r} is no shard", remedy="write I/N, such as 0/4, or auto")
        return cls(index=int(found[1]), count=int(found[2]))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> tuple[Shard, str]:
        """The shard that a launcher gives this process, and the variables that say so; the whole if none does.

        RANK and WORLD_SIZE (torchrun), else SLURM_PROCID and SLURM_STEP_NUM_TASKS (srun; not SLURM_NTASKS, which the
        batch script itself has too, where one process is to do everything).
        """
        for place, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
            given = (environment.get(place, ""), environment.get(size, ""))
            if all(value.isascii() and value.isdigit() for value in given) and int(given[1]) > 1:
                return cls(index=int(given[0]), count=int(given[1])), f"{place} and {size}"
        return cls(index=0, count=1), ""

    @property
    def name(self) -> str:
        """How its files' names begin."""
        return f"shard-{self.index}-of-{self.count}"

    def batches(self, every: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Its batches: they have about the same number of tokens, come mixed, and the first one is shard 0's."""
        return list(every[self.index :: self.count])


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A complete shard: what it is a part of (`agreed`, by the name of each thing that all shards must share), its
    files with size and sha256, and what only describes it."""

    folder: Path
    shard: Shard
    agreed: dict[str, Any]
    identity: dict[str, Any]
    options: dict[str, Any]
    files: dict[str, dict[str, Any]]
    sign_flips: dict[str, float] | None
    seconds: float
    versions: dict[str, str]

    def write(self) -> None:
        """Into its folder, whole or not at all.

        Raises:
            StorageError: no room, or no permission.
        """
        content = {name: value for name, value in vars(self).items() if name not in ("folder", "shard")}
        content |= {"format": MANIFEST_FORMAT, "index": self.shard.index, "count": self.shard.count}
        path = self.folder / f"{self.shard.name}.json"
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_names(self.folder)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written: {error}", remedy="make room and start again: it continues"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest at `path`.

        Raises:
            StorageError: it is damaged, or of another version of this program.
        """
        try:
            content = cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
            version = content.pop("format")
            if version != MANIFEST_FORMAT:
                raise StorageError(
                    f"{path} is of format {clip(str(version))}, this neuronagent reads {MANIFEST_FORMAT}",
                    remedy="record the shard again, or merge with the version that recorded it",
                )
            shard = Shard(index=content.pop("index"), count=content.pop("count"))
            if not all(
                isinstance(content[name], dict) for name in ("agreed", "identity", "options", "files", "versions")
            ):
                raise TypeError("not what was written")
            if not all(isinstance(n, int) for n in (content["identity"]["max_tokens"], content["agreed"]["layers"])):
                raise TypeError("not what was written")
            return cls(folder=path.parent, shard=shard, **content)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, UsageError) as error:
            raise StorageError(
                f"the manifest {path} is damaged: {clip(str(error), 100)}",
                remedy="delete it and record that shard again",
            ) from error

    def check_files(self) -> None:
        """Compare its state files with what was written down of them.

        Raises:
            StorageError: one is missing or damaged.
        """
        for name, said in self.files.items():
            path = self.folder / Path(name).name
            try:
                found = described(path)
            except OSError as error:
                raise StorageError(
                    f"{path} of {self.shard.name} cannot be read: {error}",
                    remedy=f"copy it here, or delete {self.shard.name}.json and record that shard again",
                ) from error
            if found != said:
                raise StorageError(
                    f"{path} is damaged: it is not what was recorded",
                    remedy=f"copy it again, or delete it and {self.shard.name}.json and record that shard again",
                )


def described(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def batches_hash(batches: Sequence[NDArray[np.int64]]) -> str:
    """sha256 of which texts are in which batch."""
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(len(batch).to_bytes(8, "little") + batch.astype("<i8").tobytes())
    return digest.hexdigest()


def signs_hash(signs: Sequence[NDArray[np.int8]]) -> str:
    """sha256 of s of every neuron."""
    digest = hashlib.sha256()
    for sign in signs:
        digest.update(len(sign).to_bytes(8, "little") + sign.tobytes())
    return digest.hexdigest()


def merged(
    parts: Sequence[Mapping[int, StateFile]],
    signs: Sequence[NDArray[np.int8]],
    *,
    k: int,
    salt: str,
    constant_first: bool,
) -> Iterator[LayerActivations]:
    """What all parts recorded, layer by layer; `parts` in the order of their shards, each by layer.

    The state of one layer of two parts is in memory at a time.
    """
    for layer, sign in enumerate(signs):
        whole: LayerState | None = None
        for part in parts:
            state = LayerState.of(part[layer].state(layer), sign=torch.from_numpy(sign), k=k, salt=salt)
            if whole is None:
                whole = state
            else:
                whole.merge(state)
        if whole is not None:
            yield whole.result(constant_first=constant_first)
