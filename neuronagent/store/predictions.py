"""Fits, scores and results of neuron predictability in an index.

A fit is named; fitting it anew removes the scores and results of the old one. Scores of one predictor of a layer are
one row, so that a run that is stopped keeps what it has; one neuron is cut out of its layer's row by the database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Table, func, select

from neuronagent.predictability.scores import COLUMNS, PredictedNeuron, PredictorScores, StoredFit
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors

_FLOAT = np.dtype("<f4")
_ROW = _FLOAT.itemsize * len(COLUMNS)


def save_fit(engine: Engine, name: str, info: Mapping[str, Any]) -> int:
    """Store a fit and return its id. The same fit (`info["identity"]`) keeps its scores and results; another one of
    this name takes their place.

    Raises:
        StorageError: it cannot be written.
    """
    own = schema.prediction_fit.c
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        row = connection.execute(select(schema.prediction_fit).where(own.name == name)).one_or_none()
        if row is not None:
            if json.loads(row.info).get("identity") == info.get("identity"):
                return int(row.id)
            for table in (schema.prediction_result, schema.prediction_score):
                connection.execute(table.delete().where(table.c.fit_id == row.id))
            connection.execute(schema.prediction_fit.delete().where(own.id == row.id))
        said = {"name": name, "info": _json(info), "created": _now()}
        key = connection.execute(schema.prediction_fit.insert().values(**said)).inserted_primary_key
        assert key is not None
        return int(key[0])


def save_scores(
    engine: Engine,
    fit_id: int,
    layer: int,
    predictor: str,
    scores: PredictorScores,
    *,
    text: str,
    about: Mapping[str, Any],
) -> None:
    """Store, or replace, the scores of one predictor of `layer` on `text`; `about`: tokens, documents, JSON.

    Raises:
        StorageError: it cannot be written.
    """
    values = np.stack([getattr(scores, name) for name in COLUMNS], axis=1).astype(_FLOAT)
    key = {"fit_id": fit_id, "text": text, "layer": layer, "predictor": predictor}
    _replace(engine, schema.prediction_score, key, {"values": values.tobytes(), "about": _json(about)})


def save_result(engine: Engine, fit_id: int, kind: str, key: str, value: Mapping[str, Any]) -> None:
    """Store, or replace, a result; `kind` names the analysis, `key` its settings.

    Raises:
        StorageError: it cannot be written.
    """
    names = {"fit_id": fit_id, "kind": kind, "key": key}
    _replace(engine, schema.prediction_result, names, {"value": _json(value), "created": _now()})


def find_fits(connection: Connection) -> list[StoredFit]:
    """All fits, oldest first."""
    rows = connection.execute(select(schema.prediction_fit).order_by(schema.prediction_fit.c.id))
    return [StoredFit(id=row.id, name=row.name, info=json.loads(row.info), created=row.created) for row in rows]


def find_scored(connection: Connection, fit_id: int) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Which predictors of which layers have scores on which texts, and what is said of them: by (text, layer,
    predictor)."""
    own = schema.prediction_score.c
    rows = connection.execute(select(own.text, own.layer, own.predictor, own.about).where(own.fit_id == fit_id))
    return {(row.text, row.layer, row.predictor): json.loads(row.about) for row in rows}


def find_layer_scores(connection: Connection, fit_id: int, layer: int, text: str) -> dict[str, PredictorScores]:
    """The scores of a whole layer on `text`, by predictor."""
    own = schema.prediction_score.c
    wanted = own.fit_id == fit_id, own.layer == layer, own.text == text
    rows = connection.execute(select(own.predictor, own["values"]).where(*wanted).order_by(own.predictor))
    return {predictor: _unpacked(values) for predictor, values in rows}


def find_neuron_scores(
    connection: Connection, fit_id: int, layer: int, index: int, text: str
) -> dict[str, PredictedNeuron]:
    """The scores of one neuron on `text`, by predictor."""
    own = schema.prediction_score.c
    part = func.substr(own["values"], 1 + _ROW * index, _ROW)
    wanted = own.fit_id == fit_id, own.layer == layer, own.text == text
    rows = connection.execute(select(own.predictor, part).where(*wanted).order_by(own.predictor))
    return {
        predictor: PredictedNeuron(*np.frombuffer(bytes(values), dtype=_FLOAT).astype(float).tolist())
        for predictor, values in rows
        if len(values) == _ROW
    }


def find_results(connection: Connection, fit_id: int, kind: str) -> dict[str, dict[str, Any]]:
    """The results of one analysis, by key, oldest first."""
    own = schema.prediction_result.c
    wanted = own.fit_id == fit_id, own.kind == kind
    rows = connection.execute(select(own.key, own.value).where(*wanted).order_by(own.created, own.key))
    return {key: json.loads(value) for key, value in rows}


def _replace(engine: Engine, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        connection.execute(table.delete().where(*(table.c[name] == value for name, value in key.items())))
        connection.execute(table.insert().values(**key, **values))


def _unpacked(data: bytes) -> PredictorScores:
    rows = np.frombuffer(data, dtype=_FLOAT).reshape(-1, len(COLUMNS)).astype(np.float64)
    return PredictorScores(**{name: rows[:, place] for place, name in enumerate(COLUMNS)})


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
