"""Fits, scores and results of neuron predictability in an index.

A fit is named; fitting it anew removes the scores and results of the old one. Scores of one predictor of a layer are
one row, so that a run that is stopped keeps what it has; one neuron is cut out of its layer's row by the database.
What is stored about a row of scores has a hash of them, so that other scores are another state of their neurons
(`find_prediction_states`) though the rows themselves, megabytes in a large model, are not read for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, Executable, Table, func, select

from neuronagent.errors import IndexMismatchError
from neuronagent.predictability.scores import COLUMNS, PredictedNeuron, PredictorScores, StoredFit
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors

_FLOAT = np.dtype("<f4")
_ROW = _FLOAT.itemsize * len(COLUMNS)
_HASH = "values_hash"
"""Of the scores, in what is stored about them; never handed out."""


class Predicted(NamedTuple):
    """The scores of one predictor of one neuron on one text, and what is said of the run: tokens, documents."""

    scores: PredictedNeuron
    about: dict[str, Any]


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
    identity: str | None = None,
) -> None:
    """Store, or replace, the scores of one predictor of `layer` on `text`; `about`: tokens, documents, JSON.
    `identity`: of the fit whose maps they were made with.

    Raises:
        IndexMismatchError: another fit took its place meanwhile.
        StorageError: it cannot be written.
    """
    values = np.stack([getattr(scores, name) for name in COLUMNS], axis=1).astype(_FLOAT).tobytes()
    key = {"fit_id": fit_id, "text": text, "layer": layer, "predictor": predictor}
    said = {**about, _HASH: hashlib.blake2b(values, digest_size=8).hexdigest()}
    _replace(engine, schema.prediction_score, key, {"values": values, "about": _json(said)}, identity)


def save_result(
    engine: Engine, fit_id: int, kind: str, key: str, value: Mapping[str, Any], *, identity: str | None = None
) -> None:
    """Store, or replace, a result; `kind` names the analysis, `key` its settings, `identity` the fit it was found with.

    Raises:
        IndexMismatchError: another fit took its place meanwhile.
        StorageError: it cannot be written.
    """
    names = {"fit_id": fit_id, "kind": kind, "key": key}
    _replace(engine, schema.prediction_result, names, {"value": _json(value), "created": _now()}, identity)


def find_fits(connection: Connection) -> list[StoredFit]:
    """All fits, oldest first."""
    rows = connection.execute(select(schema.prediction_fit).order_by(schema.prediction_fit.c.id))
    return [StoredFit(id=row.id, name=row.name, info=json.loads(row.info), created=row.created) for row in rows]


def find_scored(connection: Connection, fit_id: int) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Which predictors of which layers have scores on which texts, and what is said of them: by (text, layer,
    predictor)."""
    own = schema.prediction_score.c
    rows = connection.execute(select(own.text, own.layer, own.predictor, own.about).where(own.fit_id == fit_id))
    return {(row.text, row.layer, row.predictor): _about(row.about) for row in rows}


def find_scored_fits(connection: Connection, layer: int | None = None) -> set[int]:
    """The ids of the fits that have any scores, or any of `layer`."""
    own = schema.prediction_score.c
    wanted = [] if layer is None else [own.layer == layer]
    return set(connection.execute(select(own.fit_id).where(*wanted).distinct()).scalars())


def find_layer_scores(
    connection: Connection, fit_id: int, layer: int, text: str, predictor: str | None = None
) -> dict[str, PredictorScores]:
    """The scores of a whole layer on `text`, by predictor: all, or only that one."""
    own = schema.prediction_score.c
    wanted = [own.fit_id == fit_id, own.layer == layer, own.text == text]
    wanted += [] if predictor is None else [own.predictor == predictor]
    rows = connection.execute(select(own.predictor, own["values"]).where(*wanted).order_by(own.predictor))
    return {predictor: _unpacked(values) for predictor, values in rows}


def find_neuron_scores(
    connection: Connection, fit_id: int, layer: int, index: int, text: str
) -> dict[str, PredictedNeuron]:
    """The scores of one neuron on `text`, by predictor."""
    found = find_neuron_texts(connection, fit_id, layer, index, text).get(text, {})
    return {predictor: own.scores for predictor, own in found.items()}


def find_neuron_texts(
    connection: Connection, fit_id: int, layer: int, index: int, text: str | None = None
) -> dict[str, dict[str, Predicted]]:
    """The scores of one neuron by text and predictor: on every text, or on `text` alone."""
    own = schema.prediction_score.c
    part = func.substr(own["values"], 1 + _ROW * index, _ROW)
    wanted = [own.fit_id == fit_id, own.layer == layer]
    wanted += [] if text is None else [own.text == text]
    query = select(own.text, own.predictor, own.about, part).where(*wanted).order_by(own.text, own.predictor)
    found: dict[str, dict[str, Predicted]] = {}
    for where, predictor, about, values in connection.execute(query):
        if len(values) == _ROW:
            numbers = np.frombuffer(bytes(values), dtype=_FLOAT).astype(float).tolist()
            found.setdefault(where, {})[predictor] = Predicted(PredictedNeuron(*numbers), _about(about))
    return found


def find_results(connection: Connection, fit_id: int, kind: str, key: str | None = None) -> dict[str, dict[str, Any]]:
    """The results of one analysis, by key, oldest first; with `key` that one alone."""
    own = schema.prediction_result.c
    wanted = [own.fit_id == fit_id, own.kind == kind, *([] if key is None else [own.key == key])]
    rows = connection.execute(select(own.key, own.value).where(*wanted).order_by(own.created, own.key))
    return {key: json.loads(value) for key, value in rows}


def find_prediction_states(connection: Connection, layers: Iterable[int]) -> dict[int, str]:
    """A hash for each layer that changes whenever anything can that is known of its neurons' predictability; no layer
    has one where nothing was ever fitted."""
    fit, score, result = schema.prediction_fit.c, schema.prediction_score.c, schema.prediction_result.c
    fits = _sorted(connection, select(fit.id, fit.name, fit.created))
    if not fits:
        return {}
    results = _sorted(connection, select(result.fit_id, result.kind, result.key, result.created))
    shared = repr((fits, sorted(find_scored_fits(connection)), results))
    found: dict[int, str] = {}
    for layer in layers:
        rows = select(score.fit_id, score.text, score.predictor, score.about).where(score.layer == layer)
        said = f"{shared} {_sorted(connection, rows)}"
        found[layer] = hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return found


def _sorted(connection: Connection, query: Executable) -> list[tuple[Any, ...]]:
    """Rows in an order that does not depend on the database."""
    return sorted(tuple(row) for row in connection.execute(query))


def _replace(
    engine: Engine, table: Table, key: Mapping[str, Any], values: Mapping[str, Any], identity: str | None
) -> None:
    """In one transaction with the question whose the fit is: SQLite gives the id of a row that is gone to a new one."""
    own = schema.prediction_fit.c
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        connection.execute(table.delete().where(*(table.c[name] == value for name, value in key.items())))
        if identity is not None:
            info = connection.execute(select(own.info).where(own.id == key["fit_id"])).scalar()
            if info is None or json.loads(info).get("identity") != identity:
                raise IndexMismatchError("another fit took the place of this one meanwhile", remedy="run it again")
        connection.execute(table.insert().values(**key, **values))


def _unpacked(data: bytes) -> PredictorScores:
    rows = np.frombuffer(data, dtype=_FLOAT).reshape(-1, len(COLUMNS)).astype(np.float64)
    return PredictorScores(**{name: rows[:, place] for place, name in enumerate(COLUMNS)})


def _about(stored: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(stored).items() if name != _HASH}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
