"""Turns the arrays of a model, a corpus and a layer into rows of the tables in `schema.py`, in bulk and in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import IO_CLASSES, ROLES
from neuronagent.layout import LayerActivations, LayerNeighbours, LayerWeights, TextTable, TokenTable
from neuronagent.store.neighbours import pack_neighbours
from neuronagent.store.packing import pack, pack_rows, taus
from neuronagent.store.schema import COMBINATION_SUFFIXES

Row = dict[str, Any]

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


def neuron_rows(
    layer: int, first_ordinal: int, weights: LayerWeights, activations: LayerActivations | None
) -> Iterator[Row]:
    """One row per neuron of a layer: all that a search can filter or sort by."""
    recorded = _recorded_columns(activations, len(weights.sign))
    roles = _role_columns(weights)
    classes = [IO_CLASSES[place] for place in weights.io_class.tolist()]
    geometry = zip(weights.cosines.tolist(), weights.norms.tolist(), weights.sign.tolist(), strict=True)
    columns = zip(geometry, classes, roles, recorded, strict=True)
    for index, ((cosines, norms, sign), io_class, role, extra) in enumerate(columns):
        row: Row = {
            "layer": layer,
            "neuron": index,
            "ordinal": first_ordinal + index,
            "io_class": io_class.name,
            "atypical": io_class.atypical,
            "sign": sign,
        }
        row["cos_gate_in"], row["cos_gate_out"], row["cos_in_out"] = cosines
        row["norm_gate"], row["norm_in"], row["norm_out"] = norms
        yield row | role | extra


def _role_columns(weights: LayerWeights) -> Iterator[Row]:
    """The numbers behind functional roles, null where they were not computed; the role itself comes last of all."""
    moments = weights.vocabulary_moments[:, 0, 2].astype(np.float64)  # of w_out in W_U: variance, skew, kurtosis
    found, count = weights.roles, len(weights.sign)
    nothing: list[None] = [None] * count

    def values(array: NDArray[Any] | None) -> list[Any]:
        return nothing if array is None else array.tolist()

    names = ("attention_score", "attention_head", "entropy_share", "double_checking", "double_checking_token")
    arrays = (None,) * len(names)
    if found is not None:
        arrays = (
            found.attention_scores,
            found.attention_heads,
            found.entropy_shares,
            found.double_checking,
            found.double_checking_tokens,
        )
    for (variance, skew, kurtosis), *rest in zip(moments.tolist(), *map(values, arrays), strict=True):
        row: Row = {"variance": variance, "skew": skew, "kurtosis": kurtosis, "role": None}
        row |= dict(zip(names, rest, strict=True))
        if row["double_checking_token"] is not None and row["double_checking_token"] < 0:
            row["double_checking"] = row["double_checking_token"] = None
        yield row


def role_changes(layer: int, roles: NDArray[np.int8]) -> list[Row]:
    """Which neurons of a layer have a functional role; `roles` `[N]` are places in `domain.ROLES`, −1 for none."""
    return [
        {"in_layer": layer, "of_neuron": int(index), "new_role": ROLES[roles[index]].value}
        for index in np.flatnonzero(roles >= 0)
    ]


def neighbour_rows(first_ordinal: int, found: LayerNeighbours) -> Iterator[Row]:
    """One row per neuron: its neighbours' ordinals and cosines, all lists in one blob each (`store.neighbours`)."""
    for start in range(0, len(found.ordinals), _CHUNK):
        packed = pack_neighbours(found, slice(start, start + _CHUNK))
        for index, blobs in enumerate(zip(*packed, strict=True), start):
            yield {"ordinal": first_ordinal + index, "ordinals": blobs[0], "cosines": blobs[1]}


