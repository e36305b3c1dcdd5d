"""Explanations and scores in an index: appended, superseded, never overwritten.

A unit is a neuron in one sign combination. A new explanation supersedes the current one of the same unit, source and
author, so that a batch never hides what a person wrote. `test` items may be read once per explanation version: every
reading of a unit's `test` items is numbered, over all its explanations, and the number is stored with the scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, and_, func, select

from neuronagent.domain import COMBINATIONS, SPLITS, Explanation, NeuronId, Score, ScoreControl, SignCombination, Split
from neuronagent.errors import NotFoundError
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors

_explanation = schema.explanation.c
_score = schema.score.c


@dataclass(frozen=True, kw_only=True)
class StoredExplanation:
    """An explanation with what the index knows about its making; `superseded_by` is the id of its successor."""

    id: int
    explanation: Explanation
    author: str | None
    server: str
    unsealed: bool
    parent_id: int | None
    created: str
    superseded_by: int | None


@dataclass(frozen=True, kw_only=True)
class StoredScore:
    """A score with its protocol; `reading` is the ordinal of the reading of the unit's `test` items."""

    id: int
    explanation_id: int
    score: Score
    tau: float | None
    protocol_version: str
    reading: int | None
    created: str
    superseded_by: int | None


def add_explanation(
    engine: Engine,
    explanation: Explanation,
    *,
    author: str | None = None,
    server: str = "",
    unsealed: bool = False,
    parent_id: int | None = None,
) -> int:
    """Store `explanation` and return its id; adding the current one again changes nothing and returns its id.

    `unsealed`: its writer may have seen `test`. `parent_id`: the explanation that it revises.

    Raises:
        NotFoundError: the neuron or the parent is not in the index.
        StorageError: it cannot be written.
    """
    unit = explanation.neuron.layer, explanation.neuron.index, explanation.combination.position
    content: dict[str, Any] = {
        "text": explanation.text,
        "claims_json": json.dumps(dict(explanation.claims), sort_keys=True, ensure_ascii=False),
        "evidence_hash": explanation.evidence_hash,
        "prompt_version": explanation.prompt_version,
        "model": explanation.model,
        "server": server,
        "unsealed": unsealed,
        "parent_id": parent_id,
    }
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        _lock_neuron(connection, explanation.neuron)
        if parent_id is not None:
            _unit_of(connection, parent_id)
        current = and_(
            _is_unit(unit),
            _explanation.source == explanation.source,
            _explanation.author == author,
            _explanation.superseded_by.is_(None),
        )
        for row in connection.execute(select(schema.explanation).where(current)).mappings():
            if all(row[key] == value for key, value in content.items()):
                return int(row["id"])
        keys: dict[str, Any] = dict(zip(("layer", "neuron", "combination"), unit, strict=True))
        keys |= {"source": explanation.source, "author": author, "created": _now()}
        new = _insert(connection, schema.explanation, keys | content)
        earlier = schema.explanation.update().where(current, _explanation.id != new)
        connection.execute(earlier.values(superseded_by=new))
        return new


def add_score(
    engine: Engine,
    explanation_id: int,
    score: Score,
    *,
    protocol_version: str,
    tau: float | None = None,
    reading: int | None = None,
) -> int:
    """Store one score and return its id; see `add_scores`."""
    added = add_scores(engine, explanation_id, [score], protocol_version=protocol_version, tau=tau, reading=reading)
    return added[0]


def add_scores(
    engine: Engine,
    explanation_id: int,
    scores: Sequence[Score],
    *,
    protocol_version: str,
    tau: float | None = None,
    reading: int | None = None,
) -> list[int]:
    """Store the scores of one run over the items of a unit, all or none, and return their ids.

    Those on `test` share one reading: the unit's next, or `reading` where a campaign scores several explanations of
    a unit on the same items and got its number from `next_reading`. An earlier score of the same explanation, metric,
    negative set, split, view, judge and protocol is superseded.

    Raises:
        NotFoundError: no such explanation.
        StorageError: they cannot be written.
    """
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        unit = _unit_of(connection, explanation_id)
        _lock_neuron(connection, NeuronId(unit[0], unit[1]))
        number = reading if reading is not None else _next_reading(connection, unit)
        return [
            _add_one(connection, explanation_id, score, protocol_version, tau, number if _sealed(score) else None)
            for score in scores
        ]


def next_reading(engine: Engine, neuron: NeuronId, combination: SignCombination) -> int:
    """The ordinal that the next reading of this unit's `test` items has; 1 if they were never read."""
    with storage_errors(engine_name(engine)), engine.connect() as connection:
        return _next_reading(connection, (neuron.layer, neuron.index, combination.position))


def find_explanations(
    connection: Connection, neuron: NeuronId, combination: SignCombination | None = None, *, superseded: bool = False
) -> list[StoredExplanation]:
    """The explanations of a neuron, oldest first; those that have a successor only if `superseded`."""
    query = select(schema.explanation).where(_explanation.layer == neuron.layer, _explanation.neuron == neuron.index)
    if combination is not None:
        query = query.where(_explanation.combination == combination.position)
    if not superseded:
        query = query.where(_explanation.superseded_by.is_(None))
    return [_stored_explanation(row) for row in connection.execute(query.order_by(_explanation.id))]


