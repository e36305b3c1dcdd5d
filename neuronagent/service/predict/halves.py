"""The halves of a layer's neurons by a stored score: the paper's Figure 4."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.errors import NotFoundError
from neuronagent.predictability.scores import Pair, PredictorScores, fit_option, layer_predictor
from neuronagent.predictability.substitution import METRICS, Chunk
from neuronagent.service.lookup import Index

_COLUMNS: Mapping[str, str] = dict(zip(METRICS, ("rmse", "pearson", "mean", "variance"), strict=True))

Top = NDArray[np.bool_]


def top_halves(index: Index, fit_id: int, name: str, chunks: Sequence[Chunk]) -> dict[tuple[Pair, str], Top]:
    """Which neurons of each replaced layer are in the top half, `[N]`, by its pair and metric: those with the larger
    values on the fit's own test split.

    Raises:
        NotFoundError: a layer has no scores.
    """
    found: dict[tuple[Pair, str], Top] = {}
    for pair in (Pair(source, layer) for chunk in chunks for layer, source in chunk["replaced"]):
        predictor = layer_predictor(pair.source)
        scores = index.reader.layer_predictions(fit_id, pair.target, predictor=predictor).get(predictor)
        if scores is None:
            raise NotFoundError(
                f"the fit {name} has no scores of layer {pair.target} from layer {pair.source} to halve its neurons by",
                remedy=f"run: neuronagent predict scores{fit_option(name)}",
            )
        for metric in METRICS:
            found[pair, metric] = top_half(scores, metric)
    return found


def top_half(scores: PredictorScores, metric: str) -> Top:
    """The half with the larger values; a neuron without one counts as the smallest, the last of equals as larger."""
    values: NDArray[np.float64] = getattr(scores, _COLUMNS[metric])
    order = np.argsort(np.where(np.isfinite(values), values, -np.inf), kind="stable")
    top = np.zeros(len(values), dtype=np.bool_)
    top[order[len(values) - len(values) // 2 :]] = True
    return top


def split_hash(chunk: Chunk, metric: str, tops: Mapping[tuple[Pair, str], Top]) -> str:
    """Changes with what the halves of a chunk are."""
    digest = hashlib.sha256()
    for layer, source in chunk["replaced"]:
        digest.update(tops[Pair(source, layer), metric].tobytes())
    return digest.hexdigest()[:16]
