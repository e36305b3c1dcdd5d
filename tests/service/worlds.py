"""A model and a text to index in parts, and the comparison of two indexes row by row."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuronagent.service.options import BuildOptions
from neuronagent.store.blobs import unpack_statistics
from tests import planted
from tests.models.tiny_models import SPECS, save_tiny

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class World:
    """A model folder and a file with texts."""

    model: Path
    file: Path

    def options(self, db: Path, **changes: Any) -> BuildOptions:
        base = BuildOptions(
            model=str(self.model), text=str(self.file), db=str(db), k=4, salt="salt", batch_tokens=64, neighbours="off"
        )
        return replace(base, **changes)


def random_world(folder: Path, *, layers: int = 2, texts: int = 40, **settings: Any) -> World:
    """A random Llama of `layers` layers with 48 neurons each, and sentences that it can read."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in planted.corpus(texts)))
    model = save_tiny(SPECS["llama"], folder / "model", num_hidden_layers=layers, **settings)
    return World(model, file)


def rows(db: Path) -> Rows:
    """Every row of every table, but for when, how fast and in how many parts the index was built."""
    with closing(sqlite3.connect(db)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in tables}
    found["index_info"] = [row for row in found["index_info"] if row["key"] not in ("created", "seconds")]
    assert len(found["combination"]) > 100
    return found


def assert_same(found: Rows, expected: Rows) -> None:
    """Bit for bit, but for sums in float64 (and what is divided by one), which agree to 1e-12 of their value."""
    assert found.keys() == expected.keys()
    for table, those in expected.items():
        assert len(found[table]) == len(those), table
        for ours, theirs in zip(found[table], those, strict=True):
            for column, value in theirs.items():
                where = (table, column, ours, theirs)
                if table == "combination" and column == "statistics":
                    a, b = (unpack_statistics([row[column]]) for row in (ours, theirs))
                    np.testing.assert_allclose(a, b, rtol=1e-12, atol=0, err_msg=str(where[:2]))
                elif column.startswith("mass"):
                    same = (
                        math.isclose(ours[column], value, rel_tol=1e-12) if value is not None else ours[column] is None
                    )
                    assert same, where
                else:
                    assert ours[column] == value, where
