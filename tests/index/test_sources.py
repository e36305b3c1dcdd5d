"""Documents come whole, in order, under stable names; what is not text is refused with its place."""

from __future__ import annotations

import gzip
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronagent.errors import CorpusError
from neuronagent.index import sources
from neuronagent.index.sources import Document, SourceInfo, describe, documents


def read(source: str | Path) -> list[tuple[str, str]]:
    return [(document.name, document.text) for document in documents(str(source))]


def refusal(source: str | Path) -> str:
    """The one line with which `source` is refused."""
    with pytest.raises(CorpusError) as caught:
        list(documents(str(source)))
    line = str(caught.value)
    assert "\n" not in line
    return line


def write_lines(path: Path, *rows: object) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_table(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


# What can be read


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_jsonl_file_gives_its_texts_under_their_ids_or_line_numbers(tmp_path: Path, name: str) -> None:
    path = write_lines(tmp_path / name, {"text": "one", "id": "x"}, {"text": "zwei ä"}, {"text": "", "id": 7})
    assert read(path) == [("x", "one"), (f"{name}:2", "zwei ä"), ("7", "")]


def test_blank_lines_and_a_byte_order_mark_in_a_jsonl_file_are_no_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"text": "one"}\r\n\r\n{"text": "two"}')
    assert read(path) == [("a.jsonl:2", "one"), ("a.jsonl:4", "two")]


def test_ids_that_come_twice_or_look_like_another_name_stay_apart(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *({"text": t, "id": i} for t, i in zip("abcd", "xxyx", strict=True)))
    write_lines(tmp_path / "b.jsonl", {"text": "a", "id": "x#2"}, {"text": "b", "id": "x#2"}, {"text": "c", "id": None})
    assert [name for name, _ in read(path)] == ["x", "x#2", "y", "x#4"]
    names = [name for name, _ in read(tmp_path / "b.jsonl")]
    assert len(set(names)) == 3


def test_blank_lines_separate_the_documents_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n  one\r\nstill one\r\n \t\r\n\r\ntwo\n")
    assert read(path) == [("a.txt:2", "  one\nstill one"), ("a.txt:6", "two")]


def test_a_text_file_without_separators_has_one_document_per_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\none\ntwo\nthree\n\n")
    assert read(path) == [("a.txt:2", "one"), ("a.txt:3", "two"), ("a.txt:4", "three")]


def test_a_text_of_one_token_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    assert read(path) == [("a.txt:1", "a")]


def test_a_line_of_five_megabytes_is_one_document(tmp_path: Path) -> None:
    text = "word " * 1_000_000
    path = write_lines(tmp_path / "a.jsonl", {"text": text})
    (tmp_path / "a.txt").write_text(text)
    assert read(path) == [("a.jsonl:1", text)]
    assert read(tmp_path / "a.txt") == [("a.txt:1", text)]


def test_a_folder_gives_one_document_per_readable_file_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.py", "a/z.md", "a/deep/y.txt", ".hidden/x.py", "a/.x.txt", "a/data.csv", "a/picture.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of\n\n{name}")
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    names = ["a/deep/y.txt", "a/z.md", "b.py"]
    assert read(tmp_path) == [(name, f"content of\n\n{name}") for name in names]


def test_a_parquet_file_is_read_over_row_groups_with_its_ids(tmp_path: Path) -> None:
    texts: list[str | None] = [f"text {i}" for i in range(500)]
    texts[3] = None
    path = write_table(tmp_path / "a.parquet", {"other": texts, "text": texts, "id": range(500)}, row_group_size=90)
    assert read(path) == [(str(i), text or "") for i, text in enumerate(texts)]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_every_arrow_kind_of_string_can_be_the_text_of_a_parquet_file(tmp_path: Path, kind: Any) -> None:
    path = write_table(tmp_path / "a.parquet", {"text": pa.array(["one", "two"]).cast(kind)})
    assert read(path) == [("a.parquet:1", "one"), ("a.parquet:2", "two")]


