"""A corpus is a pure function of documents, tokenizer and salt: chunks, splits, batches, hashes, restarts."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronagent import hashing
from neuronagent.domain import SPLITS, Split
from neuronagent.errors import CorpusError, IndexMismatchError, StorageError, UsageError
from neuronagent.hashing import split_of, uniform_bits, uniform_hash
from neuronagent.index import corpus as corpus_module
from neuronagent.index.corpus import Corpus, open_corpus, read_corpus
from neuronagent.index.sources import Document

VOCABULARY = 300
BOS = 299
N = np.arange(20_000, dtype=np.int64)

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.lists(st.text(alphabet="abcdä ", max_size=40), min_size=1, max_size=12).filter(any)


def by_bytes(texts: list[str]) -> list[list[int]]:
    """A tokenizer in which every byte is a token."""
    return [list(text.encode()) for text in texts]


def numbered(texts: Iterable[str]) -> Iterator[Document]:
    return (Document(f"document {i}", text) for i, text in enumerate(texts))


def build(texts: Iterable[str], folder: Path, **options: Any) -> Corpus:
    defaults: dict[str, Any] = {
        "encode": by_bytes,
        "bos_id": BOS,
        "vocab_size": VOCABULARY,
        "max_tokens": 8,
        "token_budget": None,
        "truncate": False,
        "salt": "salt",
    }
    return read_corpus(numbered(texts), folder=folder, **(defaults | options))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Where `new_folder` makes a folder for every example of a property."""
    return tmp_path


def new_folder(parent: Path) -> Path:
    folder = parent / str(sum(1 for _ in parent.iterdir()))
    folder.mkdir()
    return folder


def chunks(corpus: Corpus) -> list[tuple[str, Split, list[int]]]:
    table = corpus.table()
    return [
        (
            table.documents[i],
            SPLITS[table.splits[i]],
            table.tokens[table.first[i] : table.first[i + 1]].tolist(),
        )
        for i in range(corpus.n_texts)
    ]


# Chunks


@quick
@given(texts=texts, max_tokens=st.integers(2, 12), bos=st.booleans())
def test_the_bodies_of_a_documents_chunks_are_its_ids(
    fresh: Path, texts: list[str], max_tokens: int, bos: bool
) -> None:
    corpus = build(texts, new_folder(fresh), max_tokens=max_tokens, bos_id=BOS if bos else None)
    bodies: dict[str, list[int]] = {}
    for document, split, ids in chunks(corpus):
        text = texts[int(document.split()[1])]
        assert split is split_of("salt", text)
        assert not bos or ids[0] == BOS
        body = ids[1:] if bos else ids
        assert 1 <= len(body) <= max_tokens - bos
        assert len(bodies.get(document, [])) % (max_tokens - bos) == 0, "only the last chunk is short"
        bodies.setdefault(document, []).extend(body)
    assert bodies == {f"document {i}": list(text.encode()) for i, text in enumerate(texts) if text}
    assert corpus.skipped == texts.count("")
    assert corpus.n_tokens == len(corpus.table().tokens) == corpus.lengths.sum()


@quick
@given(texts=texts, max_tokens=st.integers(2, 12), budget=st.integers(2, 100), bos=st.booleans())
def test_a_budget_is_met_to_the_token_and_keeps_the_beginning(
    fresh: Path, texts: list[str], max_tokens: int, budget: int, bos: bool
) -> None:
    options: dict[str, Any] = {"max_tokens": max_tokens, "bos_id": BOS if bos else None}
    whole = build(texts, new_folder(fresh), **options)
    cut = build(texts, new_folder(fresh), token_budget=budget, **options)
    ids = cut.table().tokens.tolist()
    assert ids == whole.table().tokens.tolist()[: len(ids)]
    assert min(budget, whole.n_tokens) - bos <= cut.n_tokens <= budget
    assert all(len(text) > bos for _, _, text in chunks(cut)), "no text is BOS alone"


