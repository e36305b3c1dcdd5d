"""Counts what a model's map shows out of the numbers of its neurons.

Only the frequency of gate+ needs a corpus. Classes and roles are those that the index holds; cosines are in its sign
convention, which only the sign of cos(gate,in) and cos(gate,out) depends on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronagent.domain import COSINES, EITHER_SIGN, IO_CLASSES, ROLES, CosineBaseline, IOClass, Role, chance
from neuronagent.report.content import Provenance
from neuronagent.report.figures.points import Points
from neuronagent.report.model_content import (
    SCHEMA_VERSION,
    Box,
    Frequency,
    LayerRow,
    MedianLine,
    Medians,
    ModelContent,
    RoleCell,
    Roles,
)
from neuronagent.service.published_tables import read_tables
from neuronagent.service.reporting.association import deviation
from neuronagent.service.reporting.correlation import pearson
from neuronagent.service.reporting.model_numbers import IN_OUT, Array, LayerNumbers
from neuronagent.service.weight_views import NO_ROLE

_CLOUDS = 4
_QUANTILES = (0.0, 0.025, 0.25, 0.5, 0.75, 0.975, 1.0)
_NO_CORPUS = "this index is of weights alone: index the model with a text (--text) to count how often gates are open"
_NO_ROLES = "this index was made without functional roles: index the model again"
_AXES = ("cos(in,out)", "the frequency of gate+")


def counted(
    numbers: Sequence[LayerNumbers],
    provenance: Provenance,
    *,
    model_layers: int,
    threshold: float,
    roles: bool,
    clouds: Sequence[int] = (),
    post_norm: str | None = None,
) -> tuple[ModelContent, Points]:
    """The map of the layers in `numbers`, of a model of `model_layers`. `roles`: whether neurons were given any;
    `clouds`: the layers of the scatter, by default the first, two between and the last; `post_norm`: how the weights
    were processed."""
    shown = sorted(set(clouds)) or spread([own.layer for own in numbers], _CLOUDS)
    content = ModelContent(
        schema_version=SCHEMA_VERSION,
        kind="model",
        threshold=threshold,
        model_layers=model_layers,
        neurons=sum(len(own.cosines) for own in numbers),
        layers=[_layer_row(own) for own in numbers],
        clouds=shown,
        medians=_medians(provenance["model"], numbers, model_layers, post_norm),
        frequency=_frequency(numbers),
        roles=_roles(numbers) if roles else Roles(available=False, reason=_NO_ROLES, roles={}, classes={}, cells={}),
        provenance=provenance,
    )
    points = Points(
        clouds={own.layer: _finite(own.cosines) for own in numbers if own.layer in shown},
        frequency=_finite(np.concatenate([_against(own) for own in numbers])),
    )
    return content, points


def spread(layers: Sequence[int], count: int) -> list[int]:
    """`count` of `layers`, evenly spread from the first to the last; all of fewer."""
    if len(layers) <= count:
        return list(layers)
    return [layers[round(place * (len(layers) - 1) / (count - 1))] for place in range(count)]


def _layer_row(own: LayerNumbers) -> LayerRow:
    counts = {str(label): sum(n for (_, other), n in own.counts.items() if other == label) for label in IO_CLASSES}
    missing_numbers = ~np.isfinite(own.cosines).all(axis=1)
    return LayerRow(
        layer=own.layer,
        neurons=len(own.cosines),
        classes=counts,
        cosines={name: _box(name, own.cosines[:, place], own.baselines[name]) for place, name in enumerate(COSINES)},
        missing=int(missing_numbers.sum()),
    )


def _box(cosine: str, values: Array, baseline: CosineBaseline) -> Box | None:
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    lowest, highest = chance(cosine, baseline)
    if cosine in EITHER_SIGN:
        values, lowest = np.abs(values), 0.0
    least, lo, q1, median, q3, hi, most = (round(float(value), 6) for value in np.quantile(values, _QUANTILES))
    return Box(
        n=len(values),
        min=least,
        lo=lo,
        q1=q1,
        median=median,
        q3=q3,
        hi=hi,
        max=most,
        chance=(round(lowest, 6), round(highest, 6)),
        beyond=float(((values < lowest) | (values > highest)).mean()),
    )


def _medians(model: str, numbers: Sequence[LayerNumbers], layers: int, post_norm: str | None) -> Medians:
    """This model's line first."""
    boxes = [own.cosines[:, IN_OUT][np.isfinite(own.cosines[:, IN_OUT])] for own in numbers]
    shown = [own.layer for own in numbers]
    lines = [
        MedianLine(
            model=model,
            own=True,
            layers=shown,
            places=[_place(layer, layers) for layer in shown],
            medians=[float(np.median(values)) if len(values) else None for values in boxes],
            post_norm=post_norm,
        )
    ]
    source = ""
    for table in read_tables():
        if table.medians is not None:
            source = table.source
            several = range(len(table.medians))
            lines.append(
                MedianLine(
                    model=table.name,
                    own=False,
                    layers=list(several),
                    places=[_place(layer, len(several)) for layer in several],
                    medians=list(table.medians),
                    post_norm=table.post_norm,
                )
            )
    return Medians(lines=lines, source=source)


def _place(layer: int, layers: int) -> float:
    """In the depth of a model, 0 to 1; a model of one layer is all beginning."""
    return round(layer / max(1, layers - 1), 6)


def _against(own: LayerNumbers) -> Array:
    return np.stack([own.cosines[:, IN_OUT], own.gate_plus], axis=1)


def _finite(points: Array) -> Array:
    return points[np.isfinite(points).all(axis=1)]


def _frequency(numbers: Sequence[LayerNumbers]) -> Frequency:
    by_layer = [(own.layer, _finite(_against(own))) for own in numbers]
    if not any(len(points) for _, points in by_layer):
        return Frequency(available=False, reason=_NO_CORPUS, pooled=None, layers=[])
    return Frequency(
        available=True,
        reason=None,
        pooled=pearson(None, np.concatenate([points for _, points in by_layer]), _AXES),
        layers=[pearson(layer, points, _AXES) for layer, points in by_layer],
    )


def _roles(numbers: Sequence[LayerNumbers]) -> Roles:
    counts: dict[tuple[Role | None, IOClass], int] = {}
    for own in numbers:
        for key, n in own.counts.items():
            counts[key] = counts.get(key, 0) + n
    by_role = {role: sum(n for (other, _), n in counts.items() if other is role) for role in (*ROLES, None)}
    by_class = {label: sum(n for (_, other), n in counts.items() if other == label) for label in IO_CLASSES}
    by_role = {role: n for role, n in by_role.items() if n or role is None}
    by_class = {label: n for label, n in by_class.items() if n}
    total = sum(counts.values())
    return Roles(
        available=True,
        reason=None,
        roles={_name(role): n for role, n in by_role.items()},
        classes={str(label): n for label, n in by_class.items()},
        cells={
            str(label): {
                _name(role): _cell(counts.get((role, label), 0), row, column, total) for role, column in by_role.items()
            }
            for label, row in by_class.items()
        },
    )


def _cell(count: int, row: int, column: int, total: int) -> RoleCell:
    return RoleCell(count=count, expected=row * column / total, z=deviation(count, row, column, total))


def _name(role: Role | None) -> str:
    return role.value if role else NO_ROLE
