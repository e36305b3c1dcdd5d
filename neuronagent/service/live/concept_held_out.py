"""The half that is held out: what the best of the search are worth there, each beside its controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId
from neuronagent.explain.statistics import Interval, auroc, benjamini_hochberg, lift
from neuronagent.service.live.concept_candidates import Column, Searched
from neuronagent.service.live.concept_controls import ORDINARY, Control, ordinary
from neuronagent.service.live.concept_results import FIRES, SILENT, ConceptRow, ControlScore, Over, verdict
from neuronagent.service.live.concept_statistics import (
    FEWEST_DIVISIONS,
    Floats,
    distances,
    divisions,
    family_wise,
    grouped_interval,
    held_out_p,
)
from neuronagent.service.live.concept_values import Piece
from neuronagent.service.live.model import LiveModel

Values = Callable[[str, Sequence[Piece]], list[Floats]]
"""Runs the texts of the held-out half for pieces; the name of the stage comes first."""
_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The held-out items: labels, true and permuted `[1 + permutations, n]`, and numbers of groups `[n]`, the scores of
    controls; `run` runs them, and `proceed` raises Interrupted if that is wanted."""

    permuted: NDArray[np.bool_]
    groups: NDArray[np.intp]
    controls: Sequence[Control]
    run: Values
    proceed: Callable[[], None]


def score(live: LiveModel, half: HeldOut, searched: Searched, best: Sequence[Column], seed: int) -> list[ConceptRow]:
    """A row for each of `best`."""
    labels, groups = half.permuted[0], half.groups
    others = [_ordinary(live, searched, column) for column in best]
    columns = [*best, *(other for other in others if other is not None)]
    values = _values(half.run, searched, columns)
    sides = np.array([-1.0 if column.total < 0 else 1.0 for column in best])
    scores = np.stack([values[column] for column in best]) * sides[:, None]
    p = held_out_p(scores, half.permuted)
    q = benjamini_hochberg(p)
    apart = distances(np.array([column.total for column in best]), searched.labels[0])
    chances = family_wise(apart, searched.highest)
    searchable, scorable = (divisions(own) >= FEWEST_DIVISIONS for own in (searched.labels, half.permuted))
    rows: list[ConceptRow] = []
    for place, (column, other) in enumerate(zip(best, others, strict=True)):
        half.proceed()
        own = list(half.controls)
        if other is not None:
            side = -1.0 if other.total < 0 else 1.0
            own.append(Control(ORDINARY, side * values[other], str(_neuron(searched, other))))
        found = grouped_interval(scores[place], labels, groups)
        chance = float(chances[place]) if searchable else None
        adjusted = float(q[place]) if scorable else None
        beside, strongest, over = _lifts(scores[place], own, labels, groups, seed)
        rows.append(
            ConceptRow(
                neuron=_neuron(searched, column),
                combination=COMBINATIONS[column.combination],
                direction=FIRES if sides[place] > 0 else SILENT,
                search_auroc=0.5 + float(apart[place]),
                family_wise_p=chance,
                **_of_firing(found, sides[place] > 0),
                p=float(p[place]) if scorable else None,
                q=adjusted,
                controls=beside,
                strongest=strongest,
                lift=over,
                verdict=verdict(
                    family_wise_p=chance, q=adjusted, lo=found.lo, controls=beside, strongest=strongest, lift=over
                ),
            )
        )  # fmt: skip
    return rows


def _neuron(searched: Searched, column: Column) -> NeuronId:
    return NeuronId(column.layer, int(searched.candidates.neurons[column.layer][column.place]))


def _ordinary(live: LiveModel, searched: Searched, column: Column) -> Column | None:
    """The ordinary neuron beside `column`."""
    layer, c = column.layer, column.combination
    frequencies = live.frequencies(layer)[searched.candidates.neurons[layer], c]
    sums = searched.sums[layer][:, c]
    found = ordinary(column.place, frequencies, sums, searched.present[layer][:, c])
    return None if found is None else Column(layer, found, c, float(sums[found]))


def _values(run: Values, searched: Searched, columns: Sequence[Column]) -> dict[Column, _Array]:
    """The values of each of `columns` in the held-out items, `[n]`."""
    places = {c.layer: sorted({d.place for d in columns if d.layer == c.layer}) for c in columns}
    layers = sorted(places)
    neurons = searched.candidates.neurons
    found = run("scoring held-out texts", [Piece(layer, neurons[layer][places[layer]]) for layer in layers])
    by_layer = dict(zip(layers, found, strict=True))
    return {c: by_layer[c.layer][:, places[c.layer].index(c.place), c.combination].astype(np.float64) for c in columns}


def _of_firing(found: Interval, fires: bool) -> dict[str, float]:
    """The AUROC with its limits, turned back where what was scored is being silent."""
    if fires:
        return {"auroc": found.value, "lo": found.lo, "hi": found.hi}
    return {"auroc": 1 - found.value, "lo": 1 - found.hi, "hi": 1 - found.lo}


def _lifts(
    scores: _Array, controls: Sequence[Control], labels: NDArray[np.bool_], groups: NDArray[np.intp], seed: int
) -> tuple[tuple[ControlScore, ...], str, Over]:
    """What the controls reach, the strongest of them, and the lift over that."""
    found = lift(
        scores[labels],
        scores[~labels],
        {control.kind: (control.scores[labels], control.scores[~labels]) for control in controls},
        groups[labels],
        groups[~labels],
        seed=seed,
    )
    beside = tuple(
        ControlScore(
            kind=control.kind,
            what=control.what,
            auroc=auroc(control.scores[labels], control.scores[~labels]),
            lift=_over(found.over[control.kind]),
        )
        for control in controls
    )
    return beside, found.strongest, _over(found.over_strongest)


def _over(interval: Interval) -> Over:
    return Over(value=interval.value, lo=interval.lo, hi=interval.hi)
