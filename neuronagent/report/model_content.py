"""What a model's map shows, as plain JSON: the file beside the page is this, and the page shows nothing else.

`service.reporting.model_map` counts it. The points of the scatters are not in here but in `figures.points`. A number
that does not exist is None, with a reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from neuronagent.report.content import Provenance

SCHEMA_VERSION = 1

COSINES: Mapping[str, str] = {
    "cos_gate_in": "|cos(gate,in)|",
    "cos_gate_out": "|cos(gate,out)|",
    "cos_in_out": "cos(in,out)",
}
"""What is shown of each cosine."""


class Box(TypedDict):
    """A cosine over `n` neurons of a layer: quartiles, the middle 95 % (`lo` to `hi`), extremes. `chance`: where 95 %
    of mismatched pairs of the layer are; `beyond`: share of neurons outside of that."""

    n: int
    min: float
    lo: float
    q1: float
    median: float
    q3: float
    hi: float
    max: float
    chance: tuple[float, float]
    beyond: float


class LayerRow(TypedDict):
    """One layer. `classes`: neurons by IO class, all 11. `cosines`: by `cos_gate_in` and `cos_gate_out`, both of
    absolute values, and `cos_in_out`; None where no neuron has a number. `missing`: neurons without one."""

    layer: int
    neurons: int
    classes: dict[str, int]
    cosines: dict[str, Box | None]
    missing: int


class MedianLine(TypedDict):
    """The median cos(in,out) of the layers of a model, from first to last. `places`: of the layers in its depth, 0 to
    1. `own`: of this index; others are published. `post_norm`: the processing that the numbers hold for, None
    where it makes no difference or is not known."""

    model: str
    own: bool
    layers: list[int]
    places: list[float]
    medians: list[float | None]
    post_norm: str | None


class Medians(TypedDict):
    """`source`: of the published ones."""

    lines: list[MedianLine]
    source: str


class Correlation(TypedDict):
    """Pearson's r over `n` neurons of a `layer`, None: of all that are shown, with its 95 % interval (Fisher's z). `r`,
    `lo` and `hi` are None with a `reason`."""

    layer: int | None
    n: int
    r: float | None
    lo: float | None
    hi: float | None
    reason: str | None


class Frequency(TypedDict):
    """How often x_gate > 0, share of all tokens, against cos(in,out); `reason` where there is no corpus."""

    available: bool
    reason: str | None
    pooled: Correlation | None
    layers: list[Correlation]


class RoleCell(TypedDict):
    """Neurons of a class and a role; `expected` if both were independent; `z`: how surprising the count is then, in
    standard deviations of a normal variable (Fisher's exact test, one-sided mid-p), None where it could be no other."""

    count: int
    expected: float
    z: float | None


class Roles(TypedDict):
    """`cells[class][role]`; classes and roles without neurons are left out; the last role is "none"."""

    available: bool
    reason: str | None
    roles: dict[str, int]
    classes: dict[str, int]
    cells: dict[str, dict[str, RoleCell]]


class ModelContent(TypedDict):
    """The whole map. `model_layers`: of the model, of which `layers` may be some; `clouds`: layers with a scatter."""

    schema_version: int
    kind: str
    threshold: float
    model_layers: int
    neurons: int
    layers: list[LayerRow]
    clouds: list[int]
    medians: Medians
    frequency: Frequency
    roles: Roles
    provenance: Provenance
