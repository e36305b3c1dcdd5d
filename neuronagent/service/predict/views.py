"""One neuron's predictability as a dictionary (`predictability.view`): what cards, pages, tools and evidence show.

    neuron_predictability(index, "3.17")["sentence"]

Everything is read from the scores that an index holds; no map and no model is loaded. All numbers are of tokens of the
`test` split that no map was fitted on. They say how well a *map* foretells the neuron, not on which test texts it is
strong: a writer of explanations may see them, and nothing that an explanation is scored on is given away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from neuronagent import wording
from neuronagent.domain import NeuronId, clip
from neuronagent.errors import NotFoundError
from neuronagent.predictability.scores import (
    BASELINES,
    DEFAULT_FIT,
    OWN_TEST,
    TOKEN,
    PredictedNeuron,
    StoredFit,
    fit_option,
    nearest_source,
    source_layer,
)
from neuronagent.predictability.view import (
    Direction,
    OtherText,
    PredictabilityView,
    PredictorView,
    Rank,
)
from neuronagent.service.lookup import Index
from neuronagent.service.predict.local_views import background_of, sensitive_of
from neuronagent.service.predict.sentence import sentence
from neuronagent.store.predictions import Predicted
from neuronagent.store.reader import IndexReader

FIT, SCORE = "neuronagent predict fit", "neuronagent predict scores"
NO_FIT = "no maps are fitted"
_LONGEST = 60

__all__ = ["neuron_predictability", "predictability_of", "sentence"]


def neuron_predictability(index: Index, neuron: str | NeuronId, fit: str | None = None) -> PredictabilityView:
    """How well other layers, the token and the position foretell a neuron, under the fit `fit`: without a name the
    one called `default`, and if that has no scores of the neuron's layer the newest that has.

    Raises:
        UsageError: no neuron's name.
        NotFoundError: no such neuron, or no such fit.
    """
    identifier = neuron if isinstance(neuron, NeuronId) else NeuronId.parse(neuron)
    if index.is_imported:
        return {"available": False, "reason": "these numbers were published by others: there is no model to map"}
    if not 0 <= identifier.index < index.reader.layers().get(identifier.layer, 0):
        index.neuron(identifier)  # says what there is
    return predictability_of(index.reader, identifier, fit)


def predictability_of(reader: IndexReader, neuron: NeuronId, fit: str | None = None) -> PredictabilityView:
    """The same from a reader, of a neuron that is there."""
    fits = reader.fits()
    scored = reader.scored_fits(neuron.layer) if fits else set[int]()
    chosen = _choose(fits, scored, fit)
    names = [each.name for each in fits if each.id in scored]
    if chosen is None:
        return {"available": False, "reason": NO_FIT, "command": FIT, "fits": names}
    missing: PredictabilityView = {"available": False, "fit": chosen.name, "fits": names}
    command = f"{SCORE}{fit_option(chosen.name)}"
    by_text = reader.neuron_predictions_by_text(chosen.id, neuron) if chosen.id in scored else {}
    if OWN_TEST not in by_text:
        if neuron.layer not in _targets(chosen):
            reason = f"layer {neuron.layer} is no target of the fit {chosen.name}"
            return {**missing, "reason": reason, "command": f"{FIT} --pairs all"}
        reason = f"the fit {chosen.name} has no scores of layer {neuron.layer}"
        return {**missing, "reason": reason, "command": command}
    view = _scored(reader, chosen, neuron, by_text)
    view["fits"] = names
    view["sentence"] = sentence(view)
    return view


def _choose(fits: Sequence[StoredFit], scored: set[int], name: str | None) -> StoredFit | None:
    """The fit that is asked for; `default` if it has scores, else the newest that has any, else the newest at all."""
    if name is not None:
        found = next((each for each in fits if each.name == name), None)
        if found is None:
            there = ", ".join(each.name for each in fits)
            remedy = f"there are {there}" if there else f"run: {FIT}"
            raise NotFoundError(f"this index has no fit {clip(name)!r}", remedy=remedy)
        return found
    return max(
        fits,
        key=lambda each: (each.id in scored, each.name == DEFAULT_FIT and each.id in scored, each.id),
        default=None,
    )


def _targets(fit: StoredFit) -> set[int]:
    pairs: Any = fit.info.get("pairs") or []
    return {int(pair[1]) for pair in pairs}


def _scored(
    reader: IndexReader, fit: StoredFit, neuron: NeuronId, by_text: Mapping[str, Mapping[str, Predicted]]
) -> PredictabilityView:
    own = by_text[OWN_TEST]
    other: Any = fit.info.get("source_model")
    shown = [_predictor(name, own[name].scores, neuron.layer, bool(other)) for name in sorted(own, key=_place)]
    known = {each["predictor"]: each for each in shown}
    sources = [(each["source"], neuron.layer) for each in shown if each["source"] is not None]
    nearest = nearest_source(sources, neuron.layer, len(reader.layers()), other["layers"] if other else None)
    headline = None if nearest is None else known[f"layer {nearest}"]
    first = next(iter(own.values()))
    said: Any = fit.info.get("text") or {}
    source = wording.clipped(wording.short(str(said.get("source") or "its text")), _LONGEST)
    mean, variance = _number(first.scores.mean), _number(first.scores.variance)
    return {
        "available": True,
        "reason": None if variance is None or variance > 0 else "it never varies on these tokens",
        "fit": fit.name,
        "kind": str(fit.info.get("kind")),
        "text": source,
        "scored_on": f"test documents of {source}",
        "tokens": _count(first.about, "tokens"),
        "documents": _count(first.about, "documents"),
        "headline": headline,
        "no_headline": None if headline is not None else _no_headline(fit, neuron.layer),
        "token": known.get(TOKEN),
        "predictors": shown,
        "mean": mean,
        "variance": variance,
        "rank": None if headline is None else _rank(reader, fit.id, neuron, headline["predictor"]),
        "other_texts": [
            _other_text(text, found[headline["predictor"]])
            for text, found in sorted(by_text.items())
            if text != OWN_TEST and headline is not None and headline["predictor"] in found
        ],
        "background": background_of(reader, fit.id, neuron, headline),
        "sensitive": sensitive_of(reader, fit.id, neuron),
    }


def _place(predictor: str) -> tuple[bool, int, str]:
    """Layers in order, then baselines in theirs."""
    layer = source_layer(predictor)
    if layer is not None:
        return False, layer, ""
    return True, BASELINES.index(predictor) if predictor in BASELINES else len(BASELINES), predictor


def _no_headline(fit: StoredFit, layer: int) -> str:
    if layer == 0:
        return "no layer lies below layer 0"
    return f"the fit {fit.name} has no map to layer {layer} from a layer below"


def _predictor(name: str, scores: PredictedNeuron, layer: int, other: bool) -> PredictorView:
    source = source_layer(name)
    return {
        "predictor": wording.visible(name),
        "source": source,
        "direction": _direction(name, source, layer, other),
        "r2": _number(scores.r2),
        "r2_lo": _number(scores.r2_lo),
        "r2_hi": _number(scores.r2_hi),
        "pearson": _number(scores.pearson),
        "pearson_lo": _number(scores.pearson_lo),
        "pearson_hi": _number(scores.pearson_hi),
        "rmse": _number(scores.rmse),
        "rmse_lo": _number(scores.rmse_lo),
        "rmse_hi": _number(scores.rmse_hi),
        "lift": _number(scores.lift),
        "lift_lo": _number(scores.lift_lo),
        "lift_hi": _number(scores.lift_hi),
        "reason": scores.reason,
    }


def _direction(name: str, source: int | None, layer: int, other: bool) -> Direction:
    if source is None:
        return cast(Direction, name)  # one of BASELINES
    if other:
        return "other model"
    return (
        "previous" if source == layer - 1 else "earlier" if source < layer else "same" if source == layer else "later"
    )


def _rank(reader: IndexReader, fit_id: int, neuron: NeuronId, predictor: str) -> Rank | None:
    """Where the neuron's R² is among those of its layer; ties count half."""
    r2 = reader.layer_predictions(fit_id, neuron.layer, predictor=predictor)[predictor].r2
    own, known = float(r2[neuron.index]), r2[np.isfinite(r2)]
    if not math.isfinite(own) or len(known) < 2:
        return None
    below, tied = int((known < own).sum()), int((known == own).sum()) - 1
    return {"neurons": len(known), "above": round((below + tied / 2) / (len(known) - 1), 4)}


def _other_text(text: str, found: Predicted) -> OtherText:
    scores = found.scores
    return {
        "text": wording.clipped(wording.short(text), _LONGEST),
        "tokens": _count(found.about, "tokens"),
        "documents": _count(found.about, "documents"),
        "r2": _number(scores.r2),
        "r2_lo": _number(scores.r2_lo),
        "r2_hi": _number(scores.r2_hi),
        "rmse": _number(scores.rmse),
        "reason": scores.reason,
    }


def _count(about: Mapping[str, Any], key: str) -> int | None:
    value = about.get(key)
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _number(value: float) -> float | None:
    """Six digits, about what float32 holds; None where there is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
