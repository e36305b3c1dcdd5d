"""Finding neurons by class, geometry, statistics, tokens and explanations. All criteria of a query must hold.

A token criterion is looked up in the inverted table (`inverted.py`) and becomes a set of ordinals, handed to the
database as one JSON list; the rest are plain conditions on the narrow `neuron` table.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, exists, false, func, select

from neuronagent.domain import (
    COMBINATIONS,
    COSINES,
    IO_CLASS_NAMES,
    IOClass,
    NeuronId,
    Role,
    SignCombination,
    Split,
    clip,
)
from neuronagent.errors import UsageError
from neuronagent.store import schema
from neuronagent.store.examples_at import in_list, with_example
from neuronagent.store.inverted import KINDS, split
from neuronagent.store.packing import unpack_array

Range = tuple[float | None, float | None]
"""Lowest and highest value allowed, both inclusive; None is no bound."""

NUMBERS = (
    "norm_out",
    "variance",
    "skew",
    "kurtosis",
    "attention_score",
    "entropy_share",
    "double_checking",
    "mass",
)
"""What a neuron can be sorted by beside cosines and shares: variance, skew and excess kurtosis of cos(w_out, W_U), what
decides the other functional roles, the double-checking score, and Σ|post| over all combinations."""

_FEW = 5000
"""So many neurons are handed to the database as one list; more are sorted out here."""

_neuron = schema.neuron.c
_FREQUENCIES = [_neuron[f"frequency_{suffix}"] for suffix in schema.COMBINATION_SUFFIXES]
_MASSES = [_neuron[f"mass_{suffix}"] for suffix in schema.COMBINATION_SUFFIXES]

SORT_KEYS: tuple[str, ...] = (
    "neuron",
    "match",
    *COSINES,
    "norm_gate",
    "norm_in",
    *NUMBERS,
    *(column.name for column in (*_FREQUENCIES, *_MASSES)),
)
"""`neuron` is the model's own order; `match` the score of the first token criterion, strongest first if descending."""


@dataclass(frozen=True, kw_only=True)
class TokenCriterion:
    """Any of `token_ids` under `kind` of the inverted table: `out_top`, …, or a combination with examples there.

    `split`: of a combination, only examples in texts of this split; it must be the query's only token criterion.
    """

    kind: str
    token_ids: tuple[int, ...]
    split: Split | None = None


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """What to look for; an empty criterion asks for nothing. `explanation`: text that a current explanation contains,
    whatever its case. `atypical`: True, False, or None for both."""

    layers: tuple[int, ...] = ()
    roles: tuple[Role, ...] = ()
    io_classes: tuple[str, ...] = ()
    atypical: bool | None = None
    cosines: Mapping[str, Range] = field(default_factory=dict[str, Range])
    frequency: Mapping[SignCombination, Range] = field(default_factory=dict[SignCombination, Range])
    mass: Mapping[SignCombination, Range] = field(default_factory=dict[SignCombination, Range])
    tokens: tuple[TokenCriterion, ...] = ()
    explanation: str = ""
    sort: str = "neuron"
    descending: bool = False
    limit: int = 20
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """One neuron found. `numbers` are those of `NUMBERS`. What comes from activations is None in an index of weights
    alone; `match` is the score of the query's first token criterion."""

    neuron: NeuronId
    io_class: IOClass
    role: Role | None
    cosines: Mapping[str, float]
    numbers: Mapping[str, float | None]
    frequency: Mapping[SignCombination, float | None]
    mass_share: Mapping[SignCombination, float | None]
    match: float | None


@dataclass(frozen=True, kw_only=True)
class SearchPage:
    """The rows from `offset`, of `total`; `next_offset` is None on the last page. `above`: only matches larger than
    this were looked for, because there were too many; None: all."""

    rows: tuple[SearchRow, ...]
    total: int
    offset: int
    next_offset: int | None
    above: float | None = None


def search(connection: Connection, query: SearchQuery, first_tokens: Callable[[], array[int]]) -> SearchPage:
    """The neurons that meet every criterion of `query`, ties in the model's order. `first_tokens`: the first corpus
    token number of every text, and the number of tokens, for a criterion of a split.

    Raises:
        UsageError: an unknown class, cosine, token kind or sort key, or a limit or offset that is none.
    """
    _check(query)
    matches = _matches(connection, query.tokens)
    conditions = _conditions(connection, query)
    above: float | None = None
    if matches is None:
        total = connection.execute(select(func.count()).select_from(schema.neuron).where(*conditions)).scalar() or 0
        page = _page(connection, query, conditions)
    else:
        kept = _kept(connection, matches[0], conditions)
        if query.tokens[0].split is not None:
            matches, kept, above = _in_split(connection, query.tokens[0], matches, kept, first_tokens())
        total = len(kept)
        if query.sort == "match":
            page = _rows_of(connection, _by_strength(query, matches, kept))
        elif total <= _FEW:
            page = _page(connection, query, [_in_ordinals(connection, kept)])
        else:
            page = _rows_of(connection, _first_of(connection, query, conditions, kept))
    end = query.offset + len(page)
    return SearchPage(
        rows=tuple(_row(row, matches) for row in page),
        total=total,
        offset=query.offset,
        next_offset=end if page and end < total else None,
        above=above,
    )


