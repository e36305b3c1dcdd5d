"""Where the maps of one fit come together: a hidden folder beside the one that they end in.

    INDEX.maps/.NAME.partial/plan.json            which pass has which pairs, and what is done
    INDEX.maps/.NAME.partial/grams.safetensors    sums of the pass that was stopped (`fitting_checkpoint`)
    INDEX.maps/.NAME.partial/0-1.safetensors      maps that are done

Its last step is a rename, so that a fit is there whole or not at all, and one that takes another's place does so when
it is complete.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuronagent.domain import clip, finite
from neuronagent.errors import IndexMismatchError, StorageError
from neuronagent.index.files import alone, sync_names
from neuronagent.predictability.scores import Pair
from neuronagent.service.predict.fits import DONE, FitInfo, PairFacts, map_path, read_info

_PLAN = "plan.json"


class FittingFolder:
    """The working folder of the fit that ends in `folder`; `identity` says of what its maps are a function."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.passes: list[tuple[Pair, ...]] = []
        self.by_pair: dict[str, PairFacts] = {}
        self.seconds: dict[str, float] = {}
        self._noted = -math.inf

    @contextmanager
    def alone(self) -> Generator[None]:
        """Inside, no other process fits this name.

        Raises:
            StorageError: one does already, or the folder cannot be written.
        """
        name = self.folder.name
        with alone(self.folder.with_name(f".{name}.lock"), wait=False, doing=f"fitting {name}"):
            yield

    def complete(self, *, replace: bool) -> FitInfo | None:
        """What this fit says of itself if it is complete already.

        Raises:
            IndexMismatchError: another fit has this name, complete or begun, and is not to be replaced.
            StorageError: what has the name is no fit, or a damaged one that is not to be replaced.
        """
        try:
            there = read_info(self.folder)
        except StorageError:
            if replace:
                return None
            raise
        if there is not None and there["identity"] == self.identity:
            return there
        if there is None and self.folder.exists() and any(self.folder.iterdir()):
            raise StorageError(f"{self.folder} is there and is no complete fit", remedy="remove it, or choose a --name")
        begun = _read(self.partial / _PLAN)
        if begun is not None and begun.get("identity") != self.identity and not replace:
            self._refuse("a fit of other settings was begun under")
        if there is not None and not replace:
            self._refuse("another fit has")
        return None

    def _refuse(self, what: str) -> None:
        raise IndexMismatchError(
            f"{what} the name {self.folder.name}",
            remedy="call this one --name OTHER, or put it in its place (--replace)",
        )

    def begin(self) -> None:
        """Take up what was done of the same fit, and remove what was begun of another.

        Raises:
            StorageError: the folder cannot be written.
        """
        begun = _read(self.partial / _PLAN)
        try:
            if begun is None or begun.get("identity") != self.identity:
                if self.partial.exists():
                    shutil.rmtree(self.partial)
                begun = {}
            self.partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.partial}: {error.strerror}", remedy="choose a folder that can be written"
            ) from error
        self.passes = [tuple(Pair(*pair) for pair in each) for each in begun.get("passes", ())]
        self.seconds = dict(begun.get("seconds", {}))
        facts: dict[str, PairFacts] = begun.get("by_pair", {})
        self.by_pair = {key: found for key, found in facts.items() if self.map_path(_pair(key)).is_file()}

    def map_path(self, pair: Pair) -> Path:
        """Where the map of a pair is while the others are not there yet."""
        return map_path(self.partial, pair)

    def left(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Those of `pairs` that have no map yet."""
        return tuple(pair for pair in pairs if pair.key not in self.by_pair)

    def write_plan(self, *, every: float = 0.0) -> None:
        """Note the passes and what is done, unless that was done less than `every` seconds ago.

        Raises:
            StorageError: it cannot be written.
        """
        if time.monotonic() - self._noted < every:
            return
        self._noted = time.monotonic()
        said = {
            "identity": self.identity,
            "passes": self.passes,
            "by_pair": finite(self.by_pair),
            "seconds": self.seconds,
        }
        _write(self.partial / _PLAN, said)

    def finish(self, info: FitInfo) -> FitInfo:
        """Move the maps to where they belong; `info` comes first, so that they are complete there at once. Returns it
        as it can be read there.

        Raises:
            StorageError: it cannot be done.
        """
        _write(self.partial / DONE, info)
        self._remove_strays()
        old = self.folder.with_name(f".{self.folder.name}.old")
        try:
            shutil.rmtree(old, ignore_errors=True)
            if self.folder.exists():
                self.folder.rename(old)
            self.partial.rename(self.folder)
            sync_names(self.folder.parent)
        except OSError as error:
            raise StorageError(f"{self.folder}: {error.strerror}", remedy="make room and run it again") from error
        (self.folder / _PLAN).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        return read_info(self.folder) or info

    def _remove_strays(self) -> None:
        """What a kill left of files that were being written, and the sums."""
        known = {_PLAN, DONE, *(self.map_path(_pair(name)).name for name in self.by_pair)}
        for path in self.partial.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _pair(said: str) -> Pair:
    source, target = said.split(":")
    return Pair(int(source), int(target))


def _read(path: Path) -> dict[str, Any] | None:
    """A file of JSON; None where there is none.

    Raises:
        StorageError: it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {clip(str(error))}", remedy="remove it, and fit again") from error
    if not isinstance(found, dict):
        raise StorageError(f"{path} is damaged", remedy="remove it, and fit again")
    return found


def _write(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_names(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}", remedy="make room and run it again") from error
    finally:
        temporary.unlink(missing_ok=True)
