"""Ways to damage an index on purpose, each at one place: what `neuronagent check` is for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NEIGHBOUR_LISTS, NeighbourList
from neuronagent.layout import LayerNeighbours
from neuronagent.store.blobs import (
    pack_ids,
    pack_lists,
    pack_scores,
    pack_statistics,
    unpack_ids,
    unpack_lists,
    unpack_scores,
    unpack_statistics,
)
from neuronagent.store.neighbours import pack_neighbours, unpack_neighbours
from neuronagent.store.packing import pack, unpack_array

Damage = Callable[[sqlite3.Connection], None]
Change = Callable[[Any], None]
ONE = "layer = 0 AND neuron = 0"
NEURON = 50
"""The ordinal of the neuron whose neighbours are damaged: one of a middle layer, with readers and writers."""
FIRST = f"{ONE} AND combination = 0"


def sql(*statements: str) -> Damage:
    def damage(connection: sqlite3.Connection) -> None:
        changed = sum(connection.execute(statement).rowcount for statement in statements)
        assert changed, "a damage that changes nothing"

    return damage


def info(key: str, path: str, value: str) -> Damage:
    """Changes what the index says of itself."""
    return sql(f"UPDATE index_info SET value = json_set(value, '$.{path}', {value}) WHERE key = '{key}'")


def _blobs(table: str, columns: Sequence[str], where: str, change: Callable[[list[bytes]], Sequence[bytes]]) -> Damage:
    def damage(connection: sqlite3.Connection) -> None:
        rows = connection.execute(f"SELECT rowid, {', '.join(columns)} FROM {table} WHERE {where}").fetchall()
        assert rows
        settings = ", ".join(f"{column} = ?" for column in columns)
        for key, *blobs in rows:
            connection.execute(f"UPDATE {table} SET {settings} WHERE rowid = {key}", list(change(blobs)))

    return damage


def lists(change: Change) -> Damage:
    """Changes the packed lists [11, k] of neuron 0.0 in gate+_in+."""

    def changed(blobs: list[bytes]) -> list[bytes]:
        entries = unpack_lists(blobs)
        change(entries[0])
        return pack_lists(entries)

    return _blobs("combination", ["lists"], FIRST, changed)


def statistics(place: int, change: Callable[[float], float]) -> Damage:
    """Changes one of sums, minima and maxima [3, 4 quantities] of neuron 0.0 in gate+_in+."""

    def changed(blobs: list[bytes]) -> list[bytes]:
        values = unpack_statistics(blobs)
        flat = values.reshape(-1)
        flat[place] = change(flat[place])
        return pack_statistics(values[:, 0], values[:, 1].astype(np.float32), values[:, 2].astype(np.float32))

    return _blobs("combination", ["statistics"], FIRST, changed)


def array(table: str, column: str, kind: Any, where: str, change: Change) -> Damage:
    """Changes a packed array."""

    def changed(blobs: list[bytes]) -> list[bytes]:
        values = unpack_array(blobs[0], kind)
        change(values)
        return [pack(values)]

    return _blobs(table, [column], where, changed)


def first_values(place: int) -> Damage:
    """Adds 1 to x_gate, x_in, act or post of neuron 0.0 at position 0, as `domain.QUANTITIES` numbers them."""

    def change(values: NDArray[np.float32]) -> None:
        values[place] += 1

    return array("neuron", "first_values", np.float32, ONE, change)


def ids(change: Change) -> Damage:
    """Changes the nearest tokens [2 matrices, 3 vectors, 2 sides, k] of neuron 0.0."""

    def changed(blobs: list[bytes]) -> list[bytes]:
        values = unpack_ids(blobs).reshape(2, 3, 2, -1)
        change(values)
        return pack_ids(values[None])

    return _blobs("projection", ["ids"], ONE, changed)


def scores(change: Change, where: str = ONE) -> Damage:
    """Changes the scores of the nearest tokens, likewise."""

    def changed(blobs: list[bytes]) -> list[bytes]:
        values = unpack_scores(blobs)
        change(values[0])
        return pack_scores(values)

    return _blobs("projection", ["scores"], where, changed)


def neighbours(change: Callable[[Any, Any], None], kind: NeighbourList, where: str = f"ordinal = {NEURON}") -> Damage:
    """Changes the ordinals and the steps [k] of one list of a neuron."""

    def changed(blobs: list[bytes]) -> list[bytes]:
        found = unpack_neighbours(blobs[:1], blobs[1:])
        ordinals, steps = found.ordinals.copy(), found.cosines.copy()
        change(ordinals[0, kind.position], steps[0, kind.position])
        again = pack_neighbours(LayerNeighbours(ordinals=ordinals, cosines=steps), slice(None))
        return [again[0][0], again[1][0]]

    assert kind in NEIGHBOUR_LISTS
    return _blobs("neighbour", ["ordinals", "cosines"], where, changed)
