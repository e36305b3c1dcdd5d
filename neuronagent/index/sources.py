"""Documents from wherever a researcher has them: a file, a folder, a hub data set, or Python's own library.

| source | documents | their names |
|---|---|---|
| `FILE.jsonl`, `FILE.jsonl.gz` | one object per line, its `text` | its `id`, else `FILE.jsonl:LINE` |
| `FILE.txt` | separated by blank lines; where the file has none, every line is one | `FILE.txt:LINE` it starts on |
| `FILE.parquet` | one per row, column `text` | column `id`, else `FILE.parquet:ROW` |
| a folder | each `.py`, `.md`, `.txt` in it and below, sorted; names that begin with a dot are skipped | the path |
| `python-stdlib` | the modules of the running interpreter's standard library | the path |
| `org/name[:config][@split]` | rows of a hub data set, streamed; split `train` if not said | `id`, else the row |

A path wins over a data set of the same name, and where there is a folder `org` here, `org/name` is a path in it (a
mistyped path should not wait for the network). `hf:NAME` always means the `datasets` library, which also reads a
local folder of its own (`hf:./copy`). Numbers start at 1. A name that comes twice gets its number appended.

At most one document (for parquet a few rows) is in memory at a time, and the names of those before. Text is UTF-8 and
nothing else: with replacement characters in it a corpus would tell about our decoder. All failures are `CorpusError`.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from neuronagent.domain import clip
from neuronagent.errors import CorpusError
from neuronagent.index.python_source import stdlib_files

Kind = Literal["jsonl", "text", "parquet", "folder", "python-stdlib", "hub"]

LARGEST_DOCUMENT = 16 * 2**20
"""Bytes. Tokenising needs a hundred times as much memory, and such a document would fill a split of its own."""
FOLDER_SUFFIXES = (".py", ".md", ".txt")
ALLOWED = (
    "allowed: a .jsonl, .jsonl.gz, .txt or .parquet file, a folder of .py, .md or .txt files, python-stdlib, "
    "or a Hugging Face data set org/name[:config][@split]"
)
_SUFFIXES: dict[str, Kind] = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".txt": "text", ".parquet": "parquet"}
_HUB = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?::(?P<config>[^@]+))?(?:@(?P<split>.+))?", re.ASCII)
_FORCED_HUB = re.compile(r"hf:(?P<name>[^:@]+)(?::(?P<config>[^@]+))?(?:@(?P<split>.+))?")
_ROWS = 64  # parquet rows decoded at a time
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Document:
    """A text and a name that is unique in its source and the same in every reading of it."""

    name: str
    text: str


@dataclass(frozen=True)
class SourceInfo:
    """What a source is, and whether only the first chunk of its documents is used unless the user says otherwise."""

    kind: Kind
    truncate_by_default: bool


def describe(source: str) -> SourceInfo:
    """What kind of source `source` names; looks at the disk but reads and downloads nothing.

    Raises:
        CorpusError: it is no source, or a file that is not there.
    """
    kind = _kind(source)
    return SourceInfo(kind, truncate_by_default=kind == "hub")


def documents(source: str) -> Generator[Document]:
    """The documents of `source`, in its order, read as they are asked for; documents may be blank, but not all.

    Who stops before the end should `close()` it: a data set's stream left open complains when Python ends.

    Raises:
        CorpusError: at once, if `source` is no source; while reading, if something in it is not text.
    """
    kind = _kind(source)
    path = Path(source)
    if kind == "python-stdlib":
        found: Iterable[Document] = (Document(file.name, file.text) for file in stdlib_files())
    elif kind == "folder":
        found = _folder(path)
    elif kind == "jsonl":
        found = _jsonl(path)
    elif kind == "text":
        found = _text(path)
    elif kind == "parquet":
        found = _parquet(path)
    else:
        found = _hub(source)
    return _checked(source, found)


def _kind(source: str) -> Kind:
    if source == "python-stdlib":
        return "python-stdlib"
    if _FORCED_HUB.fullmatch(source):
        return "hub"
    suffix = _suffix(source)
    try:
        path = Path(source)
        if path.is_dir() and source:
            return "folder"
        if path.exists() and not path.is_file():
            raise CorpusError(f"{clip(source)!r} is neither a file nor a folder", remedy=ALLOWED)
        missing = not path.exists()
        local = missing and Path(path.parts[0]).is_dir()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CorpusError(f"cannot open {clip(source)!r}: {error}", remedy=ALLOWED) from error
    if not missing and suffix:
        return _SUFFIXES[suffix]
    if not missing:
        raise CorpusError(f"{clip(source)} has an unknown suffix", remedy=ALLOWED)
    if not suffix and not local and _HUB.fullmatch(source):
        return "hub"
    raise CorpusError(f"there is no file or folder {clip(source)!r}", remedy=ALLOWED)


def _suffix(source: str) -> str:
    lower = source.lower()
    return next((suffix for suffix in _SUFFIXES if lower.endswith(suffix)), "")


def _checked(source: str, found: Iterable[Document]) -> Generator[Document]:
    """`found` with unique names; refuses a source in which nothing but blanks was found."""
    seen: set[str] = set()
    blank = True
    for number, document in enumerate(found, start=1):
        name = clip(document.name, _LONGEST_NAME)
        while name in seen:
            name = f"{name}#{number}"
        seen.add(name)
        blank = blank and not document.text.strip()
        yield Document(name, document.text)
    if blank:
        raise CorpusError(f"there is no text in {clip(source)}: it is empty or blank", remedy=ALLOWED)


# Bytes to text


def _decode(data: bytes, path: Path, *, offset: int, where: str) -> str:
    """`data`, which begins `offset` bytes into `path`, as text with `\\n` line ends."""
    if (nul := data.find(b"\0")) >= 0:
        raise _not_text(path, "a NUL byte", offset + nul)
    if len(data) > LARGEST_DOCUMENT:  # before decoding: the cut may go through a character
        raise _too_large(where)
    mark = len(codecs.BOM_UTF8) if offset == 0 and data.startswith(codecs.BOM_UTF8) else 0
    try:
        text = data[mark:].decode()
    except UnicodeDecodeError as error:
        raise _not_text(path, "invalid UTF-8", offset + mark + error.start) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _not_text(path: Path, what: str, offset: int) -> CorpusError:
    return CorpusError(f"{path} is not text: {what} at byte offset {offset}", remedy="convert it to UTF-8")


def _too_large(where: str) -> CorpusError:
    limit = f"{LARGEST_DOCUMENT / 2**20:g} MiB"
    return CorpusError(f"{where} is a document of more than {limit}", remedy="split it into smaller ones")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text, without line end, of each line; of a `.gz`, of what is packed in it."""
    try:
        with _open(path) as file:
            offset = 0
            number = 0
            while line := file.readline(LARGEST_DOCUMENT + 1):
                number += 1
                yield number, _decode(line, path, offset=offset, where=f"{path}:{number}").rstrip("\n")
                offset += len(line)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"cannot read {path}: {error}") from error


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