def _recorded_columns(activations: LayerActivations | None, neurons: int) -> list[Row]:
    """The columns of `neuron` that come from the corpus; all null in an index of weights alone."""
    names = [f"frequency_{suffix}" for suffix in COMBINATION_SUFFIXES]
    names += [f"mass_{suffix}" for suffix in COMBINATION_SUFFIXES]
    if activations is None:
        return [dict.fromkeys(("tokens", "zeros", *names, "mass", "first_values"))] * neurons
    tokens = activations.counts.sum(axis=1) + activations.zeros  # (N,)
    shares = np.hstack([_share(activations.counts, tokens), _share(activations.mass, activations.mass.sum(axis=1))])
    first = activations.first_values
    blobs = [None] * neurons if first is None else pack_rows(first.astype(np.float32, copy=False))
    mass = activations.mass.sum(axis=1)
    columns = zip(tokens.tolist(), activations.zeros.tolist(), shares.tolist(), mass.tolist(), blobs, strict=True)
    return [
        {"tokens": total, "zeros": zeros, **dict(zip(names, values, strict=True)), "mass": whole, "first_values": blob}
        for total, zeros, values, whole, blob in columns
    ]


def _share(parts: NDArray[Any], totals: NDArray[Any]) -> NDArray[np.float64]:
    """`parts` `[N, 4]` over `totals` `[N]`, 0 where the total is."""
    return parts / np.where(totals > 0, totals, 1)[:, None]


def projection_rows(layer: int, weights: LayerWeights) -> Iterator[Row]:
    """One row per neuron: its nearest tokens in W_U and W_E."""
    for start in range(0, len(weights.sign), _CHUNK):
        part = slice(start, start + _CHUNK)
        ids = pack_rows(weights.vocabulary_ids[part].astype(np.int32, copy=False))
        scores = pack_rows(weights.vocabulary_scores[part].astype(np.float32, copy=False))
        moments = pack_rows(weights.vocabulary_moments[part].astype(np.float32, copy=False))
        for index, blobs in enumerate(zip(ids, scores, moments, strict=True), start):
            yield {"layer": layer, "neuron": index, **dict(zip(("ids", "scores", "moments"), blobs, strict=True))}


def combination_rows(layer: int, activations: LayerActivations) -> Iterator[Row]:
    """Four rows per neuron: its counts, statistics and lists in each sign combination."""
    for start in range(0, len(activations.zeros), _CHUNK):
        part = slice(start, start + _CHUNK)
        # Lists of one combination become [N, 4, 11, k]: post per split, x_in, x_gate, uniform and weighted per split.
        lists = np.concatenate(
            [
                activations.post[part].transpose(0, 2, 1, 3),
                activations.x_in[part][:, :, None],
                activations.x_gate[part][:, :, None],
                activations.uniform[part].transpose(0, 2, 1, 3),
                activations.weighted[part].transpose(0, 2, 1, 3),
            ],
            axis=2,
        )
        histogram = activations.histogram[part].transpose(0, 2, 1, 3)  # (N, 4, 3 splits, bins)
        statistics = np.concatenate(
            [activations.sums[part], activations.minima[part], activations.maxima[part]], axis=2
        )
        columns = zip(
            activations.counts[part].ravel().tolist(),
            activations.first_counts[part].ravel().tolist(),
            activations.mass[part].ravel().tolist(),
            taus(histogram.sum(axis=2)).ravel().tolist(),
            _pack_combinations(statistics.astype(np.float64, copy=False)),
            _pack_combinations(histogram.astype(np.uint32)),
            _pack_combinations(lists.astype(np.int64, copy=False)),
            strict=True,
        )
        for place, (count, first_count, mass, tau, *blobs) in enumerate(columns, 4 * start):
            yield {
                "layer": layer,
                "neuron": place // 4,
                "combination": place % 4,
                "count": count,
                "first_count": first_count,
                "mass": mass,
                "tau": None if tau != tau else tau,
                **dict(zip(("statistics", "histogram", "lists"), blobs, strict=True)),
            }


def _pack_combinations(array: NDArray[Any]) -> list[bytes]:
    """One blob per neuron and combination of `array` `[N, 4, …]`."""
    return pack_rows(array.reshape(array.shape[0] * array.shape[1], -1))
