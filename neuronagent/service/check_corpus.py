"""The corpus of an index as a check needs it, and whether its texts and tokens are what the index says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import IO_CLASS_THRESHOLD, SPLITS
from neuronagent.service.ledger import Ledger
from neuronagent.store.blocks import BlockReader

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the index says of itself, and its corpus: the first token number and the split of every text, the token id
    at every corpus token number; norms `[V, 2]` of the tokens' columns in W_U and W_E."""

    activation: str
    normalised: bool
    threshold: float
    k: int
    first: Integers
    splits: Integers
    tokens: NDArray[np.uint32]
    norms: Floats

    def locate(self, numbers: Integers) -> tuple[Integers, Integers]:
        """The text of each corpus token number and the position in it; of one beyond the corpus some text."""
        texts = np.searchsorted(self.first, numbers, side="right") - 1
        return texts, numbers - self.first[texts] if len(self.first) else numbers


def read_facts(reader: BlockReader, info: Mapping[str, Any], ledger: Ledger) -> Facts:
    """Read the corpus and check it on the way."""
    norms, counted = reader.vocabulary()
    first: list[int] = []
    splits: list[int] = []
    parts: list[NDArray[np.uint32]] = []
    counts, end = np.zeros_like(counted), 0
    for text in reader.texts():
        where = f"text {text.text_id}"
        follows = text.first_token == end and text.n_tokens == len(text.tokens)
        ledger("texts follow each other without gaps", follows, where, text.first_token, end)
        known = text.tokens < len(norms)
        ledger("the token ids of texts are in the vocabulary", bool(known.all()), where)
        counts[:, text.split] += np.bincount(text.tokens[1:][known[1:]], minlength=len(counts))
        first.append(text.first_token)
        splits.append(text.split)
        parts.append(text.tokens)
        end = text.first_token + len(text.tokens)
    if parts:
        ledger.each("tokens occur as often as the vocabulary says", counts == counted, _token, counts, counted)
    said = info["corpus"]["tokens"] if isinstance(info.get("corpus"), Mapping) else end
    ledger("the texts have as many tokens as the index says", said == end, f"{said} and {end}")
    model = info.get("model")
    return Facts(
        activation=str(model["activation"]) if isinstance(model, Mapping) else "",
        normalised=info.get("sign_convention") == "normalised",
        threshold=float(info.get("io_class_threshold", IO_CLASS_THRESHOLD)),
        k=int(info.get("k", 0)),
        first=np.array(first, np.int64),
        splits=np.array(splits, np.int64),
        tokens=np.concatenate([np.zeros(0, np.uint32), *parts]),
        norms=norms,
    )


def _token(token: int, split: int) -> str:
    return f"token {token} in {SPLITS[split].value}"
