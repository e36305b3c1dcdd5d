"""From documents to numbered texts and tokens on disk, and from there to batches of equal size.

A document is tokenised and cut into chunks of at most `max_tokens` ids, BOS included; a chunk is a *text*. All texts
lie one after the other in `tokens.bin`, so that a *corpus token number* names a token: text i has the numbers
`first[i] … first[i+1] − 1`. All chunks of a document share its split, which is a function of the salt and the
document's text alone, and so is everything that is random here: nothing depends on when or where it runs.

Files of the folder, all pure functions of documents, tokenizer and parameters:

    tokens.bin    uint32, little-endian: the ids of all texts, memory-mapped when read
    texts.npz     `first` int64 [n+1], `splits` int8 [n], `document` int64 [n] (place in names.json)
    names.json    the names of the documents that have a text
    corpus.json   parameters, counts and fingerprint; written last, so that its existence means "complete"

Each is written under a name that no other process uses and then moved into place: whoever has the old file mapped
keeps it, and processes that write the same corpus at once end with it. The fingerprint tells a mixture of two.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
import zipfile
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import SPLITS, Split, clip
from neuronagent.errors import CorpusError, IndexMismatchError, StorageError, UsageError
from neuronagent.hashing import split_of, uniform_hash
from neuronagent.index.files import sync_names
from neuronagent.index.sources import Document
from neuronagent.layout import MAX_TOKENS, TextTable

Encode = Callable[[list[str]], list[list[int]]]

_FORMAT = 1
_GROUP_DOCUMENTS = 256  # tokenised together, to use the tokenizer's threads …
_GROUP_CHARACTERS = 1_000_000  # … but no more text than this, to bound memory
_BLOCK_TEXTS = 4096


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Numbered texts: `texts` says where each lies, its `tokens` are memory-mapped.

    `skipped` counts the documents that tokenised to nothing. `fingerprint` is a SHA-256 of ids, boundaries and splits:
    all that a recorded number can depend on, and so without the documents' names.
    """

    texts: TextTable
    salt: str
    skipped: int
    fingerprint: str

    @property
    def n_texts(self) -> int:
        return len(self.texts.splits)

    @property
    def n_tokens(self) -> int:
        """All tokens, BOS included."""
        return int(self.texts.first[-1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, BOS included, `[n_texts]`."""
        return np.diff(self.texts.first)

    def table(self) -> TextTable:
        return self.texts

    def batches(self, batch_tokens: int) -> list[NDArray[np.int64]]:
        """Text ids by batch: every text once, and texts × longest ≤ `batch_tokens` unless the text is alone.

        Texts are sorted by (length, id), so that there is little padding; the batches then come in an order chosen by
        the salt, so that times and lists of the first ones are typical of the rest.
        """
        order = np.argsort(self.lengths, kind="stable")
        sizes: list[int] = self.lengths[order].tolist()
        starts = [0]
        for place, longest in enumerate(sizes):
            if place > starts[-1] and (place + 1 - starts[-1]) * longest > batch_tokens:
                starts.append(place)
        by_length = [order[start:end] for start, end in pairwise([*starts, len(sizes)])]
        shuffled = np.argsort(uniform_hash(f"{self.salt}\0batches", np.arange(len(by_length))), kind="stable")
        return [by_length[place] for place in shuffled.tolist()]

    def padded(self, batch: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The texts of a batch: ids `[B, T]` padded with 0 on the right, lengths `[B]`, first token numbers `[B]`."""
        first = self.texts.first[batch]
        lengths = self.texts.first[batch + 1] - first
        ids = np.zeros((len(batch), int(lengths.max(initial=0))), dtype=np.int64)
        for row, (start, length) in enumerate(zip(first.tolist(), lengths.tolist(), strict=True)):
            ids[row, :length] = self.texts.tokens[start : start + length]
        return ids, lengths, first

    def token_counts(self, vocab_size: int) -> NDArray[np.int64]:
        """How often each id occurs in each split, `[3, vocab_size]`; position 0 of each text is left out.

        Raises:
            CorpusError: the corpus has an id that is not below `vocab_size`.
        """
        counts = np.zeros(len(SPLITS) * vocab_size, dtype=np.int64)
        for start in range(0, self.n_texts, _BLOCK_TEXTS):
            bounds = self.texts.first[start : start + _BLOCK_TEXTS + 1]
            ids = self.texts.tokens[bounds[0] : bounds[-1]].astype(np.int64)
            if ids.max(initial=0) >= vocab_size:
                raise CorpusError(f"the corpus has token id {ids.max()}, the vocabulary only {vocab_size} tokens")
            splits = np.repeat(self.texts.splits[start : start + _BLOCK_TEXTS].astype(np.int64), np.diff(bounds))
            later = np.ones(len(ids), dtype=np.bool_)
            later[bounds[:-1] - bounds[0]] = False
            counts += np.bincount((splits * vocab_size + ids)[later], minlength=len(counts))
        return counts.reshape(len(SPLITS), vocab_size)


def read_corpus(
    documents: Iterable[Document],
    encode: Encode,
    *,
    bos_id: int | None,
    vocab_size: int,
    max_tokens: int,
    token_budget: int | None,
    truncate: bool,
    salt: str,
    folder: Path,
    progress: Callable[[int], None] | None = None,
    origin: str = "",
) -> Corpus:
    """Tokenise `documents` into `folder`, or reuse what is complete there and was made with the same parameters.

    `encode` gives the ids of each text without BOS. `token_budget` counts all ids, BOS included: the last text is cut
    so that it is met (a text of BOS alone is dropped, so one token may be missing). With `truncate` only the first
    chunk of a document is kept. `progress` gets the number of tokens so far. `origin` names what the documents and
    the tokenizer are (a reused corpus is not read again, so that this is how a change of them is seen).

    Raises:
        CorpusError: no usable text, an id outside the vocabulary, or more tokens than an index can number.
        IndexMismatchError: the folder holds a complete corpus with other parameters.
        StorageError: the folder cannot be written.
        UsageError: `max_tokens` or `token_budget` leaves no room for a token.
    """
    least = 1 if bos_id is None else 2
    for name, limit in (("max_tokens", max_tokens), ("the token budget", token_budget)):
        if limit is not None and limit < least:
            raise UsageError(f"{name} is {limit}", remedy=f"it must be at least {least}, BOS included")
    parameters: dict[str, object] = {
        "format": _FORMAT,
        "origin": origin,
        "bos_id": bos_id,
        "vocab_size": vocab_size,
        "max_tokens": max_tokens,
        "token_budget": token_budget,
        "truncate": truncate,
        "salt": salt,
    }
    corpus = _reuse(folder, parameters)
    if corpus is None:
        with _Writer(folder, bos_id=bos_id, vocab_size=vocab_size, room=token_budget) as writer:
            for group in _groups(documents):
                encoded = encode([document.text for document in group])
                for document, ids in zip(group, encoded, strict=True):
                    writer.add(document, ids, split=_split(salt, document), max_tokens=max_tokens, truncate=truncate)
                if progress is not None:
                    progress(writer.n_tokens)
                if writer.full:
                    break
            if isinstance(documents, Generator):
                documents.close()  # a stream that is left in the middle keeps its files and connections
            writer.finish(parameters)
        return open_corpus(folder)
    if progress is not None:
        progress(corpus.n_tokens)
    return corpus


def open_corpus(folder: Path) -> Corpus:
    """The complete corpus in `folder`.

    Raises:
        CorpusError: there is none, or its files do not have the fingerprint that was written down.
    """
    try:
        manifest = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        names: list[str] = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        with np.load(folder / "texts.npz", allow_pickle=False) as arrays:
            texts = TextTable(
                documents=[names[place] for place in arrays["document"].tolist()],
                splits=arrays["splits"],
                first=arrays["first"],
                tokens=np.memmap(folder / "tokens.bin", dtype="<u4", mode="r"),
            )
        corpus = Corpus(
            texts=texts,
            salt=manifest["parameters"]["salt"],
            skipped=manifest["skipped"],
            fingerprint=manifest["fingerprint"],
        )
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CorpusError(
            f"there is no complete corpus in {folder}: {error}", remedy="build the index again"
        ) from error
    if _fingerprint(texts) != corpus.fingerprint:
        raise CorpusError(f"the corpus in {folder} was changed after it was written", remedy="build the index again")
    return corpus


def _reuse(folder: Path, parameters: dict[str, object]) -> Corpus | None:
    """The corpus of `folder` if it is complete and undamaged, else None: it is written again."""
    try:
        written = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["parameters"]
        corpus = open_corpus(folder)
    except (OSError, ValueError, LookupError, TypeError, CorpusError):
        return None
    for name, value in parameters.items():
        if written.get(name) != value:
            raise IndexMismatchError(
                f"the corpus in {folder} has {name} = {clip(repr(written.get(name)))}, not {clip(repr(value))}",
                remedy="use another folder, or delete this one",
            )
    return corpus


def _fingerprint(texts: TextTable) -> str:
    digest = hashlib.sha256(f"neuronagent corpus {_FORMAT}: {len(texts.splits)} texts\n".encode())
    digest.update(texts.first.astype("<i8").tobytes())
    digest.update(texts.splits.astype("<i1").tobytes())
    for start in range(0, len(texts.tokens), 2**20):
        digest.update(texts.tokens[start : start + 2**20].astype("<u4").tobytes())
    return digest.hexdigest()


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    characters = 0
    for document in documents:
        group.append(document)
        characters += len(document.text)
        if len(group) >= _GROUP_DOCUMENTS or characters >= _GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _split(salt: str, document: Document) -> Split:
    try:
        return split_of(salt, document.text)
    except UnicodeEncodeError as error:
        raise CorpusError(f"the document {clip(document.name)} cannot be written as UTF-8: {error}") from error


# Writing


@contextmanager
def _storage(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = (
            "free some space (4 bytes per token) and run it again" if full else "choose a folder that can be written"
        )
        what = "the disk is full" if full else str(error)
        raise StorageError(f"cannot write the corpus to {folder}: {what}", remedy=remedy) from error


class _Writer:
    """Appends texts to `tokens.bin` and remembers where they begin; nothing counts until `finish`."""

    def __init__(self, folder: Path, *, bos_id: int | None, vocab_size: int, room: int | None) -> None:
        self._folder = folder
        self._vocab_size = vocab_size
        self._bos: list[int] = [] if bos_id is None else [bos_id]
        self._check_ids(self._bos, "BOS")
        self._room = room
        self._first = array("q", [0])
        self._splits = array("b")
        self._document = array("q")
        self._names: list[str] = []
        self._skipped = 0
        self.full = False
        self._own = f".{uuid.uuid4().hex}.part"  # ends the names of files that are not in place yet
        with _storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._part("tokens.bin").open("wb")

    @property
    def n_tokens(self) -> int:
        return self._first[-1]

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if not self._file.closed:
                with _storage(self._folder):
                    self._file.close()
        finally:
            for name in ("tokens.bin", "texts.npz", "names.json", "corpus.json"):
                self._part(name).unlink(missing_ok=True)

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}{self._own}"

    def add(self, document: Document, ids: Sequence[int], *, split: Split, max_tokens: int, truncate: bool) -> None:
        """Append the chunks of one document, until there is no room for more than BOS."""
        if self.full:
            return
        if not ids:
            self._skipped += 1
            return
        self._check_ids(ids, document.name)
        body = max_tokens - len(self._bos)
        self._names.append(document.name)
        for start in range(0, body if truncate else len(ids), body):
            chunk = [*self._bos, *ids[start : start + body]]
            if self._room is not None:
                chunk = chunk[: self._room - self.n_tokens]
            self._append(chunk, split)
            self.full = self._room is not None and self._room - self.n_tokens <= len(self._bos)
            if self.full:
                return

    def _append(self, chunk: list[int], split: Split) -> None:
        if self.n_tokens + len(chunk) > MAX_TOKENS:
            raise CorpusError(f"the corpus has more than {MAX_TOKENS:,} tokens", remedy="set a token budget")
        with _storage(self._folder):
            self._file.write(np.asarray(chunk, dtype="<u4").tobytes())
        self._first.append(self.n_tokens + len(chunk))
        self._splits.append(split.position)
        self._document.append(len(self._names) - 1)

    def _check_ids(self, ids: Sequence[int], name: str) -> None:
        wrong = next((each for each in (min(ids), max(ids)) if not 0 <= each < self._vocab_size), None) if ids else None
        if wrong is not None:
            raise CorpusError(
                f"token id {wrong} in {clip(name)} is outside the model's vocabulary of {self._vocab_size}",
                remedy="use the model's own tokenizer",
            )

    def finish(self, parameters: dict[str, object]) -> None:
        """Bring everything to the disk, the manifest last.

        Raises:
            CorpusError: not one text was written.
        """
        if not self._splits:
            raise CorpusError(f"the corpus has no usable text: {self._skipped} documents, none with a token")
        first = np.frombuffer(self._first, dtype=np.int64)
        splits = np.frombuffer(self._splits, dtype=np.int8)
        with _storage(self._folder):
            _sync(self._file.fileno(), self._file.flush)
            self._file.close()
            with self._part("texts.npz").open("wb") as file:
                np.savez(file, first=first, splits=splits, document=np.frombuffer(self._document, dtype=np.int64))
                _sync(file.fileno(), file.flush)
            _write_json(self._part("names.json"), self._names)
            tokens = np.memmap(self._part("tokens.bin"), dtype="<u4", mode="r")
            texts = TextTable(documents=[], splits=splits, first=first, tokens=tokens)
            manifest: dict[str, object] = {
                "parameters": parameters,
                "n_texts": len(splits),
                "n_tokens": self.n_tokens,
                "skipped": self._skipped,
                "fingerprint": _fingerprint(texts),
            }
            _write_json(self._part("corpus.json"), manifest)
            for name in ("tokens.bin", "texts.npz", "names.json", "corpus.json"):
                os.replace(self._part(name), self._folder / name)
            sync_names(self._folder)


def _sync(descriptor: int, flush: Callable[[], object]) -> None:
    flush()
    os.fsync(descriptor)


def _write_json(path: Path, value: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=True, indent=1)
        _sync(file.fileno(), file.flush)
