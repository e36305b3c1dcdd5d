"""What the pages of a layer's neurons share, read once: the layer's cosines, and those of unrelated vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuronagent.domain import CosineBaseline, chance
from neuronagent.report.content import Baseline, Plane
from neuronagent.service.per_layer import PerLayer
from neuronagent.store.reader import IndexReader

MOST_DOTS = 1500
_PLANE = ("cos_gate_out", "cos_in_out", "cos_gate_in")


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """`baselines` by the name of the cosine, and the layer in the plane of the paper's Figure 2."""

    baselines: dict[str, Baseline]
    plane: Plane


_remembered = PerLayer[LayerFacts](
    lambda reader, layer: LayerFacts(baselines=bands(reader.baselines(layer)), plane=_plane(reader, layer)), 32
)
"""Some 0.4 MB each."""


def layer_facts(reader: IndexReader, layer: int) -> LayerFacts:
    """The facts of a layer; those of the layers asked for last are kept.

    Raises:
        NotFoundError: no such layer.
    """
    return _remembered(reader, layer)


def bands(baselines: Mapping[str, CosineBaseline]) -> dict[str, Baseline]:
    """Where 95 % of the cosines of mismatched pairs lie, by name."""
    found: dict[str, Baseline] = {}
    for name, own in baselines.items():
        lo, hi = chance(name, own)
        found[name] = {"lo": round(lo, 5), "hi": round(hi, 5)}
    return found


def _plane(reader: IndexReader, layer: int) -> Plane:
    """Evenly spaced neurons of the layer; one without a direction, whose cosine is no number, is left out."""
    cosines = reader.layer_numbers(layer, _PLANE)
    chosen = np.unique(np.linspace(0, len(cosines) - 1, min(len(cosines), MOST_DOTS)).round().astype(np.intp))
    dots = cosines[chosen]
    rounded = (dots[np.isfinite(dots).all(axis=1)].round(3) + 0.0).tolist()
    return {"layer": [(x, y, z) for x, y, z in rounded], "neurons": len(cosines)}
