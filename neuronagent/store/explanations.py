"""Explanations and scores in an index: appended, superseded, never overwritten.

A unit is a neuron in one sign combination. A new explanation supersedes the current one of the same unit, source and
author, so that a batch never hides what a person wrote; an unsealed one supersedes no sealed one. `test` items may be
read once per explanation version: every reading of a unit's `test` items is numbered, over all its explanations, and
the number is stored with the scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, and_, func, select

from neuronagent.domain import COMBINATIONS, SPLITS, Explanation, NeuronId, Score, ScoreControl, SignCombination, Split
from neuronagent.errors import NotFoundError
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors

_explanation = schema.explanation.c
_score = schema.score.c
_SAME = (
    "metric",
    "negative_set",
    "value",
    "lo",
    "hi",
    "n_pos",
    "n_neg",
    "n_failed",
    "reason",
    "p",
    "seed",
    "view",
    "judge",
)
"""Fields of a score that are columns of their own."""
_KEY = ("metric", "negative_set", "split", "view", "judge", "protocol_version")
"""What is the same in a score and in the later one that supersedes it."""


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
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        return _put_explanation(
            connection, explanation, author=author, server=server, unsealed=unsealed, parent_id=parent_id
        )


def make_current(engine: Engine, explanation_id: int) -> None:
    """Have an explanation that was superseded be the current one again, which supersedes those that a new one of its
    author would; one that is current stays so.

    Raises:
        NotFoundError: no such explanation.
        StorageError: it cannot be written.
    """
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        stored = find_explanation(connection, explanation_id)
        said = stored.explanation
        _lock_neuron(connection, said.neuron)
        unit = said.neuron.layer, said.neuron.index, said.combination.position
        mine = schema.explanation.update().where(_explanation.id == explanation_id)
        connection.execute(mine.values(superseded_by=None))
        _supersede(connection, _current(unit, said.source, stored.author), explanation_id, unsealed=stored.unsealed)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An explanation to be stored with its scores; `tau` is the threshold of *strong* that they used, `author` and
    `unsealed` are as in `add_explanation`."""

    explanation: Explanation
    scores: Sequence[Score]
    tau: float | None
    author: str | None = None
    unsealed: bool = False


def add_scored(engine: Engine, scored: Sequence[Scored], *, protocol_version: str) -> list[int]:
    """Store explanations with their scores, all or none, and return the explanations' ids.

    Raises:
        NotFoundError: a neuron is not in the index.
        StorageError: they cannot be written.
    """
    identifiers: list[int] = []
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        for one in scored:
            identifier = _put_explanation(connection, one.explanation, author=one.author, unsealed=one.unsealed)
            _put_scores(connection, identifier, one.scores, protocol_version, one.tau)
            identifiers.append(identifier)
    return identifiers


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
        return _put_scores(connection, explanation_id, scores, protocol_version, tau, reading)


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
    return [stored_explanation(row) for row in connection.execute(query.order_by(_explanation.id))]


def find_explanation(connection: Connection, explanation_id: int) -> StoredExplanation:
    """One explanation by its id.

    Raises:
        NotFoundError: there is none.
    """
    row = connection.execute(select(schema.explanation).where(_explanation.id == explanation_id)).first()
    if row is None:
        raise _no_explanation(explanation_id)
    return stored_explanation(row)


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
    return [stored_score(row, tuple(controls.get(row.id, ()))) for row in found]


def _put_explanation(
    connection: Connection,
    explanation: Explanation,
    *,
    author: str | None = None,
    server: str = "",
    unsealed: bool = False,
    parent_id: int | None = None,
) -> int:
    """As `add_explanation`, in the transaction of `connection`."""
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
    _lock_neuron(connection, explanation.neuron)
    if parent_id is not None:
        _unit_of(connection, parent_id)
    current = _current(unit, explanation.source, author)
    for row in connection.execute(select(schema.explanation).where(current)).mappings():
        if all(row[key] == value for key, value in content.items()):
            return int(row["id"])
    keys: dict[str, Any] = dict(zip(("layer", "neuron", "combination"), unit, strict=True))
    keys |= {"source": explanation.source, "author": author, "created": _now()}
    new = _insert(connection, schema.explanation, keys | content)
    _supersede(connection, current, new, unsealed=unsealed)
    return new


