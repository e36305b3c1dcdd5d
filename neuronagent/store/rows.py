"""Turns the arrays of a model, a corpus and a layer into rows of the tables in `schema.py`, in bulk and in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COSINES, IO_CLASSES, ROLES
from neuronagent.layout import LayerActivations, LayerNeighbours, LayerWeights, TextTable, TokenTable
from neuronagent.store.blobs import pack_histograms, pack_ids, pack_lists, pack_scores, pack_statistics
from neuronagent.store.neighbours import pack_neighbours
from neuronagent.store.packing import pack, pack_rows, taus
from neuronagent.store.schema import COMBINATION_SUFFIXES

Row = dict[str, Any]
Columns = Mapping[str, Sequence[Any]]
"""Many rows at once: the values of each column, of one length."""

_CHUNK = 1024  # neurons whose lists are packed at a time: bounds the memory beside the layer's own arrays


def layer_row(layer: int, first_ordinal: int, weights: LayerWeights) -> Row:
    """The row of `layer`, whose first neuron has `first_ordinal`."""
    baselines = json.dumps({name: asdict(baseline) for name, baseline in weights.baselines.items()})
    return {"layer": layer, "neurons": len(weights.sign), "first_ordinal": first_ordinal, "baselines": baselines}


def token_rows(table: TokenTable) -> Iterator[Row]:
    """One row per token id."""
    columns = zip(
        table.token_bytes,
        table.norm_unembedding.tolist(),
        table.norm_embedding.tolist(),
        *table.counts.tolist(),
        strict=True,
    )
    for token_id, (data, unembedding, embedding, explain, select, test) in enumerate(columns):
        yield {
            "id": token_id,
            "bytes": data,
            "norm_unembedding": unembedding,
            "norm_embedding": embedding,
            "count_explain": explain,
            "count_select": select,
            "count_test": test,
        }


def document_rows(table: TextTable) -> tuple[list[Row], NDArray[np.int64]]:
    """One row per document, and the document id of every text `[texts]`.

    Chunks of a document share its name and split; two documents that share both are one row.
    """
    ids: dict[tuple[str, int], int] = {}
    splits = table.splits.tolist()
    of_text = [ids.setdefault(key, len(ids)) for key in zip(table.documents, splits, strict=True)]
    rows = [{"id": number, "name": name, "split": split} for (name, split), number in ids.items()]
    return rows, np.array(of_text, np.int64)


def text_rows(table: TextTable, document_ids: NDArray[np.int64]) -> Iterator[Row]:
    """One row per text; its id is its place in the corpus."""
    bounds = table.first.tolist()
    for text_id, (document, split) in enumerate(zip(document_ids.tolist(), table.splits.tolist(), strict=True)):
        first, end = bounds[text_id], bounds[text_id + 1]
        yield {
            "id": text_id,
            "document_id": document,
            "split": split,
            "first_token": first,
            "n_tokens": end - first,
            "tokens": pack(table.tokens[first:end].astype(np.uint32, copy=False)),
        }


def neuron_columns(
    layer: int, first_ordinal: int, weights: LayerWeights, activations: LayerActivations | None
) -> Columns:
    """The neurons of a layer: all that a search can filter or sort by."""
    count = len(weights.sign)
    classes = [IO_CLASSES[place] for place in weights.io_class.tolist()]
    return {
        "layer": [layer] * count,
        "neuron": range(count),
        "ordinal": range(first_ordinal, first_ordinal + count),
        "io_class": [io_class.name for io_class in classes],
        "atypical": [io_class.atypical for io_class in classes],
        "sign": weights.sign.tolist(),
        **dict(zip(COSINES, weights.cosines.T.tolist(), strict=True)),
        **dict(zip(("norm_gate", "norm_in", "norm_out"), weights.norms.T.tolist(), strict=True)),
        **_role_columns(weights),
        **_recorded_columns(activations, count),
    }


def _role_columns(weights: LayerWeights) -> Columns:
    """The numbers behind functional roles, null where they were not computed; the role itself comes last of all."""
    moments = weights.vocabulary_moments[:, 0, 2].astype(np.float64)  # of w_out in W_U: variance, skew, kurtosis
    found, nothing = weights.roles, [None] * len(weights.sign)

    def values(array: NDArray[Any] | None) -> list[Any]:
        return nothing if array is None else array.tolist()

    columns: Columns = {
        **dict(zip(("variance", "skew", "kurtosis"), moments.T.tolist(), strict=True)),
        "attention_score": values(None if found is None else found.attention_scores),
        "attention_head": values(None if found is None else found.attention_heads),
        "entropy_share": values(None if found is None else found.entropy_shares),
        "double_checking": nothing,
        "double_checking_token": nothing,
    }
    if found is None:
        return columns
    tokens = found.double_checking_tokens.tolist()
    pairs = [
        (score, token) if token >= 0 else (None, None)
        for score, token in zip(found.double_checking.tolist(), tokens, strict=True)
    ]
    return {**columns, "double_checking": [s for s, _ in pairs], "double_checking_token": [t for _, t in pairs]}


def role_changes(layer: int, roles: NDArray[np.int8]) -> list[Row]:
    """Which neurons of a layer have a functional role; `roles` `[N]` are places in `domain.ROLES`, −1 for none."""
    return [
        {"in_layer": layer, "of_neuron": int(index), "new_role": ROLES[roles[index]].value}
        for index in np.flatnonzero(roles >= 0)
    ]


def neighbour_columns(first_ordinal: int, found: LayerNeighbours) -> Iterator[Columns]:
    """The neighbours of a layer's neurons, all lists of one in a blob each of ordinals and of cosines."""
    for part in _parts(len(found.ordinals)):
        ordinals, cosines = pack_neighbours(found, part)
        first = first_ordinal + part.start
        yield {"ordinal": range(first, first + len(ordinals)), "ordinals": ordinals, "cosines": cosines}


