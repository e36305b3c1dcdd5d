"""Properties of tokens (paper § 5.1–5.3), as keys that tokens have.

* `1-gram`, `2-gram`, `3-gram`: the most frequent of the text that have a letter or digit in them and occur at least
  `LEAST` times; the property holds at the token that ends an occurrence. BOS is part of none.
* `hard`, `easy`: the tenth of tokens at which the loss is highest, and lowest. It is the loss of the prediction that is
  made at the token, of the one after it: what its activations take part in. The last token of a text is neither.
* `arbitrary`, `successive`, `oscillatory`: a random set of positions, a span of them, and positions at a regular
  interval of `PERIODS`, in every text the same; the first two are of a tenth of the positions.
* random tokens, which the others are held against: for each seed an order of all tokens, of which the first k are a
  property, for sizes k in half octaves over all that the other properties have (or their complement, where that is the
  smaller: μ is the same for both).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent import wording
from neuronagent.domain import token_text
from neuronagent.index.predictability.functional import Floats, Ints, KeysOfTokens, SumsByKey
from neuronagent.predictability.functional import EASY, HARD, NGRAMS, POSITIONS
from neuronagent.service.predict.texts import TokenTexts

LEAST = 5
"""Tokens that a property holds at, and does not hold at, at the least."""
DECILE = 0.1
PERIODS = range(8, 21)
INSTANCES = 100
_LONGEST = 48

TokenBytes = Callable[[Sequence[int]], Sequence[bytes | None]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """The properties of one sort: keys `[start, stop)`, or unions of them (`members` `[P, keys]`); `names` `[P]` in
    words, `counts` `[P]` of tokens."""

    name: str
    start: int
    stop: int
    members: Floats | None
    names: tuple[str, ...]
    counts: Ints

    def sums(self, by_key: SumsByKey) -> SumsByKey:
        own = by_key[self.start : self.stop]
        return own if self.members is None else own.combined(self.members)

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True, kw_only=True)
class Properties:
    """All of them over the n tokens of some texts, numbered in corpus order from the first that counts. `sizes`: the
    numbers of random tokens, ascending, whose bins begin at key `random`."""

    families: tuple[Family, ...]
    keys: KeysOfTokens
    sizes: Ints
    seeds: int
    random: int
    tokens: int

    def random_sums(self, by_key: SumsByKey) -> SumsByKey:
        """Sums by bin of the random orders."""
        return by_key[self.random : self.random + self.seeds * len(self.sizes)]


@dataclass(frozen=True, kw_only=True)
class Flat:
    """The n tokens that count, in corpus order `[n]`: `ids`, `positions`, `texts` (places). `starts`: the number of
    the first token of each text."""

    ids: Ints
    positions: Ints
    texts: Ints
    starts: Ints
    first: int

    @classmethod
    def of(cls, texts: TokenTexts) -> Flat:
        lengths = np.array([max(0, len(text.ids) - texts.first) for text in texts.texts], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        owner = np.repeat(np.arange(len(lengths)), lengths)
        ids = [text.ids[texts.first :] for text in texts.texts]
        return cls(
            ids=np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64),
            positions=np.arange(starts[-1]) - starts[owner] + texts.first,
            texts=owner,
            starts=starts,
            first=texts.first,
        )

    def numbers(self, texts: Ints, positions: Ints) -> Ints:
        """The numbers of tokens at `positions` of `texts`."""
        return self.starts[texts] + positions - self.first

    def __len__(self) -> int:
        return len(self.ids)


def make_properties(
    flat: Flat, losses: Floats, token_bytes: TokenBytes, *, ngrams: int, seeds: int, bos: int | None, seed: int = 0
) -> Properties:
    """All properties of the tokens `flat`; `losses` `[n]` of the prediction made at each, NaN where there is none."""
    parts: list[tuple[Ints, Ints]] = []
    families: list[Family] = []
    keys = 0
    for size, name in enumerate(NGRAMS, 1):
        tokens, places, names, counts = frequent_ngrams(flat, size, ngrams, token_bytes, bos)
        families.append(_plain(name, keys, names, counts))
        parts.append((tokens, places + keys))
        keys += len(names)
    for name, where in hard_and_easy(losses).items():
        families.append(_plain(name, keys, (name,) if len(where) else (), np.array([len(where)] * bool(len(where)))))
        parts.append((where, np.full(len(where), keys)))
        keys += bool(len(where))
    longest = int(flat.positions.max()) - flat.first + 1
    at = np.bincount(flat.positions - flat.first, minlength=longest)
    for number, name in enumerate(POSITIONS):
        members, names = position_sets(name, longest, flat.first, np.random.default_rng([seed, number]))
        counts = (members @ at).astype(np.int64)
        some = (counts >= LEAST) & (len(flat) - counts >= LEAST)
        kept = tuple(each for each, good in zip(names, some, strict=True) if good)
        families.append(
            Family(name=name, start=keys, stop=keys + longest, members=members[some], names=kept, counts=counts[some])
        )
    parts.append((np.arange(len(flat)), flat.positions - flat.first + keys))
    keys += longest
    sizes = random_sizes(np.concatenate([family.counts for family in families]), len(flat))
    parts += random_bins(len(flat), sizes, seeds, keys, seed)
    total = keys + seeds * len(sizes)
    return Properties(
        families=tuple(families),
        keys=KeysOfTokens.of(len(flat), parts, total),
        sizes=sizes,
        seeds=seeds,
        random=keys,
        tokens=len(flat),
    )


def _plain(name: str, start: int, names: tuple[str, ...], counts: Ints) -> Family:
    return Family(
        name=name, start=start, stop=start + len(names), members=None, names=names, counts=counts.astype(np.int64)
    )


def frequent_ngrams(
    flat: Flat, size: int, most: int, token_bytes: TokenBytes, bos: int | None
) -> tuple[Ints, Ints, tuple[str, ...], Ints]:
    """The `most` frequent n-grams of `size` tokens: numbers of tokens that end one with its place among them, what they
    are in words, and how often each occurs. Of equally frequent ones the lower ids come first."""
    nothing = np.zeros(0, dtype=np.int64)
    base = int(flat.ids.max(initial=0)) + 1
    ends = np.arange(size - 1, len(flat))
    ends = ends[flat.texts[ends] == flat.texts[ends - size + 1]]
    codes = np.zeros(len(ends), dtype=np.int64)
    usable = np.ones(len(ends), dtype=np.bool_)
    for back in range(size - 1, -1, -1):
        ids = flat.ids[ends - back]
        codes = codes * base + ids
        usable &= ids != (-1 if bos is None else bos)
    ends, codes = ends[usable], codes[usable]
    known, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= LEAST]
    order = order[len(flat) - counts[order] >= LEAST]
    chosen, names = _meaningful(known, order, size, base, most, token_bytes)
    if not chosen:
        return nothing, nothing, (), nothing
    places = np.full(len(known), -1, dtype=np.int64)
    places[chosen] = np.arange(len(chosen))
    own = places[inverse]
    return ends[own >= 0], own[own >= 0], tuple(names), counts[chosen].astype(np.int64)


def _meaningful(
    known: Ints, order: Ints, size: int, base: int, most: int, token_bytes: TokenBytes
) -> tuple[list[int], list[str]]:
    """The first `most` of `order` in which a letter or digit stands."""
    chosen: list[int] = []
    names: list[str] = []
    for start in range(0, len(order), 2 * most):
        part = order[start : start + 2 * most]
        digits = np.stack([known[part] // base**back % base for back in range(size - 1, -1, -1)], axis=1)
        flat = token_bytes(digits.ravel().tolist())
        for place, own in enumerate(part.tolist()):
            pieces = flat[size * place : size * (place + 1)]
            if len(chosen) == most:
                return chosen, names
            if any(piece is None for piece in pieces):
                continue
            data = b"".join(piece or b"" for piece in pieces)
            if any(character.isalnum() for character in data.decode("utf-8", "ignore")):
                chosen.append(own)
                names.append(wording.clipped(wording.visible(token_text(data)).replace(" ", "␣"), _LONGEST))
    return chosen, names


def hard_and_easy(losses: Floats) -> dict[str, Ints]:
    """The tokens of the highest and of the lowest tenth of losses; none where there are too few."""
    known = np.flatnonzero(np.isfinite(losses))
    order = known[np.argsort(losses[known], kind="stable")]
    k = round(DECILE * len(order))
    k = k if k >= LEAST else 0
    return {HARD: np.sort(order[len(order) - k :]), EASY: np.sort(order[:k])}


def position_sets(name: str, longest: int, first: int, generator: np.random.Generator) -> tuple[Floats, list[str]]:
    """Up to `INSTANCES` different sets of the `longest` positions from `first` on, `[P, longest]`, and their names."""
    k = max(1, round(DECILE * longest))
    arbitrary, successive, _ = POSITIONS
    members: list[Floats] = []
    if name == arbitrary:
        for _ in range(INSTANCES):
            row = np.zeros(longest)
            row[generator.choice(longest, k, replace=False)] = 1
            members.append(row)
        return np.array(members), [f"positions at random, {number}" for number in range(INSTANCES)]
    if name == successive:
        starts = generator.permutation(longest - k + 1)[:INSTANCES]
        for start in starts:
            row = np.zeros(longest)
            row[start : start + k] = 1
            members.append(row)
        return np.array(members), [f"positions {s + first} to {s + first + k - 1}" for s in starts.tolist()]
    choices = [(period, phase) for period in PERIODS if period <= longest for phase in range(period)]
    chosen = [choices[place] for place in generator.permutation(len(choices))[:INSTANCES].tolist()]
    for period, phase in chosen:
        row = np.zeros(longest)
        row[phase::period] = 1
        members.append(row)
    return np.array(members).reshape(-1, longest), [f"every {p}th position from {f + first}" for p, f in chosen]


def random_sizes(counts: Ints, tokens: int) -> Ints:
    """Sizes in half octaves from the smallest to the largest of `counts`, or of what they leave out."""
    smaller = np.minimum(counts, tokens - counts)
    if not len(smaller):
        return np.zeros(0, dtype=np.int64)
    low, high = int(smaller.min()), int(smaller.max())
    steps = int(np.ceil(2 * np.log2(high / low) - 1e-9)) + 1
    sizes = np.minimum(np.rint(low * 2 ** (np.arange(steps) / 2)), high).astype(np.int64)
    return np.unique(sizes)


def random_bins(tokens: int, sizes: Ints, seeds: int, start: int, seed: int) -> list[tuple[Ints, Ints]]:
    """(token, key) of the bins of each seed: bin k has the tokens that the k-th size has more than the one before."""
    if not len(sizes):
        return []
    bins = np.searchsorted(sizes, np.arange(int(sizes[-1])), side="right")
    found: list[tuple[Ints, Ints]] = []
    for number in range(seeds):
        drawn = np.random.default_rng([seed, 101, number]).permutation(tokens)[: int(sizes[-1])]
        found.append((drawn, start + number * len(sizes) + bins))
    return found


def between(sizes: Ints, counts: Ints, tokens: int) -> tuple[Ints, NDArray[np.float64]]:
    """Where properties of `counts` tokens lie on the grid of `sizes`: the place below, and how far to the next, in
    log size."""
    own = np.log2(np.minimum(counts, tokens - counts))
    grid = np.log2(sizes)
    if len(sizes) == 1:
        return np.zeros(len(counts), dtype=np.int64), np.zeros(len(counts))
    below = np.clip(np.searchsorted(grid, own, side="right") - 1, 0, len(sizes) - 2)
    return below, np.clip((own - grid[below]) / (grid[below + 1] - grid[below]), 0.0, 1.0)
