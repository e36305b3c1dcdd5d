"""A made index with fits of neuron predictability in it: numbers of plausible sizes, from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.predictability import functional as stored
from neuronagent.predictability import substitution as keys
from neuronagent.predictability.functional import Against, FamilyResult, FunctionalLayer, FunctionalSummary, Quartiles
from neuronagent.predictability.scores import (
    BASELINES,
    OWN_TEST,
    FitKind,
    Pair,
    PredictorScores,
    layer_predictor,
)
from neuronagent.predictability.substitution import Chunk, Measured, SubstitutionSettings, SubstitutionText
from neuronagent.store.engine import open_writer
from neuronagent.store.predictions import save_fit, save_result, save_scores
from tests.cli.conftest import INFO
from tests.store.made_index import make_index

Array = NDArray[np.float64]
LAYERS, NEURONS = 5, 24
ADAGRAD = 0.05
"""R² that the optimiser leaves out, of every pair."""
ALL = tuple(Pair(i, j) for i in range(LAYERS) for j in range(LAYERS))
ADJACENT = tuple(Pair(j - 1, j) for j in range(1, LAYERS))


def make_db(path: Path, *, layers: int = LAYERS, neurons: int = NEURONS, model: str = "made/model") -> Path:
    """An index without a fit."""
    made = make_index(layers=layers, neurons=neurons)
    made.info.update({**INFO, "model": {**INFO["model"], "name": model, "n_layers": layers, "d_mlp": neurons}})
    made.write(path)
    return path


def fit_info(name: str, pairs: Sequence[Pair], kind: FitKind = FitKind.LEAST_SQUARES, **other: Any) -> dict[str, Any]:
    """What `predict fit` would say of a fit."""
    adagrad = kind is FitKind.ADAGRAD
    by_pair: dict[str, Any] = {}
    for pair in pairs:
        best = 0.0 if pair.source == pair.target else 0.01 * (1 + abs(pair.source - pair.target))
        made = {"ridge": None if adagrad else 1e-6, "select_mse": best + 0.002 * adagrad, "mean_mse": 0.1}
        by_pair[f"{pair.source}:{pair.target}"] = (
            {**made, "curve": [0.1 / (1 + step) + best for step in range(30)]} if adagrad else made
        )
    return {
        "schema_version": 1, "name": name, "identity": f"id {name}", "kind": kind.value, "spec": "all",
        "pairs": [list(pair) for pair in pairs], "intercept": False, "rank": None, "context": None,
        "model": {"name": "made/model", "weights_hash": "0", "config_hash": "0", "layers": LAYERS},
        "source_model": None,
        "text": {"source": "made text", "own": True, "fingerprint": "f", "max_tokens": 20, "first": 1, "limit": None,
                 "tokens": {"explain": 1000, "select": 300, "test": 300},
                 "documents": {"explain": 20, "select": 7, "test": 6}},
        "dtype": "float32", "device": "cpu", "batch_tokens": 4096, "by_pair": by_pair, "warnings": [],
        "seconds": {"fit": 3.5}, "versions": {}, "created": "2026-11-20T13:00:00+00:00", **other,
    }  # fmt: skip


def scores(r2: Array, variance: Array, token: Array | None = None, seed: int = 0) -> PredictorScores:
    """Scores that belong together: `r2` and `variance` `[N]`; a neuron of no variance has neither R² nor Pearson."""
    rng = np.random.default_rng(seed)
    known = np.where(variance > 0, r2, np.nan)
    rmse = np.sqrt(np.maximum(1 - np.where(variance > 0, r2, 1.0), 0) * variance)
    pearson = np.sqrt(np.clip(known, 0, 1))
    lift = known - (np.zeros_like(known) if token is None else token)
    return PredictorScores(
        rmse=rmse, rmse_lo=rmse * 0.95, rmse_hi=rmse * 1.05, r2=known, r2_lo=known - 0.03, r2_hi=known + 0.02,
        pearson=pearson, pearson_lo=pearson - 0.03, pearson_hi=np.minimum(pearson + 0.02, 1), lift=lift,
        lift_lo=lift - 0.04, lift_hi=lift + 0.04, mean=rng.normal(0, 0.1, len(r2)), variance=variance,
    )  # fmt: skip


def add_fit(db: Path, info: Mapping[str, Any], *, texts: Sequence[str] = (OWN_TEST,), seed: int = 0) -> int:
    """Store a fit with scores of all its pairs and of the baselines; the last neuron of each layer never varies."""
    engine = open_writer(db)
    fit_id = save_fit(engine, str(info["name"]), info)
    pairs = [Pair(*pair) for pair in info["pairs"]]
    for place, text in enumerate(texts):
        about = {"tokens": 300 + place, "documents": 6}
        for target in sorted({pair.target for pair in pairs}):
            rng = np.random.default_rng((seed, target))
            variance = np.exp(rng.normal(target - 4.0, 1.0, NEURONS))
            variance[-1] = 0.0
            token = np.clip(rng.beta(2, 4, NEURONS) - 0.05 * place, -0.2, 1)
            for name in BASELINES:
                r2 = {"token": token, "previous token": token * 0.4}.get(name, np.full(NEURONS, -0.01))
                save_scores(engine, fit_id, target, name, scores(r2, variance, token), text=text, about=about)
            for pair in (pair for pair in pairs if pair.target == target):
                r2 = np.clip(0.9 - 0.12 * abs(pair.source - target) - rng.exponential(0.1, NEURONS), -1, 1)
                r2 = np.ones(NEURONS) - 1e-9 if pair.source == target else r2 - 0.1 * place
                r2 = r2 - ADAGRAD * (info["kind"] == FitKind.ADAGRAD.value)
                own = scores(r2, variance, token)
                save_scores(engine, fit_id, target, layer_predictor(pair.source), own, text=text, about=about)
    engine.dispose()
    return fit_id


def fill(db: Path) -> dict[str, int]:
    """Every kind of fit that a report tells apart; their ids by name."""
    return {
        "default": add_fit(db, fit_info("default", ADJACENT, spec="adjacent"), texts=(OWN_TEST, "/texts/books")),
        "all": add_fit(db, fit_info("all", ALL)),
        "adagrad": add_fit(db, fit_info("adagrad", ALL, FitKind.ADAGRAD)),
        "w3": add_fit(db, fit_info("w3", ADJACENT, spec="adjacent", context=3), seed=3),
        "w15": add_fit(db, fit_info("w15", ADJACENT, spec="adjacent", context=15), seed=15),
        "other": add_fit(
            db, fit_info("other", ALL, source_model={"name": "a/sibling", "weights_hash": "1", "config_hash": "1",
                                                     "layers": LAYERS})
        ),
    }  # fmt: skip


def against(score: float, random: float) -> Against:
    apart = abs(score - random) > 0.05
    return {
        "score": score, "lo": score - 0.03, "hi": score + 0.03, "random": random, "random_lo": random - 0.02,
        "random_hi": random + 0.02, "difference": score - random, "difference_lo": score - random - 0.04,
        "difference_hi": score - random + 0.04,
        "verdict": "no different" if not apart else "higher" if score > random else "lower", "reason": None,
    }  # fmt: skip


def family(score: float, random: float) -> FamilyResult:
    return {
        "properties": 12, "empty": 1, "beta": [0.01, 0.02, 0.1], "threshold": [0.01, 0.02, 0.05], "selected": 0.04,
        "any": 9, "least": 2, "sensitive": 5, "highest": [0.01, 0.05, 0.2],
        "l2": against(score, random), "r2": against(1 - score, 1 - random),
        "reason": None,
    }  # fmt: skip


def functional_layer(layer: int) -> FunctionalLayer:
    """A layer as `predict functional` stores it; nothing foretells the first."""
    rng = np.random.default_rng(layer)
    none = layer == 0
    quartiles: dict[str, Any] = {
        key: {"n": 12, "q1": value * 0.8, "median": value, "q3": value * 1.2}
        for key, value in (("l2", 0.2), ("r2", 0.6), ("sd", 0.3), ("mean", 0.1), ("ngram", 0.05))
    }
    families = {
        weighting: {name: family(float(rng.uniform(0.2, 0.5)), 0.3) for name in stored.FAMILIES}
        for weighting in stored.WEIGHTINGS
    }
    return {
        "layer": layer, "neurons": NEURONS, "constant": 1, "predictor": None if none else f"layer {layer - 1}",
        "reason": "no layer below foretells it" if none else None, "all_l2": None if none else 0.3,
        "all_r2": None if none else 0.5, "random": [], "families": {} if none else families,
        "background": {
            "threshold": None if none else 0.3, "threshold_lo": None if none else 0.28,
            "threshold_hi": None if none else 0.33, "neurons": NEURONS, "count": None if none else 10 + layer,
            "share": None if none else (10 + layer) / NEURONS, "share_lo": None if none else 0.3,
            "share_hi": None if none else 0.8, "threshold_r2": None if none else 0.5,
            "count_r2": None if none else 12, "share_r2": None if none else 0.5,
            "inside": {} if none else quartiles, "outside": {} if none else {**quartiles, "mean": None},
            "reason": "no layer below foretells it" if none else None,
        },
        "strongest": [], "outliers": [], "largest_ratio": 40.0 + layer,
        "identity": "f",
    }  # fmt: skip


def functional_summary() -> FunctionalSummary:
    """Outliers, one of them with a hostile token, and a contingency table."""
    rng = np.random.default_rng(7)
    cells: list[Any] = []
    others = [("IO class", "enrichment"), ("IO class", "depletion"), ("role", "attention"), ("role", "none")]
    for group in ("background", "1-gram", "hard"):
        for kind, other in others:
            odds = float(np.exp(rng.normal(0, 1)))
            cells.append({
                "group": group, "kind": kind, "other": other, "neurons": 20, "count": int(rng.integers(0, 20)),
                "expected": 7.3, "odds": odds, "lo": odds / 2, "hi": odds * 2, "p": 0.01,
                "q": 0.02 if odds > 1 else 0.4, "exact": False, "reason": None,
            })  # fmt: skip
    cells[0].update({"odds": None, "lo": None, "hi": None, "p": None, "q": None, "reason": "none is of that class"})
    quartiles: Quartiles = {"n": 9, "q1": 0.4, "median": 0.5, "q3": 0.7}
    return {
        "text": "", "source": "made text", "tokens": 300, "documents": 6, "layers": list(range(LAYERS)), "settings": {},
        "outlier_ratio": 100.0,
        "outliers": [
            {"neuron": "1.3", "value": -88.0, "ratio": 412.0, "others": 3.0, "place": "BOS", "token": "<s>",
             "document": None, "position": 0, "l2": 0.9, "r2": -0.02, "l2_rank": 0.97, "reason": None},
            {"neuron": "2.7", "value": 31.0, "ratio": 130.0, "others": 130.0, "place": "token",
             "token": "<script>|\x1b[31m", "document": 4, "position": 9, "l2": None, "r2": None, "l2_rank": None,
             "reason": "it is not scored"},
        ],
        "contingency": cells,
        "classes": [
            {"kind": "IO class", "name": "enrichment", "r2": quartiles, "rank": 0.6, "rank_lo": 0.4, "rank_hi": 0.6},
            {"kind": "role", "name": "none", "r2": None, "rank": None, "rank_lo": None, "rank_hi": None},
        ],
        "warnings": [], "seconds": {}, "identity": "f",
    }  # fmt: skip


def add_functional(db: Path, fit_id: int, *, layers: int = LAYERS, whole: bool = True) -> None:
    """Results of `predict functional`; `whole`: it came to its end."""
    engine = open_writer(db)
    for layer in range(layers):
        save_result(engine, fit_id, stored.KIND, stored.layer_key(layer), functional_layer(layer))
    if whole:
        save_result(engine, fit_id, stored.KIND, stored.summary_key(), functional_summary())
    engine.dispose()


def measured(perplexity: float | None, base: float = 20.0) -> Measured:
    """With intervals around it, or without a number."""
    if perplexity is None:
        return {"perplexity": None, "lo": None, "hi": None, "loss": None, "change": None, "change_lo": None,
                "change_hi": None, "draws": [], "reason": "the loss is not finite"}  # fmt: skip
    loss, change = float(np.log(perplexity)), float(np.log(perplexity / base))
    return {
        "perplexity": perplexity, "lo": perplexity * 0.95, "hi": perplexity * 1.06, "loss": loss, "change": change,
        "change_lo": change - 0.01, "change_hi": change + 0.01, "draws": [], "reason": None,
    }  # fmt: skip


CHUNKS: list[Chunk] = [
    {"name": "chunk 1", "layers": [0, 1], "replaced": [[1, 0]], "stays": [0]},
    *({"name": f"chunk {n}", "layers": [n], "replaced": [[n, n - 1]], "stays": []} for n in (2, 3, 4)),
]
COSTS = {"predicted": (21.0, 20.6, 20.8, 22.0), "random": (4e7, 60.0, 55.0, 70.0), "zero": (800.0, 40.0, 44.0, 50.0),
         "identical": (900.0, None, 61.0, 66.0)}  # fmt: skip


def substitution_text(text: str = "") -> SubstitutionText:
    settings: SubstitutionSettings = {
        "version": 1, "identity": "id default", "text": text, "fingerprint": "f", "window": 20, "stride": 19,
        "source": None, "chunks": [[0, 1], [2], [3], [4]], "seeds": [0, 1, 2, 3, 4],
    }  # fmt: skip
    return {
        "schema_version": 1, "settings_id": keys.settings_id(settings), "settings": settings,
        "source": text or "made text", "tokens": 280, "available": 280, "documents": 6, "windows": 15,
        "chunks": CHUNKS, "stays": [0], "original": measured(20.0), "device": "cpu", "warnings": [],
    }  # fmt: skip


def add_substitution(db: Path, fit_id: int, *, texts: Sequence[str] = ("", "/texts/books")) -> None:
    """Results of `predict substitute` on each of `texts`, and halves on the first."""
    engine = open_writer(db)
    for text in texts:
        about = substitution_text(text)
        of = about["settings_id"]
        save_result(engine, fit_id, keys.KIND, keys.text_result_key(of), about)
        for mapping, costs in COSTS.items():
            for setting in keys.SETTINGS:
                for sources in keys.SOURCES if mapping != "zero" else (keys.CLEAN,):
                    for chunk, cost in enumerate(costs):
                        less = 0.8 if setting == keys.PARTIAL else 1.0
                        value = None if cost is None else 20 + (cost - 20) * less * (1.1 if sources != "clean" else 1)
                        cell = {"settings_id": of, "mapping": mapping, "setting": setting, "sources": sources,
                                "chunk": chunk, "measured": measured(value)}  # fmt: skip
                        key = keys.cell_key(of, mapping, setting, sources, chunk)
                        save_result(engine, fit_id, keys.KIND, key, cell)
    about = substitution_text(texts[0])
    rng = np.random.default_rng(1)
    for metric in keys.METRICS:
        for top, bottom in keys.WAYS:
            for chunk in range(len(CHUNKS)):
                of = about["settings_id"]
                cell = {"settings_id": of, "metric": metric, "top": top, "bottom": bottom, "sources": keys.CLEAN,
                        "chunk": chunk, "measured": measured(float(20 + rng.exponential(30)))}  # fmt: skip
                key = keys.halves_key(of, metric, top, bottom, keys.CLEAN, chunk)
                save_result(engine, fit_id, keys.HALVES_KIND, key, cell)
    engine.dispose()