def test_truncating_keeps_the_first_chunk_of_every_document(tmp_path: Path) -> None:
    corpus = build(["abcdefghijkl", "xy"], tmp_path, max_tokens=5, truncate=True)
    assert [ids for _, _, ids in chunks(corpus)] == [[BOS, *b"abcd"], [BOS, *b"xy"]]


def test_a_text_of_one_token_is_a_corpus(tmp_path: Path) -> None:
    assert build(["a"], tmp_path).table().tokens.tolist() == [BOS, 97]


def test_documents_are_read_in_groups_and_only_as_far_as_the_budget(tmp_path: Path) -> None:
    taken: list[int] = []
    groups: list[int] = []

    def endless() -> Iterator[str]:
        for i in range(10**9):
            taken.append(i)
            yield "word" * 10

    def encode(texts: list[str]) -> list[list[int]]:
        groups.append(len(texts))
        return by_bytes(texts)

    seen: list[int] = []
    corpus = build(endless(), tmp_path, token_budget=30_000, max_tokens=41, encode=encode, progress=seen.append)
    assert corpus.n_tokens == 30_000
    assert len(taken) == sum(groups) < 30_000 / 41 + 2 * max(groups)
    assert seen == sorted(seen)
    assert seen[-1] == 30_000


def test_a_source_that_is_left_in_the_middle_is_closed(tmp_path: Path) -> None:
    closed: list[bool] = []

    def endless() -> Iterator[Document]:
        try:
            while True:
                yield Document("a", "text")
        finally:
            closed.append(True)

    source = endless()
    limits: dict[str, Any] = {"bos_id": None, "vocab_size": 300, "max_tokens": 9, "token_budget": 9, "truncate": True}
    read_corpus(source, by_bytes, salt="", folder=tmp_path, **limits)
    assert closed == [True]


def test_long_documents_are_tokenised_in_small_groups(tmp_path: Path) -> None:
    groups: list[int] = []

    def encode(texts: list[str]) -> list[list[int]]:
        groups.append(len(texts))
        return [[1] for _ in texts]

    build(["a" * 600_000] * 5, tmp_path, encode=encode)
    assert groups == [2, 2, 1]


# Splits


def test_a_split_is_the_percentage_of_a_hash_of_salt_and_text() -> None:
    for i in range(200):
        number = int(hashlib.sha256(b"s\0" + f"täxt {i}".encode()).hexdigest(), 16) % 100
        expected = Split.EXPLAIN if number < 50 else Split.SELECT if number < 70 else Split.TEST
        assert split_of("s", f"täxt {i}") is expected


def test_splits_take_their_shares_of_many_texts() -> None:
    shares = Counter(split_of("salt", f"text {i}") for i in range(20_000))
    for split, share in zip(SPLITS, (0.5, 0.2, 0.3), strict=True):
        assert abs(shares[split] / 20_000 - share) < 4 * (share * (1 - share) / 20_000) ** 0.5


def test_copies_of_a_document_fall_together_in_any_order(tmp_path: Path) -> None:
    texts = [f"text {i % 30}" for i in range(90)]
    forwards, backwards = (build(order, tmp_path / name) for name, order in (("f", texts), ("b", texts[::-1])))
    for corpus, order in ((forwards, texts), (backwards, texts[::-1])):
        splits = {(order[int(name.split()[1])], split) for name, split, _ in chunks(corpus)}
        assert len(splits) == 30
    assert {split_of("another", text) for text in texts} == set(Split)
    assert [split_of("salt", text) for text in texts] != [split_of("another", text) for text in texts]


# Hashes


@pytest.mark.parametrize("start", [0, 10**6, 2**32 - 20_000])
def test_hashes_are_uniform_and_unrelated_to_their_neighbours(start: int) -> None:
    u = uniform_hash("salt", N + start)
    steps = np.arange(1, len(u) + 1) / len(u)
    assert np.abs(np.sort(u) - steps).max() < 1.95 / len(u) ** 0.5  # Kolmogorov–Smirnov, p = 0.001
    for lag in (1, 2, 64):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 4 / len(u) ** 0.5


