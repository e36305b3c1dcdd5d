"""Whether the functional roles of a whole index are what its stored numbers and thresholds make them.

The rule is read here off definitions.md, neuron by neuron; `index.roles` has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Role
from neuronagent.service.check_corpus import Floats
from neuronagent.service.ledger import Ledger
from neuronagent.store.blocks import NeuronBlock

_REFERENCE = 1000 / 352_256  # partition neurons per neuron, in OLMo-7B
_MOMENTS = ("variance", "skew", "kurtosis")
_NUMBERS: tuple[str, ...] = ("layer", "neuron", *_MOMENTS, "cos_gate_in", "attention_score", "entropy_share")
_THRESHOLD = "the thresholds of roles follow from the neurons"


class RoleCheck:
    """Takes in the blocks of an index and compares, when it has seen all."""

    def __init__(self, last_layer: int) -> None:
        self._last = last_layer
        self._parts: list[Floats] = []
        self._roles: list[str | None] = []

    def add(self, block: NeuronBlock) -> None:
        """Take in a block."""
        self._parts.append(np.stack([block.columns[name] for name in _NUMBERS]))
        self._roles += block.role

    def compare(self, thresholds: Mapping[str, Any] | None, ledger: Ledger) -> None:
        """Check all that was taken in; `thresholds` as the index states them, None where it has no roles."""
        if not self._parts:
            return
        columns = dict(zip(_NUMBERS, np.concatenate(self._parts, axis=1), strict=True))
        roles = np.array([role or "" for role in self._roles])

        def neuron(n: int) -> str:
            return f"{int(columns['layer'][n])}.{int(columns['neuron'][n])}"

        last = columns["layer"] == self._last
        for column, name, allowed in (
            ("attention_score", "attention scores exist below the last layer only, in −1…1", ~last),
            ("entropy_share", "entropy shares exist in the last layer only, in 0…1", last),
        ):
            values = columns[column]
            in_range = (np.abs(values) <= 1) & ((values >= 0) | (column == "attention_score"))
            ledger.each(name, allowed & in_range, neuron, values, applies=~np.isnan(values))
        if thresholds is None:
            ledger("an index without thresholds has no roles", not (roles != "").any(), "the index")
            return
        _check_thresholds(columns, roles, last, thresholds, ledger)
        expected = _expected(columns, roles == Role.PARTITION.value, last, thresholds)
        ledger.each("roles are what the stored numbers make them", roles == expected, neuron, roles, expected)


def _check_thresholds(
    columns: Mapping[str, Floats],
    roles: NDArray[np.str_],
    last: NDArray[np.bool_],
    thresholds: Mapping[str, Any],
    ledger: Ledger,
) -> None:
    variance, partition = columns["variance"], roles == Role.PARTITION.value
    wanted = min(max(1, round(len(roles) * _REFERENCE)), int((variance > 0).sum()))
    found = int(partition.sum())
    holds = found == wanted == thresholds["partition_neurons"]
    ledger("as many neurons are partition neurons as the model's size asks for", holds, "the index", found, wanted)
    least = variance[partition].min(initial=np.inf)
    holds = not found or bool(least == thresholds["partition_variance"] >= variance[~partition].max(initial=0.0))
    ledger("partition neurons have the highest variance", holds, "the index", least, thresholds["partition_variance"])
    peak = columns["kurtosis"][partition].max(initial=-np.inf) if found else 0.0
    ledger(_THRESHOLD, bool(peak == thresholds["kurtosis"]), "kurtosis", peak, thresholds["kurtosis"])
    shares = np.sort(columns["entropy_share"][last & ~np.isnan(columns["entropy_share"])])
    if len(shares) and thresholds["entropy_outlier"] is not None:
        low, high = (np.interp(q * (len(shares) - 1), np.arange(len(shares)), shares) for q in (0.25, 0.75))
        outlier = high + 3 * (high - low)
        holds = bool(abs(outlier - thresholds["entropy_outlier"]) <= 1e-9)
        ledger(_THRESHOLD, holds, "entropy", outlier, thresholds["entropy_outlier"])


def _expected(
    columns: Mapping[str, Floats],
    partition: NDArray[np.bool_],
    last: NDArray[np.bool_],
    thresholds: Mapping[str, Any],
) -> NDArray[np.str_]:
    """The role of every neuron by its numbers; the partition as it is, since ties in variance are cut anywhere."""
    typical = np.where(columns["cos_gate_in"] < 0, -1, 1)
    writes = columns["variance"] > 0
    peaked = (columns["kurtosis"] > thresholds["kurtosis"]) & writes & ~partition
    outlier = np.inf if thresholds["entropy_outlier"] is None else thresholds["entropy_outlier"]
    share = np.nan_to_num(columns["entropy_share"], nan=0.0)
    entropy = last & (share > outlier) & (share > thresholds["entropy_share"])
    score = np.nan_to_num(columns["attention_score"], nan=0.0)
    attends = (np.abs(score) > thresholds["attention"]) & ~last
    up, away = peaked & (columns["skew"] * typical > 0), attends & (score * typical > 0)
    return np.select(
        [partition, up, peaked, entropy, away, attends],
        [
            role.value
            for role in (
                Role.PARTITION,
                Role.PREDICTION,
                Role.SUPPRESSION,
                Role.ENTROPY,
                Role.ATTENTION_DEACTIVATION,
                Role.ATTENTION_ACTIVATION,
            )
        ],
        default="",
    )
