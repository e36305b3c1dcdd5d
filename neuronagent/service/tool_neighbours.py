"""The tool that names the neurons nearest to one in weights: alike, opposite, upstream and downstream of it."""

from __future__ import annotations

import math
from typing import Literal

from neuronagent.domain import NEIGHBOUR_LISTS, NeighbourList, NeuronId
from neuronagent.errors import UsageError
from neuronagent.service.bounded import Format, budget, checked_limit, fit, number
from neuronagent.service.lookup import Index
from neuronagent.service.tool_more_results import Similar
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean
from neuronagent.service.weight_views import neighbours_view

Kind = Literal["all", "similar", "opposite", "upstream", "downstream"]
VectorChoice = Literal["gate", "in", "out"]

_PREFIXES: dict[str, str] = {
    "upstream": "writers",
    "downstream": "readers",
    "similar": "similar",
    "opposite": "opposite",
}
_MEANING = (
    "[neuron, cosine], strongest first. similar_/opposite_: cosine of the same vector of both, any layer. readers_: "
    "this out with the gate or in of later layers (downstream); writers_: out of earlier layers with this gate or in "
    "(upstream). Weights alone: norms and attention between layers are not in it. largest_by_chance: about the "
    "strongest cosine among so many (searched) random vectors."
)


def similar_neurons(
    index: Index,
    neuron: str,
    *,
    kind: Kind = "all",
    vector: VectorChoice | None = None,
    response_format: Format = "concise",
    limit: int | None = None,
) -> Similar:
    """The stored neighbours of a neuron by list; `vector` keeps the lists that compare it."""
    found = index.neuron(neuron)
    stored = found.neighbours()
    if stored is None:
        return Similar(
            available=False,
            neuron=str(found.id),
            reason=clean(neighbours_view(found)["reason"], 200),
            command="neuronagent index MODEL --db DB --neighbours on, with the other options as this index was made",
            provenance=provenance(index),
        )
    wanted = [each for each in NEIGHBOUR_LISTS if _is_wanted(each, kind, vector)]
    if not wanted:
        remedy = "allowed for upstream and downstream: gate or in, the vector of the reading neuron"
        raise UsageError(f"there is no {kind} list of vector {vector}", remedy=remedy)
    most = checked_limit(limit, (3 if len(wanted) > 3 else 8) if response_format == "concise" else 50)
    searched = {each.value.partition("_")[0]: _searched(index, found.id, each) for each in wanted}

    def render(shown: int) -> Similar:
        lists = {e.value: [[str(n.neuron), number(n.cosine)] for n in stored[e][:shown]] for e in wanted}
        cut = any(len(stored[e]) > shown for e in wanted)
        return Similar(
            available=True,
            neuron=str(found.id),
            neighbours=lists,
            searched=searched,
            largest_by_chance={name: _by_chance(index, found.id.layer, count) for name, count in searched.items()},
            total=sum(len(stored[e]) for e in wanted),
            provenance=provenance(index),
            note=(f"The first {shown} of each list; limit, kind or vector lead to more. " if cut else "") + _MEANING,
        )

    return fit(render, sorted({most, *(n for n in (8, 5, 3, 2, 1) if n < most)}, reverse=True), budget(response_format))


def _is_wanted(each: NeighbourList, kind: Kind, vector: VectorChoice | None) -> bool:
    name, _, compared = each.value.partition("_")
    return (kind == "all" or name == _PREFIXES[kind]) and vector in (None, compared)


def _searched(index: Index, neuron: NeuronId, each: NeighbourList) -> int:
    """How many neurons a list is the best of."""
    layers = index.reader.layers()
    if each.value.startswith("readers"):
        return sum(n for layer, n in layers.items() if layer > neuron.layer)
    if each.value.startswith("writers"):
        return sum(n for layer, n in layers.items() if layer < neuron.layer)
    return sum(layers.values()) - 1


def _by_chance(index: Index, layer: int, count: int) -> float | None:
    """About the largest of `count` cosines of random vectors: √(2 ln count) standard deviations."""
    if count < 2:
        return None
    deviation = index.reader.baselines(layer)["cos_in_out"].gaussian[1] / 1.96
    return number(min(1.0, deviation * math.sqrt(2 * math.log(count))))
