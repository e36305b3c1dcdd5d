"""Runs the search that the command line describes.

The store looks a token up under one kind at a time, and all its criteria must hold. "At the peak of an example, in any
combination" is therefore four searches, whose rows are joined here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuronagent.cli.criteria import Criteria
from neuronagent.domain import COMBINATIONS, COSINES, NeuronId, SignCombination, clip
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.service.lookup import Index
from neuronagent.store.schema import COMBINATION_SUFFIXES
from neuronagent.store.search import NUMBERS, SearchPage, SearchQuery, SearchRow, TokenCriterion

_ALL = 1_000_000_000


def find(index: Index, wanted: Criteria) -> SearchPage:
    """One page of neurons.

    Raises:
        UsageError: a sort key that does not exist.
        NotFoundError: a layer or a token that the index does not have.
    """
    _check_layers(index, wanted.layers)
    ids = _token_ids(index, wanted.token)
    if ids is None or len(wanted.places) == 1:
        tokens = () if ids is None else (TokenCriterion(kind=wanted.places[0], token_ids=ids),)
        query = _query(wanted, tokens, sort=wanted.sort, limit=wanted.limit, offset=wanted.offset)
        return index.search(query)
    return _in_any_place(index, wanted, ids)


def _in_any_place(index: Index, wanted: Criteria, ids: tuple[int, ...]) -> SearchPage:
    """The page of neurons that have a token in any of the places, each with its best match."""
    key = _sort_key(wanted.sort)
    rows: dict[NeuronId, SearchRow] = {}
    for kind in wanted.places:
        query = _query(wanted, (TokenCriterion(kind=kind, token_ids=ids),), sort="neuron", limit=_ALL, offset=0)
        for row in index.search(query).rows:
            if row.neuron not in rows or _match(row) > _match(rows[row.neuron]):
                rows[row.neuron] = row
    ordered = sorted(rows.values(), key=lambda row: row.neuron)
    ordered.sort(key=key, reverse=wanted.descending)
    page = ordered[wanted.offset : wanted.offset + wanted.limit]
    end = wanted.offset + len(page)
    more = end if page and end < len(ordered) else None
    return SearchPage(rows=tuple(page), total=len(ordered), offset=wanted.offset, next_offset=more)


def _query(wanted: Criteria, tokens: tuple[TokenCriterion, ...], *, sort: str, limit: int, offset: int) -> SearchQuery:
    return SearchQuery(
        layers=wanted.layers,
        roles=wanted.roles,
        io_classes=wanted.io_classes,
        atypical=wanted.atypical,
        cosines=wanted.cosines,
        frequency=wanted.frequency,
        mass=wanted.mass,
        tokens=tokens,
        explanation=wanted.explanation,
        sort=sort,
        descending=wanted.descending,
        limit=limit,
        offset=offset,
    )


def _check_layers(index: Index, layers: tuple[int, ...]) -> None:
    known = index.reader.layers()
    for layer in layers:
        if layer not in known:
            spans = f"{min(known)}–{max(known)}" if known else "none"
            raise NotFoundError(f"layer {layer} is not in this index", remedy=f"layers: {spans}")


def _token_ids(index: Index, token: str | None) -> tuple[int, ...] | None:
    if token is None:
        return None
    ids = tuple(index.reader.find_tokens(token))
    if not ids:
        raise NotFoundError(
            f"no token of this model reads {clip(token)!r}, with or without a space before it",
            remedy="longer words are several tokens: try the beginning of it",
        )
    return ids


def _match(row: SearchRow) -> float:
    return abs(row.match or 0.0)


def _sort_key(sort: str) -> Callable[[SearchRow], Any]:
    """How rows that are at hand already are sorted."""
    if sort == "neuron":
        return lambda row: row.neuron
    if sort == "match":
        return _match
    if sort in COSINES:
        return lambda row: row.cosines[sort]
    if sort in NUMBERS:
        return lambda row: row.numbers[sort] or 0.0
    for c, suffix in zip(COMBINATIONS, COMBINATION_SUFFIXES, strict=True):
        if sort in (f"frequency_{suffix}", f"mass_{suffix}"):
            return _share_key(c, sort.startswith("frequency"))
    allowed = ", ".join(("neuron", "match", *COSINES, *NUMBERS, "frequency_pp, …, mass_mm"))
    raise UsageError(f"{clip(sort)!r} is no sort key here", remedy=f"with --in examples allowed: {allowed}")


def _share_key(combination: SignCombination, frequency: bool) -> Callable[[SearchRow], float]:
    return lambda row: (row.frequency if frequency else row.mass_share)[combination] or 0.0
