"""What an index says of each layer's input-output behaviour: neurons by IO class, and the median cos(in,out)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from neuronagent.domain import IO_CLASSES, IOClass
from neuronagent.errors import IndexMismatchError, StorageError
from neuronagent.service.lookup import Index
from neuronagent.store.engine import display_name


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """One layer: its neurons in each of the 11 IO classes, and the two middle values of cos(in,out), which are the same
    where the number of neurons is odd."""

    layer: int
    counts: Mapping[IOClass, int]
    middle: tuple[float, float]

    @property
    def median(self) -> float:
        """The mean of the two middle values."""
        return sum(self.middle) / 2


def layer_tables(index: Index) -> list[LayerTable]:
    """A table for each layer of `index`, in order.

    Raises:
        StorageError: it cannot be read, or lacks neurons.
    """
    reader, found = index.reader, index.reader.class_counts()
    tables: list[LayerTable] = []
    for layer, neurons in reader.layers().items():
        counts = {label: found.get(layer, {}).get(label, 0) for label in IO_CLASSES}
        cosines = np.sort(reader.layer_numbers(layer, ["cos_in_out"])[:, 0])
        if not neurons or not neurons == len(cosines) == sum(counts.values()):
            raise _incomplete(index, f"{len(cosines)} of the {neurons} neurons of layer {layer}")
        middle = float(cosines[(neurons - 1) // 2]), float(cosines[neurons // 2])
        tables.append(LayerTable(layer=layer, counts=counts, middle=middle))
    if [table.layer for table in tables] != list(range(len(tables))) or not tables:
        raise _incomplete(index, f"the layers {[table.layer for table in tables][:8]}")
    return tables


def model_facts(index: Index) -> Mapping[str, Any]:
    """What `index` says of its model.

    Raises:
        IndexMismatchError: its numbers were published by others and not computed from weights.
    """
    model = index.info.get("model")
    if index.is_imported or not isinstance(model, Mapping):
        raise IndexMismatchError(
            f"{display_name(index.target)} has no numbers of a model's weights",
            remedy="name an index that `neuronagent index` made",
        )
    return cast(Mapping[str, Any], model)


def checkpoint_name(index: Index) -> str | None:
    """Which checkpoint of a training run the index was asked for; None where nothing was said."""
    checkpoint = index.info.get("checkpoint")
    return str(cast(Mapping[str, Any], checkpoint)["name"]) if isinstance(checkpoint, Mapping) else None


def _incomplete(index: Index, found: str) -> StorageError:
    return StorageError(f"{display_name(index.target)} has {found} only", remedy="delete it and make it again")
