"""State files: what some layers have recorded of some batches, in one safetensors file.

The same file is a recording's checkpoint and, once its last batch is in it, its result: layers are read from it one at
a time. Written beside its name, flushed and moved into place, so that a kill at any moment leaves the last complete
one. A restart continues with the same batches in the same order and so ends with the same index, bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from neuronagent.errors import StorageError
from neuronagent.index.files import sync_names
from neuronagent.index.recorder import LayerRecorder


@dataclass(frozen=True, kw_only=True)
class StateFile:
    """What a state file says of itself: its `layers`, the first batch that is not in it, and whether that is the end;
    `run` names the recording, and another run's state is never continued."""

    path: Path
    run: str
    layers: tuple[int, ...]
    next_batch: int
    complete: bool

    def state(self, layer: int) -> dict[str, torch.Tensor]:
        """The state of one layer; nothing else of the file is read.

        Raises:
            StorageError: the file is damaged.
        """
        with _readable(self.path) as file:
            prefix = f"{layer}."
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def save(path: Path, recorders: Mapping[int, LayerRecorder], *, next_batch: int, complete: bool, run: str) -> None:
    """Write the state of each layer after the batches below `next_batch`; `complete`: there are no more.

    The tensors go to the file as they are: on a CPU nothing is copied, from a GPU once.

    Raises:
        StorageError: it cannot be written; the last state is still there.
    """
    about = {
        "run": run,
        "layers": json.dumps(list(recorders)),
        "next_batch": str(next_batch),
        "complete": json.dumps(complete),
    }
    # A folder, because safetensors writes under a random name first: what a kill leaves of it must not add up.
    own = path.with_suffix(".tmp")
    temporary = own / path.name
    shutil.rmtree(own, ignore_errors=True)
    try:
        own.mkdir()
        save_file(_tensors(recorders), temporary, metadata=about)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_names(path.parent)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"the checkpoint {path} cannot be written: {error}", remedy="make room and start again: it continues"
        ) from error
    finally:
        shutil.rmtree(own, ignore_errors=True)


def read(path: Path) -> StateFile | None:
    """What the file `path` says of itself; None if it is not there.

    Raises:
        StorageError: it is damaged.
    """
    if not path.exists():
        return None
    with _readable(path) as file:
        about: dict[str, str] = file.metadata()
        return StateFile(
            path=path,
            run=about["run"],
            layers=tuple(json.loads(about["layers"])),
            next_batch=int(about["next_batch"]),
            complete=json.loads(about["complete"]) is True,
        )


def _tensors(recorders: Mapping[int, LayerRecorder]) -> dict[str, torch.Tensor]:
    states = {layer: recorder.state() for layer, recorder in recorders.items()}
    return {f"{layer}.{name}": tensor for layer, state in states.items() for name, tensor in state.items()}


@contextmanager
def _readable(path: Path) -> Generator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StorageError(f"the checkpoint {path} is damaged: {error}", remedy="delete it and start again") from error
