"""The sums of a pass that is not finished, kept so that it continues where it was stopped, bit for bit.

They are as large as the memory of the pass. Writing takes at most a twentieth of the time, so that short passes are
written on Ctrl-C alone; where the disk has no room for them the fit goes on without.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from neuronagent.domain import Split
from neuronagent.errors import StorageError
from neuronagent.index.files import sync_names
from neuronagent.index.predictability.gram import Grams
from neuronagent.predictability.scores import Pair
from neuronagent.service.progress import Progress

_SHARE = 0.05
Sums = Mapping[Split, Grams]


@dataclass(frozen=True)
class Place:
    """How far a pass has read: the first batch of `split` that is not in its sums."""

    split: Split
    batch: int


class Checkpoint:
    """The file that holds the sums of `pairs` of one fit (`identity`); `seconds`: least time between two of them."""

    def __init__(self, path: Path, identity: str, pairs: Sequence[Pair], seconds: float, progress: Progress) -> None:
        self.path, self.progress = path, progress
        self.about = {"identity": identity, "pairs": json.dumps([[*pair] for pair in pairs])}
        self.seconds, self.last, self.cost = seconds, time.monotonic(), 0.0
        self.given_up = False

    def due(self) -> bool:
        """Whether it is time for one."""
        since = time.monotonic() - self.last
        return not self.given_up and since >= max(self.seconds, self.cost / _SHARE)

    def save(self, sums: Sums, place: Place) -> bool:
        """Write the sums; False where there is no room, and there is none later."""
        begun = time.monotonic()
        tensors = {
            f"{split.value}.{name}": each.cpu() for split, own in sums.items() for name, each in own.state().items()
        }
        about = self.about | {"split": place.split.value, "batch": str(place.batch)}
        own = self.path.with_suffix(".tmp")  # a folder: safetensors writes under a random name first
        shutil.rmtree(own, ignore_errors=True)
        try:
            own.mkdir()
            save_file({name: each.contiguous() for name, each in tensors.items()}, own / self.path.name, metadata=about)
            with (own / self.path.name).open("rb+") as file:
                os.fsync(file.fileno())
            (own / self.path.name).replace(self.path)
            sync_names(self.path.parent)
        except (OSError, SafetensorError) as error:
            self.given_up = True
            self.progress.note(f"what was summed up so far cannot be kept on the disk ({error}); fitting goes on")
            return False
        finally:
            shutil.rmtree(own, ignore_errors=True)
            self.last = time.monotonic()
            self.cost = self.last - begun
        return True

    def load(self, sums: Sums) -> Place | None:
        """Fill the sums with what was kept of the same pass; None where nothing was.

        Raises:
            StorageError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about: dict[str, str] = file.metadata() or {}
                if any(about.get(name) != value for name, value in self.about.items()):
                    return None
                names: list[str] = list(file.keys())
                for split, own in sums.items():
                    prefix = f"{split.value}."
                    own.load({n.removeprefix(prefix): file.get_tensor(n) for n in names if n.startswith(prefix)})
                return Place(Split(about["split"]), int(about["batch"]))
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise StorageError(
                f"the checkpoint {self.path} is damaged: {error}", remedy="remove it and start again"
            ) from error

    def remove(self) -> None:
        """The pass is done."""
        self.path.unlink(missing_ok=True)
