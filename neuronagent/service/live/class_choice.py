"""What the ablation of a class is about: which neurons, and which texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuronagent.domain import NeuronId, Role, Split
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.service.live.changes import Neurons, by_layer
from neuronagent.service.live.model import LiveModel
from neuronagent.store.search import SearchQuery

TOKENS = 20_000
_PAGE = 10_000


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is read: token ids of each text, BOS included, where they come from, and of which split (None: all)."""

    ids: tuple[tuple[int, ...], ...]
    source: str
    split: Split | None


def class_neurons(
    live: LiveModel,
    *,
    io_classes: Sequence[str] = (),
    atypical: bool | None = None,
    roles: Sequence[Role] = (),
    layers: Sequence[int] = (),
) -> Neurons:
    """The neurons of some classes and roles (both must hold), in `layers` or in all.

    Raises:
        NotFoundError: a layer that does not exist, or no such neuron.
    """
    there = live.index.reader.layers()
    for layer in layers:
        if layer not in there:
            live.index.reader.baselines(layer)  # says what there is
    found: list[NeuronId] = []
    offset: int | None = 0
    while offset is not None:
        page = live.index.search(
            SearchQuery(
                layers=tuple(layers), io_classes=tuple(io_classes), atypical=atypical, roles=tuple(roles),
                limit=_PAGE, offset=offset,
            )
        )  # fmt: skip
        found += [row.neuron for row in page.rows]
        offset = page.next_offset
    if not found:
        raise NotFoundError(
            "no neuron of these layers is in this class", remedy="`neuronagent info` has the classes by layer"
        )
    return by_layer(found)


def corpus_texts(live: LiveModel, split: Split = Split.TEST, tokens: int = TOKENS) -> Texts:
    """Evenly spaced texts of the index's own corpus, of one split, about so many `tokens`.

    Raises:
        UsageError: an index without a corpus.
    """
    if live.index.info.get("weights_only"):
        raise UsageError("this index was made without a corpus", remedy="say what to read with --text")
    found = live.index.reader.texts(split, tokens=tokens)
    return Texts(
        ids=tuple(text.token_ids for text in found), source=str(live.index.info["corpus"]["source"]), split=split
    )


def source_texts(live: LiveModel, source: str, tokens: int = TOKENS) -> Texts:
    """The first texts of a source that is read as a corpus would be, about so many `tokens`.

    Raises:
        CorpusError: it cannot be read, or has no text.
    """
    from neuronagent.index.sources import documents

    bos = () if live.bos is None else (live.bos,)
    body = min(int(live.index.info.get("max_tokens") or live.max_tokens), live.max_tokens) - len(bos)
    found: list[tuple[int, ...]] = []
    room = tokens
    for document in documents(source):
        ids = live.model.encode([document.text])[0]
        for start in range(0, len(ids), body):
            text = (*bos, *ids[start : start + body][: max(0, room - len(bos))])
            if len(text) > len(bos):
                found.append(text)
            room -= len(text)
            if room <= len(bos):
                return Texts(ids=tuple(found), source=source, split=None)
    return Texts(ids=tuple(found), source=source, split=None)
