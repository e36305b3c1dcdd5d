"""What can change about a neuron while its index stays the same, in a few numbers: what is said of it, scores,
hypotheses and traces, and what its layer's predictability was found to be.

Explanations, scores and hypotheses are never changed but for their successor and outcome: how many there are, the last
one, and which explanations are current, say whether anything happened. Traces are replaced in place; theirs are summed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Executable, func, select

from neuronagent.domain import NeuronId
from neuronagent.store import schema
from neuronagent.store.predictions import find_prediction_states

_IDS = 10_000  # ids in one statement: SQLite takes 32,766 parameters

State = tuple[Any, ...]
_explanation, _score = schema.explanation.c, schema.score.c
_hypothesis, _trace = schema.hypothesis.c, schema.trace.c


def find_states(connection: Connection, neurons: Iterable[NeuronId]) -> dict[NeuronId, list[State]]:
    """The state of each of `neurons`; an empty list for one of which nothing is said, and for one that is not there,
    in an index for which no maps were fitted."""
    found: dict[NeuronId, list[State]] = {neuron: [] for neuron in neurons}
    for layer, members in groupby(sorted(found), key=lambda neuron: neuron.layer):
        indices = [neuron.index for neuron in members]
        for start in range(0, len(indices), _IDS):
            for kind, query in enumerate(_queries(layer, indices[start : start + _IDS])):
                for neuron, *state in connection.execute(query):
                    found[NeuronId(layer, neuron)].append((kind, *map(_plain, state)))
    predicted = find_prediction_states(connection, sorted({neuron.layer for neuron in found}))
    for neuron, states in found.items():
        if neuron.layer in predicted:
            states.append(("predictability", predicted[neuron.layer]))
    return found


def _queries(layer: int, indices: list[int]) -> tuple[Executable, ...]:
    """Rows that begin with the neuron's index, each in an order that does not depend on the database."""
    said = _explanation.layer == layer, _explanation.neuron.in_(indices), _explanation.superseded_by.is_(None)
    explanations = select(_explanation.neuron, _explanation.id, _explanation.created, _explanation.text).where(*said)
    last = (
        select(_score.explanation_id, func.count().label("scores"), func.max(_score.id).label("last"))
        .where(_score.explanation_id.in_(select(_explanation.id).where(*said)))
        .group_by(_score.explanation_id)
        .subquery()
    )
    joined = last.join(schema.explanation, _explanation.id == last.c.explanation_id).join(
        schema.score, _score.id == last.c.last
    )
    scores = select(
        _explanation.neuron, last.c.explanation_id, last.c.scores, last.c.last, _score.created, _score.value
    )
    supposed = select(_hypothesis.neuron, _hypothesis.id, _hypothesis.status, _hypothesis.created, _hypothesis.tested)
    traced = select(
        _trace.neuron,
        func.count(),
        func.sum(_trace.text_id),
        func.sum(_trace.start),
        func.sum(func.length(_trace["values"])),
    )
    return (
        explanations.order_by(_explanation.id),
        scores.select_from(joined).order_by(last.c.explanation_id),
        supposed.where(_hypothesis.layer == layer, _hypothesis.neuron.in_(indices)).order_by(_hypothesis.id),
        traced.where(_trace.layer == layer, _trace.neuron.in_(indices)).group_by(_trace.neuron),
    )


def _plain(value: Any) -> str:
    """The same of a value whatever the database's type for a sum."""
    return str(value)
