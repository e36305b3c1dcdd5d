"""An index of the planted model whose every activation is known: built once per session, recomputed in float64."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, SPLITS, NeuronId, SignCombination, Split, Text
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.store.reader import IndexReader
from tests import planted
from tests.planted import Planted

SALT = "known"
TEXTS = 1600


@dataclass(frozen=True, kw_only=True)
class Known:
    """Every corpus token behind position 0 with what the neuron does there, in the index's sign convention.

    `number`, `text`, `place`, `token` and `split` `[T]`; `combination` is the place in `COMBINATIONS`, −1 at an exact
    zero; `post` is float64.
    """

    number: NDArray[np.int64]
    text: NDArray[np.int64]
    place: NDArray[np.int64]
    token: NDArray[np.int64]
    split: NDArray[np.int64]
    combination: NDArray[np.int64]
    post: NDArray[np.float64]

    def within(self, split: Split, combination: SignCombination | None = None) -> NDArray[np.bool_]:
        """Which tokens are in a split, and in a combination."""
        held = self.split == split.position
        return held if combination is None else held & (self.combination == combination.position)


@dataclass(frozen=True, kw_only=True)
class World:
    """The planted model, the file of its texts, the index, and the texts as the index holds them."""

    model: Planted
    source: Path
    db: Path
    texts: tuple[Text, ...]


@cache
def world() -> World:
    """The one world of a session."""
    folder = _temporary_folder()
    model = planted.build(folder / "model")
    source = write_texts(folder / "texts.jsonl", planted.corpus(TEXTS))
    return World(model=model, source=source, db=folder / "known.db", texts=build(model, source, folder / "known.db"))


def write_texts(file: Path, texts: Sequence[str]) -> Path:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def build(model: Planted, source: Path, db: Path) -> tuple[Text, ...]:
    """Index a file of texts; the texts of the index in its order."""
    torch.set_num_threads(1)
    build_index(BuildOptions(model=str(model.folder), text=str(source), db=str(db), salt=SALT))
    with IndexReader.open(db) as reader:
        texts = [text for split in SPLITS for text in reader.texts(split)]
    return tuple(sorted(texts, key=lambda text: text.text_id))


@cache
def _temporary_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="neuronagent-known-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def _pre_activations() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x_gate and x_in of all tokens behind position 0, each `[layer, T, neuron]`, by the oracle of the model."""
    pairs = [world().model.pre_activations(list(text.token_ids)) for text in world().texts]
    gate, into = (np.concatenate([pair[side][:, 1:] for pair in pairs], axis=1) for side in (0, 1))
    return gate, into


@cache
def known(neuron: NeuronId) -> Known:
    """What `neuron` really does at every token of the corpus."""
    texts = world().texts
    sign = world().model.truth[neuron].sign
    gate, into = (side[neuron.layer, :, neuron.index] for side in _pre_activations())
    into = into * sign
    places = [np.arange(1, len(text.token_ids)) for text in texts]
    behind = [len(place) for place in places]
    combination = np.full(len(gate), -1)
    for c in COMBINATIONS:
        combination[(gate * c.gate_sign > 0) & (into * c.in_sign > 0)] = c.position
    return Known(
        number=np.concatenate([text.first_token + place for text, place in zip(texts, places, strict=True)]),
        text=np.repeat([text.text_id for text in texts], behind),
        place=np.concatenate(places),
        token=np.concatenate([text.token_ids[1:] for text in texts]).astype(np.int64),
        split=np.repeat([text.split.position for text in texts], behind),
        combination=combination,
        post=gate / (1 + np.exp(-gate)) * into,
    )