# One reader per kind


def _jsonl(path: Path) -> Iterator[Document]:
    for number, line in _lines(path):
        if line.strip():
            where = f"{path}:{number}"
            row = _json_object(line, where)
            text = row.get("text")
            if not isinstance(text, str):
                raise CorpusError(f"{where} has no string `text`", remedy='a line is {"text": "…", "id": "…"}')
            _refuse_surrogates(text, where)
            yield Document(_name(row.get("id"), f"{path.name}:{number}"), text)


def _json_object(line: str, where: str) -> Mapping[str, object]:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not JSON: {error}", remedy='a line is {"text": "…", "id": "…"}') from error
    if not isinstance(value, dict):
        raise CorpusError(f"{where} is not a JSON object", remedy='a line is {"text": "…", "id": "…"}')
    return cast("dict[str, object]", value)


def _refuse_surrogates(text: str, where: str) -> None:
    """JSON can spell half a character (`"\\ud800"`); no tokenizer and no UTF-8 file can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{where} has half a surrogate pair at character {error.start:,} of `text`") from error


def _name(identifier: object, otherwise: str) -> str:
    if isinstance(identifier, str) and identifier.strip():
        return identifier
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        return str(identifier)
    return otherwise


def _text(path: Path) -> Iterator[Document]:
    if not _has_separator(path):
        yield from (Document(f"{path.name}:{number}", line) for number, line in _lines(path) if line.strip())
        return
    start, size = 0, 0
    paragraph: list[str] = []
    for number, line in _lines(path):
        if line.strip():
            start = start if paragraph else number
            paragraph.append(line)
            size += len(line) + 1
            if size > LARGEST_DOCUMENT:
                raise _too_large(f"{path}:{start}")
        elif paragraph:
            yield Document(f"{path.name}:{start}", "\n".join(paragraph))
            paragraph, size = [], 0
    if paragraph:
        yield Document(f"{path.name}:{start}", "\n".join(paragraph))


def _has_separator(path: Path) -> bool:
    """Whether a blank line stands between two lines that are not."""
    text_seen = blank_after_text = False
    for _, line in _lines(path):
        if line.strip():
            if blank_after_text:
                return True
            text_seen = True
        else:
            blank_after_text = text_seen
    return False


def _folder(root: Path) -> Iterator[Document]:
    paths = _files_below(root)
    if not paths:
        raise CorpusError(f"no .py, .md or .txt file in the folder {root}", remedy=ALLOWED)
    for name in paths:
        path = root / name
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_DOCUMENT + 1)
        except OSError as error:
            raise CorpusError(f"cannot read {path}: {error}") from error
        yield Document(name, _decode(data, path, offset=0, where=str(path)))


def _files_below(root: Path) -> list[str]:
    """Paths below `root`, with `/`, sorted; links to folders are not followed, so that there are no circles."""

    def refuse(error: OSError) -> None:
        raise CorpusError(f"cannot read {root}: {error}") from error

    names: list[str] = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in FOLDER_SUFFIXES and path.is_file():
                names.append(path.relative_to(root).as_posix())
    return sorted(names)


def _parquet(path: Path) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            columns = _parquet_columns(path, file.schema_arrow)
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                texts: list[str | None] = batch.column("text").to_pylist()
                ids: list[object] = batch.column("id").to_pylist() if "id" in columns else [None] * len(texts)
                for identifier, text in zip(ids, texts, strict=True):
                    row += 1
                    yield _row_document(identifier, text, f"{path.name}:{row}")
    except UnicodeDecodeError as error:
        what = f"invalid UTF-8 in `text` or `id` in one of the rows {row + 1} to {row + _ROWS}"
        raise CorpusError(f"{path} is not text: {what}") from error
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"cannot read {path}: {error}", remedy="is it a parquet file?") from error


def _parquet_columns(path: Path, schema: Any) -> list[str]:
    import pyarrow as pa

    names: list[str] = list(schema.names)
    if names.count("text") != 1:
        raise CorpusError(f"{path} has no column `text`, only {clip(', '.join(names), 120)}", remedy="rename one")
    kind = schema.field("text").type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise CorpusError(f"the column `text` of {path} holds {kind}", remedy="it must hold strings")
    return ["text", "id"] if names.count("id") == 1 else ["text"]


def _row_document(identifier: object, text: str | None, where: str) -> Document:
    """A row of a table; where the text is missing it is empty, so that it is counted among the skipped."""
    if text and len(text) > LARGEST_DOCUMENT:
        raise _too_large(where)
    return Document(_name(identifier, where), text or "")


def _hub(source: str) -> Iterator[Document]:
    import datasets
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    match = _FORCED_HUB.fullmatch(source) or _HUB.fullmatch(source)
    assert match is not None, source
    try:
        rows: Any = datasets.load_dataset(
            match["name"], match["config"], split=match["split"] or "train", streaming=True
        )
        if rows.column_names and "text" in rows.column_names:
            rows = rows.select_columns([name for name in ("text", "id") if name in rows.column_names])
        for number, row in enumerate(rows, start=1):
            text = row.get("text", 0)
            if text is not None and not isinstance(text, str):
                raise CorpusError(f"{clip(source)} has no column `text` of strings, only {clip(', '.join(row), 120)}")
            yield _row_document(row.get("id"), text, str(number))
    except (
        OSError,
        ValueError,
        LookupError,
        RuntimeError,
        DatasetsError,
        pa.ArrowException,
    ) as error:
        hint = "check the name, its :config and @split, the network, and HF_TOKEN if it is gated"
        raise CorpusError(f"cannot read the data set {clip(source)}: {clip(str(error), 200)}", remedy=hint) from error
