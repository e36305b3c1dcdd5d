"""Tables as they are published, of the model of `turned.py` at the end of its training."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuronagent.domain import IO_CLASSES
from tests.service.turned import NEURONS, cosine

LABELS = [str(label) for label in IO_CLASSES]
KNOWN = {0: "conditional enrichment", 1: "conditional depletion"}
Write = Callable[[Any], str]


def tables(name: str = "somebody/known") -> dict[str, Any]:
    """The tables of the index, from how the model was made."""
    rows = [[0] * len(LABELS) for _ in KNOWN]
    for layer, label in KNOWN.items():
        for neuron in range(NEURONS):
            rows[layer][LABELS.index(label if abs(cosine(layer, neuron, 1)) > 0.5 else "orthogonal output")] += 1
    medians = [statistics.median(cosine(layer, neuron, 1) for neuron in range(NEURONS)) for layer in KNOWN]
    return {
        "source": "how it was made",
        "models": {name: {"columns": LABELS, "per_layer": rows, "n_layers": 2, "d_mlp": [NEURONS]}},
        "median_cos_in_out_by_layer": {name: medians},
    }


def writer(path: Path) -> Write:
    """What writes a table, or a text in place of one, to `path`, and returns that."""

    def written(content: Any) -> str:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return written