def _current(unit: tuple[int, int, int], source: str, author: str | None) -> Any:
    """Which explanations of a unit are current of those with this source and author."""
    return and_(
        _is_unit(unit),
        _explanation.source == source,
        _explanation.author == author,
        _explanation.superseded_by.is_(None),
    )


def _supersede(connection: Connection, current: Any, by: int, *, unsealed: bool) -> None:
    """Have `by` take the place of the others that are `current`; if it is unsealed, of none that is sealed."""
    earlier = schema.explanation.update().where(current, _explanation.id != by)
    if unsealed:
        earlier = earlier.where(_explanation.unsealed.is_(True))
    connection.execute(earlier.values(superseded_by=by))


def _put_scores(
    connection: Connection,
    explanation_id: int,
    scores: Sequence[Score],
    protocol_version: str,
    tau: float | None,
    reading: int | None = None,
) -> list[int]:
    """As `add_scores`, in the transaction of `connection`."""
    unit = _unit_of(connection, explanation_id)
    _lock_neuron(connection, NeuronId(unit[0], unit[1]))
    if not scores:
        return []
    number = reading if reading is not None else _next_reading(connection, unit)
    shared = {"explanation_id": explanation_id, "protocol_version": protocol_version, "tau": tau, "created": _now()}
    rows = [
        {
            **shared,
            **{name: getattr(score, name) for name in _SAME},
            "split": score.split.position,
            "reading": number if _sealed(score) else None,
        }
        for score in scores
    ]
    query = select(_score.id, *(_score[name] for name in _KEY)).where(
        _score.explanation_id == explanation_id, _score.superseded_by.is_(None)
    )
    current = {tuple(row)[1:]: row.id for row in connection.execute(query)}
    statement = schema.score.insert().returning(_score.id, sort_by_parameter_order=True)
    new = list(connection.execute(statement, rows).scalars())
    for row, identifier in zip(rows, new, strict=True):
        earlier = current.get(key := tuple(row[name] for name in _KEY))
        current[key] = identifier
        if earlier is not None:
            replaced = schema.score.update().where(_score.id == earlier)
            connection.execute(replaced.values(superseded_by=identifier))
    controls = [
        {"score_id": identifier, **vars(control)}
        for identifier, score in zip(new, scores, strict=True)
        for control in score.controls
    ]
    if controls:
        connection.execute(schema.score_control.insert(), controls)
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


def stored_explanation(row: Row[Any]) -> StoredExplanation:
    """An explanation from its row."""
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


def stored_score(row: Row[Any], controls: tuple[ScoreControl, ...]) -> StoredScore:
    """A score from its row, with its controls."""
    identifier, explanation_id, split, tau, protocol, reading, created, superseded_by = _frame_of(row)
    values: dict[str, Any] = dict(zip(_SAME, _same_of(row), strict=True))
    return StoredScore(
        id=identifier,
        explanation_id=explanation_id,
        score=Score(split=SPLITS[split], controls=controls, **values),
        tau=tau,
        protocol_version=protocol,
        reading=reading,
        created=created,
        superseded_by=superseded_by,
    )


def _getter(*names: str) -> Callable[[Row[Any]], tuple[Any, ...]]:
    """The columns `names` of a whole row of `score`, by their places: an index has millions of such rows."""
    places = {column.name: place for place, column in enumerate(schema.score.columns)}
    return itemgetter(*(places[name] for name in names))


_same_of = _getter(*_SAME)
_frame_of = _getter("id", "explanation_id", "split", "tau", "protocol_version", "reading", "created", "superseded_by")
