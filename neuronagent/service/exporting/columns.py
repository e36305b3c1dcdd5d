"""The columns of the table of neurons: GLUScope's names for what GLUScope publishes too, ours nested beside them.

`gate+_in-_freq`, `gate+_in-_hook_post_mean`, `…_max_values` and `…_max_indices` mean what they do there, with two
differences that the card states: `max_indices` are texts of this data set, and position 0 is in no list. What is not
published there is in `combinations`, `vocabulary` and `neighbours`, and in columns of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from neuronagent.domain import (
    COMBINATIONS,
    LISTED,
    QUANTITIES,
    SPLITS,
    VECTORS,
    VOCABULARY_MATRICES,
    CombinationRecord,
    ListEntry,
    Neighbours,
    NeuronRecord,
    Quantity,
    Split,
    VocabularyEntry,
)
from neuronagent.published import HOOKS

Row = dict[str, Any]
Locate = Callable[[Sequence[int]], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]

_HOOK_OF: Mapping[Quantity, str] = {quantity: hook for hook, quantity in HOOKS.items()}
_LIST_NAMES = ("post", "x_in", "x_gate", "uniform", "weighted")


def neuron_schema() -> Any:
    """The Arrow schema of the table of neurons."""
    fields = [("layer", pa.int32()), ("neuron", pa.int32())]
    fields += [(f"cos_{pair}", pa.float64()) for pair in ("gate_in", "gate_out", "in_out")]
    fields += [(f"norm_{vector.value}", pa.float64()) for vector in VECTORS]
    fields += [("io_class", pa.string()), ("sign", pa.int8()), ("role", pa.string())]
    fields += [("attention_score", pa.float64()), ("attention_head", pa.int32()), ("entropy_share", pa.float64())]
    fields += [("double_checking", pa.float64()), ("double_checking_token", pa.string())]
    fields += [("tokens", pa.int64()), ("zeros", pa.int64())]
    fields += [("position_0", pa.struct([(q.value, pa.float32()) for q in QUANTITIES]))]
    for c in COMBINATIONS:
        fields.append((f"{c.value}_freq", pa.float64()))
        for quantity, hook in _HOOK_OF.items():
            fields.append((f"{c.value}_{hook}_mean", pa.float64()))
            if quantity in LISTED:
                name = f"{c.value}_{hook}_max"
                fields += [(f"{name}_values", pa.list_(pa.float32())), (f"{name}_indices", pa.list_(pa.int32()))]
                fields.append((f"{name}_positions", pa.list_(pa.int32())))
    fields += [("combinations", pa.list_(_combination_type())), ("vocabulary", pa.list_(_vocabulary_type()))]
    fields.append(("neighbours", pa.list_(_neighbours_type())))
    return pa.schema(fields)


def _combination_type() -> Any:
    statistics = pa.struct([("mean", pa.float64()), ("min", pa.float64()), ("max", pa.float64())])
    entry = pa.struct([("value", pa.float32()), ("text", pa.int32()), ("position", pa.int32())])
    listed = pa.struct([("list", pa.string()), ("split", pa.string()), ("entries", pa.list_(entry))])
    return pa.struct(
        [
            ("combination", pa.string()),
            ("count", pa.int64()),
            ("count_at_position_0", pa.int64()),
            ("mass", pa.float64()),
            ("mass_share", pa.float64()),
            ("tau", pa.float64()),
            *((q.value, statistics) for q in QUANTITIES),
            *((f"histogram_{split.value}", pa.list_(pa.int64())) for split in SPLITS),
            ("lists", pa.list_(listed)),
        ]
    )


def _vocabulary_type() -> Any:
    entry = pa.struct([("token_id", pa.int32()), ("score", pa.float32()), ("cosine", pa.float32())])
    moments = [(name, pa.float64()) for name in ("variance", "skew", "kurtosis")]
    sides = [(side, pa.list_(entry)) for side in ("top", "bottom")]
    return pa.struct([("matrix", pa.string()), ("vector", pa.string()), *moments, *sides])


def _neighbours_type() -> Any:
    neighbour = pa.struct([("layer", pa.int32()), ("neuron", pa.int32()), ("cosine", pa.float64())])
    return pa.struct([("list", pa.string()), ("neurons", pa.list_(neighbour))])


def neuron_row(record: NeuronRecord, neighbours: Neighbours | None, locate: Locate) -> Row:
    """The row of one neuron; `locate` gives the texts and positions of corpus token numbers."""
    geometry, role = record.geometry, record.role
    row: Row = {
        "layer": record.neuron.layer,
        "neuron": record.neuron.index,
        **vars(geometry),
        "io_class": str(record.io_class),
        "sign": record.sign,
        "role": role.role.value if role.role else None,
        "attention_score": role.attention_score,
        "attention_head": role.attention_head,
        "entropy_share": role.entropy_share,
        "double_checking": role.double_checking,
        "double_checking_token": role.double_checking_token,
        "tokens": record.tokens if record.combinations else None,
        "zeros": record.zeros if record.combinations else None,
        "position_0": None
        if record.first_values is None
        else {quantity.value: value for quantity, value in record.first_values.items()},
        "vocabulary": [_vocabulary(record, matrix, vector) for matrix in VOCABULARY_MATRICES for vector in VECTORS],
        "neighbours": None if neighbours is None else _neighbours(neighbours),
    }
    place = _Places(record, locate)
    for combination, own in record.combinations.items():
        row[f"{combination.value}_freq"] = record.frequency(combination)
        for quantity, hook in _HOOK_OF.items():
            row[f"{combination.value}_{hook}_mean"] = own.statistics[quantity].mean
            if quantity in LISTED:
                name, entries = f"{combination.value}_{hook}_max", own.top[quantity]
                row[f"{name}_values"] = [entry.value for entry in entries]
                row[f"{name}_indices"] = [place(entry)[0] for entry in entries]
                row[f"{name}_positions"] = [place(entry)[1] for entry in entries]
    row["combinations"] = [_combination(record, own, place) for own in record.combinations.values()]
    return row


class _Places:
    """Text and position of every list entry of a neuron, found at once."""

    def __init__(self, record: NeuronRecord, locate: Locate) -> None:
        numbers = sorted(
            {e.token_number for own in record.combinations.values() for _, _, es in _lists(own) for e in es}
        )
        texts, positions = locate(numbers)
        self._found = dict(zip(numbers, zip(texts.tolist(), positions.tolist(), strict=True), strict=True))

    def __call__(self, entry: ListEntry) -> tuple[int, int]:
        return self._found[entry.token_number]


def _lists(own: CombinationRecord) -> list[tuple[str, Split | None, Sequence[ListEntry]]]:
    """Every stored list with its name and split; the overall list of `post` is the strongest of its three."""
    found: list[tuple[str, Split | None, Sequence[ListEntry]]] = [
        ("x_in", None, own.top[Quantity.X_IN]),
        ("x_gate", None, own.top[Quantity.X_GATE]),
    ]
    for split in SPLITS:
        found.append(("post", split, own.post_by_split[split]))
        found.append(("uniform", split, own.uniform[split]))
        found.append(("weighted", split, own.weighted[split]))
    return found


def _combination(record: NeuronRecord, own: CombinationRecord, place: _Places) -> Row:
    def entries(found: Sequence[ListEntry]) -> list[Row]:
        return [dict(zip(("value", "text", "position"), (e.value, *place(e)), strict=True)) for e in found]

    return {
        "combination": own.combination.value,
        "count": own.count,
        "count_at_position_0": own.first_count,
        "mass": own.mass,
        "mass_share": record.mass_share(own.combination),
        "tau": own.tau,
        **{quantity.value: vars(own.statistics[quantity]) for quantity in QUANTITIES},
        **{f"histogram_{split.value}": list(own.histogram[split]) for split in SPLITS},
        "lists": [
            {"list": name, "split": split.value if split else None, "entries": entries(found)}
            for name, split, found in sorted(_lists(own), key=lambda item: _LIST_NAMES.index(item[0]))
        ],
    }


def _vocabulary(record: NeuronRecord, matrix: Any, vector: Any) -> Row:
    def entries(found: Sequence[VocabularyEntry]) -> list[Row]:
        return [{"token_id": e.token_id, "score": e.score, "cosine": e.cosine} for e in found]

    own = record.vocabulary[matrix][vector]
    moments = {"variance": own.variance, "skew": own.skew, "kurtosis": own.kurtosis}
    sides = {"top": entries(own.top), "bottom": entries(own.bottom)}
    return {"matrix": matrix.value, "vector": vector.value, **moments, **sides}


def _neighbours(neighbours: Neighbours) -> list[Row]:
    return [
        {
            "list": name.value,
            "neurons": [{"layer": n.neuron.layer, "neuron": n.neuron.index, "cosine": n.cosine} for n in found],
        }
        for name, found in neighbours.items()
    ]
