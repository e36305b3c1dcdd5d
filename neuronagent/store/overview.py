"""What a list of many neurons says of each: read together, a few statements for hundreds of neurons.

Of the scores only those are read on which a choice depends: which explanation of a unit is shown, by which judge, and
what came of it. That leaves out three quarters of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from neuronagent.domain import (
    COMBINATIONS,
    VECTORS,
    VOCABULARY_MATRICES,
    Geometry,
    IOClass,
    NeuronId,
    Role,
    ScoreControl,
    SignCombination,
    Split,
    Vector,
    VocabularyMatrix,
    token_text,
)
from neuronagent.store import schema
from neuronagent.store.blobs import unpack_ids
from neuronagent.store.examples_at import in_list
from neuronagent.store.explanations import StoredExplanation, StoredScore, stored_explanation, stored_score

AT_ONCE = 500
"""Neurons that one statement asks for."""

_explanation = schema.explanation.c
_score = schema.score.c
GEOMETRY = tuple(field.name for field in fields(Geometry))
_OUT = VECTORS.index(Vector.OUT)
_UNEMBEDDING = VOCABULARY_MATRICES.index(VocabularyMatrix.UNEMBEDDING)

Stored = tuple[StoredExplanation, list[StoredScore]]


@dataclass(frozen=True, kw_only=True)
class NeuronOverview:
    """One neuron in a line. `geometry`: cosines and norms by the names that `Geometry` has. `nearest`: the tokens of
    W_U nearest to `+w_out` and to `−w_out`, strongest first. `frequency` and `mass_share` are None without a corpus;
    of published neurons only the frequency is known."""

    neuron: NeuronId
    io_class: IOClass | None
    role: Role | None
    geometry: Mapping[str, float] | None
    frequency: Mapping[SignCombination, float | None]
    mass_share: Mapping[SignCombination, float | None]
    nearest: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ScoreKinds:
    """Which scores are read beside the last one of each judge under each protocol, which tells who judged and when:
    of each metric those against its negative sets (none given: all), in this view and split, and `marks`, metrics that
    count in any. Only those against `controlled` sets come with controls, of the kinds `controls`."""

    metrics: Mapping[str, Sequence[str]]
    view: str
    split: Split
    marks: Sequence[str]
    controlled: Sequence[str]
    controls: Sequence[str]


def find_overviews(
    connection: Connection, neurons: Iterable[NeuronId], *, tokens: int
) -> dict[NeuronId, NeuronOverview]:
    """Those of `neurons` that the index computed, with so many nearest `tokens` each."""
    found: dict[NeuronId, NeuronOverview] = {}
    own, held = schema.neuron.c, schema.projection.c
    joined = schema.neuron.join(schema.projection, and_(own.layer == held.layer, own.neuron == held.neuron))
    shares = [own[f"{what}_{suffix}"] for what in ("frequency", "mass") for suffix in schema.COMBINATION_SUFFIXES]
    columns = [own.layer, own.neuron, own.io_class, own.atypical, own.role, held.ids]
    query = select(*columns, *(own[name] for name in GEOMETRY), *shares).select_from(joined)
    for part in _parts(neurons):
        rows = connection.execute(query.where(_among(connection, own, part))).all()
        if not rows:
            continue
        nearest = unpack_ids([row.ids for row in rows]).reshape(
            len(rows), len(VOCABULARY_MATRICES), len(VECTORS), 2, -1
        )
        nearest = nearest[:, _UNEMBEDDING, _OUT, :, :tokens]
        strings = _strings(connection, np.unique(nearest[nearest >= 0]).tolist())
        for row, (top, bottom) in zip(rows, nearest.tolist(), strict=True):
            layer, index, name, atypical, role, _, *numbers = tuple(row)
            neuron = NeuronId(layer, index)
            found[neuron] = NeuronOverview(
                neuron=neuron,
                io_class=IOClass(name, atypical),
                role=None if role is None else Role(role),
                geometry=dict(zip(GEOMETRY, numbers, strict=False)),
                frequency=dict(zip(COMBINATIONS, numbers[6:10], strict=True)),
                mass_share=dict(zip(COMBINATIONS, numbers[10:], strict=True)),
                nearest=(_named(top, strings), _named(bottom, strings)),
            )
    return found


def find_published_overviews(connection: Connection, neurons: Iterable[NeuronId]) -> dict[NeuronId, NeuronOverview]:
    """Those of `neurons` that were published by others."""
    own = schema.published_neuron.c
    query = select(own.layer, own.neuron, *(own[f"frequency_{suffix}"] for suffix in schema.COMBINATION_SUFFIXES))
    found: dict[NeuronId, NeuronOverview] = {}
    for part in _parts(neurons):
        for row in connection.execute(query.where(_among(connection, own, part))):
            layer, index, *shares = tuple(row)
            neuron = NeuronId(layer, index)
            found[neuron] = NeuronOverview(
                neuron=neuron,
                io_class=None,
                role=None,
                geometry=None,
                frequency=dict(zip(COMBINATIONS, shares, strict=True)),
                mass_share=dict.fromkeys(COMBINATIONS),
                nearest=((), ()),
            )
    return found


def find_stored(
    connection: Connection, neurons: Iterable[NeuronId], kinds: ScoreKinds
) -> Iterator[tuple[NeuronId, list[Stored]]]:
    """The current explanations of each of `neurons` that has any, oldest first, each with the scores of `kinds`."""
    for part in _parts(neurons):
        query = select(schema.explanation).where(
            _among(connection, _explanation, part), _explanation.superseded_by.is_(None)
        )
        rows = connection.execute(query.order_by(_explanation.layer, _explanation.neuron, _explanation.id)).all()
        scores = _scores(connection, [row.id for row in rows], kinds) if rows else {}
        for (layer, index), own in groupby(rows, key=lambda row: (row.layer, row.neuron)):
            yield NeuronId(layer, index), [(stored_explanation(row), scores.get(row.id, [])) for row in own]


def _scores(connection: Connection, explanations: list[int], kinds: ScoreKinds) -> dict[int, list[StoredScore]]:
    """The current scores of these explanations, oldest first."""
    mine = (
        _score.explanation_id.in_(in_list(connection, np.array(explanations, np.int64))),
        _score.superseded_by.is_(None),
    )
    last = select(func.max(_score.id)).where(*mine)
    last = last.group_by(_score.explanation_id, _score.judge, _score.protocol_version)
    named = [
        and_(_score.metric == metric, *([_score.negative_set.in_(sets)] if sets else []))
        for metric, sets in kinds.metrics.items()
    ]
    of_kind = and_(or_(*named), _score.view == kinds.view, _score.split == kinds.split.position)
    query = select(schema.score).where(*mine, or_(of_kind, _score.metric.in_(kinds.marks), _score.id.in_(last)))
    found = connection.execute(query.order_by(_score.id)).all()
    controlled = [row.id for row in found if row.negative_set in kinds.controlled]
    controls = _controls(connection, controlled, kinds.controls)
    scores: dict[int, list[StoredScore]] = {}
    for row in found:
        scores.setdefault(row.explanation_id, []).append(stored_score(row, controls.get(row.id, ())))
    return scores


def _controls(connection: Connection, scores: list[int], kinds: Sequence[str]) -> dict[int, tuple[ScoreControl, ...]]:
    column = schema.score_control.c
    names = [field.name for field in fields(ScoreControl)]
    wanted = (column.score_id.in_(in_list(connection, np.array(scores, np.int64))), column.kind.in_(kinds))
    query = select(column.score_id, *(column[name] for name in names)).where(*wanted)
    found: dict[int, tuple[ScoreControl, ...]] = {}
    for row in connection.execute(query.order_by(column.score_id, column.kind)):
        identifier, *values = tuple(row)
        control = ScoreControl(**dict(zip(names, values, strict=True)))
        found[identifier] = (*found.get(identifier, ()), control)
    return found


def _parts(neurons: Iterable[NeuronId]) -> Iterator[list[NeuronId]]:
    """Parts of the neurons, in order, each within one layer."""
    for _, members in groupby(sorted(set(neurons)), key=lambda neuron: neuron.layer):
        own = list(members)
        yield from (own[start : start + AT_ONCE] for start in range(0, len(own), AT_ONCE))


def _among(connection: Connection, columns: Any, part: Sequence[NeuronId]) -> ColumnElement[bool]:
    indices = in_list(connection, np.array([neuron.index for neuron in part], np.int64))
    return and_(columns.layer == part[0].layer, columns.neuron.in_(indices))


def _strings(connection: Connection, ids: list[int]) -> dict[int, str]:
    column = schema.token.c
    query = select(column.id, column.bytes).where(column.id.in_(in_list(connection, np.array(ids, np.int64))))
    return {token_id: token_text(data) for token_id, data in connection.execute(query)}


def _named(ids: Sequence[int], strings: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(strings[token_id] for token_id in ids if token_id >= 0)