def _check(query: SearchQuery) -> None:
    allowed = [
        ("IO class", query.io_classes, IO_CLASS_NAMES),
        ("cosine", tuple(query.cosines), COSINES),
        ("kind of token", tuple(criterion.kind for criterion in query.tokens), KINDS),
        ("sort key", (query.sort,), SORT_KEYS if query.tokens else tuple(key for key in SORT_KEYS if key != "match")),
    ]
    for what, values, names in allowed:
        for value in values:
            if value not in names:
                raise UsageError(f"{clip(value)!r} is no {what}", remedy=f"allowed: {', '.join(names)}")
    combinations = {c.value for c in COMBINATIONS}
    of_split = [criterion.kind for criterion in query.tokens if criterion.split is not None]
    if of_split and (len(query.tokens) > 1 or of_split[0] not in combinations):
        raise UsageError("a split is for the examples of one combination, as the only criterion of tokens")
    if query.limit < 1 or query.offset < 0:
        raise UsageError("a search needs a limit of at least 1 and an offset of at least 0")


def _page(connection: Connection, query: SearchQuery, conditions: list[ColumnElement[bool]]) -> list[dict[str, Any]]:
    statement = select(schema.neuron).where(*conditions).order_by(*_order(query))
    found = connection.execute(statement.limit(query.limit).offset(query.offset))
    return [dict(row) for row in found.mappings()]


def _order(query: SearchQuery) -> list[ColumnElement[Any]]:
    order: list[ColumnElement[Any]] = [_neuron.layer, _neuron.neuron]
    if query.sort == "neuron":
        return [column.desc() for column in order] if query.descending else order
    key = _neuron[query.sort]
    return [(key.desc() if query.descending else key.asc()).nulls_last(), *order]


