"""Which examples a page shows of a neuron, and which tokens of their texts.

The strongest entries of each combination's list of post, without near-duplicates (equal 16 tokens round the peak, as
for evidence), each in a window of tokens round its own; the rest of the text stands beside it as plain text. BOS is
never shown. What is run for a page (`example_values`) and what is drawn are both asked of here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from neuronagent.domain import (
    QUANTITIES,
    ListEntry,
    NeuronRecord,
    Quantity,
    SignCombination,
    Text,
    token_text,
)
from neuronagent.explain.evidence import fingerprint
from neuronagent.published import Trace
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.page_options import PageOptions

BEFORE, AFTER = 32, 16
"""Tokens shown before an example's marked one, and after it: as many before as an explanation's windows have."""
REST = 2000
"""Characters of the text that are kept beyond the window, on either side."""
COLUMNS: tuple[Quantity, ...] = (Quantity.X_GATE, Quantity.X_IN, Quantity.ACT, Quantity.POST)
"""The order of a token's four values on a page."""

TokenValues = tuple[float, float, float, float]
_PLACES = [QUANTITIES.index(quantity) for quantity in COLUMNS]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An entry of a list in its text, of which the tokens `[start, end)` are shown; `copies`: near-duplicates of it
    that the same list has further down, which are not shown."""

    entry: ListEntry
    text: Text
    position: int
    start: int
    end: int
    copies: int

    @property
    def marked(self) -> int:
        """The place of the entry's token among those that are shown."""
        return self.position - self.start


@dataclass(frozen=True)
class Passage:
    """The window as one string per token (`token_strings`), and the text before and after it; `cut`: whether more of
    the text lies beyond these."""

    tokens: list[str]
    before: str
    after: str
    cut: tuple[bool, bool]


def shown_examples(index: Index, record: NeuronRecord, options: PageOptions) -> dict[SignCombination, list[Shown]]:
    """The examples of each combination, strongest first; the texts of all of them are read together.

    Raises:
        NotFoundError: a text that the index does not have.
    """
    lists = {c: _entries(record, c, options) for c in record.combinations}
    places = {entry: index.reader.locate(entry.token_number) for entries in lists.values() for entry in entries}
    texts = index.load_texts({text_id for text_id, _ in places.values()})
    first = first_shown(index.info)
    found: dict[SignCombination, list[Shown]] = {}
    for c, entries in lists.items():
        by_peak: dict[tuple[int, ...], list[ListEntry]] = {}
        for entry in entries:
            text_id, position = places[entry]
            by_peak.setdefault(fingerprint(texts[text_id], position), []).append(entry)
        found[c] = []
        for alike in list(by_peak.values())[: options.examples]:
            text_id, position = places[alike[0]]
            text = texts[text_id]
            start, end = window(position, len(text.token_ids), first)
            found[c].append(
                Shown(entry=alike[0], text=text, position=position, start=start, end=end, copies=len(alike) - 1)
            )
    return found


def _entries(record: NeuronRecord, combination: SignCombination, options: PageOptions) -> Sequence[ListEntry]:
    own = record.combinations[combination]
    return own.top[Quantity.POST] if options.split is None else own.post_by_split[options.split]


def first_shown(info: Mapping[str, Any]) -> int:
    """The first position that is shown of a text: 1 where position 0 is BOS, as in `live.model.LiveText`."""
    model: Mapping[str, Any] = info.get("model") or {}
    return 0 if info.get("bos") == "none" or model.get("bos_id", 0) is None else 1


def window(position: int, length: int, first: int) -> tuple[int, int]:
    """The positions `[start, end)` that are shown of a text of `length` tokens round `position`."""
    return max(min(first, position), position - BEFORE), min(length, position + 1 + AFTER)


def passages(index: Index, shown: Sequence[Shown]) -> list[Passage]:
    """The strings of each of `shown`; the bytes of all their tokens are read together."""
    first = first_shown(index.info)
    reach = [
        (max(min(first, each.start), each.start - REST), min(len(each.text.token_ids), each.end + REST))
        for each in shown
    ]
    pieces = [each.text.token_ids[low:high] for each, (low, high) in zip(shown, reach, strict=True)]
    known = index.load_tokens({token_id for ids in pieces for token_id in ids})
    found: list[Passage] = []
    for each, (low, high), ids in zip(shown, reach, pieces, strict=True):
        data = [known[token_id] for token_id in ids]
        start, end = each.start - low, each.end - low
        before, after = joined(data[:start]), joined(data[end:])
        cut = (low > first or len(before) > REST, high < len(each.text.token_ids) or len(after) > REST)
        found.append(Passage(token_strings(data[start:end]), before[-REST:], after[:REST], cut))
    return found


def joined(tokens: Iterable[bytes | None]) -> str:
    """Tokens as running text; bytes that are no UTF-8, such as half a character at either end, as `\\xe2`."""
    return token_text(b"".join(data for data in tokens if data is not None))


def token_strings(tokens: Sequence[bytes | None]) -> list[str]:
    """Each token for human eyes, one string per token.

    A character whose bytes are spread over tokens stands whole at the token that completes it; the tokens before, if
    they hold nothing else, are empty strings, and so are ids that cannot be decoded. Bytes that never become a
    character are shown as `\\xe2`. Joined, the strings are what `joined` gives.
    """
    found: list[str] = []
    for whole, run in groupby(tokens, key=_is_whole):
        if whole:
            found += [token_text(data) for data in run]
        else:
            found += _spread([data or b"" for data in run])
    return found


def _is_whole(data: bytes | None) -> bool:
    """Whether a token is complete characters: then it neither continues a character nor begins one."""
    try:
        return bool(data and data.decode())
    except UnicodeDecodeError:
        return False


def _spread(tokens: Sequence[bytes]) -> list[str]:
    """The strings of tokens of which none is whole: each character goes to the token that has its last byte."""
    data = b"".join(tokens)
    owner = [number for number, token in enumerate(tokens) for _ in token]
    found, place = [""] * len(tokens), 0
    while place < len(data):
        length = next((n for n in range(1, 5) if _is_whole(data[place : place + n])), 1)
        length = min(length, len(data) - place)
        found[owner[place + length - 1]] += token_text(data[place : place + length])
        place += length
    return found


def values_of(shown: Shown, trace: Trace | None) -> list[TokenValues | None]:
    """[x_gate, x_in, act, post] at each token that is shown, None where `trace`, the text's, does not have it."""
    return window_values(shown.start, shown.end, trace)


def window_values(start: int, end: int, trace: Trace | None) -> list[TokenValues | None]:
    """`values_of` for the positions `[start, end)`; with six significant digits, which is what float32 is good for."""
    found: list[TokenValues | None] = [None] * (end - start)
    if trace is None:
        return found
    low, high = max(start, trace.start), min(end, trace.start + len(trace.values))
    for position, row in enumerate(trace.values[low - trace.start : max(low, high) - trace.start].tolist(), low):
        gate, linear, act, post = (float(f"{row[place]:.6g}") + 0.0 for place in _PLACES)
        found[position - start] = (gate, linear, act, post)
    return found
