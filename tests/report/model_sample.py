"""Maps of made-up models: neurons with random vectors, classes by the rule, roles in turn."""

from __future__ import annotations

import numpy as np

from neuronagent.domain import IO_CLASSES, ROLES, CosineBaseline, IOClass, Role
from neuronagent.index.io_class import classify
from neuronagent.report.content import Provenance
from neuronagent.report.figures.points import Points
from neuronagent.report.model_content import ModelContent
from neuronagent.service.reporting.model_counts import counted
from neuronagent.service.reporting.model_numbers import LayerNumbers

ORTHOGONAL = IOClass("orthogonal output")


def layer(
    number: int = 0, neurons: int = 40, *, corpus: bool = True, seed: int = 0, only: IOClass | None = None
) -> LayerNumbers:
    """The numbers of one layer; `only`: the class that all neurons are of."""
    rng = np.random.default_rng((seed, number))
    cosines = np.clip(rng.normal(0, 0.45, (neurons, 3)), -1, 1)
    cosines[:, 0] = np.abs(cosines[:, 0])
    labels = [only] * neurons if only else [IO_CLASSES[place] for place in classify(cosines)]
    roles: list[Role | None] = [(*ROLES, None, None)[place % 8] for place in range(neurons)]
    counts: dict[tuple[Role | None, IOClass], int] = {}
    for role, label in zip(roles, labels, strict=True):
        counts[role, label] = counts.get((role, label), 0) + 1
    gate_plus = np.clip(0.4 - 0.3 * cosines[:, 2] + rng.normal(0, 0.1, neurons), 0, 1)
    baseline = CosineBaseline(gaussian=(-0.1, 0.1), mismatched=(-0.2, 0.25), mismatched_absolute=0.22)
    return LayerNumbers(
        layer=number,
        cosines=cosines,
        gate_plus=gate_plus if corpus else np.full(neurons, np.nan),
        counts=counts,
        baselines=dict.fromkeys(("cos_gate_in", "cos_gate_out", "cos_in_out"), baseline),
    )


def provenance(model: str = "made-model") -> Provenance:
    return {
        "model": model, "revision": None, "weights_hash": "0" * 64, "dtype": "float32", "corpus": "texts",
        "tokens": 1000, "sign_convention": "normalised", "fingerprint": "f0", "protocols": [], "made": None,
        "version": "0.1.0", "published": None,
    }  # fmt: skip


def sample(*layers: LayerNumbers, model: str = "made-model", roles: bool = True) -> tuple[ModelContent, Points]:
    """The map of `layers`, or of three."""
    numbers = layers or tuple(layer(number) for number in range(3))
    return counted(numbers, provenance(model), model_layers=len(numbers), threshold=0.5, roles=roles)