def _recorded_columns(activations: LayerActivations | None, neurons: int) -> Columns:
    """The columns of `neuron` that come from the corpus; all null in an index of weights alone."""
    names = [f"frequency_{suffix}" for suffix in COMBINATION_SUFFIXES]
    names += [f"mass_{suffix}" for suffix in COMBINATION_SUFFIXES]
    if activations is None:
        return dict.fromkeys(("tokens", "zeros", *names, "mass", "first_values"), [None] * neurons)
    tokens, mass = activations.counts.sum(axis=1) + activations.zeros, activations.mass.sum(axis=1)  # (N,)
    shares = np.hstack([_share(activations.counts, tokens), _share(activations.mass, mass)])
    first = activations.first_values
    return {
        "tokens": tokens.tolist(),
        "zeros": activations.zeros.tolist(),
        **dict(zip(names, shares.T.tolist(), strict=True)),
        "mass": mass.tolist(),
        "first_values": [None] * neurons if first is None else pack_rows(first.astype(np.float32, copy=False)),
    }


def _share(parts: NDArray[Any], totals: NDArray[Any]) -> NDArray[np.float64]:
    """`parts` `[N, 4]` over `totals` `[N]`, 0 where the total is."""
    return parts / np.where(totals > 0, totals, 1)[:, None]


def projection_columns(layer: int, weights: LayerWeights) -> Iterator[Columns]:
    """The nearest tokens of a layer's neurons in W_U and W_E."""
    for part in _parts(len(weights.sign)):
        ids = pack_ids(weights.vocabulary_ids[part])
        yield {
            "layer": [layer] * len(ids),
            "neuron": range(part.start, part.start + len(ids)),
            "ids": ids,
            "scores": pack_scores(weights.vocabulary_scores[part]),
            "moments": pack_rows(weights.vocabulary_moments[part].astype(np.float32, copy=False)),
        }


def combination_columns(layer: int, activations: LayerActivations) -> Iterator[Columns]:
    """Four rows per neuron: its counts, statistics and lists in each sign combination."""
    for part in _parts(len(activations.zeros)):
        lists = np.concatenate(
            [
                activations.post[part].transpose(0, 2, 1, 3),
                activations.x_in[part][:, :, None],
                activations.x_gate[part][:, :, None],
                activations.uniform[part].transpose(0, 2, 1, 3),
                activations.weighted[part].transpose(0, 2, 1, 3),
            ],
            axis=2,
        )  # (N, 4, 11, k), in the order of `blobs.LISTS`
        histograms = _by_combination(activations.histogram[part].transpose(0, 2, 1, 3))
        statistics = (activations.sums, activations.minima, activations.maxima)
        neurons = range(part.start, part.start + len(lists))
        yield {
            "layer": [layer] * len(histograms),
            "neuron": [neuron for neuron in neurons for _ in range(4)],
            "combination": [0, 1, 2, 3] * len(neurons),
            "count": activations.counts[part].ravel().tolist(),
            "first_count": activations.first_counts[part].ravel().tolist(),
            "mass": activations.mass[part].ravel().tolist(),
            "tau": [None if tau != tau else tau for tau in taus(histograms.sum(axis=1)).tolist()],
            "statistics": pack_statistics(*(_by_combination(array[part]) for array in statistics)),
            "histogram": pack_histograms(histograms),
            "lists": pack_lists(_by_combination(lists)),
        }


def _by_combination(array: NDArray[Any]) -> NDArray[Any]:
    """`array` `[N, 4, …]` as `[4 N, …]`."""
    return array.reshape(-1, *array.shape[2:])


def _parts(neurons: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, neurons, _CHUNK))