@pytest.mark.slow
def test_the_standard_library_is_a_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = {document.name: document.text for document in documents("python-stdlib")}
    assert len(found) > 100
    assert "def dumps(" in found["json/__init__.py"]


def test_documents_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "good"}\n' * 3 + b"\0\n")
    assert [document.text for document in islice(documents(str(path)), 3)] == ["good"] * 3


def test_reading_twice_gives_the_same_names_and_texts(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *({"text": str(i), "id": i % 3} for i in range(20)))
    assert read(path) == read(path)


# Data sets


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("offline")
def test_a_data_set_is_streamed_by_the_datasets_library(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    write_lines(folder / "train.jsonl", {"text": "one", "id": "x"}, {"text": None, "id": "y"}, {"text": "two"})
    write_lines(folder / "test.jsonl", {"text": "three", "id": "z"})
    assert read("hf:./copy") == [("x", "one"), ("y", ""), ("3", "two")]
    assert read("hf:./copy@test") == [("z", "three")]
    assert read("hf:./copy:default@test") == [("z", "three")]


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("suffix", "word"), [("@nosuch", "nosuch"), (":nosuch", "nosuch")])
def test_a_split_or_configuration_that_a_data_set_has_not_is_refused(tmp_path: Path, suffix: str, word: str) -> None:
    (tmp_path / "copy").mkdir()
    write_lines(tmp_path / "copy" / "train.jsonl", {"text": "one"})
    assert word in refusal(f"hf:./copy{suffix}")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("row", [{"body": "one"}, {"text": 1}])
def test_a_data_set_without_a_column_of_texts_is_refused_with_its_columns(tmp_path: Path, row: object) -> None:
    (tmp_path / "copy").mkdir()
    write_lines(tmp_path / "copy" / "train.jsonl", row)
    line = refusal("hf:./copy")
    assert "no column `text`" in line
    assert next(iter(row if isinstance(row, dict) else [])) in line


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("source", ["nobody/nothing-here", "nobody/nothing-here:en@test", "hf:nothing"])
def test_a_data_set_that_cannot_be_reached_is_refused(source: str) -> None:
    line = refusal(source)
    assert "cannot read the data set" in line
    assert "network" in line


@pytest.mark.usefixtures("offline")
def test_a_broken_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "train.jsonl").write_text('{"text": "one"}\n{bad\n')
    assert "cannot read the data set" in refusal("hf:./copy")


# What kind it is


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.JSONL.gz", "jsonl"),
        ("a.txt", "text"),
        ("a.parquet", "parquet"),
        (".", "folder"),
        ("python-stdlib", "python-stdlib"),
        ("org/name", "hub"),
        ("org/name-2.1:sample-10BT@validation", "hub"),
        ("hf:local/name", "hub"),
        ("local/name", "folder"),
    ],
)
def test_a_source_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, kind: sources.Kind
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "name").mkdir(parents=True)
    for name in ("a.jsonl", "a.JSONL.gz", "a.txt", "a.parquet"):
        (tmp_path / name).touch()
    assert describe(source) == SourceInfo(kind, truncate_by_default=kind == "hub")


# What is refused


@pytest.mark.parametrize("source", ["", "nothing", "no.jsonl", "no.txt", "org/no.parquet", "here/no", "a\0b", "/no/no"])
def test_what_is_no_source_is_refused_at_once_with_what_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(CorpusError, match=r"allowed: a \.jsonl.* or a Hugging Face data set"):
        documents(source)
    with pytest.raises(CorpusError, match=r"allowed: "):
        describe(source)


def test_a_file_with_another_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n")
    assert "unknown suffix; allowed: " in refusal(tmp_path / "a.csv")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    assert "neither a file nor a folder" in refusal(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"\n \n\t\n"])
def test_a_file_without_text_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    assert "there is no text in" in refusal(path)


def test_blank_texts_alone_are_refused(tmp_path: Path) -> None:
    assert "no text" in refusal(write_lines(tmp_path / "a.jsonl", {"text": " "}, {"text": ""}))
    assert "no text" in refusal(write_table(tmp_path / "a.parquet", {"text": pa.array([], pa.string())}))


