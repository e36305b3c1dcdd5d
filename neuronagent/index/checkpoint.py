"""Checkpoints of a recording: the state of every layer and the next batch, in one safetensors file.

Written beside its name, flushed and moved into place, so that a kill at any moment leaves the last complete one. A
restart continues with the same batches in the same order and so ends with the same index, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from neuronagent.errors import IndexMismatchError, StorageError
from neuronagent.index.recorder import LayerRecorder


def save(path: Path, recorders: Sequence[LayerRecorder], *, next_batch: int, identity: str) -> None:
    """Write the state after the batches below `next_batch`.

    Raises:
        StorageError: it cannot be written; the last checkpoint is still there.
    """
    tensors = {f"{i}.{name}": tensor for i, r in enumerate(recorders) for name, tensor in r.state().items()}
    temporary = path.with_suffix(".tmp")
    try:
        save_file(tensors, temporary, metadata={"next_batch": str(next_batch), "identity": identity})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"the checkpoint {path} cannot be written: {error}", remedy="make room and start again: it continues"
        ) from error


def load(path: Path, recorders: Sequence[LayerRecorder], *, identity: str) -> int:
    """Take over a checkpoint and return the next batch; 0 if there is none.

    Raises:
        IndexMismatchError: the checkpoint belongs to a recording with other settings.
        StorageError: it is damaged.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["identity"] != identity:
                raise IndexMismatchError(
                    f"{path.parent} holds an unfinished index with other settings",
                    remedy="repeat its command, or delete that folder",
                )
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            next_batch = int(metadata["next_batch"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"the checkpoint {path} is damaged: {error}", remedy="delete it and start again") from error
    for i, recorder in enumerate(recorders):
        prefix = f"{i}."
        recorder.load({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})
    return next_batch
