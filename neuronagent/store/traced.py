"""Tokens at which a neuron was run for scoring: one row per neuron, its values packed.

`act`, `x_in` and `x_gate` are stored, one behind the other; `post` is their product again when it is read. Numbers are
stored as differences, which are mostly 1. A row is replaced as a whole, many rows in one transaction: a reader sees all
of a batch or nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, delete, select

from neuronagent.domain import QUANTITIES, NeuronId, Quantity, SignCombination, Split
from neuronagent.errors import StorageError
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors
from neuronagent.store.packing import pack, unpack_array
from neuronagent.store.rows import Row

_traced = schema.traced_tokens.c
_STORED: tuple[Quantity, ...] = (Quantity.ACT, Quantity.X_IN, Quantity.X_GATE)

Sets = Mapping[Split, Mapping[SignCombination, Mapping[str, tuple[int, ...]]]]


@dataclass(frozen=True, kw_only=True)
class StoredTokens:
    """Corpus token `numbers` `[n]`, ascending, `values` `[n, 4]` in the order of `domain.QUANTITIES`, and which of
    the tokens are in which set of items; `plan_version` names what chose them."""

    numbers: NDArray[np.int64]
    values: NDArray[np.float32]
    sets: Sets
    plan_version: str


def set_traced_tokens(engine: Engine, found: Iterable[tuple[NeuronId, StoredTokens]]) -> None:
    """Store the traced tokens of some neurons, all or none; those that a neuron has already are replaced.

    Raises:
        StorageError: they cannot be written.
        ValueError: values without post = act(x_gate)·x_in, or numbers that do not ascend.
    """
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        for neuron, tokens in found:
            row = _row(neuron, tokens)
            same = (_traced.layer == neuron.layer, _traced.neuron == neuron.index)
            connection.execute(delete(schema.traced_tokens).where(*same))
            connection.execute(schema.traced_tokens.insert().values(**row))


def find_traced_tokens(connection: Connection, neuron: NeuronId) -> StoredTokens | None:
    """The traced tokens of `neuron`; None where it was not run.

    Raises:
        StorageError: the row is damaged.
    """
    mine = (_traced.layer == neuron.layer, _traced.neuron == neuron.index)
    row = connection.execute(select(schema.traced_tokens).where(*mine)).first()
    if row is None:
        return None
    values = unpack_array(row.values, np.float32)
    numbers = np.cumsum(unpack_array(row.numbers, np.uint32).astype(np.int64))
    if len(values) != len(_STORED) * len(numbers):
        raise _damaged(neuron)
    by_quantity = dict(zip(_STORED, values.reshape(len(_STORED), -1), strict=True))
    by_quantity[Quantity.POST] = by_quantity[Quantity.ACT] * by_quantity[Quantity.X_IN]
    return StoredTokens(
        numbers=numbers,
        values=np.stack([by_quantity[quantity] for quantity in QUANTITIES], axis=1),
        sets=_sets(neuron, row.sets),
        plan_version=row.plan_version,
    )


def find_plan_versions(connection: Connection) -> dict[NeuronId, str]:
    """Which neurons were run, in order, and the plan of each."""
    query = select(_traced.layer, _traced.neuron, _traced.plan_version).order_by(_traced.layer, _traced.neuron)
    return {NeuronId(row.layer, row.neuron): row.plan_version for row in connection.execute(query)}


def _row(neuron: NeuronId, tokens: StoredTokens) -> Row:
    by_quantity = dict(zip(QUANTITIES, tokens.values.T, strict=True))
    if not np.array_equal(by_quantity[Quantity.POST], by_quantity[Quantity.ACT] * by_quantity[Quantity.X_IN]):
        raise ValueError(f"{neuron}: post is not act times x_in")
    steps = np.diff(tokens.numbers, prepend=0)
    if (steps[1:] <= 0).any() or (steps[:1] < 0).any():
        raise ValueError(f"{neuron}: token numbers do not ascend")
    named = {
        split.value: {c.value: {name: list(numbers) for name, numbers in sets.items()} for c, sets in found.items()}
        for split, found in tokens.sets.items()
    }
    return {
        "layer": neuron.layer,
        "neuron": neuron.index,
        "numbers": pack(steps.astype(np.uint32)),
        "values": pack(np.stack([by_quantity[quantity] for quantity in _STORED]).astype(np.float32, copy=False)),
        "sets": json.dumps(named, separators=(",", ":")),
        "plan_version": tokens.plan_version,
    }


def _sets(neuron: NeuronId, text: str) -> Sets:
    try:
        named: dict[str, dict[str, dict[str, list[int]]]] = json.loads(text)
        return {
            Split(split): {
                SignCombination(c): {name: tuple(map(int, numbers)) for name, numbers in sets.items()}
                for c, sets in found.items()
            }
            for split, found in named.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(neuron) from error


def _damaged(neuron: NeuronId) -> StorageError:
    return StorageError(
        f"the traced tokens of {neuron} are damaged", remedy="restore the index from a copy, or build it again"
    )
