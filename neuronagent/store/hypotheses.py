"""What the agent supposed of neurons: written with its prediction before the model is run, completed once afterwards.

A row is never changed but for its outcome, which is written once, and never deleted: refuted ones are results too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors

PREDICTED = "predicted"
_column = schema.hypothesis.c


@dataclass(frozen=True, kw_only=True)
class Supposed:
    """A hypothesis before its test. `run` names all that the run depends on; `claims` and `prediction` are JSON
    values."""

    run: str
    round: int
    neuron: NeuronId
    combination: SignCombination
    text: str
    claims: Mapping[str, Any]
    prediction: Mapping[str, Any]
    model: str
    server: str
    prompt_version: str


@dataclass(frozen=True, kw_only=True)
class StoredHypothesis:
    """A hypothesis as it is in the index; `outcome` and `tested` are None until the model was run."""

    id: int
    supposed: Supposed
    status: str
    outcome: Mapping[str, Any] | None
    created: str
    tested: str | None


def predict(engine: Engine, supposed: Sequence[Supposed]) -> list[int]:
    """Store hypotheses of one round together and return their ids; those that the same run has stored are left as they
    are.

    Raises:
        StorageError: it cannot be written.
    """
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        return [_predict(connection, one) for one in supposed]


def settle(engine: Engine, hypothesis_id: int, status: str, outcome: Mapping[str, Any]) -> None:
    """Add what came of a hypothesis; one that has an outcome keeps it.

    Raises:
        StorageError: it cannot be written.
    """
    row = {"status": status, "outcome_json": _json(outcome), "tested": _now()}
    wanted = schema.hypothesis.update().where(_column.id == hypothesis_id, _column.outcome_json.is_(None))
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        connection.execute(wanted.values(**row))


def find_hypotheses(connection: Connection, neuron: NeuronId) -> list[StoredHypothesis]:
    """All hypotheses about a neuron, oldest first."""
    own = _column.layer == neuron.layer, _column.neuron == neuron.index
    return [_stored(row) for row in connection.execute(select(schema.hypothesis).where(*own).order_by(_column.id))]


def _predict(connection: Connection, one: Supposed) -> int:
    said = {"text": one.text, "claims_json": _json(one.claims), "prediction_json": _json(one.prediction)}
    same_round = _column.run == one.run, _column.round == one.round
    for row in connection.execute(select(schema.hypothesis).where(*same_round)).mappings():
        if all(row[key] == value for key, value in said.items()):
            return int(row["id"])
    taken = connection.execute(select(func.max(_column.place)).where(*same_round)).scalar()
    row = {
        **said,
        "run": one.run,
        "round": one.round,
        "place": 0 if taken is None else int(taken) + 1,
        "layer": one.neuron.layer,
        "neuron": one.neuron.index,
        "combination": one.combination.position,
        "status": PREDICTED,
        "model": one.model,
        "server": one.server,
        "prompt_version": one.prompt_version,
        "created": _now(),
    }
    key = connection.execute(schema.hypothesis.insert().values(**row)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _stored(row: Row[Any]) -> StoredHypothesis:
    supposed = Supposed(
        run=row.run,
        round=row.round,
        neuron=NeuronId(row.layer, row.neuron),
        combination=COMBINATIONS[row.combination],
        text=row.text,
        claims=json.loads(row.claims_json),
        prediction=json.loads(row.prediction_json),
        model=row.model,
        server=row.server,
        prompt_version=row.prompt_version,
    )
    outcome = None if row.outcome_json is None else json.loads(row.outcome_json)
    return StoredHypothesis(
        id=row.id, supposed=supposed, status=row.status, outcome=outcome, created=row.created, tested=row.tested
    )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True, ensure_ascii=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