def _conditions(connection: Connection, query: SearchQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.layers:
        conditions.append(_neuron.layer.in_(query.layers))
    if query.roles:
        conditions.append(_neuron.role.in_([role.value for role in query.roles]))
    if query.io_classes:
        conditions.append(_neuron.io_class.in_(query.io_classes))
    if query.atypical is not None:
        conditions.append(_neuron.atypical.is_(query.atypical))
    ranges = [(_neuron[name], bounds) for name, bounds in query.cosines.items()]
    ranges += [(_FREQUENCIES[combination.position], bounds) for combination, bounds in query.frequency.items()]
    ranges += [(_MASSES[combination.position], bounds) for combination, bounds in query.mass.items()]
    for column, (low, high) in ranges:
        if low is not None:
            conditions.append(column >= low)
        if high is not None:
            conditions.append(column <= high)
    if query.explanation:
        explanation = schema.explanation.c
        mine = (explanation.layer == _neuron.layer, explanation.neuron == _neuron.neuron)
        contains = explanation.text.icontains(query.explanation, autoescape=True)
        # SQLite ends a pattern at a NUL, PostgreSQL refuses it, and no stored text has one.
        if "\0" in query.explanation:
            contains = false()
        conditions.append(exists().where(*mine, explanation.superseded_by.is_(None), contains))
    return conditions


Matches = tuple[NDArray[np.uint32], NDArray[np.float32]]


def _matches(connection: Connection, criteria: tuple[TokenCriterion, ...]) -> Matches | None:
    """Ordinals, ascending, that meet all token criteria, and their best scores under the first; None without any."""
    found = [_lookup(connection, criterion) for criterion in criteria]
    if not found:
        return None
    ordinals, scores = found[0]
    for others, _ in found[1:]:
        kept = np.isin(ordinals, others, assume_unique=True)
        ordinals, scores = ordinals[kept], scores[kept]
    return ordinals, scores


def _lookup(connection: Connection, criterion: TokenCriterion) -> Matches:
    """Unique ordinals, ascending, under one criterion, each with its score of the largest magnitude."""
    column = schema.token_neuron.c
    query = select(column.neurons).where(
        column.kind == KINDS.index(criterion.kind), column.token_id.in_(criterion.token_ids)
    )
    blobs = [unpack_array(blob, np.uint64) for blob in connection.execute(query).scalars()]
    ordinals, scores = split(np.concatenate([np.empty(0, np.uint64), *blobs]))
    if (ordinals[:-1] < ordinals[1:]).all():  # of one token
        return ordinals, scores
    order = np.lexsort((-np.abs(scores), ordinals))
    unique, first = np.unique(ordinals[order], return_index=True)
    return unique, scores[order][first]


def _in_ordinals(connection: Connection, ordinals: NDArray[np.uint32]) -> ColumnElement[bool]:
    return _neuron.ordinal.in_(in_list(connection, ordinals))


def _in_split(
    connection: Connection,
    criterion: TokenCriterion,
    matches: Matches,
    kept: NDArray[np.uint32],
    first_tokens: array[int],
) -> tuple[Matches, NDArray[np.uint32], float | None]:
    """Matches and neurons kept, as they are in the criterion's split alone."""
    assert criterion.split is not None
    found = with_example(
        connection,
        (kept, matches[1][np.searchsorted(matches[0], kept)]),
        combination=SignCombination(criterion.kind),
        split=criterion.split,
        token_ids=criterion.token_ids,
        first_tokens=first_tokens,
    )
    order = np.argsort(found.ordinals)
    return (found.ordinals[order], found.values[order]), found.ordinals, found.above


def _kept(
    connection: Connection, ordinals: NDArray[np.uint32], conditions: list[ColumnElement[bool]]
) -> NDArray[np.uint32]:
    """Those of `ordinals`, ascending, that meet all `conditions`, in the model's order.

    Which way is quicker depends on how many there are: a frequent token matches most of a model's neurons, and a
    database takes long to read such a list.
    """
    if not conditions:
        layers = connection.execute(
            select(schema.layer.c.first_ordinal, schema.layer.c.neurons).order_by(schema.layer.c.layer)
        )
        bounds = [np.searchsorted(ordinals, (first, first + count)) for first, count in layers]
        return np.concatenate([ordinals[:0], *(ordinals[start:end] for start, end in bounds)])
    few = len(ordinals) <= _FEW
    more = [_in_ordinals(connection, ordinals)] if few else []
    statement = select(_neuron.ordinal).where(*conditions, *more).order_by(_neuron.layer, _neuron.neuron)
    found = np.array(connection.execute(statement).scalars().all(), np.uint32)
    return found if few else found[np.isin(found, ordinals, assume_unique=True)]


def _by_strength(query: SearchQuery, matches: Matches, kept: NDArray[np.uint32]) -> list[int]:
    """One page of `kept` in the order of the matches' magnitudes, which only the blobs know."""
    strength = np.abs(matches[1][np.searchsorted(matches[0], kept)])
    order = np.argsort(-strength if query.descending else strength, kind="stable")
    return kept[order][query.offset : query.offset + query.limit].tolist()


def _first_of(
    connection: Connection, query: SearchQuery, conditions: list[ColumnElement[bool]], kept: NDArray[np.uint32]
) -> list[int]:
    """One page of `kept` in the query's order, reading no further than its end."""
    wanted, found = set(kept.tolist()), list[int]()
    statement = select(_neuron.ordinal).where(*conditions).order_by(*_order(query))
    end = query.offset + query.limit
    with connection.execution_options(yield_per=_FEW).execute(statement) as ordinals:
        for (ordinal,) in ordinals:
            if ordinal in wanted:
                found.append(ordinal)
                if len(found) == end:
                    break
    return found[query.offset :]


def _rows_of(connection: Connection, ordinals: list[int]) -> list[dict[str, Any]]:
    """The rows of these neurons, in this order."""
    found = connection.execute(select(schema.neuron).where(_in_ordinals(connection, np.array(ordinals, np.uint32))))
    rows = {row["ordinal"]: dict(row) for row in found.mappings()}
    return [rows[ordinal] for ordinal in ordinals]


def _row(row: Mapping[str, Any], matches: Matches | None) -> SearchRow:
    match = None if matches is None else float(matches[1][np.searchsorted(matches[0], row["ordinal"])])
    return SearchRow(
        neuron=NeuronId(row["layer"], row["neuron"]),
        io_class=IOClass(row["io_class"], row["atypical"]),
        role=None if row["role"] is None else Role(row["role"]),
        numbers={name: row[name] for name in NUMBERS},
        cosines={name: row[name] for name in COSINES},
        frequency={c: row[column.name] for c, column in zip(COMBINATIONS, _FREQUENCIES, strict=True)},
        mass_share={c: row[column.name] for c, column in zip(COMBINATIONS, _MASSES, strict=True)},
        match=match,
    )
