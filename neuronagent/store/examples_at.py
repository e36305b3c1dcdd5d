"""Which neurons have an example of one split at a token: the inverted table, which knows no splits, looked at again.

An example counts if it is among the neuron's strongest over all splits, as the inverted table has them, and lies in a
text of the split; its value is that of the strongest such example. Every such neuron stands in the inverted table with
at least this value, so that of many neurons only the strongest there need to be looked at: what is found above the
value of the next one is complete, and what is below is left out, so that nothing that is told depends on the tokens of
other splits.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import JSON, Connection, Integer, Select, cast, func, literal, select

from neuronagent.domain import SignCombination, Split
from neuronagent.store import schema
from neuronagent.store.blobs import unpack_lists
from neuronagent.store.inverted import merged_post
from neuronagent.store.packing import unpack_array

LOOKED_AT = 2000
"""Neurons whose lists are read for one search: 30 ms, and 15 µs for each text that has to be read."""

_LOW = 0xFFFFFFFF

Values = NDArray[np.float32]
Ordinals = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Ordinals, in the order in which they were given, and the value of each. `above`: only larger values were looked
    for; None: all."""

    ordinals: Ordinals
    values: Values
    above: float | None


def with_example(
    connection: Connection,
    candidates: tuple[Ordinals, Values],
    *,
    combination: SignCombination,
    split: Split,
    token_ids: tuple[int, ...],
    first_tokens: array[int],
) -> Found:
    """Those of `candidates`, ordinals with their value in the inverted table, that have an example of `split` at one of
    `token_ids`. `first_tokens`: the first corpus token number of every text, and the number of tokens."""
    ordinals, scores = candidates
    above: float | None = None
    if len(ordinals) > LOOKED_AT:
        order = np.argsort(-np.abs(scores), kind="stable")
        above = float(np.abs(scores[order[LOOKED_AT]]))
        chosen = np.sort(order[:LOOKED_AT])
        ordinals, scores = ordinals[chosen], scores[chosen]
    entries = _entries(connection, ordinals, combination, split)
    values = (entries >> 32).astype(np.uint32).view(np.float32)
    # What is stronger than the neuron's best example at the token is at another token: its text need not be read.
    rows, columns = np.nonzero((entries >= 0) & (values <= scores[:, None]))
    numbers = _LOW - (entries[rows, columns] & _LOW)
    there = np.isin(_tokens(connection, numbers, first_tokens), np.array(token_ids, np.int64))
    best = np.full(len(ordinals), -1.0, np.float32)
    np.maximum.at(best, rows[there], values[rows, columns][there])
    kept = best >= 0 if above is None else best > above
    return Found(ordinals=ordinals[kept], values=best[kept], above=above)


def in_list(connection: Connection, values: NDArray[np.integer[Any]]) -> Select[Any]:
    """The numbers as one parameter, however many: databases limit the number of parameters, not their size."""
    given = literal(values.tolist(), JSON)
    if connection.dialect.name == "sqlite":
        return select(func.json_each(given).table_valued("value").c.value)
    return select(cast(func.json_array_elements_text(given).column_valued("element"), Integer))


def _entries(
    connection: Connection, ordinals: Ordinals, combination: SignCombination, split: Split
) -> NDArray[np.int64]:
    """The packed entries of the overall list of each neuron `[N, k]` that are of `split`; −1 for the others."""
    neuron, own = schema.neuron.c, schema.combination.c
    joined = schema.neuron.join(schema.combination, (neuron.layer == own.layer) & (neuron.neuron == own.neuron))
    wanted = (own.combination == combination.position, neuron.ordinal.in_(in_list(connection, ordinals)))
    query = select(neuron.ordinal, own.lists).select_from(joined).where(*wanted)
    blobs = {row.ordinal: row.lists for row in connection.execute(query)}
    if not blobs:
        return np.full((len(ordinals), 1), -1, np.int64)
    lists = unpack_lists([blobs[ordinal] for ordinal in ordinals.tolist()])[:, :3]  # (N, splits, k)
    overall = merged_post(lists[:, :, None])[:, 0]
    of_split = lists[:, split.position]
    return np.where(of_split >= overall[:, -1:], of_split, -1)


def _tokens(connection: Connection, numbers: NDArray[np.int64], first_tokens: array[int]) -> NDArray[np.int64]:
    """The token ids at corpus token numbers; each text is read once."""
    first = np.frombuffer(first_tokens, np.int64)
    texts = np.searchsorted(first, numbers, side="right") - 1
    found = np.full(len(numbers), -1, np.int64)
    if not len(numbers):
        return found
    order = np.argsort(texts, kind="stable")
    wanted, starts = np.unique(texts[order], return_index=True)
    query = select(schema.text.c.id, schema.text.c.tokens).where(schema.text.c.id.in_(in_list(connection, wanted)))
    places = dict(zip(wanted.tolist(), np.split(order, starts[1:]), strict=True))
    for row in connection.execute(query):
        mine = places[row.id]
        found[mine] = unpack_array(row.tokens, np.uint32)[numbers[mine] - first[row.id]]
    return found
