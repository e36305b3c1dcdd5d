"""Random neurons that are like those that are changed: of the same layer and of like frequency, none of them changed.

1. A neuron is described by how often it is in the four sign combinations and in none of them; if only one combination
   is changed, by how often it is in that one. Two neurons are as far apart as these two distributions: Hellinger's
   distance √(1 − Σ√(p·q)), 0 to 1, which tells 0.1 % from 0.4 % as well as 50 % from 53 %.
2. Each changed neuron is given, at random, one of those within a band round it that are neither changed nor given to
   another one in the same draw. The band is 0.02, or wider until it holds as many as there are draws, up to a
   limit; beyond it a neuron stays without a partner, which is counted and said. A neuron that is never in what is
   compared is nobody's partner.
3. Neurons come in a new random order in every draw. All of it follows from the seed.

Nothing but layer and frequency is matched: not how much the neurons write, which is therefore reported beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import SignCombination
from neuronagent.service.live.changes import Neurons
from neuronagent.service.live.model import LiveModel

FIRST_BAND = 0.02
ANY = 1.0
"""A limit that holds every neuron of the layer."""
_NONE = -1
_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Matching:
    """How like the controls are. `share`: of the changed neurons that have one, on average over the draws; `band`: the
    widest distance that was allowed for any of them; differences are those of the shares of tokens, of the worst pair
    and on average; `shift` is the mean share of tokens, control − changed, in the combination that is compared, without
    one those with gate+: what is left of it where the likes of a neuron are used up. `overlap`: the share of
    its neurons that a draw has in common with another, on average: controls that share neurons are nearer to each other
    than to the changed ones, none of which is a control. `reason` says why there is no control, or why some neurons
    have none."""

    draws: int
    share: float
    band: float | None = None
    mean_difference: float | None = None
    largest_difference: float | None = None
    shift: float | None = None
    overlap: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Matched:
    """The sets drawn, each with about as many neurons of each layer as were changed."""

    sets: tuple[Neurons, ...]
    matching: Matching


def matched(
    live: LiveModel,
    neurons: Neurons,
    combination: SignCombination | None,
    *,
    draws: int,
    seed: int = 0,
    limit: float = ANY,
) -> Matched:
    """Draw `draws` sets of controls for `neurons`; none where the index has no corpus to know frequencies from."""
    if draws < 1:
        return Matched(sets=(), matching=Matching(draws=0, share=0.0, reason="no control was asked for"))
    if live.index.info.get("weights_only"):
        why = "this index was made without a corpus: no neuron is known to be of like frequency"
        return Matched(sets=(), matching=Matching(draws=0, share=0.0, reason=why))
    layers = {
        layer: draw_partners(described(live.frequencies(layer), combination), own, draws, limit, (seed, layer))
        for layer, own in neurons.items()
    }
    sets = tuple(
        {layer: np.sort(found.partners[draw][found.partners[draw] != _NONE]) for layer, found in layers.items()}
        for draw in range(draws)
    )
    sets = tuple(drawn for drawn in sets if any(len(own) for own in drawn.values()))
    matching = replace(_told(list(layers.values()), len(sets), limit), overlap=overlap(sets))
    return Matched(sets=sets, matching=matching)


def overlap(sets: Sequence[Neurons]) -> float | None:
    """The share of its neurons that a set has in common with another one, on average over pairs; None for one set."""
    if len(sets) < 2:
        return None
    times = [
        np.unique(np.concatenate(own), return_counts=True)[1]
        for own in zip(*(drawn.values() for drawn in sets), strict=True)
    ]
    counts = np.concatenate(times)
    pairs = (counts * (counts - 1)).sum() / (len(sets) - 1)  # each ordered pair of sets, for each neuron in both
    return float(pairs / counts.sum())


def described(frequencies: _Array, combination: SignCombination | None) -> _Array:
    """What neurons are compared by, `[N, categories]`, from their shares of tokens by combination `[N, 4]`."""
    own = frequencies if combination is None else frequencies[:, [combination.position]]
    return np.concatenate([own, np.clip(1 - own.sum(axis=1, keepdims=True), 0, None)], axis=1)


@dataclass(frozen=True)
class Partners:
    """`partners` `[draws, members]`, −1 for none; `bands`, `differences` and `shifts` of the pairs that were made."""

    partners: NDArray[np.intp]
    bands: _Array
    differences: _Array
    shifts: _Array


def draw_partners(
    shares: _Array, members: NDArray[np.intp], draws: int, limit: float, seed: tuple[int, int]
) -> Partners:
    """The partners of a layer's `members` among its other neurons, `shares` `[N, categories]` of all of them.

    A neuron gets another partner in every draw; where a set uses up what is left, it may get one again.
    """
    generator = np.random.default_rng(seed)
    others = np.setdiff1d(np.flatnonzero(shares[:, :-1].any(axis=1)), members)
    pool, wanted = np.sqrt(shares[others]), np.sqrt(shares[members])
    places = np.full((draws, len(members)), _NONE, dtype=np.intp)  # among the others
    bands: list[float] = []
    for draw in range(draws):
        free = np.ones(len(others), dtype=np.bool_)
        for member in generator.permutation(len(members)).tolist():
            distance = np.sqrt(np.clip(1 - pool @ wanted[member], 0, None))
            fresh = free.copy()
            fresh[places[:draw, member][places[:draw, member] != _NONE]] = False
            band, near = _near(distance, fresh, draws - draw, limit)
            if not len(near) and len(members) > 1:
                band, near = _near(distance, free, 1, limit)
            if len(near):
                chosen = int(generator.choice(near))
                places[draw, member], free[chosen] = chosen, False
                bands.append(band)
    rows, columns = np.nonzero(places != _NONE)
    partners = np.full(places.shape, _NONE, dtype=np.intp)
    partners[rows, columns] = others[places[rows, columns]]
    pairs = shares[partners[rows, columns]] - shares[members[columns]]
    compared = pairs[:, : 1 if shares.shape[1] == 2 else 2].sum(axis=1)  # gate+ comes first
    return Partners(partners, np.array(bands), np.abs(pairs).sum(axis=1) / 2, compared)


def _near(distance: _Array, free: NDArray[np.bool_], wanted: int, limit: float) -> tuple[float, NDArray[np.intp]]:
    """The narrowest band that has `wanted` free neurons, or as many as there are, and those in it."""
    found = distance[free]
    enough = np.partition(found, wanted - 1)[wanted - 1] if len(found) > wanted else found.max(initial=0.0)
    band = min(max(FIRST_BAND, float(enough)), limit)
    return band, np.flatnonzero(free & (distance <= band))


def _told(layers: list[Partners], draws: int, limit: float) -> Matching:
    pairs = np.concatenate([layer.differences for layer in layers])
    wanted = sum(layer.partners.size for layer in layers)
    share = len(pairs) / max(1, wanted)
    within = f" within a distance of {limit:g}" if limit < ANY else ""
    short = f"{100 * (1 - share):.3g} % of the neurons have no partner left in their layer{within}"
    return Matching(
        draws=draws,
        share=share,
        band=max((float(layer.bands.max()) for layer in layers if layer.bands.size), default=None),
        mean_difference=float(pairs.mean()) if pairs.size else None,
        largest_difference=float(pairs.max()) if pairs.size else None,
        shift=float(np.concatenate([layer.shifts for layer in layers]).mean()) if pairs.size else None,
        reason=short if share < 1 else None,
    )
