"""What a model loses when something takes the place of its neurons (the NPL paper, § 4): words, results, their keys.

A *chunk* is some layers that follow each other. In one run all neurons of a chunk's layers are replaced, at every
position but a BOS at position 0, by one *mapping*: `predicted` by the fit's map from the nearest layer below, `random`
by a Gaussian matrix whose rows have the norms of that map's rows, `zero`, or `identical`: the activations of the source
layer as they are. A layer that no layer below has a map onto *stays* as it is.

`complete`: what is put in place goes wherever the actual would. `partial`: later layers read what is put in place, but
the final residual stream gets what the replaced layers write in the unmodified model. Sources are `clean`, of the
unmodified model, or `chained`: as they are in the modified one, themselves replaced where they are in the chunk. Zero
has no source and is stored as clean.

Perplexity is exp of the mean loss over the tokens; its interval, and that of the change of the loss from the unmodified
model, are over documents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

KIND, HALVES_KIND = "substitution", "halves"
"""Kinds of results in the index."""
PREDICTED, RANDOM, ZERO, IDENTICAL, ACTUAL = "predicted", "random", "zero", "identical", "actual"
MAPPINGS = (PREDICTED, RANDOM, ZERO, IDENTICAL)
COMPLETE, PARTIAL = "complete", "partial"
SETTINGS = (COMPLETE, PARTIAL)
CLEAN, CHAINED = "clean", "chained"
SOURCES = (CLEAN, CHAINED)

METRICS = ("L2", "Pearson", "mean", "variance")
"""By which a layer's neurons are halved: root mean squared error and correlation of the prediction, mean and variance
of the actual, all of the fit's own test split and in the model's signs."""
WAYS: tuple[tuple[str, str], ...] = (
    (ACTUAL, PREDICTED),
    (PREDICTED, ACTUAL),
    (ZERO, PREDICTED),
    (PREDICTED, ZERO),
    (ACTUAL, RANDOM),
    (RANDOM, ACTUAL),
    (ZERO, RANDOM),
    (RANDOM, ZERO),
)
"""What takes the place of the top and of the bottom half. The top half has the larger values of the metric; a neuron
without a value counts as the smallest, and of an odd number of neurons the bottom half has one more. The caption of the
paper's Figure 4 does not name all eight legibly: these are its four pairs of opposites, as its text uses them."""


class Measured(TypedDict):
    """One perplexity. `loss`: mean over the tokens, in nats; `change`: of it from the unmodified model, with the
    interval of the paired differences. `draws`: the perplexities of the random draws, whose mean this is (the change is
    the mean of their changes); empty otherwise. A number that does not exist is None; `reason` says why."""

    perplexity: float | None
    lo: float | None
    hi: float | None
    loss: float | None
    change: float | None
    change_lo: float | None
    change_hi: float | None
    draws: list[float | None]
    reason: str | None


class Chunk(TypedDict):
    """`replaced`: `[layer, its source]` each; `stays`: layers of the chunk without a source below."""

    name: str
    layers: list[int]
    replaced: list[list[int]]
    stays: list[int]


class SubstitutionSettings(TypedDict):
    """All that the numbers depend on. `identity`: of the fit; `window`: tokens that the model reads at once, BOS
    included; `stride`: how far the next window begins; `fingerprint`: of the windows. `source`: a layer that is the
    source of all, None for the nearest below. `seeds`: of the random draws."""

    version: int
    identity: str
    text: str
    fingerprint: str
    window: int
    stride: int
    source: int | None
    chunks: list[list[int]]
    seeds: list[int]


class SubstitutionText(TypedDict):
    """What was measured on, and the unmodified model there; stored once per settings under `text_result_key`. `source`:
    where the text comes from; `tokens`: predictions that count; `available`: those of the whole text."""

    schema_version: int
    settings_id: str
    settings: SubstitutionSettings
    source: str
    tokens: int
    available: int
    documents: int
    windows: int
    chunks: list[Chunk]
    stays: list[int]
    original: Measured
    device: str
    warnings: list[str]


class SubstitutionCell(TypedDict):
    """One cell of the paper's Table 1; `chunk` is the place in `SubstitutionText.chunks`."""

    settings_id: str
    mapping: str
    setting: str
    sources: str
    chunk: int
    measured: Measured


class HalvesCell(TypedDict):
    """One cell of the paper's Figure 4: complete substitution of both halves of a chunk's replaced layers. `split`: a
    hash of what the halves are; other scores may make others."""

    settings_id: str
    split: str
    metric: str
    top: str
    bottom: str
    sources: str
    chunk: int
    measured: Measured


class Average(TypedDict):
    """The paper's Table 2: the mean of a mapping's perplexities over all chunks; None where one has none."""

    mapping: str
    setting: str
    sources: str
    perplexity: float | None


class SubstitutionView(TypedDict):
    """Table 1 on one text; `averages`: a row of Table 2 each."""

    text: SubstitutionText
    cells: list[SubstitutionCell]
    averages: list[Average]


class HalvesView(TypedDict):
    """Figure 4. `all`: every neuron predicted, a cell per chunk."""

    text: SubstitutionText
    sources: str
    cells: list[HalvesCell]
    all: list[Measured | None]


def chained_as_clean(cells: Sequence[SubstitutionCell]) -> bool:
    """Whether chained sources give the numbers of clean ones in every cell, as where no chunk replaces a layer and its
    source: they then say nothing new."""
    found = {(c["sources"], c["mapping"], c["setting"], c["chunk"]): c["measured"]["perplexity"] for c in cells}
    chained = [(key[1:], value) for key, value in found.items() if key[0] == CHAINED]
    return bool(chained) and all((CLEAN, *key) in found and found[CLEAN, *key] == value for key, value in chained)


def settings_id(settings: Mapping[str, Any]) -> str:
    """What results with these settings are found by."""
    said = json.dumps(dict(settings), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def text_result_key(of: str) -> str:
    return f"{of} unmodified"


def cell_key(of: str, mapping: str, setting: str, sources: str, chunk: int) -> str:
    return f"{of} {mapping} {setting} {sources} {chunk}"


def halves_key(of: str, metric: str, top: str, bottom: str, sources: str, chunk: int) -> str:
    return f"{of} {metric} {top}/{bottom} {sources} {chunk}"
