"""Scores of neuron predictability made up from a seed: the same in shape as what a fit is scored to, and consistent."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuronagent.predictability.scores import COLUMNS, PredictorScores


def made_info(name: str = "default", identity: str = "one", **more: Any) -> dict[str, Any]:
    """What a fit of adjacent layers says of itself, as far as readers of an index look at it."""
    return {
        "name": name, "identity": identity, "kind": "least squares", "spec": "adjacent", "pairs": [[0, 1]],
        "source_model": None, "text": {"source": "texts/books", "own": True},
    } | more  # fmt: skip


def scores_of(r2: list[float], *, token: list[float] | None = None, width: float = 0.05) -> PredictorScores:
    """Scores with these R², intervals of ± `width` round everything, variance 4 and mean 1; a NaN stays one."""
    value = np.array(r2)
    rmse, pearson = 2 * np.sqrt(1 - np.minimum(value, 1.0)), np.sqrt(np.maximum(value, 0.0))
    lift = value - (np.zeros(len(value)) if token is None else np.array(token))
    found = {"rmse": rmse, "r2": value, "pearson": pearson, "lift": lift}
    found |= {f"{name}_lo": found[name] - width for name in ("rmse", "r2", "pearson", "lift")}
    found |= {f"{name}_hi": found[name] + width for name in ("rmse", "r2", "pearson", "lift")}
    ones = np.ones(len(value))
    return PredictorScores(**found, mean=ones, variance=4 * ones)


def dead(count: int) -> PredictorScores:
    """Neurons that never vary: an error of 0, and no R²."""
    columns = {name: np.full(count, np.nan) for name in COLUMNS}
    return PredictorScores(**columns | {"rmse": np.zeros(count), "mean": np.ones(count), "variance": np.zeros(count)})


def random_scores(neurons: int, seed: int = 0) -> PredictorScores:
    """Any numbers, some of them NaN."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(size=neurons) for name in COLUMNS}
    for values in columns.values():
        values[rng.random(neurons) < 0.2] = np.nan
    return PredictorScores(**columns)
