"""Checks of judges in an index: appended, never changed; the newest of a judge counts.

A judge is a model at a server, asked in one way (`kind`) with one version of the prompts: another of any of these is
another judge, which has to be checked itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, select

from neuronagent.domain import judge_name
from neuronagent.store import schema
from neuronagent.store.engine import engine_name
from neuronagent.store.failures import storage_errors

_check = schema.judge_check.c


@dataclass(frozen=True, kw_only=True)
class CheckedJudge:
    """One check. `auroc` is the least over the concepts, None where it could not be scored; `details` is JSON."""

    model: str
    server: str
    kind: str
    prompt_version: str
    auroc: float | None
    passed: bool
    details: Mapping[str, Any]

    @property
    def judge(self) -> str:
        """The name that its scores have."""
        return judge_name(self.model, self.server, self.kind)


@dataclass(frozen=True, kw_only=True)
class StoredCheck:
    """A check as it is in the index."""

    id: int
    check: CheckedJudge
    created: str


def add_check(engine: Engine, check: CheckedJudge) -> int:
    """Store `check` and return its id.

    Raises:
        StorageError: it cannot be written.
    """
    row: dict[str, Any] = {field.name: getattr(check, field.name) for field in fields(CheckedJudge)}
    row |= {
        "details": json.dumps(dict(check.details), sort_keys=True, ensure_ascii=False),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with storage_errors(engine_name(engine)), engine.begin() as connection:
        key = connection.execute(schema.judge_check.insert().values(**row)).inserted_primary_key
    assert key is not None
    return int(key[0])


def latest_check(
    connection: Connection, *, model: str, server: str, kind: str, prompt_version: str
) -> StoredCheck | None:
    """The newest check of a judge; None if it was never checked."""
    same = (
        _check.model == model,
        _check.server == server,
        _check.kind == kind,
        _check.prompt_version == prompt_version,
    )
    row = connection.execute(select(schema.judge_check).where(*same).order_by(_check.id.desc()).limit(1)).first()
    return None if row is None else _stored(row)


def find_checks(connection: Connection) -> list[StoredCheck]:
    """All checks, newest first."""
    return [_stored(row) for row in connection.execute(select(schema.judge_check).order_by(_check.id.desc()))]


def _stored(row: Row[Any]) -> StoredCheck:
    values: dict[str, Any] = {field.name: getattr(row, field.name) for field in fields(CheckedJudge)}
    return StoredCheck(
        id=row.id, check=CheckedJudge(**values | {"details": json.loads(row.details)}), created=row.created
    )
