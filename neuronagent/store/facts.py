"""A few numbers of many neurons at once, for lists in which each neuron is a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from sqlalchemy import Connection, and_, select

from neuronagent.domain import COMBINATIONS, IOClass, NeuronId, SignCombination, Split
from neuronagent.layout import strong_edge
from neuronagent.store import schema
from neuronagent.store.blobs import unpack_histograms


@dataclass(frozen=True, kw_only=True)
class NeuronFacts:
    """`norm_out`: ‖w_out‖, processed. By combination, both empty without a corpus: `frequency`, the share of all
    tokens, and `tau`, the |post| from which a token is strong (`layout.strong_edge`), None where it has no token."""

    io_class: IOClass
    norm_out: float
    frequency: dict[SignCombination, float] = field(default_factory=dict[SignCombination, float])
    tau: dict[SignCombination, float | None] = field(default_factory=dict[SignCombination, "float | None"])


def find_facts(connection: Connection, neurons: Iterable[NeuronId]) -> Mapping[NeuronId, NeuronFacts]:
    """Those of `neurons` that exist."""
    found: dict[NeuronId, NeuronFacts] = {}
    own, held = schema.neuron.c, schema.combination.c
    joined = schema.neuron.outerjoin(schema.combination, and_(own.layer == held.layer, own.neuron == held.neuron))
    shares = [own[f"frequency_{suffix}"] for suffix in schema.COMBINATION_SUFFIXES]
    columns = [own.neuron, own.io_class, own.atypical, own.norm_out, held.combination, held.histogram, *shares]
    for layer, members in groupby(sorted(set(neurons)), key=lambda neuron: neuron.layer):
        wanted = own.neuron.in_([neuron.index for neuron in members])
        for row in connection.execute(select(*columns).select_from(joined).where(own.layer == layer, wanted)):
            index, name, atypical, norm, position, histogram, *frequencies = tuple(row)
            facts = found.setdefault(
                NeuronId(layer, index), NeuronFacts(io_class=IOClass(name, atypical), norm_out=norm)
            )
            if position is not None:
                c = COMBINATIONS[position]
                facts.frequency[c] = frequencies[position]
                facts.tau[c] = strong_edge(unpack_histograms([histogram])[0][Split.EXPLAIN.position].astype(np.int64))
    return found
