"""Writes an index as a folder of parquet files, all of it or nothing: into `.NAME.partial`, which is then moved.

A group of neurons is in memory at a time. `neurons/` has a file per layer, `texts/` and `vocabulary/` one each, and
`explanations/`, `scores/` and `score_controls/` where there are any.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neuronagent.domain import token_text
from neuronagent.errors import StorageError, UsageError
from neuronagent.service.exporting.card import card
from neuronagent.service.exporting.columns import Row, neuron_row, neuron_schema
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.store.bulk import BulkReader

GROUP = 256
"""Neurons of a row group: the rows that are Python objects at a time, about 100 kB each."""
_MARK = ".neuronagent-export"
_FLAT = {"explanation": "explanations", "score": "scores", "score_control": "score_controls"}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote."""

    folder: Path
    neurons: int
    texts: int
    bytes: int


def export_parquet(
    index: Index, folder: str, *, licence: str | None = None, progress: Progress | None = None
) -> Exported:
    """Write `index` into the new folder `folder`.

    Raises:
        UsageError: the index holds imported numbers: they are others' to publish.
        StorageError: the folder is there already and not empty, or there is no room.
    """
    if index.is_imported:
        raise UsageError("this index holds imported numbers, which are not exported", remedy="use their own source")
    target = Path(folder).expanduser().absolute()
    partial = _begin(target)
    try:
        progress = progress or Silent()
        bulk = BulkReader(index.reader.engine)
        neurons = _write_neurons(index, bulk, partial / "neurons", progress)
        texts = _write(partial / "texts" / "texts.parquet", _text_schema(), _text_rows(bulk))
        _write(partial / "vocabulary" / "vocabulary.parquet", _token_schema(), _token_rows(bulk))
        flat = [name for name in _FLAT if bulk.count(name)]
        for name in flat:
            _write_flat(partial / _FLAT[name] / f"{_FLAT[name]}.parquet", bulk, name)
        (partial / "index_info.json").write_text(json.dumps(index.info, indent=1, ensure_ascii=False), "utf-8")
        files = ["neurons", "texts", "vocabulary", *(_FLAT[name] for name in flat)]
        (partial / "README.md").write_text(card(index.info, files, licence), "utf-8")
        (partial / _MARK).unlink()
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        _finish(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Exported(folder=target, neurons=neurons, texts=texts, bytes=size)


def _begin(target: Path) -> Path:
    """The empty folder to write into; one that a killed export left is removed."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{target} is there already", remedy="name a new folder")
    if not target.parent.is_dir():
        raise StorageError(f"the folder {target.parent} does not exist", remedy="create it first")
    partial = target.with_name(f".{target.name}.partial")
    if partial.exists():
        if not (partial / _MARK).exists():
            raise StorageError(f"{partial} is in the way", remedy="remove it")
        shutil.rmtree(partial)
    partial.mkdir()
    (partial / _MARK).touch()
    return partial


def _finish(partial: Path, target: Path) -> None:
    for path in partial.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    os.replace(partial, target)  # an empty folder of that name is replaced


def _write_neurons(index: Index, bulk: BulkReader, folder: Path, progress: Progress) -> int:
    layers = index.reader.layers()
    progress.start("exporting neurons", sum(layers.values()), "neurons")
    done = 0

    def rows(layer: int, count: int) -> Iterator[Row]:
        nonlocal done
        for start in range(0, count, GROUP):
            for record in bulk.neurons(layer, start, start + GROUP):
                yield neuron_row(record, index.reader.neighbours(record.neuron), bulk.locate)
                done += 1
            progress.advance(done)

    with _without_collection():
        for layer, count in layers.items():
            _write(folder / f"layer-{layer:03d}.parquet", neuron_schema(), rows(layer, count))
    return done


@contextmanager
def _without_collection() -> Generator[None]:
    """Rows are a thousand small objects per neuron and no cycles: looking for these takes two thirds of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _write(path: Path, schema: Any, rows: Iterable[Row]) -> int:
    """Write rows in groups; returns how many there were."""
    path.parent.mkdir(exist_ok=True)
    source, count = iter(rows), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(source, GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _text_schema() -> Any:
    return pa.schema(
        [
            ("text_id", pa.int32()),
            ("document", pa.string()),
            ("split", pa.string()),
            ("first_token", pa.int64()),
            ("token_ids", pa.list_(pa.int32())),
        ]
    )


def _text_rows(bulk: BulkReader) -> Iterator[Row]:
    for text in bulk.texts():
        yield {
            "text_id": text.text_id,
            "document": text.document,
            "split": text.split.value,
            "first_token": text.first_token,
            "token_ids": text.token_ids,
        }


def _token_schema() -> Any:
    names = ("norm_unembedding", "norm_embedding")
    return pa.schema(
        [
            ("token_id", pa.int32()),
            ("token", pa.string()),
            ("bytes", pa.binary()),
            *((name, pa.float32()) for name in names),
            *((f"count_{split}", pa.int64()) for split in ("explain", "select", "test")),
        ]
    )


def _token_rows(bulk: BulkReader) -> Iterator[Row]:
    for row in bulk.tokens():
        yield {"token_id": row.pop("id"), "token": token_text(row["bytes"]), **row}


def _write_flat(path: Path, bulk: BulkReader, name: str) -> None:
    """A table as it is stored: it is small, and its columns are the store's."""
    rows: list[dict[str, Any]] = list(bulk.table(name))
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
