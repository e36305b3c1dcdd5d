"""Whether the scores of predictability in an index are possible, and fit together; the maps' files are not read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.errors import StorageError
from neuronagent.predictability.scores import (
    BASELINES,
    MEAN,
    TOKEN,
    Pair,
    PredictorScores,
    StoredFit,
    layer_predictor,
    source_layer,
)
from neuronagent.service.ledger import Ledger
from neuronagent.service.lookup import Index

_RELATIVE = 2e-6
"""How far float32 may take a sum of two scores from the third, as a share of the largest."""
_LEAST_VARIANCE = 1e-30
"""Below it float32 has few digits."""
_READABLE = "scores of predictability can be read"
_INTERVALS = ("rmse", "r2", "pearson", "lift")
Floats = NDArray[np.float64]


def check_predictability(index: Index, ledger: Ledger) -> None:
    """Check every score of every fit.

    Raises:
        StorageError: the index cannot be read.
    """
    layers = index.reader.layers()
    for fit in index.reader.fits():
        sources = _sources(fit)
        scored: dict[tuple[str, int], set[str]] = {}
        for (text, layer, predictor), about in index.reader.scored(fit.id).items():
            scored.setdefault((text, layer), set()).add(predictor)
            where = f"{fit.name} layer {layer} {predictor}"
            known = predictor in BASELINES or source_layer(predictor) in sources.get(layer, ())
            ledger("scored predictors are maps of their fit, or baselines", known, where)
            holds = int(about.get("tokens", 0)) > 0 and int(about.get("documents", 0)) > 0
            ledger("scores are made on tokens of documents", holds, where, about.get("tokens"), about.get("documents"))
        for (text, layer), predictors in scored.items():
            where = f"{fit.name} layer {layer}"
            wanted = {*BASELINES, *map(layer_predictor, sources.get(layer, ()))}
            ledger("a scored layer has all its predictors", wanted <= predictors, where, *(wanted - predictors))
            try:
                found = index.reader.layer_predictions(fit.id, layer, text)
            except (StorageError, ValueError) as error:  # packed bytes that are none
                ledger(_READABLE, False, where, error)
                continue
            ledger(_READABLE, True, where)
            sizes = {scores.neurons for scores in found.values()}
            same = sizes == {layers.get(layer)}
            ledger("a scored layer exists, and every neuron of it is scored", same, where, sizes, layers.get(layer))
            if len(sizes) == 1:
                _check_layer(found, ledger, lambda n, name, at=f"{fit.name} {layer}": f"{at}.{n} by {name}")


def _sources(fit: StoredFit) -> dict[int, set[int]]:
    """The sources of each target."""
    found: dict[int, set[int]] = {}
    pairs: Any = fit.info["pairs"]
    for pair in (Pair(*each) for each in pairs):
        found.setdefault(pair.target, set()).add(pair.source)
    return found


def _check_layer(found: Mapping[str, PredictorScores], ledger: Ledger, place: Callable[[int, str], str]) -> None:
    token, first = found.get(TOKEN), next(iter(found.values()))
    for name, own in found.items():

        def where(n: int, name: str = name) -> str:
            return place(n, name)

        varies = own.variance > 0
        _check_one(own, varies, ledger, where)
        same = (own.mean == first.mean) & (own.variance == first.variance)
        ledger.each("mean and variance are those of the neuron, whoever foretells it", same, where, own.variance)
        if name == MEAN:
            ledger.each("the mean explains nothing", own.r2 <= _RELATIVE, where, own.r2, applies=varies)
            ledger.each("the mean does not correlate", np.isnan(own.pearson), where, own.pearson)
        if token is not None:
            expected = own.r2 - token.r2
            near = _near(own.lift, expected, np.maximum(np.abs(own.r2), np.abs(token.r2)))
            ledger.each("lift is R² less that of the token", near, where, own.lift, expected, applies=varies)


def _check_one(own: PredictorScores, varies: NDArray[np.bool_], ledger: Ledger, where: Callable[[int], str]) -> None:
    holds = (own.rmse >= 0) & (own.variance >= 0) & np.isfinite(own.rmse) & np.isfinite(own.mean)
    ledger.each("errors and variances are not below 0", holds, where, own.rmse, own.variance)
    holds = varies == np.isfinite(own.r2)
    ledger.each("R² exists exactly where a neuron varies", holds, where, own.variance, own.r2)
    applies = varies & (own.variance > _LEAST_VARIANCE)
    expected = 1 - own.rmse**2 / np.where(applies, own.variance, 1.0)
    near = _near(own.r2, expected, np.abs(1 - expected))
    ledger.each("R² is 1 − squared RMSE ÷ variance", near, where, own.r2, expected, applies=applies)
    for limit in (own.pearson, own.pearson_lo, own.pearson_hi):
        ledger.each("|Pearson| is not above 1", np.abs(limit) <= 1, where, limit, applies=np.isfinite(limit))
    holds = own.r2 <= own.pearson**2 + _RELATIVE
    ledger.each("R² is not above Pearson's square", holds, where, own.r2, own.pearson, applies=np.isfinite(own.pearson))
    for score in _INTERVALS:
        value, lo, hi = (getattr(own, score + end) for end in ("", "_lo", "_hi"))
        known = np.isfinite(lo) | np.isfinite(hi)
        ledger.each("scores lie in their intervals", (lo <= value) & (value <= hi), where, lo, value, hi, applies=known)


def _near(a: Floats, b: Floats, size: Floats) -> NDArray[np.bool_]:
    return np.abs(a - b) <= _RELATIVE * (1 + size)
