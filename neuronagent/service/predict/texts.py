"""What maps are fitted and scored on: texts of the index's own corpus, or of another source read as a corpus would be.

A text is a chunk of a document, BOS first where the index's texts have it. Documents fall into the splits as those of
the corpus do (a function of the index's salt and the document): maps are fitted on `explain`, the ridge is chosen on
`select`, and `test` is for scores alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import SPLITS, Split, clip
from neuronagent.errors import CorpusError, UsageError
from neuronagent.hashing import split_of
from neuronagent.service.lookup import Index
from neuronagent.service.options import BuildOptions

if TYPE_CHECKING:
    from neuronagent.index.sources import Document
    from neuronagent.models.weights import ModelWeights

FEW_DOCUMENTS = 5
_GROUP = 256  # documents tokenised together


@dataclass(frozen=True, kw_only=True)
class TokenText:
    """One text: its token ids, BOS included, the number of its document, and its split."""

    ids: NDArray[np.int64]
    document: int
    split: Split


@dataclass(frozen=True, kw_only=True)
class TokenTexts:
    """Texts in corpus order. `first` is the first position that counts: 1 where position 0 is BOS, else 0. `source`
    says where they come from; `own`: it is the corpus of the index. `max_tokens`: what a text has at most."""

    texts: tuple[TokenText, ...]
    source: str
    own: bool
    first: int
    max_tokens: int

    def of(self, split: Split) -> TokenTexts:
        """The texts of one split."""
        return replace(self, texts=tuple(text for text in self.texts if text.split is split))

    def limited(self, tokens: int) -> TokenTexts:
        """Evenly spaced texts with about so many tokens that count."""
        step = max(1, -(-self.tokens // max(1, tokens)))
        return replace(self, texts=self.texts[::step])

    @cached_property
    def tokens(self) -> int:
        """Tokens that count: all but those at position 0 where it is BOS."""
        return sum(max(0, len(text.ids) - self.first) for text in self.texts)

    @cached_property
    def documents(self) -> int:
        return len({text.document for text in self.texts})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that a number can depend on: ids, boundaries, documents, splits."""
        digest = hashlib.sha256(f"texts 1: {len(self.texts)} {self.first}\n".encode())
        for text in self.texts:
            digest.update(f"{len(text.ids)} {text.document} {text.split.position}\n".encode())
            digest.update(text.ids.astype("<u4").tobytes())
        return digest.hexdigest()


def check_source(source: str | None) -> None:
    """Raises `UsageError` for a source without a name."""
    if source is not None and not source.strip():
        raise UsageError("--text is empty", remedy="name a folder, file or data set, or leave it out")


def few_documents(count: int, use: str) -> str | None:
    """What a reader of numbers over `count` documents must know, which were read to `use` them; None if nothing."""
    if count >= FEW_DOCUMENTS:
        return None
    some = "1 document" if count == 1 else f"{count} documents"
    return f"{some} to {use}: intervals over documents are {'wide' if count > 1 else 'not to be had'}"


def corpus_texts(index: Index, splits: Sequence[Split] = SPLITS) -> TokenTexts:
    """The texts of the index's own corpus, of `splits`.

    Raises:
        UsageError: an index without a corpus.
    """
    info = index.info
    if index.is_imported or info.get("weights_only"):
        raise UsageError("this index was made without a corpus", remedy="say what to read with --text")
    found = sorted((text for split in splits for text in index.reader.texts(split)), key=lambda text: text.first_token)
    numbers = {name: place for place, name in enumerate(dict.fromkeys(text.document for text in found))}
    texts = tuple(
        TokenText(ids=np.array(text.token_ids, dtype=np.int64), document=numbers[text.document], split=text.split)
        for text in found
    )
    return TokenTexts(
        texts=texts,
        source=str(info["corpus"]["source"]),
        own=True,
        first=_first(index),
        max_tokens=int(info["max_tokens"]),
    )


def source_texts(
    index: Index,
    model: ModelWeights,
    source: str,
    *,
    tokens: int | None = None,
    stopped: Callable[[], None] = lambda: None,
) -> TokenTexts:
    """The texts of `source`, tokenised by `model` and cut as those of the index are; the first `tokens` of them.

    Raises:
        CorpusError: it cannot be read, or has no usable text.
    """
    from neuronagent.index.sources import documents

    info, first = index.info, _first(index)
    bos = [model.bos_id] if first else []
    longest = min(int(info.get("max_tokens") or 1024), model.max_positions)
    salt, body = str(info.get("salt", BuildOptions.salt)), longest - first
    found: list[TokenText] = []
    room = tokens
    for group in _groups(documents(source)):
        stopped()
        for (number, document), ids in zip(group, model.encode([each.text for _, each in group]), strict=True):
            split = split_of(salt, document.text)
            for start in range(0, len(ids), body):
                chunk = ids[start : start + body]
                chunk = chunk if room is None else chunk[:room]
                if not chunk:
                    break
                found.append(TokenText(ids=np.array([*bos, *chunk], dtype=np.int64), document=number, split=split))
                room = None if room is None else room - len(chunk)
        if room is not None and room <= 0:
            break
    if not found:
        raise CorpusError(f"{clip(source)} has no usable text", remedy="name a source with text in it")
    return TokenTexts(texts=tuple(found), source=source, own=False, first=first, max_tokens=longest)


def _groups(found: Iterable[Document]) -> Iterable[list[tuple[int, Document]]]:
    """Documents with their numbers, some at a time."""
    group: list[tuple[int, Document]] = []
    for number, document in enumerate(found):
        group.append((number, document))
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group


def _first(index: Index) -> int:
    """1 where the index's texts begin with BOS."""
    info = index.info
    return 0 if str(info.get("bos")) == "none" or info["model"].get("bos_id") is None else 1
