"""Small made-up indexes: arrays as the model and the recorder would hand them to the store, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import IO_CLASSES, NEIGHBOUR_LISTS, ROLES, CosineBaseline
from neuronagent.layout import (
    EMPTY,
    HISTOGRAM_EDGES,
    LayerActivations,
    LayerNeighbours,
    LayerRoles,
    LayerWeights,
    TextTable,
    TokenTable,
    WholeModel,
)
from neuronagent.store.writer import Layers, write_index


@dataclass(frozen=True, kw_only=True)
class Made:
    """All that `write_index` takes."""

    info: dict[str, object]
    token_table: TokenTable
    texts: TextTable
    layers: list[tuple[int, LayerWeights, LayerActivations | None]]

    def write(self, target: str | Path, layers: Layers | None = None, whole: WholeModel | None = None) -> None:
        """Write it to `target`, with `layers` in place of its own; with roles and neighbours if these are given."""
        write_index(
            target,
            info=self.info,
            token_table=self.token_table,
            texts=self.texts,
            layers=self.layers if layers is None else layers,
            whole=None if whole is None else lambda: whole,
        )


def make_index(
    *,
    layers: int = 2,
    neurons: int = 12,
    k: int = 4,
    vocabulary: int = 60,
    texts: int = 9,
    seed: int = 0,
    length: int = 20,
) -> Made:
    """An index of `layers` × `neurons`; the first neuron of each layer is never in gate-_in- ."""
    rng = np.random.default_rng(seed)
    table = make_texts(rng, texts, length, vocabulary)
    parts: list[tuple[int, LayerWeights, LayerActivations | None]] = []
    for layer in range(layers):
        weights = make_weights(rng, neurons, vocabulary, k)
        parts.append((layer, weights, make_activations(rng, neurons, k, table)))
    info: dict[str, object] = {"fingerprint": f"made-{seed}", "model": "made", "k": k}
    return Made(info=info, token_table=make_tokens(rng, vocabulary), texts=table, layers=parts)


def make_tokens(rng: np.random.Generator, vocabulary: int) -> TokenTable:
    """Tokens `t0`, ` t1`, `t2`, …, the last three: half a character, a space and `t0`, undecodable."""
    data: list[bytes | None] = [f"{' ' * (i % 2)}t{i}".encode() for i in range(vocabulary)]
    data[-3:] = [b"\xc3", b" t0", None]
    norms = rng.uniform(0.5, 2.0, (2, vocabulary)).astype(np.float32)
    counts = rng.integers(0, 1000, (3, vocabulary))
    return TokenTable(token_bytes=data, norm_unembedding=norms[0], norm_embedding=norms[1], counts=counts)


def make_texts(rng: np.random.Generator, texts: int, length: int, vocabulary: int) -> TextTable:
    """Texts in pairs of chunks of one document; text i has the split i // 2 mod 3."""
    lengths = rng.integers(max(1, length // 2), length + 1, texts)
    return TextTable(
        documents=[f"document-{i // 2}" for i in range(texts)],
        splits=np.array([i // 2 % 3 for i in range(texts)], np.int8),
        first=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        tokens=rng.integers(0, vocabulary, lengths.sum()).astype(np.uint32),
    )


def make_weights(rng: np.random.Generator, neurons: int, vocabulary: int, k: int) -> LayerWeights:
    scores = -np.sort(-rng.uniform(0.1, 2.0, (neurons, 2, 3, 2, k)), axis=-1).astype(np.float32)
    ids = rng.integers(0, vocabulary, (neurons, 2, 3, 2, k)).astype(np.int32)
    ids[0, :, :, :, -1] = EMPTY
    return LayerWeights(
        cosines=rng.uniform(-1, 1, (neurons, 3)),
        norms=rng.uniform(0.5, 3.0, (neurons, 3)),
        sign=rng.choice(np.array([-1, 1], np.int8), neurons),
        io_class=rng.integers(0, len(IO_CLASSES), neurons).astype(np.int8),
        baselines={
            name: CosineBaseline(gaussian=(-0.1, 0.1), mismatched=(-0.2, 0.25), mismatched_absolute=0.22)
            for name in ("cos_gate_in", "cos_gate_out", "cos_in_out")
        },
        vocabulary_ids=ids,
        vocabulary_scores=scores,
        vocabulary_moments=rng.standard_normal((neurons, 2, 3, 3)).astype(np.float32),
        roles=make_roles(neurons, vocabulary),
    )


def make_roles(neurons: int, vocabulary: int) -> LayerRoles:
    """Scores as the next to last layer would have them, and shares as the last; neuron 1 has no double checking."""
    rng = np.random.default_rng(neurons)
    tokens = rng.integers(0, vocabulary, neurons).astype(np.int32)
    tokens[1:2] = -1
    return LayerRoles(
        attention_scores=rng.uniform(-1, 1, neurons).astype(np.float32),
        attention_heads=rng.integers(0, 4, neurons).astype(np.int16),
        entropy_shares=rng.uniform(0, 1, neurons).astype(np.float32),
        double_checking=rng.uniform(0, 1, neurons).astype(np.float32),
        double_checking_tokens=tokens,
    )


def make_whole(made: Made, *, k: int = 5) -> WholeModel:
    """Every role in turn and random neighbours; the lists of each layer's first neuron are one short."""
    rng = np.random.default_rng(0)
    counts = {layer: len(weights.sign) for layer, weights, _ in made.layers}
    total = sum(counts.values())

    def neighbours(neurons: int) -> LayerNeighbours:
        shape = (neurons, len(NEIGHBOUR_LISTS), k)
        ordinals = rng.integers(0, total, shape).astype(np.int32)
        strengths = -np.sort(-rng.integers(1, 32768, shape), axis=2)
        cosines = (strengths * rng.choice([-1, 1], shape)).astype(np.int16)
        ordinals[0, :, -1], cosines[0, :, -1] = -1, 0
        return LayerNeighbours(ordinals=ordinals, cosines=cosines)

    thresholds: dict[str, object] = {
        "partition_neurons": 2, "partition_variance": 0.5, "kurtosis": 1.5, "entropy_dimensions": 1,
        "entropy_outlier": 0.7, "entropy_share": 0.5, "attention": 0.7071, "attention_reason": None,
    }  # fmt: skip
    return WholeModel(
        roles={layer: (np.arange(n) % (len(ROLES) + 2) - 2).clip(-1).astype(np.int8) for layer, n in counts.items()},
        neighbours=[(layer, neighbours(n)) for layer, n in counts.items()],
        info={"roles": thresholds, "neighbours": {"k": k, "rechecked": 0, "reason": None}},
    )


def make_activations(rng: np.random.Generator, neurons: int, k: int, texts: TextTable) -> LayerActivations:
    """Lists of random values at random tokens: consistent in form, not recorded from anything."""
    counts = rng.integers(1, 100_000, (neurons, 4))
    counts[0, 3] = 0
    first_counts = np.minimum(counts, rng.integers(0, 5, (neurons, 4)))
    magnitudes = np.exp2(rng.normal(-3, 2, (neurons, 4, 300)))
    bins = np.searchsorted(HISTOGRAM_EDGES, magnitudes.astype(np.float32), side="right")
    histogram = np.zeros((neurons, 3, 4, len(HISTOGRAM_EDGES) + 1), np.int64)
    n, c, i = np.indices(bins.shape)
    np.add.at(histogram, (n, i % 3, c, bins), np.maximum(counts // 300, 1)[..., None].repeat(300, axis=2))
    extremes = rng.standard_normal((2, neurons, 4, 4)).astype(np.float32)
    lists = {
        name: entries(rng, (neurons, *shape, k), len(texts.tokens))
        for name, shape in {"post": (3, 4), "x_in": (4,), "x_gate": (4,), "uniform": (3, 4), "weighted": (3, 4)}.items()
    }
    for values in lists.values():
        values[0, ..., 3, :] = EMPTY
    histogram[0, :, 3] = 0
    extremes[:, 0, 3] = np.nan
    return LayerActivations(
        counts=counts,
        first_counts=first_counts,
        zeros=rng.integers(0, 3, neurons),
        sums=rng.standard_normal((neurons, 4, 4)) * counts[..., None],
        minima=extremes.min(axis=0),
        maxima=extremes.max(axis=0),
        mass=rng.uniform(1, 100, (neurons, 4)) * (counts > 0),
        histogram=histogram,
        first_values=rng.standard_normal((neurons, 4)).astype(np.float32),
        **lists,
    )


def entries(rng: np.random.Generator, shape: tuple[int, ...], corpus_tokens: int) -> NDArray[np.int64]:
    """Packed list entries, descending; see `neuronagent.layout`."""
    values = rng.exponential(1.0, shape).astype(np.float32)
    numbers = rng.integers(0, corpus_tokens, shape)
    packed = (values.view(np.uint32).astype(np.int64) << 32) | (0xFFFFFFFF - numbers)
    return -np.sort(-packed, axis=-1)
