"""Stored scores of a fit as plain dictionaries: layer by layer, direction by direction, and neuron by neuron.

Over the neurons of a layer the RMSE is averaged, as in the paper; R², Pearson and lift have medians, which no single
neuron can pull. Neurons without a value, such as those that never vary, are in none of them and are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, clip
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.predictability.scores import (
    BASELINES,
    MEAN,
    OWN_TEST,
    Pair,
    PredictorScores,
    StoredFit,
    layer_predictor,
    nearest_source,
    source_layer,
)
from neuronagent.service.lookup import Index

SORTS = ("r2", "pearson", "rmse", "lift")
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RankedNeuron:
    """One neuron and the scores of one predictor of it."""

    neuron: NeuronId
    predictor: str
    scores: Mapping[str, float]
    reason: str | None
    interval_reason: str | None
    token_r2: float


def find_fit(index: Index, name: str) -> StoredFit:
    """The fit `name`, as the index knows it.

    Raises:
        NotFoundError: it knows none of this name.
    """
    fits = index.reader.fits()
    for fit in fits:
        if fit.name == name:
            return fit
    remedy = f"there are {', '.join(fit.name for fit in fits)}" if fits else "run: neuronagent predict fit"
    raise NotFoundError(f"this index has no fit {clip(name)}", remedy=remedy)


def scored_texts(index: Index, fit: StoredFit) -> dict[str, dict[str, Any]]:
    """What a fit is scored on: by the name of the text, what is said of it."""
    found: dict[str, dict[str, Any]] = {}
    for (text, _, _), about in index.reader.scored(fit.id).items():
        found.setdefault(text, about)
    return found


def predictors_of(fit: StoredFit, layer: int) -> list[str]:
    """The predictors that a fit has of a layer: sources, then baselines."""
    sources = sorted(pair.source for pair in _pairs(fit) if pair.target == layer)
    return [*map(layer_predictor, sources), *BASELINES]


def score_view(index: Index, fit: StoredFit, text: str = OWN_TEST, *, neurons: bool = False) -> dict[str, Any]:
    """All that is stored about `text`; with `neurons` every score of every neuron.

    Raises:
        NotFoundError: the fit is not scored on `text`.
    """
    about = _about(index, fit, text)
    layers: list[dict[str, Any]] = []
    for layer in _scored_layers(index, fit, text):
        found = index.reader.layer_predictions(fit.id, layer, text)
        shown = [name for name in predictors_of(fit, layer) if name in found]
        dead = np.flatnonzero(~(found[MEAN].variance > 0))
        layers.append(
            {
                "layer": layer,
                "neurons": found[MEAN].neurons,
                "never_vary": dead.tolist(),
                "sd_mean": _mean(np.sqrt(found[MEAN].variance)),
                "predictors": [_summary(name, found[name]) for name in shown],
                **({"scores": {name: _columns(found[name]) for name in shown}} if neurons else {}),
            }
        )
    return {
        "schema_version": 1,
        "fit": fit.name,
        "kind": fit.info["kind"],
        "source_model": fit.info["source_model"],
        "context": fit.info["context"],
        "text": text,
        **{name: about.get(name) for name in ("source", "own", "tokens", "documents")},
        "layers": layers,
        "directions": [] if fit.info["source_model"] else _directions(layers),
    }


def ranked(
    index: Index,
    fit: StoredFit,
    text: str,
    layers: Sequence[int],
    *,
    predictor: str | None = None,
    sort: str = "r2",
    reverse: bool = False,
    limit: int = 20,
) -> tuple[list[RankedNeuron], int, int]:
    """The neurons of `layers` from the most predictable to the least (`reverse`: the other way), by one score of one
    predictor: `predictor`, or the nearest source below. Neurons without that score are left out: the rows, how many
    have one, how many have none.

    Raises:
        NotFoundError: a layer or a predictor that is not scored.
        UsageError: no such score.
    """
    if sort not in SORTS:
        raise UsageError(f"{sort!r} is no score", remedy=f"allowed: {', '.join(SORTS)}")
    _about(index, fit, text)
    known = _scored_layers(index, fit, text)
    rows: list[tuple[float, int, int]] = []
    chosen: dict[int, tuple[str, PredictorScores, Floats]] = {}
    without = 0
    for layer in layers:
        if layer not in known:
            raise NotFoundError(f"layer {layer} is not scored", remedy=f"layers: {', '.join(map(str, known))}")
        found = index.reader.layer_predictions(fit.id, layer, text)
        name = _chosen(fit, layer, len(index.reader.layers()), found, predictor)
        token = found["token"].r2 if "token" in found else np.full(found[name].neurons, np.nan)
        chosen[layer] = name, found[name], token
        values = getattr(found[name], sort)
        usable = np.isfinite(values)
        without += int((~usable).sum())
        rows += [(float(values[place]), layer, int(place)) for place in np.flatnonzero(usable)]
    best_first = -1 if sort != "rmse" else 1
    rows.sort(key=lambda row: (best_first * (-1 if reverse else 1) * row[0], row[1:]))
    return [_ranked(NeuronId(layer, n), *chosen[layer]) for _, layer, n in rows[:limit]], len(rows), without


def one_neuron(index: Index, fit: StoredFit, text: str, neuron: NeuronId) -> list[RankedNeuron]:
    """Every predictor of one neuron.

    Raises:
        NotFoundError: it is not scored.
    """
    _about(index, fit, text)
    found = index.reader.neuron_predictions(fit.id, neuron, text)
    if not found:
        raise NotFoundError(
            f"{neuron} is not scored by {fit.name}",
            remedy=f"scored layers: {', '.join(map(str, _scored_layers(index, fit, text)))}",
        )
    token = found["token"].r2 if "token" in found else float("nan")
    return [
        RankedNeuron(
            neuron=neuron,
            predictor=name,
            scores=found[name]._asdict(),
            reason=found[name].reason,
            interval_reason=found[name].interval_reason,
            token_r2=token,
        )
        for name in predictors_of(fit, neuron.layer)
        if name in found
    ]


def ranked_view(row: RankedNeuron) -> dict[str, Any]:
    """One row as JSON."""
    return {**asdict(row), "neuron": str(row.neuron)}


def _ranked(neuron: NeuronId, predictor: str, scores: PredictorScores, token: Floats) -> RankedNeuron:
    own = scores.of(neuron.index)
    return RankedNeuron(
        neuron=neuron,
        predictor=predictor,
        scores=own._asdict(),
        reason=own.reason,
        interval_reason=own.interval_reason,
        token_r2=float(token[neuron.index]),
    )


def _chosen(fit: StoredFit, layer: int, layers: int, found: Mapping[str, PredictorScores], wanted: str | None) -> str:
    if wanted is None:
        other: Any = fit.info["source_model"]
        nearest = nearest_source(_pairs(fit), layer, layers, None if other is None else other["layers"])
        wanted = None if nearest is None else layer_predictor(nearest)
    if wanted is None or wanted not in found:
        what = "a layer below" if wanted is None else repr(wanted)
        there = ", ".join(name for name in predictors_of(fit, layer) if name in found)
        raise NotFoundError(
            f"layer {layer} is not foretold from {what} by {fit.name}", remedy=f"choose with --predictor: {there}"
        )
    return wanted


def _about(index: Index, fit: StoredFit, text: str) -> dict[str, Any]:
    known = scored_texts(index, fit)
    if text not in known:
        named = "its own test documents" if text == OWN_TEST else text
        raise NotFoundError(
            f"{fit.name} is not scored on {named}", remedy="run: neuronagent predict scores, without --stored"
        )
    return known[text]


def _scored_layers(index: Index, fit: StoredFit, text: str) -> list[int]:
    return sorted({layer for of, layer, _ in index.reader.scored(fit.id) if of == text})


def _pairs(fit: StoredFit) -> list[Pair]:
    pairs: Sequence[Sequence[int]] = fit.info["pairs"]  # type: ignore[assignment]
    return [Pair(*pair) for pair in pairs]


def _columns(scores: PredictorScores) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in vars(scores).items()}


def _summary(name: str, scores: PredictorScores) -> dict[str, Any]:
    quartiles = {of: _quartiles(getattr(scores, of)) for of in ("r2", "pearson", "lift")}
    return {
        "predictor": name,
        "source": source_layer(name),
        "rmse_mean": _mean(scores.rmse),
        **{f"{of}_{which}": value for of, three in quartiles.items() for which, value in three.items()},
        "with_r2": int(np.isfinite(scores.r2).sum()),
        "with_pearson": int(np.isfinite(scores.pearson).sum()),
    }


def _quartiles(values: Floats) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    found = np.quantile(known, (0.5, 0.25, 0.75)).tolist() if known.size else [None] * 3
    return dict(zip(("median", "q1", "q3"), found, strict=True))


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _directions(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over pairs, as in the paper: from shallow to deep layers, from deep to shallow, of a layer to itself."""
    pairs = [
        (each["source"], layer["layer"], each)
        for layer in layers
        for each in layer["predictors"]
        if each["source"] is not None
    ]
    found: list[dict[str, Any]] = []
    for name, own in (
        ("shallow → deep", [each for source, target, each in pairs if source < target]),
        ("deep → shallow", [each for source, target, each in pairs if source > target]),
        ("self", [each for source, target, each in pairs if source == target]),
    ):
        if own:
            columns = {of: [each[of] for each in own if each[of] is not None]
                       for of in ("rmse_mean", "r2_median", "pearson_median")}  # fmt: skip
            means = {of: sum(values) / len(values) if values else None for of, values in columns.items()}
            found.append({"direction": name, "pairs": len(own), **means})
    return found
