"""A made-up index of any size: numbers distributed like recorded ones that meet every identity of definitions.md.

What decides size and speed is as a corpus has it: token ids by Zipf's law, full lists in every combination and split,
top values at the distances of extremes of an exponential tail, samples of different neurons at the same tokens, counts
spread over some fifteen bins, neighbours in all layers. All of it is vectorised, from a seed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, LISTED, CosineBaseline
from neuronagent.index.io_class import classify
from neuronagent.index.roles import RoleNumbers, assign
from neuronagent.layout import (
    HISTOGRAM_BINS,
    HISTOGRAM_EDGES,
    LayerActivations,
    LayerNeighbours,
    LayerRoles,
    LayerWeights,
    TextTable,
    TokenTable,
    WholeModel,
)

_SPLIT_SHARES = (0.5, 0.2, 0.3)
_POOL = 96  # tokens of smallest u that uniform samples of one split are drawn from
_SIGNS = np.array([[c.sign(q) for q in LISTED] for c in COMBINATIONS])  # post, x_in, x_gate


class MadeModel:
    """`layers` × `neurons`, and a corpus of `texts` of about 1,000 tokens each."""

    def __init__(self, *, layers: int, neurons: int, texts: int, k: int = 16, vocabulary: int = 50_304) -> None:
        self.layers, self.neurons, self.k, self.vocabulary = layers, neurons, k, vocabulary
        rng = np.random.default_rng(0)
        ranks = rng.zipf(1.2, texts * 1000) % vocabulary
        self.common_token = 17
        ids = (ranks * 2_741 + self.common_token - 2_741) % vocabulary  # rank 1 is `common_token`
        splits = np.repeat(np.arange(3), np.round(np.array(_SPLIT_SHARES) * texts).astype(int))[:texts]
        self._texts = TextTable(
            documents=[f"document {i}" for i in range(texts)],
            splits=rng.permutation(splits).astype(np.int8),
            first=np.arange(texts + 1) * 1000,
            tokens=ids.astype(np.uint32),
        )
        self._of_split = [np.flatnonzero(self._texts.splits == split) for split in range(3)]
        self._pools = [np.unique(self._places(rng, split, (_POOL, 1))) for split in range(3)]
        self._numbers: list[RoleNumbers] = []

    def info(self) -> dict[str, object]:
        model = {"name": "made", "revision": None, "activation": "silu", "dtype": "float32"}
        tokens = len(self._texts.tokens)
        return {
            "fingerprint": "made",
            "model": model,
            "identity": {"dtype": "float32"},
            "sign_convention": "normalised",
            "io_class_threshold": 0.5,
            "k": self.k,
            "corpus": {"tokens": tokens, "texts": len(self._texts.splits), "fingerprint": "made"},
        }

    def texts(self) -> TextTable:
        return self._texts

    def token_table(self) -> TokenTable:
        rng = np.random.default_rng(1)
        norms = rng.uniform(0.5, 2.0, (2, self.vocabulary)).astype(np.float32)
        table = self._texts
        counted = np.ones(len(table.tokens), bool)
        counted[table.first[:-1]] = False
        of_token = np.repeat(table.splits, np.diff(table.first))
        counts = [np.bincount(table.tokens[counted & (of_token == s)], minlength=self.vocabulary) for s in range(3)]
        data: list[bytes | None] = [f" t{i}".encode() for i in range(self.vocabulary)]
        return TokenTable(token_bytes=data, norm_unembedding=norms[0], norm_embedding=norms[1], counts=np.stack(counts))

    def layer(self, layer: int) -> tuple[LayerWeights, LayerActivations]:
        rng = np.random.default_rng((2, layer))
        weights = self._weights(rng, layer)
        return weights, self._activations(rng)

    def whole(self) -> WholeModel:
        """Roles by their thresholds; neighbours that are symmetric, in groups of neurons from all layers."""
        roles, thresholds = assign(self._numbers, entropy_dimensions=40, attention_reason=None)
        neurons = self.layers * self.neurons
        return WholeModel(
            roles=dict(enumerate(roles)),
            neighbours=enumerate(made_neighbours(self.layers, self.neurons)),
            info={
                "roles": asdict(thresholds),
                "neighbours": {"k": 10, "lists": 10 * neurons, "rechecked": 0, "reason": None},
            },
        )

    def _weights(self, rng: np.random.Generator, layer: int) -> LayerWeights:
        n = self.neurons
        cosines = np.clip(rng.normal(0, 0.3, (n, 3)), -1, 1)
        cosines[:, 0] = np.abs(cosines[:, 0])
        norms = rng.lognormal(0, 0.3, (n, 3))
        magnitudes = (rng.lognormal(0, 0.3, (n, 2, 3, 2, 1)) + _extremes(rng, (n, 2, 3, 2), 10) * 0.1) * 0.03
        magnitudes[:, :, :, 1] *= -1
        moments = rng.lognormal(-8, 0.3, (n, 2, 3, 3)).astype(np.float32)
        moments[..., 1] = rng.normal(0, 0.5, (n, 2, 3))
        moments[..., 2] = moments[..., 1] ** 2 - 1 + rng.lognormal(0, 0.5, (n, 2, 3))
        last = layer == self.layers - 1
        roles = LayerRoles(
            attention_scores=None if last else np.clip(rng.normal(0, 0.2, n), -1, 1).astype(np.float32),
            attention_heads=None if last else rng.integers(0, 32, n).astype(np.int16),
            entropy_shares=np.clip(rng.lognormal(-2.3, 0.4, n), 0, 1).astype(np.float32) if last else None,
            double_checking=rng.uniform(0.7, 1, n).astype(np.float32),
            double_checking_tokens=rng.integers(0, self.vocabulary, n).astype(np.int32),
        )
        out = moments[:, 0, 2]
        self._numbers.append(
            RoleNumbers(
                variance=out[:, 0], skew=out[:, 1], kurtosis=out[:, 2], cos_gate_in=cosines[:, 0],
                attention=roles.attention_scores, entropy=roles.entropy_shares,
            )
        )  # fmt: skip
        baseline = CosineBaseline(gaussian=(-0.03, 0.03), mismatched=(-0.05, 0.05), mismatched_absolute=0.04)
        return LayerWeights(
            cosines=cosines,
            norms=norms,
            sign=rng.choice(np.array([-1, 1], np.int8), n),
            io_class=classify(cosines),
            baselines=dict.fromkeys(("cos_gate_in", "cos_gate_out", "cos_in_out"), baseline),
            vocabulary_ids=self._different_ids(rng, (n, 2, 3, 2)),
            vocabulary_scores=magnitudes.astype(np.float32),
            vocabulary_moments=moments,
            roles=roles,
        )

    def _different_ids(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Ten token ids, no two of them equal."""
        ids = rng.integers(0, self.vocabulary // 10, (*shape, 10)) * 10 + np.arange(10)
        return rng.permuted(ids, axis=-1).astype(np.int32)

    def _activations(self, rng: np.random.Generator) -> LayerActivations:
        n, tokens, texts = self.neurons, len(self._texts.tokens), len(self._texts.splits)
        gate, inner = rng.normal(0, 0.5, (2, n)).astype(np.float32)
        act = (gate / (1 + np.exp(-gate.astype(np.float64)))).astype(np.float32)
        first = np.stack([act * inner, inner, gate, act], axis=1)
        own = np.where(gate > 0, 0, 2) + np.where(inner > 0, 0, 1)
        first_counts = np.zeros((n, 4), np.int64)
        first_counts[np.arange(n), own] = texts

        zeros = rng.integers(0, 4, n)
        plus, inner_plus = rng.beta(2, 4, n), np.clip(rng.normal(0.5, 0.1, n), 0.1, 0.9)
        shares = np.stack([plus * inner_plus, plus * (1 - inner_plus), (1 - plus) * inner_plus], axis=1)
        later = np.round(np.clip(shares, 0.02, 0.6) / 1.9 * (tokens - texts)).astype(np.int64)
        later = np.concatenate([later, (tokens - texts - zeros - later.sum(axis=1))[:, None]], axis=1)
        histogram = _histogram(rng, later)

        scale = rng.lognormal(0, 0.4, (n, 4, 1))
        tops = [
            self._listed(rng, scale * 0.4, split=None, quantities=2),  # x_in, x_gate
            *(self._listed(rng, scale, split=split) for split in range(3)),
        ]
        minima, maxima, sums = self._statistics(rng, tops, first, first_counts, later, histogram)
        middles = np.sqrt(HISTOGRAM_EDGES[:-1] * HISTOGRAM_EDGES[1:]).astype(np.float64)
        middles = np.concatenate([[2.0**-11], middles, [0.0]])
        mass = histogram.sum(axis=1) @ middles
        counts = later + first_counts
        write = _SIGNS[:, 0]
        sums[:, :, 0] = write * (mass + first_counts * np.abs(first[:, :1]).astype(np.float64))
        samples = [self._samples(rng, split) for split in range(3)]
        return LayerActivations(
            counts=counts,
            first_counts=first_counts,
            zeros=zeros,
            sums=sums,
            minima=minima,
            maxima=maxima,
            mass=mass,
            histogram=histogram,
            first_values=first,
            post=np.stack([top[:, :, 0] for top in tops[1:]], axis=1),
            x_in=tops[0][:, :, 0],
            x_gate=tops[0][:, :, 1],
            uniform=np.stack([uniform for uniform, _ in samples], axis=1),
            weighted=np.stack([weighted for _, weighted in samples], axis=1),
        )

    def _statistics(
        self,
        rng: np.random.Generator,
        tops: list[NDArray[np.int64]],
        first: NDArray[np.float32],
        first_counts: NDArray[np.int64],
        later: NDArray[np.int64],
        histogram: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        """Extremes beyond every listed value and position 0, means between them."""
        listed = [np.max([_magnitudes(top[:, :, 0, 0]) for top in tops[1:]], axis=0)]
        listed += [_magnitudes(tops[0][:, :, place, 0]) for place in range(2)]
        far = np.stack(listed, axis=2)  # (N, 4, 3)
        far = np.maximum(far, np.where(first_counts[..., None] > 0, np.abs(first[:, None, :3]), 0))
        near = (far * rng.uniform(1e-7, 1e-5, far.shape)).astype(np.float32)
        low, high = np.where(_SIGNS > 0, near, -far), np.where(_SIGNS > 0, far, -near)
        gate_high = high[:, :, 2:]
        act_low = np.where(_SIGNS[:, 2:] > 0, near[:, :, 2:] / 2, -0.278)
        act_high = np.where(_SIGNS[:, 2:] > 0, gate_high, -near[:, :, 2:] / 2)
        minima = np.concatenate([low, act_low], axis=2).astype(np.float32)
        maxima = np.concatenate([high, act_high], axis=2).astype(np.float32)
        between = rng.uniform(0.1, 0.3, minima.shape)
        means = minima + (maxima - minima).astype(np.float64) * between
        return minima, maxima, means * (later + first_counts)[..., None]

    def _listed(
        self, rng: np.random.Generator, scale: NDArray[np.float64], *, split: int | None, quantities: int = 1
    ) -> NDArray[np.int64]:
        """Top lists `[N, 4, quantities, k]`: each text once, values as extremes of an exponential tail."""
        shape = (self.neurons, 4, quantities)
        values = scale[..., None] * (4 + _extremes(rng, shape, self.k))
        return _packed(values, self._places(rng, split, (*shape, self.k)))

    def _samples(self, rng: np.random.Generator, split: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A uniform and a weighted sample `[N, 4, k]`, each by magnitude."""
        shape = (self.neurons, 4, self.k)
        values = rng.lognormal(-2.5, 1.2, shape)
        drawn = rng.random((self.neurons, 4, len(self._pools[split]))).argpartition(self.k, axis=2)[:, :, : self.k]
        uniform = _packed(-np.sort(-values), self._pools[split][drawn])
        heavier = rng.lognormal(-1.2, 1.0, shape)
        return uniform, _packed(-np.sort(-heavier), self._places(rng, split, shape))

    def _places(self, rng: np.random.Generator, split: int | None, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Corpus token numbers in different texts of `split` (the last axis), never at position 0."""
        among = np.arange(len(self._texts.splits)) if split is None else self._of_split[split]
        # One text from each of as many stretches of the corpus as there are places, in any order.
        count = shape[-1]
        stretch = len(among) // count
        places = rng.integers(0, stretch, shape) + stretch * np.arange(count)
        places = rng.permuted(places.reshape(-1, count), axis=1).reshape(shape)
        return among[places] * 1000 + rng.integers(1, 1000, shape)


def _extremes(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> NDArray[np.float64]:
    """The k largest of many exponential variables above a common bound, descending (Rényi's representation)."""
    gaps = rng.exponential(1.0, (*shape, k)) / np.arange(1, k + 1)
    return np.flip(np.cumsum(np.flip(gaps, axis=-1), axis=-1), axis=-1)


def _packed(values: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    packed = (values.astype(np.float32).view(np.uint32).astype(np.int64) << 32) | (0xFFFFFFFF - numbers)
    return -np.sort(-packed, axis=-1)


def _magnitudes(entries: NDArray[np.int64]) -> NDArray[np.float32]:
    return (entries >> 32).astype(np.uint32).view(np.float32)


def _histogram(rng: np.random.Generator, later: NDArray[np.int64]) -> NDArray[np.int64]:
    """`later` `[N, 4]` tokens as `[N, 3, 4, bins]`: bell-shaped over the octaves, Poisson noise, the last bin empty."""
    centre, width = rng.uniform(8, 16, (*later.shape, 1)), rng.uniform(2.5, 4, (*later.shape, 1))
    shape = np.exp(-0.5 * ((np.arange(HISTOGRAM_BINS - 1) - centre) / width) ** 2)
    shape = (shape / shape.sum(axis=2, keepdims=True))[:, None] * np.array(_SPLIT_SHARES)[None, :, None, None]
    expected = shape * later[:, None, :, None]
    counts = np.maximum(np.round(expected + np.sqrt(expected) * rng.normal(0, 1, expected.shape)), 0).astype(np.int64)
    counts = np.concatenate([counts, np.zeros_like(counts[..., :1])], axis=3)
    peak = counts[:, 0].argmax(axis=2)
    missing = later - counts.sum(axis=(1, 3))
    n, c = np.indices(later.shape)
    counts[n, 0, c, peak] += missing
    return counts


def made_neighbours(layers: int, neurons: int) -> list[LayerNeighbours]:
    """Groups of 11 that are each other's similar (and opposite) ones, and of ten and ten that write to each other."""
    total = layers * neurons
    ordinals = np.full((total, 10, 10), -1, np.int32)
    steps = np.zeros((total, 10, 10), np.int16)
    for place in range(6):
        rng = np.random.default_rng((3, place))
        groups = rng.permutation(total)[: total // 11 * 11].reshape(-1, 11).astype(np.int32)
        cosines = np.triu(rng.integers(2_000, 30_000, (len(groups), 11, 11)), 1).astype(np.int16)
        cosines = (cosines + cosines.transpose(0, 2, 1)) * (1 if place < 3 else -1)
        for own in range(11):
            others = [other for other in range(11) if other != own]
            _fill(ordinals, steps, place, groups[:, own], groups[:, others], cosines[:, own, others])
    for place in (6, 7):
        for layer in range(layers - 1):
            rng = np.random.default_rng((4, place, layer))
            size = neurons // 10 * 10
            writers, readers = (
                ((layer + i) * neurons + rng.permutation(neurons)[:size]).reshape(-1, 10).astype(np.int32)
                for i in range(2)
            )
            cosines = rng.integers(2_000, 30_000, (len(writers), 10, 10)) * rng.choice([-1, 1], (len(writers), 10, 10))
            for own in range(10):
                _fill(ordinals, steps, place, writers[:, own], readers, cosines[:, own])
                _fill(ordinals, steps, place + 2, readers[:, own], writers, cosines[:, :, own])
    bounds = range(0, total, neurons)
    return [LayerNeighbours(ordinals=ordinals[s : s + neurons], cosines=steps[s : s + neurons]) for s in bounds]


def _fill(
    ordinals: NDArray[np.int32],
    steps: NDArray[np.int16],
    place: int,
    own: NDArray[np.int32],
    others: NDArray[np.int32],
    cosines: NDArray[Any],
) -> None:
    """Put the list `others` `[M, 10]` of the neurons `own` `[M]` in order: by |cosine|, then by ordinal."""
    order = np.lexsort((others, -np.abs(cosines.astype(np.int64))), axis=1)
    ordinals[own, place] = np.take_along_axis(others, order, axis=1)
    steps[own, place] = np.take_along_axis(cosines, order, axis=1)
