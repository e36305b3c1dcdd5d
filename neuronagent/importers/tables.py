"""Tables of a data set: parquet or Arrow files in a local folder, or a data set of the hub, a few rows at a time."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from neuronagent.domain import clip
from neuronagent.errors import InputError, NotFoundError

ROWS = 2000
"""Rows in memory at a time: about 30 MB of a data set with all columns."""
_HUB = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?", re.ASCII)
_SUFFIXES = (".parquet", ".arrow")
_DEPTH = 3
_CHUNK = 2**20
_KEYS = {"layer", "neuron"}


class Tables(Protocol):
    """A data set: its column names, a name for what it holds, and its rows, read once from the start."""

    name: str
    columns: list[str]

    def content(self) -> str:
        """The same for the same data: a hash of the files, or the hub's commit."""
        ...

    def parts(self, columns: list[str]) -> Iterator[Any]:
        """Arrow tables with `columns`.

        Raises:
            InputError: it cannot be read.
        """
        ...


def open_tables(source: str, revision: str | None) -> Tables:
    """The data set that `source` names: a folder or file that is there, else `org/name[:config][@split]` on the hub.

    Raises:
        NotFoundError: there is no such folder.
        InputError: it has no table with the columns `layer` and `neuron`.
    """
    path = Path(source).expanduser()
    if path.exists():
        return FolderTables(path)
    match = _HUB.fullmatch(source)
    if match is None or Path(source).parts[0] in (".", "..") or Path(Path(source).parts[0]).is_dir():
        raise NotFoundError(f"there is no folder {clip(source, 100)}", remedy="name a folder, or org/name on the hub")
    return HubTables(match["name"], match["config"], match["split"] or "train", revision)


@dataclass(frozen=True)
class _File:
    path: Path

    def schema(self) -> list[str]:
        with self._open() as opened:
            return list((opened.schema_arrow if self.path.suffix == ".parquet" else opened.schema).names)

    def parts(self, columns: list[str]) -> Iterator[Any]:
        import pyarrow as pa

        with self._open() as opened:
            if self.path.suffix == ".parquet":
                yield from opened.iter_batches(batch_size=ROWS, columns=columns)
                return
            for batch in opened:
                table = pa.Table.from_batches([batch]).select(columns)
                for start in range(0, table.num_rows, ROWS):
                    yield table.slice(start, ROWS)

    def _open(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.path.suffix == ".parquet":
            return pq.ParquetFile(self.path, buffer_size=2**20, pre_buffer=False)
        return pa.ipc.open_stream(pa.memory_map(str(self.path)))


class FolderTables:
    """The `.parquet` and `.arrow` files below a folder that have the columns `layer` and `neuron`; or one such file."""

    def __init__(self, path: Path) -> None:
        self.name = path.resolve().name
        candidates = [path] if path.is_file() else _files_below(path)
        with _arrow_errors(self.name):
            schemas = [(file, file.schema()) for file in map(_File, candidates)]
        chosen = [(file, names) for file, names in schemas if set(names) >= _KEYS]
        if not chosen:
            raise InputError(
                f"no .parquet or .arrow file with the columns layer and neuron in {clip(str(path), 120)}",
                remedy="name the folder of a data set of activations",
            )
        self.columns = chosen[0][1]
        for file, names in chosen:
            if names != self.columns:
                raise InputError(
                    f"{file.path.name} and {chosen[0][0].path.name} have different columns",
                    remedy="name the folder of one data set",
                )
        self._files = [file for file, _ in chosen]

    def content(self) -> str:
        digest = hashlib.sha256()
        for file in self._files:
            with file.path.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()

    def parts(self, columns: list[str]) -> Iterator[Any]:
        for file in self._files:
            with _arrow_errors(file.path.name):
                yield from file.parts(columns)


def _files_below(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, below, files in os.walk(root):  # links to folders are not followed
        depth = len(Path(folder).relative_to(root).parts)
        below[:] = sorted(name for name in below if not name.startswith(".")) if depth < _DEPTH else []
        found += [Path(folder, name) for name in sorted(files) if name.endswith(_SUFFIXES) and not name.startswith(".")]
    return found


@contextmanager
def _arrow_errors(name: str) -> Generator[None]:
    """Turns what Arrow raises for a damaged file into one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read {clip(name, 100)}: {clip(str(error), 150)}") from error


class HubTables:
    """A data set of the hub, streamed."""

    def __init__(self, name: str, config: str | None, split: str, revision: str | None) -> None:
        import datasets

        self.name, self._revision = name, revision
        with _hub_errors(name):
            self._rows: Any = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
            self.columns: list[str] = list(self._rows.column_names or next(iter(self._rows)))

    def content(self) -> str:
        from huggingface_hub import HfApi

        with _hub_errors(self.name):
            return f"{self.name}@{HfApi().dataset_info(self.name, revision=self._revision).sha}"

    def parts(self, columns: list[str]) -> Iterator[Any]:
        with _hub_errors(self.name):
            yield from self._rows.select_columns(columns).with_format("arrow").iter(batch_size=ROWS)


@contextmanager
def _hub_errors(name: str) -> Generator[None]:
    """The same for everything that can go wrong between here and the hub."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, LookupError, RuntimeError, DatasetsError, pa.ArrowException) as error:
        hint = "check the name, its :config and @split, --revision, the network, and HF_TOKEN if it is gated"
        raise InputError(f"cannot read the data set {name}: {clip(str(error), 150)}", remedy=hint) from error