def find_explanation(connection: Connection, explanation_id: int) -> StoredExplanation:
    """One explanation by its id.

    Raises:
        NotFoundError: there is none.
    """
    row = connection.execute(select(schema.explanation).where(_explanation.id == explanation_id)).first()
    if row is None:
        raise _no_explanation(explanation_id)
    return _stored_explanation(row)


def find_scores(connection: Connection, explanation_id: int, *, superseded: bool = False) -> list[StoredScore]:
    """The scores of an explanation, oldest first; those that have a successor only if `superseded`."""
    query = select(schema.score).where(_score.explanation_id == explanation_id)
    if not superseded:
        query = query.where(_score.superseded_by.is_(None))
    found = connection.execute(query.order_by(_score.id)).all()
    control = schema.score_control.c
    wanted = select(schema.score_control).where(control.score_id.in_([row.id for row in found]))
    controls: dict[int, list[ScoreControl]] = {}
    for row in connection.execute(wanted.order_by(control.score_id, control.kind)).mappings():
        value = ScoreControl(**{field.name: row[field.name] for field in fields(ScoreControl)})
        controls.setdefault(row["score_id"], []).append(value)
    return [_stored_score(row, tuple(controls.get(row.id, ()))) for row in found]


def _add_one(
    connection: Connection,
    explanation_id: int,
    score: Score,
    protocol_version: str,
    tau: float | None,
    reading: int | None,
) -> int:
    key: dict[str, Any] = {
        "explanation_id": explanation_id,
        "metric": score.metric,
        "negative_set": score.negative_set,
        "split": score.split.position,
        "view": score.view,
        "judge": score.judge,
        "protocol_version": protocol_version,
    }
    names = ("value", "lo", "hi", "n_pos", "n_neg", "n_failed", "reason", "p", "seed")
    values: dict[str, Any] = {name: getattr(score, name) for name in names}
    values |= {"tau": tau, "reading": reading, "created": _now()}
    new = _insert(connection, schema.score, key | values)
    same = [_score[name] == value for name, value in key.items()]
    earlier = schema.score.update().where(*same, _score.superseded_by.is_(None), _score.id != new)
    connection.execute(earlier.values(superseded_by=new))
    for control in score.controls:
        row = {field.name: getattr(control, field.name) for field in fields(ScoreControl)}
        connection.execute(schema.score_control.insert().values(score_id=new, **row))
    return new


def _insert(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    key = connection.execute(table.insert().values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _lock_neuron(connection: Connection, neuron: NeuronId) -> None:
    """Hold off other writers of this neuron: PostgreSQL locks the row, SQLite has locked the file already."""
    for table in (schema.neuron, schema.published_neuron):
        mine = (table.c.layer == neuron.layer, table.c.neuron == neuron.index)
        if connection.execute(select(table.c.layer).where(*mine).with_for_update()).first() is not None:
            return
    raise NotFoundError(f"neuron {neuron} is not in this index", remedy="name one that is")


def _unit_of(connection: Connection, explanation_id: int) -> tuple[int, int, int]:
    query = select(_explanation.layer, _explanation.neuron, _explanation.combination)
    row = connection.execute(query.where(_explanation.id == explanation_id)).first()
    if row is None:
        raise _no_explanation(explanation_id)
    return row[0], row[1], row[2]


def _no_explanation(explanation_id: int) -> NotFoundError:
    return NotFoundError(f"there is no explanation {explanation_id}", remedy="list those of its neuron")


def _is_unit(unit: tuple[int, int, int]) -> Any:
    columns = (_explanation.layer, _explanation.neuron, _explanation.combination)
    return and_(*(column == value for column, value in zip(columns, unit, strict=True)))


def _next_reading(connection: Connection, unit: tuple[int, int, int]) -> int:
    joined = schema.score.join(schema.explanation, _score.explanation_id == _explanation.id)
    return 1 + (
        connection.execute(select(func.max(_score.reading)).select_from(joined).where(_is_unit(unit))).scalar() or 0
    )


def _sealed(score: Score) -> bool:
    return score.split is Split.TEST


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stored_explanation(row: Row[Any]) -> StoredExplanation:
    explanation = Explanation(
        neuron=NeuronId(row.layer, row.neuron),
        combination=COMBINATIONS[row.combination],
        source=row.source,
        text=row.text,
        claims=json.loads(row.claims_json),
        evidence_hash=row.evidence_hash,
        prompt_version=row.prompt_version,
        model=row.model,
    )
    return StoredExplanation(
        id=row.id,
        explanation=explanation,
        author=row.author,
        server=row.server,
        unsealed=row.unsealed,
        parent_id=row.parent_id,
        created=row.created,
        superseded_by=row.superseded_by,
    )


def _stored_score(row: Row[Any], controls: tuple[ScoreControl, ...]) -> StoredScore:
    same = {field.name for field in fields(Score)} - {"split", "controls"}
    values: dict[str, Any] = {name: getattr(row, name) for name in same}
    return StoredScore(
        id=row.id,
        explanation_id=row.explanation_id,
        score=Score(split=SPLITS[row.split], controls=controls, **values),
        tau=row.tau,
        protocol_version=row.protocol_version,
        reading=row.reading,
        created=row.created,
        superseded_by=row.superseded_by,
    )
