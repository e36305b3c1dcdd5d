"""Documents cut into the windows that a perplexity is measured in: BOS first, and every token predicted once.

The texts of a document are joined again and cut into windows of `window` tokens, BOS included, each `stride` further
than the one before. Of a window only those tokens count that no earlier window had: with the default stride
`window − 1` these are all of it, with a smaller one tokens are predicted from more of what precedes them. Without BOS
nothing predicts the first token of a document, and windows share one token so that nothing else is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neuronagent.errors import UsageError
from neuronagent.service.predict.texts import TokenTexts


@dataclass(frozen=True, kw_only=True)
class Window:
    """`ids` as the model reads them; the tokens from position `counted` on count, predicted at the one before."""

    ids: NDArray[np.int64]
    counted: int
    document: int

    @property
    def predictions(self) -> int:
        return len(self.ids) - self.counted


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows in the order of their documents. `first` is 1 where position 0 is BOS; `available`: predictions before
    any were left out."""

    windows: tuple[Window, ...]
    window: int
    stride: int
    first: int
    available: int

    @cached_property
    def predictions(self) -> int:
        return sum(window.predictions for window in self.windows)

    @cached_property
    def documents(self) -> int:
        return len({window.document for window in self.windows})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that a perplexity can depend on."""
        digest = hashlib.sha256(f"windows 1: {len(self.windows)} {self.first}\n".encode())
        for window in self.windows:
            digest.update(f"{len(window.ids)} {window.counted} {window.document}\n".encode())
            digest.update(window.ids.astype("<u4").tobytes())
        return digest.hexdigest()

    def limited(self, tokens: int) -> Windows:
        """Evenly spaced windows with about so many predictions, and at least one."""
        if self.predictions <= tokens:
            return self
        count = max(1, round(len(self.windows) * tokens / self.predictions))
        places = np.arange(count) * len(self.windows) // count
        return replace(self, windows=tuple(self.windows[place] for place in places))


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Windows that are run together: `ids` `[B, T]` padded on the right, `made` `[B, T − 1]` where the prediction of
    the next token counts, and the document of each such prediction, row by row."""

    ids: NDArray[np.int64]
    made: NDArray[np.bool_]
    documents: NDArray[np.int64]


def make_windows(texts: TokenTexts, window: int | None = None, stride: int | None = None) -> Windows:
    """All windows of `texts`; `window` None: as long as its texts are at most.

    Raises:
        UsageError: a window or a stride that cannot be.
    """
    size = texts.max_tokens if window is None else window
    step = size - 1 if stride is None else stride
    if size < 2:
        raise UsageError(f"a window of {size} predicts nothing", remedy="allowed: 2 tokens or more")
    if not 1 <= step <= size - 1:
        raise UsageError(f"a stride of {step} does not fit windows of {size}", remedy=f"allowed: 1 to {size - 1}")
    bodies: dict[int, list[NDArray[np.int64]]] = {}
    for text in texts.texts:
        bodies.setdefault(text.document, []).append(text.ids)
    found = tuple(
        each
        for document, parts in bodies.items()
        for each in _of_document(document, parts, size, step, texts.first)
    )  # fmt: skip
    own = Windows(windows=found, window=size, stride=step, first=texts.first, available=0)
    return replace(own, available=own.predictions)


def _of_document(
    document: int, parts: list[NDArray[np.int64]], window: int, stride: int, first: int
) -> Iterator[Window]:
    bos = parts[0][:first]
    ids = np.concatenate([part[first:] for part in parts])
    body, done = window - first, 1 - first  # `done`: tokens that are predicted, or never are
    for start in range(0, len(ids), stride):
        end = min(start + body, len(ids))
        if end > done:
            yield Window(ids=np.concatenate([bos, ids[start:end]]), counted=first + done - start, document=document)
            done = end
        if end == len(ids):
            return


def window_batches(windows: Windows, batch_tokens: int) -> Iterator[WindowBatch]:
    """All windows, those of like length together, windows × longest ≤ `batch_tokens` unless one is alone."""
    order = sorted(windows.windows, key=lambda window: len(window.ids))
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * len(order[end].ids) <= batch_tokens:
            end += 1
        yield _batch(order[start:end])
        start = end


def _batch(rows: list[Window]) -> WindowBatch:
    ids = np.zeros((len(rows), max(len(row.ids) for row in rows)), dtype=np.int64)
    made = np.zeros((len(rows), ids.shape[1] - 1), dtype=np.bool_)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = row.ids
        made[place, row.counted - 1 : len(row.ids) - 1] = True
    documents = np.repeat([row.document for row in rows], [row.predictions for row in rows])
    return WindowBatch(ids=ids, made=made, documents=documents)
