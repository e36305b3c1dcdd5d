"""What is over all layers: outliers, how predictable IO classes and roles are, and which of them background and
functional neurons are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import IO_CLASSES, ROLES, IOClass, Role
from neuronagent.explain.statistics.multiple import benjamini_hochberg
from neuronagent.predictability.functional import (
    FAMILIES,
    ClassKind,
    ClassR2,
    ContingencyCell,
    FunctionalLayer,
    SensitiveNeurons,
)
from neuronagent.service.predict.contingency import Stratum, associate
from neuronagent.service.predict.functional_layer import quartiles
from neuronagent.service.predict.selection import Errors

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
BACKGROUND = "background"
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True)
class LayerNeurons:
    """The neurons of one layer `[N]`: what is stored of them, their errors, IO classes and roles."""

    result: FunctionalLayer
    sensitive: SensitiveNeurons
    errors: Errors
    classes: Sequence[IOClass]
    roles: Sequence[Role | None]

    def group(self, name: str) -> tuple[Mask, Mask] | None:
        """Which neurons are of the group, and which could be; None where the layer has no such group. Nearly all
        neurons are sensitive to some n-gram: the group of a family are the tenth of which it says most."""
        varies = np.ones(len(self.classes), dtype=np.bool_)
        varies[self.sensitive["never_vary"]] = False
        if name == BACKGROUND:
            threshold = self.result["background"]["threshold"]
            known = np.isfinite(self.errors.l2)
            return None if threshold is None else (known & (self.errors.l2 < threshold), known)
        own = self.sensitive["families"].get(name)
        if own is None or not own["properties"]:
            return None
        found = np.zeros(len(self.classes), dtype=np.bool_)
        found[own["most"]] = True
        return found, varies

    def others(self) -> dict[tuple[ClassKind, str], Mask]:
        """Which neurons are of each IO class and role that any is of."""
        found: dict[tuple[ClassKind, str], Mask] = {}
        for label in IO_CLASSES:
            found["IO class", str(label)] = np.array([own == label for own in self.classes])
        for role in ROLES:
            found["role", role.value] = np.array([own is role for own in self.roles])
        return {key: mask for key, mask in found.items() if mask.any()}


def contingency(layers: Sequence[LayerNeurons]) -> list[ContingencyCell]:
    """Every group with every IO class and role, in their usual order."""
    others = [layer.others() for layer in layers]
    names = _in_order(others)
    cells: list[ContingencyCell] = []
    for group in (BACKGROUND, *FAMILIES):
        own = [layer.group(group) for layer in layers]
        if all(each is None for each in own):
            continue
        cells += [_cell(group, key, own, others) for key in names]
    known = [cell for cell in cells if cell["p"] is not None]
    if known:
        adjusted = benjamini_hochberg([cell["p"] or 0.0 for cell in known])
        for cell, q in zip(known, adjusted.tolist(), strict=True):
            cell["q"] = q
    return cells


def _in_order(others: Sequence[Mapping[tuple[ClassKind, str], Mask]]) -> list[tuple[ClassKind, str]]:
    there = {key for each in others for key in each}
    every: list[tuple[ClassKind, str]] = [
        *(("IO class", str(label)) for label in IO_CLASSES),
        *(("role", role.value) for role in ROLES),
    ]
    return [key for key in every if key in there]


def _cell(
    group: str, key: tuple[ClassKind, str], own: Sequence[tuple[Mask, Mask] | None],
    others: Sequence[Mapping[tuple[ClassKind, str], Mask]],
) -> ContingencyCell:  # fmt: skip
    strata: list[Stratum] = []
    for each, columns in zip(own, others, strict=True):
        if each is None:
            continue
        row, base = each
        column = columns.get(key, np.zeros(len(row), dtype=np.bool_)) & base
        strata.append(Stratum(int((row & column).sum()), int(row.sum()), int(column.sum()), int(base.sum())))
    found = associate(strata)
    kind, other = key
    return {
        "group": group,
        "kind": kind,
        "other": other,
        "neurons": sum(s.column for s in strata),
        "count": found.count,
        "expected": found.expected,
        "odds": found.odds,
        "lo": found.lo,
        "hi": found.hi,
        "p": found.p,
        "q": None,
        "exact": found.exact,
        "reason": _reason(found.p, found.odds),
    }


def _reason(p: float | None, odds: float | None) -> str | None:
    if p is None:
        return "in every layer all neurons, or none, are of one of both"
    return "no neurons of both, or of neither: the ratio is 0 or infinite" if odds is None else None


def class_r2(layers: Sequence[LayerNeurons]) -> list[ClassR2]:
    """How predictable the neurons of each IO class and role are, all layers together and within their layers."""
    others = [layer.others() for layer in layers]
    ranks = [_ranks(layer.errors.r2) for layer in layers]
    rows: list[ClassR2] = []
    for key in _in_order(others):
        values: list[Floats] = []
        total, mean, variance = 0, 0.0, 0.0
        for layer, columns, own in zip(layers, others, ranks, strict=True):
            mask = columns.get(key, np.zeros(len(own), dtype=np.bool_)) & np.isfinite(own)
            k, n = int(mask.sum()), int(np.isfinite(own).sum())
            values.append(layer.errors.r2[mask])
            if k and n > 1:
                total, mean = total + k, mean + float(own[mask].sum())
                variance += k * float(np.nanvar(own)) * (1 - (k - 1) / (n - 1))
        kind, name = key
        half = _Z * math.sqrt(variance) / total if total else 0.0
        rows.append(
            {
                "kind": kind,
                "name": name,
                "r2": quartiles(np.concatenate(values)),
                "rank": mean / total if total else None,
                "rank_lo": 0.5 - half if total else None,
                "rank_hi": 0.5 + half if total else None,
            }
        )
    return rows


def _ranks(values: Floats) -> Floats:
    """The share of the other neurons that are below each, ties half; NaN where there is no value, or no other."""
    known = np.isfinite(values)
    own = values[known]
    found = np.full(len(values), np.nan)
    if len(own) > 1:
        ordered = np.sort(own)
        below, upto = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
        found[known] = (below + (upto - below - 1) / 2) / (len(own) - 1)
    return found