def test_a_folder_without_readable_or_without_written_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    assert "no .py, .md or .txt file" in refusal(tmp_path)
    (tmp_path / "a.py").touch()
    assert "no text" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt", "folder/a.py"])
@pytest.mark.parametrize(
    ("garbage", "what"), [(b"\xff", "invalid UTF-8"), (b"\0", "a NUL byte"), (b"\xc3", "invalid UTF-8")]
)
def test_bytes_that_are_no_text_are_refused_with_file_and_offset(
    tmp_path: Path, name: str, garbage: bytes, what: str
) -> None:
    good = b'\xef\xbb\xbf{"text": "\xc3\xa4"}\n'
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    data = good * 2 + b"ab" + garbage + b"\n" + good
    data = data.replace(good, good[3:]).replace(good[3:], good, 1)  # only one byte order mark
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    line = refusal(path.parent if path.suffix == ".py" else path)
    assert line.startswith(f"{path} is not text: {what} at byte offset {data.index(b'ab') + 2};")


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ("{bad", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ('{"body": "x"}', "has no string `text`"),
        ('{"text": null}', "has no string `text`"),
        ('{"text": ["x"]}', "has no string `text`"),
        ('{"text": "ab\\ud800"}', "has half a surrogate pair at character 2"),
    ],
)
def test_a_bad_line_of_a_jsonl_file_is_refused_with_its_number(tmp_path: Path, bad: str, what: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n\n' + bad + "\n")
    assert refusal(path).startswith(f"{path}:3 {what}")


def test_a_broken_gzip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n' * 100)[:-12])
    (tmp_path / "plain.jsonl.gz").write_text('{"text": "one"}\n')
    assert "cannot read" in refusal(tmp_path / "cut.jsonl.gz")
    assert "cannot read" in refusal(tmp_path / "plain.jsonl.gz")


def test_a_parquet_file_without_a_column_of_texts_is_refused(tmp_path: Path) -> None:
    body = write_table(tmp_path / "body.parquet", {"body": ["x"], "title": ["y"]})
    numbers = write_table(tmp_path / "numbers.parquet", {"text": [1]})
    raw = write_table(tmp_path / "raw.parquet", {"text": [b"x"]})
    assert "has no column `text`, only body, title" in refusal(body)
    assert "holds int64; it must hold strings" in refusal(numbers)
    assert "holds binary; it must hold strings" in refusal(raw)


def test_a_parquet_file_that_is_none_or_holds_broken_strings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.parquet").write_bytes(b"junk" * 10)
    broken = write_table(tmp_path / "a.parquet", {"text": pa.array([b"fine", b"\xff"]).view(pa.string())})
    assert "is it a parquet file?" in refusal(tmp_path / "junk.parquet")
    assert "invalid UTF-8 in `text` or `id` in one of the rows 1 to 64" in refusal(broken)


def test_a_document_larger_than_the_limit_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGEST_DOCUMENT", 100)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.md").write_text("ä" * 51)
    (tmp_path / "lines.txt").write_text("short\n\n" + "ä" * 51)
    (tmp_path / "paragraph.txt").write_text("short\n\n" + "a line of text\n" * 10)
    long = write_lines(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b" * 100})
    table = write_table(tmp_path / "a.parquet", {"text": ["a", "b" * 101]})
    for source, place in (
        (tmp_path / "folder", f"{tmp_path}/folder/a.md"),
        (tmp_path / "lines.txt", f"{tmp_path}/lines.txt:3"),
        (tmp_path / "paragraph.txt", f"{tmp_path}/paragraph.txt:3"),
        (long, f"{long}:2"),
        (table, "a.parquet:2"),
    ):
        assert refusal(source).startswith(f"{place} is a document of more than ")


def test_a_document_is_a_frozen_value() -> None:
    with pytest.raises(AttributeError):
        Document("a", "b").name = "c"  # type: ignore[misc]
