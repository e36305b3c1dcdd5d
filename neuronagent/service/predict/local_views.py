"""What the local analysis (`predict functional`) found of one neuron: whether it is a background neuron, and to which
properties of tokens it is sensitive."""

from __future__ import annotations

from typing import Any

from neuronagent.domain import NeuronId
from neuronagent.predictability.functional import KIND, NEURONS_KIND, is_background, layer_key, sensitive_to
from neuronagent.predictability.view import Background, PredictorView
from neuronagent.store.reader import IndexReader


def background_of(
    reader: IndexReader, fit_id: int, neuron: NeuronId, headline: PredictorView | None
) -> Background | None:
    """Whether the neuron's error is below that of those that random tokens select; None where that was not looked at,
    or with the errors of another predictor than the headline's."""
    found = _result(reader, fit_id, KIND, neuron.layer)
    if found is None or headline is None or headline["rmse"] is None or found["predictor"] != headline["predictor"]:
        return None
    said = is_background(found, headline["rmse"])
    if said is None:
        return None
    own, theirs = headline["r2"], found["background"].get("threshold_r2")
    return {
        "is_background": said,
        "rmse": headline["rmse"],
        "threshold": float(f"{found['background']['threshold']:.6g}"),
        "r2_above": None if own is None or theirs is None else own > theirs,
    }


def sensitive_of(reader: IndexReader, fit_id: int, neuron: NeuronId) -> list[str] | None:
    """The properties in words, none for a neuron that is sensitive to nothing; None where that was not looked at."""
    found = _result(reader, fit_id, NEURONS_KIND, neuron.layer)
    return None if found is None else sensitive_to(found, neuron.index)


def _result(reader: IndexReader, fit_id: int, kind: str, layer: int) -> dict[str, Any] | None:
    key = layer_key(layer)
    return reader.prediction_results(fit_id, kind, key).get(key)
