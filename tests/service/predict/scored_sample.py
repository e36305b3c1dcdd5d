"""A small index with a scored fit: layer 1 from layer 0 and from itself, R² ascending from neuron to neuron."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from neuronagent.predictability.scores import MEAN, OWN_TEST, POSITION, PREVIOUS_TOKEN, TOKEN, PredictorScores
from neuronagent.store.engine import open_writer
from neuronagent.store.predictions import save_fit, save_scores
from tests.mcp_server.sample import write_sample
from tests.store.made_scores import dead, made_info, scores_of

NEURONS, ABOUT = 12, {"tokens": 900, "documents": 7}
R2 = [round(0.05 * index, 2) for index in range(NEURONS)]
DEAD = 11


def scored(path: Path, name: str = "default", *, layer: int = 1, **info: Any) -> int:
    """Store a fit of layer 1 from layer 0, and itself, with scores of ascending R²; the last neuron never varies."""
    engine = open_writer(path)
    more: dict[str, Any] = {"pairs": [[0, 1], [1, 1]], **info}
    fit = save_fit(engine, name, made_info(name, **more))
    token = [0.1] * NEURONS
    columns = {"layer 0": R2, "layer 1": [1.0] * NEURONS, TOKEN: token, PREVIOUS_TOKEN: [0.02] * NEURONS,
               POSITION: [-0.03] * NEURONS, MEAN: [-0.001] * NEURONS}  # fmt: skip
    for predictor_name, r2 in columns.items():
        scores = without_last(scores_of(r2, token=token))
        save_scores(engine, fit, layer, predictor_name, scores, text=OWN_TEST, about=ABOUT)
    elsewhere = scores_of([r2 - 0.1 for r2 in R2], token=token)
    save_scores(engine, fit, layer, "layer 0", elsewhere, text="/data/texts/stories", about={"tokens": 50})
    engine.dispose()
    return fit


def without_last(scores: PredictorScores) -> PredictorScores:
    nothing = dead(NEURONS)
    joined = {name: np.append(values[:-1], vars(nothing)[name][-1]) for name, values in vars(scores).items()}
    return PredictorScores(**joined)


@cache
def _original() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_sample(Path(folder) / "sample.db").read_bytes()


def sample_index(folder: Path) -> Path:
    """A copy of the sample index, made once."""
    path = folder / "sample.db"
    path.write_bytes(_original())
    return path
