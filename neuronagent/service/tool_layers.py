"""The tool that shows a layer at a glance: classes, roles, cosines against chance, combinations, extreme neurons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, COSINES, IO_CLASSES, ROLES, CosineBaseline, chance
from neuronagent.service.bounded import Format, budget, fit, number
from neuronagent.service.lookup import Index
from neuronagent.service.per_layer import PerLayer
from neuronagent.service.tool_more_results import LayerCombinationRow, LayerCosineRow, LayerSummary
from neuronagent.service.tools import provenance
from neuronagent.store.reader import IndexReader
from neuronagent.store.schema import COMBINATION_SUFFIXES

_COLUMNS = (
    *COSINES,
    *(f"frequency_{suffix}" for suffix in COMBINATION_SUFFIXES),
    *(f"mass_{suffix}" for suffix in COMBINATION_SUFFIXES),
    "kurtosis", "norm_out", "mass",
)  # fmt: skip
_EXTREMES: tuple[tuple[str, bool], ...] = (
    ("cos_in_out", False),
    ("cos_in_out", True),
    ("cos_gate_in", True),
    ("kurtosis", True),
    ("norm_out", True),
    ("mass", True),
)
"""What the most extreme neurons are listed by: the column, and whether its largest values are meant."""

Numbers = dict[str, NDArray[np.float64]]
_LONGEST = 12


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """What is shown of a layer, and the numbers of all its neurons."""

    numbers: Numbers
    io_classes: dict[str, int]
    roles: dict[str, int]
    cosines: list[LayerCosineRow]
    combinations: list[LayerCombinationRow]
    extremes: dict[str, list[Any]]


def layer_numbers(index: Index, layer: int) -> Numbers:
    """Cosines, frequencies, shares and a few more of all neurons of a layer `[N]`, by column; NaN where there is none.

    Raises:
        NotFoundError: no such layer.
    """
    return _remembered(index.reader, layer).numbers


def layer_summary(index: Index, layer: int, *, response_format: Format = "concise") -> LayerSummary:
    """What the neurons of a layer are like, and which stand out."""
    found = _remembered(index.reader, layer)

    def render(most: int) -> LayerSummary:
        return LayerSummary(
            available=True,
            layer=layer,
            neurons=sum(found.io_classes.values()),
            io_classes=found.io_classes,
            roles=found.roles,
            cosines=found.cosines,
            combinations=found.combinations,
            extremes={name: listed[:most] for name, listed in found.extremes.items()},
            provenance=provenance(index),
            note=_NOTE + ("" if found.combinations else " No corpus was run: combinations and mass are not there."),
        )

    sizes = (3, 2, 1) if response_format == "concise" else (_LONGEST, 8, 4)
    return fit(render, sizes, budget(response_format))


_NOTE = (
    "baseline: 95 % of mismatched pairs of this layer; share_outside: of neurons beyond it. Frequency: share of all "
    "tokens; main_of: neurons whose largest share of output mass it has. extremes: [neuron, value]."
)


def _read(reader: IndexReader, layer: int) -> _Layer:
    table, baselines, counts = (
        reader.layer_numbers(layer, _COLUMNS),
        reader.baselines(layer),
        reader.layer_classes(layer),
    )
    numbers = dict(zip(_COLUMNS, table.T.copy(), strict=True))
    classes = {str(c): sum(n for (_, other), n in counts.items() if other == c) for c in IO_CLASSES}
    roles = {role.value: sum(n for (other, _), n in counts.items() if other is role) for role in ROLES}
    return _Layer(
        numbers=numbers,
        io_classes={name: n for name, n in classes.items() if n},
        roles={name: n for name, n in roles.items() if n},
        cosines=[_cosines(pair, numbers[pair], baselines[pair]) for pair in COSINES],
        combinations=_combinations(numbers) if np.isfinite(numbers["mass"]).any() else [],
        extremes=_extremes(layer, numbers),
    )


def _cosines(pair: str, values: NDArray[np.float64], baseline: CosineBaseline) -> LayerCosineRow:
    low, high = chance(pair, baseline)
    q10, median, q90 = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
    outside = float(((values < low) | (values > high)).mean())
    return LayerCosineRow(
        pair=pair, median=_short(median), q10=_short(q10), q90=_short(q90),
        baseline_lo=_short(low), baseline_hi=_short(high), share_outside=_short(outside),
    )  # fmt: skip


def _combinations(numbers: Numbers) -> list[LayerCombinationRow]:
    shares = np.stack([numbers[f"mass_{suffix}"] for suffix in COMBINATION_SUFFIXES])
    main = np.bincount(np.nan_to_num(shares, nan=-1.0).argmax(axis=0)[numbers["mass"] > 0], minlength=len(shares))
    rows: list[LayerCombinationRow] = []
    for c in COMBINATIONS:
        frequency = numbers[f"frequency_{COMBINATION_SUFFIXES[c.position]}"]
        rows.append(
            LayerCombinationRow(
                combination=c.value,
                mean_frequency=_short(float(np.nanmean(frequency))),
                median_frequency=_short(float(np.nanmedian(frequency))),
                mean_mass_share=_short(float(np.nanmean(shares[c.position]))),
                main_of=int(main[c.position]),
            )
        )
    return rows


def _extremes(layer: int, numbers: Numbers) -> dict[str, list[Any]]:
    """The neurons with the largest and smallest values; ties go to the earlier neuron, what has no number is left
    out."""
    found: dict[str, list[Any]] = {}
    for name, largest in _EXTREMES:
        values = numbers[name]
        order = np.argsort(-values if largest else values, kind="stable")  # NaN comes last either way
        listed = [
            [f"{layer}.{i}", number(float(values[i]))] for i in order[:_LONGEST].tolist() if math.isfinite(values[i])
        ]
        if listed:
            found[f"{name} {'highest' if largest else 'lowest'}"] = listed
    return found


def _short(value: float) -> float | None:
    """Three decimals are enough of a share or a cosine."""
    return round(value, 3) + 0.0 if math.isfinite(value) else None


_remembered = PerLayer(_read, 16)
"""Some 1.5 MB each in a large model."""