def test_hashes_are_pure_and_depend_on_the_salt() -> None:
    u = uniform_hash("salt", N)
    np.testing.assert_array_equal(u[::-7], uniform_hash("salt", N[::-7]))
    np.testing.assert_array_equal(u.reshape(100, 200), uniform_hash("salt", N.reshape(100, 200)))
    assert float(uniform_hash("salt", np.array(5))) == u[5]
    other = uniform_hash("salT", N)
    assert abs(np.corrcoef(u, other)[0, 1]) < 4 / len(u) ** 0.5
    assert len(np.intersect1d(u, other)) == 0
    assert len(np.unique(u)) == len(u)


def test_hashes_keep_their_values_from_release_to_release() -> None:
    """An oracle in plain integers: a changed hash would change every sample of every index."""
    digest = hashlib.sha256(b"salt").digest()
    start, middle = (int.from_bytes(digest[at : at + 8], "little") for at in (0, 8))
    for n in (0, 1, 2**32 - 2):
        z = (n * 0x9E3779B97F4A7C15 + start) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64 ^ middle
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
        assert uniform_hash("salt", np.array([n]))[0] == ((z >> 12) + 0.5) / 2**52
        assert uniform_bits("salt", np.array([n]))[0] == z >> 33


def test_the_integer_hash_is_the_beginning_of_the_real_one() -> None:
    u, bits = uniform_hash("salt", N), uniform_bits("salt", N)
    assert bits.dtype == np.int64
    np.testing.assert_array_equal(bits, np.floor(u * 2**31))
    assert bits.min() >= 0
    assert bits.max() < 2**31


def test_the_smallest_and_the_largest_hash_are_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = np.array([0, 2**64 - 1], dtype=np.uint64)

    def fixed(_salt: str, _numbers: Any) -> Any:
        return extremes

    monkeypatch.setattr(hashing, "_hash64", fixed)
    low, high = uniform_hash("", N).tolist()
    assert 0 < low < high < 1
    assert uniform_bits("", N).tolist() == [0, 2**31 - 1]


# Batches


@quick
@given(texts=texts, max_tokens=st.integers(2, 12), batch_tokens=st.integers(1, 60))
def test_batches_hold_every_text_once_within_their_limit(
    fresh: Path, texts: list[str], max_tokens: int, batch_tokens: int
) -> None:
    corpus = build(texts, new_folder(fresh), max_tokens=max_tokens)
    batches = corpus.batches(batch_tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(corpus.n_texts))
    for batch in batches:
        lengths = corpus.lengths[batch]
        assert len(batch) == 1 or len(batch) * lengths.max() <= batch_tokens
        assert sorted(zip(lengths.tolist(), batch.tolist(), strict=True)) == list(zip(lengths, batch, strict=True))
    for again, batch in zip(corpus.batches(batch_tokens), batches, strict=True):
        np.testing.assert_array_equal(again, batch)


