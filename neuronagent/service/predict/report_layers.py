"""How predictable the neurons of each layer are, beside what knows less than the layer before: of the main fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuronagent import wording
from neuronagent.predictability.scores import (
    OWN_TEST,
    TOKEN,
    PredictorScores,
    StoredFit,
    layer_predictor,
    source_layer,
)
from neuronagent.report.figures.predict_points import Array, PredictionPoints
from neuronagent.report.predictability_content import LayerRow, Layers, PredictorRow, TextRow, Texts
from neuronagent.service.lookup import Index
from neuronagent.service.predict.report_numbers import histogram, mean, median_of, share, spearman, spread
from neuronagent.service.predict.report_pairs import nearest, pairs_of, scored_layers

_CLOUDS = 4
_MOST_DOTS = 4_000


def layers(index: Index, fit: StoredFit) -> tuple[Layers, PredictionPoints]:
    """Of the layers that are scored on the test split; a layer without a source below it has its baselines alone."""
    rows: list[LayerRow] = []
    token: dict[int, Array] = {}
    scale: dict[int, Array] = {}
    for layer, scores in scored_layers(index, fit, OWN_TEST):
        source = nearest(fit, layer)
        own = scores.get(layer_predictor(source)) if source is not None else None
        source = source if own is not None else None
        rows.append(_row(layer, source, scores, own))
        if own is not None:
            scale[layer] = _dots(np.stack([np.sqrt(own.variance), own.rmse, own.r2], axis=1), own.variance > 0)
            if TOKEN in scores:
                token[layer] = _dots(np.stack([scores[TOKEN].r2, own.r2], axis=1))
    clouds = _some(list(token) or list(scale))
    about: Mapping[str, Any] = next(
        (said for (text, _, _), said in index.reader.scored(fit.id).items() if text == OWN_TEST), {}
    )
    content: Layers = {
        "fit": fit.name,
        "tokens": about.get("tokens"),
        "documents": about.get("documents"),
        "rows": rows,
        "clouds": clouds,
        "reason": None if rows else f"the fit {fit.name} is not scored",
    }
    return content, PredictionPoints(token={k: v for k, v in token.items() if k in clouds}, scale=scale)


def _row(
    layer: int, source: int | None, scores: Mapping[str, PredictorScores], own: PredictorScores | None
) -> LayerRow:
    some = own or next(iter(scores.values()))
    shown = [name for name in scores if source_layer(name) is None]
    if source is not None:
        shown.insert(0, layer_predictor(source))
    known = np.isfinite(some.lift) if own is not None else np.zeros(some.neurons, bool)
    return {
        "layer": layer,
        "neurons": some.neurons,
        "constant": int((~(some.variance > 0)).sum()),
        "source": source,
        "predictors": [_predictor(name, scores[name]) for name in shown],
        "lift": None if own is None else spread(own.lift),
        "above": None if own is None else share(own.lift_lo > 0, known & np.isfinite(own.lift_lo)),
        "below": None if own is None else share(own.lift_hi < 0, known & np.isfinite(own.lift_hi)),
        "histogram": [] if own is None else histogram(own.r2),
        "sd": spread(np.sqrt(some.variance)),
        "rmse_sd": None if own is None else spearman(own.rmse, np.sqrt(own.variance)),
        "rmse_r2": None if own is None else spearman(own.rmse, own.r2),
    }


def _predictor(name: str, scores: PredictorScores) -> PredictorRow:
    return {"predictor": name, "rmse": mean(scores.rmse), "r2": spread(scores.r2), "pearson": spread(scores.pearson)}


def _dots(values: Array, also: Any = True) -> Array:
    """The neurons that have all of the values, evenly thinned where there are very many."""
    known = values[np.isfinite(values).all(axis=1) & also]
    return known[:: -(-len(known) // _MOST_DOTS) or 1]


def _some(there: Sequence[int]) -> list[int]:
    """The first, the last and two between."""
    places = np.unique(np.round(np.linspace(0, len(there) - 1, min(len(there), _CLOUDS))).astype(int))
    return [there[place] for place in places] if there else []


def texts(index: Index, fit: StoredFit) -> Texts:
    """The maps of a fit on each text that it is scored on, over the pairs of different layers that are scored on all of
    them: a layer that is foretold from itself says nothing of a text."""
    scored = index.reader.scored(fit.id)
    names = sorted({text for text, _, _ in scored})
    maps = {(pair.target, layer_predictor(pair.source)) for pair in pairs_of(fit) if pair.source != pair.target}
    common = [(layer, name) for layer, name in sorted(maps) if all((text, layer, name) in scored for text in names)]
    rows = [_text_row(index, fit, text, common, scored) for text in names] if common else []
    reason = None
    if len(rows) < 2:
        reason = f"the fit {fit.name} is scored on {'one text alone' if rows else 'no text'}"
    return {"fit": fit.name, "rows": rows, "reason": reason}


def _text_row(
    index: Index,
    fit: StoredFit,
    text: str,
    common: Sequence[tuple[int, str]],
    scored: Mapping[tuple[str, int, str], Mapping[str, Any]],
) -> TextRow:
    rmse: list[float | None] = []
    r2: list[float | None] = []
    pearson: list[float | None] = []
    token: list[float | None] = []
    for layer, scores in scored_layers(index, fit, text):
        own = [scores[name] for target, name in common if target == layer]
        rmse += [mean(one.rmse) for one in own]
        r2 += [median_of(spread(one.r2)) for one in own]
        pearson += [median_of(spread(one.pearson)) for one in own]
        if own and TOKEN in scores:
            token.append(median_of(spread(scores[TOKEN].r2)))
    about = scored[text, *common[0]]
    return {
        "text": wording.short(text) if text else text,
        "tokens": about.get("tokens"),
        "documents": about.get("documents"),
        "pairs": len(common),
        "rmse": mean(rmse),
        "r2": mean(r2),
        "pearson": mean(pearson),
        "token_r2": mean(token),
    }
