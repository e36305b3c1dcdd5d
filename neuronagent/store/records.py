"""Builds domain values from the rows of one neuron: the inverse of `rows.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import RowMapping

from neuronagent import layout
from neuronagent.domain import (
    COMBINATIONS,
    QUANTITIES,
    SPLITS,
    VECTORS,
    VOCABULARY_MATRICES,
    CombinationRecord,
    Geometry,
    IOClass,
    ListEntry,
    NeuronId,
    NeuronRecord,
    Quantity,
    QuantityStatistics,
    Role,
    RoleRecord,
    Split,
    Vector,
    VocabularyEntry,
    VocabularyMatrix,
    VocabularyProjection,
)
from neuronagent.store.blobs import unpack_histograms, unpack_ids, unpack_lists, unpack_scores, unpack_statistics
from neuronagent.store.inverted import merged_post
from neuronagent.store.packing import unpack_array

TokenFacts = Mapping[int, tuple[str, float, float]]
"""By token id: its text, and the norms of its columns in W_U and W_E."""


def vocabulary_ids(projection: RowMapping) -> list[int]:
    """The token ids that a row of `projection` mentions."""
    ids = unpack_ids([projection["ids"]])
    return np.unique(ids[ids >= 0]).tolist()


def role_record(neuron: RowMapping, token: str | None) -> RoleRecord:
    """The functional role of a row of `neuron`; `token` is the text of its `double_checking_token`."""
    return RoleRecord(
        role=None if neuron["role"] is None else Role(neuron["role"]),
        attention_score=neuron["attention_score"],
        attention_head=neuron["attention_head"],
        entropy_share=neuron["entropy_share"],
        double_checking=neuron["double_checking"],
        double_checking_token=token,
    )


def neuron_record(
    neuron: RowMapping, projection: RowMapping, combinations: list[RowMapping], tokens: TokenFacts
) -> NeuronRecord:
    """The record of one neuron; without activations it has no combinations and its `tokens` are 0."""
    norms = (neuron["norm_gate"], neuron["norm_in"], neuron["norm_out"])
    first = None
    if neuron["first_values"] is not None:
        first = dict(zip(QUANTITIES, unpack_array(neuron["first_values"], np.float32).tolist(), strict=True))
    return NeuronRecord(
        neuron=NeuronId(neuron["layer"], neuron["neuron"]),
        geometry=Geometry(
            cos_gate_in=neuron["cos_gate_in"],
            cos_gate_out=neuron["cos_gate_out"],
            cos_in_out=neuron["cos_in_out"],
            norm_gate=norms[0],
            norm_in=norms[1],
            norm_out=norms[2],
        ),
        io_class=IOClass(neuron["io_class"], neuron["atypical"]),
        role=role_record(
            neuron, tokens[checked][0] if (checked := neuron["double_checking_token"]) is not None else None
        ),
        sign=neuron["sign"],
        vocabulary=_vocabulary(projection, norms, tokens),
        tokens=neuron["tokens"] or 0,
        zeros=neuron["zeros"] or 0,
        first_values=first,
        combinations={COMBINATIONS[row["combination"]]: _combination_record(row) for row in combinations},
    )


def _vocabulary(
    row: RowMapping, norms: tuple[float, float, float], tokens: TokenFacts
) -> dict[VocabularyMatrix, dict[Vector, VocabularyProjection]]:
    ids = unpack_ids([row["ids"]]).reshape(2, 3, 2, -1).tolist()
    scores = unpack_scores([row["scores"]])[0].tolist()
    moments = unpack_array(row["moments"], np.float32).reshape(2, 3, 3).tolist()

    def entries(m: int, v: int, side: int) -> tuple[VocabularyEntry, ...]:
        found: list[VocabularyEntry] = []
        for token_id, score in zip(ids[m][v][side], scores[m][v][side], strict=True):
            if token_id < 0:
                continue
            text, *columns = tokens[token_id]
            length = norms[v] * columns[m]
            cosine = score / length if length else 0.0
            found.append(VocabularyEntry(token_id=token_id, token=text, score=score, cosine=cosine))
        return tuple(found)

    def projection(m: int, v: int) -> VocabularyProjection:
        variance, skew, kurtosis = moments[m][v]
        top, bottom = entries(m, v, 0), entries(m, v, 1)
        return VocabularyProjection(top=top, bottom=bottom, variance=variance, skew=skew, kurtosis=kurtosis)

    return {
        matrix: {vector: projection(m, v) for v, vector in enumerate(VECTORS)}
        for m, matrix in enumerate(VOCABULARY_MATRICES)
    }


def _combination_record(row: RowMapping) -> CombinationRecord:
    combination = COMBINATIONS[row["combination"]]
    histogram = unpack_histograms([row["histogram"]])[0].tolist()
    lists = unpack_lists([row["lists"]])[0]  # (11, k), in the order of `blobs.LISTS`
    post, x_in, x_gate, uniform, weighted = lists[0:3], lists[3], lists[4], lists[5:8], lists[8:11]
    overall = merged_post(post[None, :, None, :])[0, 0]

    def by_split(entries: np.ndarray[Any, np.dtype[np.int64]]) -> dict[Split, tuple[ListEntry, ...]]:
        sign = combination.write_sign
        return {split: layout.unpack(entries[place], sign) for place, split in enumerate(SPLITS)}

    return CombinationRecord(
        combination=combination,
        count=row["count"],
        first_count=row["first_count"],
        statistics=_statistics(row["statistics"], row["count"]),
        mass=row["mass"],
        tau=row["tau"],
        histogram={split: tuple(histogram[place]) for place, split in enumerate(SPLITS)},
        top={
            Quantity.POST: layout.unpack(overall, combination.sign(Quantity.POST)),
            Quantity.X_IN: layout.unpack(x_in, combination.sign(Quantity.X_IN)),
            Quantity.X_GATE: layout.unpack(x_gate, combination.sign(Quantity.X_GATE)),
        },
        post_by_split=by_split(post),
        uniform=by_split(uniform),
        weighted=by_split(weighted),
    )


def _statistics(blob: bytes, count: int) -> dict[Quantity, QuantityStatistics]:
    sums, minima, maxima = unpack_statistics([blob])[0].tolist()
    if not count:
        return dict.fromkeys(QUANTITIES, QuantityStatistics(mean=None, min=None, max=None))
    return {
        quantity: QuantityStatistics(mean=sums[place] / count, min=minima[place], max=maxima[place])
        for place, quantity in enumerate(QUANTITIES)
    }