def test_batches_are_as_large_as_they_may_be_and_come_mixed(tmp_path: Path) -> None:
    corpus = build(["a" * (1 + i % 60) for i in range(600)], tmp_path, max_tokens=64)
    batches = corpus.batches(640)
    longest = [int(corpus.lengths[batch].max()) for batch in batches]
    padded = sum(len(batch) * length for batch, length in zip(batches, longest, strict=True))
    assert padded < 1.1 * corpus.n_tokens
    assert longest != sorted(longest)
    assert max(longest[: len(longest) // 2]) > 40
    assert min(longest[: len(longest) // 2]) < 20
    other = build(["a" * (1 + i % 60) for i in range(600)], tmp_path / "other", max_tokens=64, salt="pepper")
    assert [len(batch) for batch in other.batches(640)] != [len(batch) for batch in batches]


def test_a_padded_batch_holds_its_texts_and_says_where_they_begin(tmp_path: Path) -> None:
    corpus = build(["abc", "d", "efghijklm"], tmp_path)
    ids, lengths, first = corpus.padded(np.array([1, 3, 0]))
    assert ids.dtype == lengths.dtype == first.dtype == np.int64
    assert ids.tolist() == [[BOS, 100, 0, 0], [BOS, *b"lm", 0], [BOS, *b"abc"]]
    assert lengths.tolist() == [2, 3, 4]
    assert first.tolist() == [4, 14, 0]


def test_token_counts_leave_position_0_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "_BLOCK_TEXTS", 3)
    for bos in (BOS, None):
        corpus = build([f"text number {i}" for i in range(40)], tmp_path / str(bos), bos_id=bos)
        expected = np.zeros((3, VOCABULARY), dtype=np.int64)
        for _, split, ids in chunks(corpus):
            for token in ids[1:]:
                expected[split.position, token] += 1
        np.testing.assert_array_equal(corpus.token_counts(VOCABULARY), expected)
    with pytest.raises(CorpusError, match="token id 120, the vocabulary only 100"):
        corpus.token_counts(100)


# Restart and fingerprint


def never(texts: list[str]) -> list[list[int]]:
    raise AssertionError(f"tokenised again: {texts}")


def test_a_complete_corpus_is_reused_without_reading_documents(tmp_path: Path) -> None:
    first = build(["one", "two", ""], tmp_path)
    seen: list[int] = []
    again = build(iter(()), tmp_path, encode=never, progress=seen.append)
    assert (again.fingerprint, again.skipped, again.salt) == (first.fingerprint, 1, "salt")
    assert chunks(again) == chunks(first) == chunks(open_corpus(tmp_path))
    assert seen == [first.n_tokens]
    assert isinstance(again.table().tokens, np.memmap)


@pytest.mark.parametrize("gone", ["corpus.json", "tokens.bin", "texts.npz", "names.json"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "shortened"])
def test_an_incomplete_corpus_is_made_again(tmp_path: Path, gone: str, damage: str) -> None:
    first = build(["one", "two"], tmp_path)
    path = tmp_path / gone
    data = path.read_bytes()
    path.unlink()
    if damage != "removed":
        path.write_bytes(data[: len(data) // 2] if damage == "shortened" else b"")
    with pytest.raises(CorpusError, match="build the index again"):
        open_corpus(tmp_path)
    again = build(["one", "two"], tmp_path)
    assert again.fingerprint == first.fingerprint
    assert path.read_bytes() == data


def test_changed_tokens_are_noticed(tmp_path: Path) -> None:
    first = build(["one", "two"], tmp_path)
    data = bytearray((tmp_path / "tokens.bin").read_bytes())
    data[4] ^= 1
    (tmp_path / "tokens.bin").write_bytes(data)
    with pytest.raises(CorpusError, match="was changed after it was written"):
        open_corpus(tmp_path)
    assert build(["one", "two"], tmp_path).fingerprint == first.fingerprint


def test_a_build_that_was_interrupted_leaves_no_manifest_and_is_made_again(tmp_path: Path) -> None:
    def interrupted() -> Iterator[str]:
        yield from ["text"] * 300
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(interrupted(), tmp_path)
    assert not (tmp_path / "corpus.json").exists()
    assert build(["text"], tmp_path).n_texts == 1


def test_two_that_write_the_same_corpus_at_once_both_end_with_it(tmp_path: Path) -> None:
    texts = [f"text {place}" for place in range(600)]
    inner: list[Corpus] = []

    def overtaken() -> Iterator[str]:
        yield from texts[:300]
        inner.append(build(texts, tmp_path))
        yield from texts[300:]

    outer = build(overtaken(), tmp_path)
    assert outer.fingerprint == inner[0].fingerprint == open_corpus(tmp_path).fingerprint
    assert chunks(outer) == chunks(inner[0]), "what was mapped before is still what it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.json", "names.json", "texts.npz", "tokens.bin"]


@pytest.mark.parametrize(
    "changed", [{"max_tokens": 9}, {"salt": "pepper"}, {"token_budget": 5}, {"truncate": True}, {"origin": "b.txt"}]
)
def test_a_complete_corpus_with_other_parameters_is_refused_not_mixed(tmp_path: Path, changed: dict[str, Any]) -> None:
    build(["one", "two"], tmp_path)
    with pytest.raises(IndexMismatchError, match=next(iter(changed))):
        build(["one", "two"], tmp_path, **changed)


def test_the_fingerprint_is_of_the_content_and_nothing_else(tmp_path: Path) -> None:
    def fingerprint(name: str, texts: list[str], **options: Any) -> str:
        return build(texts, tmp_path / name, **options).fingerprint

    base = fingerprint("base", ["abcdefg", "hij"])
    assert base == fingerprint("limits", ["abcdefg", "hij"], token_budget=1000, origin="elsewhere")
    assert base == fingerprint("empty", ["", "abcdefg", "hij"]), "neither names nor skipped documents change it"
    others = {
        fingerprint("order", ["hij", "abcdefg"]),
        fingerprint("text", ["abcdefg", "hik"]),
        fingerprint("bounds", ["abcdefg", "hij"], max_tokens=5),
        fingerprint("bos", ["abcdefg", "hij"], bos_id=None),
    }
    assert len(others | {base}) == 5
    texts = [f"text {i}" for i in range(20)]
    assert fingerprint("salt 1", texts, salt="1") != fingerprint("salt 2", texts, salt="2"), "the splits differ"


# What is refused


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_a_corpus_without_a_token_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(CorpusError, match=f"no usable text: {len(texts)} documents"):
        build(texts, tmp_path)
    assert not (tmp_path / "corpus.json").exists()


@pytest.mark.parametrize("wrong", [-1, VOCABULARY, 2**40])
def test_an_id_outside_the_vocabulary_is_refused_with_its_document(tmp_path: Path, wrong: int) -> None:
    def encode(texts: list[str]) -> list[list[int]]:
        return [[1, wrong if "bad" in text else 2] for text in texts]

    with pytest.raises(CorpusError, match=f"token id {wrong} in document 1 is outside .* of {VOCABULARY}"):
        build(["good", "bad"], tmp_path, encode=encode)
    with pytest.raises(CorpusError, match="token id 300 in BOS"):
        build(["good"], tmp_path, bos_id=300)


def test_a_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    def encode(texts: list[str]) -> list[list[int]]:
        return [[1] for _ in texts]

    with pytest.raises(CorpusError, match="document 0 cannot be written as UTF-8"):
        build(["\ud800"], tmp_path, encode=encode)


@pytest.mark.parametrize("limits", [{"max_tokens": 1}, {"token_budget": 1}, {"max_tokens": 0, "bos_id": None}])
def test_limits_that_leave_no_room_for_a_token_are_refused(tmp_path: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"must be at least [12], BOS included"):
        build(["a"], tmp_path, **limits)


def test_more_tokens_than_an_index_can_number_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "MAX_TOKENS", 20)
    assert build(["a" * 18], tmp_path / "fits", max_tokens=10).n_tokens == 20
    with pytest.raises(CorpusError, match="more than 20 tokens; set a token budget"):
        build(["a" * 19], tmp_path / "too many", max_tokens=10)


def test_a_full_disk_is_a_storage_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def full(self: Path, *arguments: Any, **options: Any) -> Any:
        return real(Path("/dev/full") if self.name.startswith("tokens.bin") else self, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match="the disk is full; free some space"):
        build(["a" * 20_000], tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "corpus.json").exists()
    assert build(["a"], tmp_path).n_texts == 1


def test_a_disk_that_fills_up_with_the_manifest_leaves_the_corpus_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: object, _target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="the disk is full"):
        build(["a"], tmp_path)
    monkeypatch.undo()
    with pytest.raises(CorpusError):
        open_corpus(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="choose a folder that can be written"):
        build(["a"], tmp_path / "file")
