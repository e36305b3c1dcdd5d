"""What fits are, and how well each of their maps does: the matrices of the paper's Figures 2 and 7, the curves of an
optimiser, and what windows of context (Figure 6) and the optimiser change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from neuronagent import wording
from neuronagent.predictability.scores import (
    FitKind,
    Pair,
    PredictorScores,
    StoredFit,
    layer_predictor,
    nearest_source,
)
from neuronagent.report.predictability_content import (
    Curve,
    Curves,
    Direction,
    FitFacts,
    Matrix,
    OptimiserRow,
    Optimisers,
    PairRow,
    WindowRow,
    Windows,
)
from neuronagent.service.lookup import Index
from neuronagent.service.predict.report_numbers import mean, median_of, spread

if TYPE_CHECKING:
    from neuronagent.service.predict.fits import FitInfo

_MOST_POINTS = 200


def info_of(fit: StoredFit) -> FitInfo:
    return cast("FitInfo", fit.info)


def pairs_of(fit: StoredFit) -> list[Pair]:
    return [Pair(*pair) for pair in info_of(fit)["pairs"]]


def nearest(fit: StoredFit, target: int) -> int | None:
    """The source that `target` is foretold from, as `Fit.nearest`."""
    info = info_of(fit)
    other = info["source_model"]
    return nearest_source(info["pairs"], target, info["model"]["layers"], None if other is None else other["layers"])


def is_own(fit: StoredFit) -> bool:
    """Whether its maps are between layers of the model itself, over whole texts."""
    info = info_of(fit)
    return info["source_model"] is None and info["context"] is None


def facts(index: Index, fit: StoredFit) -> FitFacts:
    info = info_of(fit)
    source = info["source_model"]
    texts = sorted({text for text, _, _ in index.reader.scored(fit.id)})
    return {
        "name": fit.name,
        "kind": info["kind"],
        "spec": info["spec"],
        "pairs": len(info["pairs"]),
        "intercept": info["intercept"],
        "rank": info["rank"],
        "context": info["context"],
        "source_model": None if source is None else wording.short(str(source["name"])),
        "text": wording.short(str(info["text"]["source"])),
        "tokens": dict(info["text"]["tokens"]),
        "documents": dict(info["text"]["documents"]),
        "texts": [wording.short(text) if text else text for text in texts],
        "seconds": sum(info["seconds"].values()) if info["seconds"] else None,
        "warnings": list(info["warnings"]),
        "made": fit.created,
    }


def scored_layers(index: Index, fit: StoredFit, text: str) -> Iterator[tuple[int, dict[str, PredictorScores]]]:
    """Layer by layer the scores of all predictors on `text`; a layer is in memory alone."""
    for layer in sorted({layer for of, layer, _ in index.reader.scored(fit.id) if of == text}):
        yield layer, index.reader.layer_predictions(fit.id, layer, text)


def matrix(index: Index, fit: StoredFit, text: str) -> Matrix:
    """All pairs of a fit."""
    info = info_of(fit)
    pairs = sorted(pairs_of(fit))
    rows: dict[Pair, PairRow] = {pair: _row(info, pair, None) for pair in pairs}
    for layer, scores in scored_layers(index, fit, text):
        for pair in pairs:
            own = scores.get(layer_predictor(pair.source))
            if pair.target == layer and own is not None:
                rows[pair] = _row(info, pair, own)
    return {
        "fit": fit.name,
        "kind": info["kind"],
        "sources": sorted({pair.source for pair in pairs}),
        "targets": sorted({pair.target for pair in pairs}),
        "rows": list(rows.values()),
        "directions": _directions(list(rows.values())) if info["source_model"] is None else [],
    }


def _row(info: FitInfo, pair: Pair, scores: PredictorScores | None) -> PairRow:
    made = info["by_pair"].get(pair.key)
    return {
        "source": pair.source,
        "target": pair.target,
        "neurons": 0 if scores is None else scores.neurons,
        "rmse": None if scores is None else mean(scores.rmse),
        "sd": None if scores is None else mean(np.sqrt(scores.variance)),
        "mse": None if scores is None else mean(scores.rmse**2),
        "variance": None if scores is None else mean(scores.variance),
        "r2": None if scores is None else spread(scores.r2),
        "pearson": None if scores is None else spread(scores.pearson),
        "select_mse": None if made is None else made["select_mse"],
        "ridge": None if made is None else made.get("ridge"),
    }


def _directions(rows: Sequence[PairRow]) -> list[Direction]:
    chosen = {
        "forward": [row for row in rows if row["source"] < row["target"]],
        "backward": [row for row in rows if row["source"] > row["target"]],
        "self": [row for row in rows if row["source"] == row["target"]],
    }
    return [
        {
            "name": name,
            "pairs": sum(row["rmse"] is not None for row in own),
            "rmse": mean(row["rmse"] for row in own),
            "r2": mean(median_of(row["r2"]) for row in own),
            "pearson": mean(median_of(row["pearson"]) for row in own),
        }
        for name, own in chosen.items()
        if any(row["rmse"] is not None for row in own)
    ]


def curves(fits: Sequence[StoredFit]) -> Curves:
    """The training of the first fit that an optimiser made, averaged as in Figure 2 (c, d)."""
    for fit in fits:
        made = info_of(fit)["by_pair"]
        found = {pair: made[pair.key].get("curve") for pair in pairs_of(fit) if pair.key in made}
        known = {pair: curve for pair, curve in found.items() if curve}
        if known:
            return {
                "fit": fit.name,
                "by_target": [
                    _curve(layer, [own for pair, own in known.items() if pair.target == layer])
                    for layer in sorted({pair.target for pair in known})
                ],
                "by_source": [
                    _curve(layer, [own for pair, own in known.items() if pair.source == layer])
                    for layer in sorted({pair.source for pair in known})
                ],
                "reason": None,
            }
    return {"fit": "", "by_target": [], "by_source": [], "reason": "no fit of this index was trained with Adagrad"}


def _curve(layer: int, own: Sequence[Sequence[float]]) -> Curve:
    """The mean of several; where one is longer than the others, its end is left out."""
    length = min(map(len, own))
    values = np.mean([np.asarray(one[:length], np.float64) for one in own], axis=0)
    steps = np.unique(np.round(np.linspace(0, length - 1, min(length, _MOST_POINTS))).astype(int))
    return {"layer": layer, "steps": [int(step) + 1 for step in steps], "mse": [float(values[step]) for step in steps]}


def optimisers(fits: Sequence[StoredFit], matrices: Sequence[Matrix]) -> Optimisers:
    """The least squares fit and the Adagrad fit that share most pairs, of one text and one window, both without
    intercept or both with; held-out errors of both on the same tokens."""
    best: Optimisers = {
        "exact": "", "adagrad": "", "split": "", "rows": [], "exact_seconds": None, "adagrad_seconds": None,
        "reason": "there are no two fits of the same text, one by least squares and one with Adagrad",
    }  # fmt: skip
    by_name = {found["fit"]: found for found in matrices}
    for exact in fits:
        for other in fits:
            if not _comparable(exact, other) or not {exact.name, other.name} <= by_name.keys():
                continue
            rows, split = _both(by_name[exact.name], by_name[other.name], exact)
            if len(rows) > len(best["rows"]):
                best = {
                    "exact": exact.name, "adagrad": other.name, "split": split, "rows": rows,
                    "exact_seconds": _seconds(exact), "adagrad_seconds": _seconds(other), "reason": None,
                }  # fmt: skip
    return best


def _comparable(exact: StoredFit, other: StoredFit) -> bool:
    a, b = info_of(exact), info_of(other)
    return (
        a["kind"] == FitKind.LEAST_SQUARES.value
        and b["kind"] == FitKind.ADAGRAD.value
        and a["rank"] is None
        and b["rank"] is None
        and all(a[key] == b[key] for key in ("context", "source_model"))
        and all(a["text"][key] == b["text"][key] for key in ("fingerprint", "tokens"))
    )


def _both(exact: Matrix, other: Matrix, fit: StoredFit) -> tuple[list[OptimiserRow], str]:
    """On `test` where every shared pair is scored in both, else on `select`."""
    theirs = {(row["source"], row["target"]): row for row in other["rows"]}
    shared = [(row, theirs[row["source"], row["target"]]) for row in exact["rows"]
              if (row["source"], row["target"]) in theirs]  # fmt: skip
    tested = bool(shared) and all(a["mse"] is not None and b["mse"] is not None for a, b in shared)
    rows: list[OptimiserRow] = []
    for a, b in shared:
        mine, yours = (a["mse"], b["mse"]) if tested else (a["select_mse"], b["select_mse"])
        if mine is not None and yours is not None:
            variance = a["variance"] if tested else None
            if variance is None:
                variance = info_of(fit)["by_pair"][Pair(a["source"], a["target"]).key]["mean_mse"]
            rows.append({"source": a["source"], "target": a["target"], "exact": mine, "adagrad": yours,
                         "mean": variance})  # fmt: skip
    return rows, "test" if tested else "select"


def _seconds(fit: StoredFit) -> float | None:
    seconds = info_of(fit)["seconds"]
    return sum(seconds.values()) if seconds else None


def windows(fits: Sequence[StoredFit], matrices: Sequence[Matrix]) -> Windows:
    """Fits that differ in the window of context alone (Figure 6), and the one over whole texts beside them."""
    by_name = {found["fit"]: found for found in matrices}
    limited = [fit for fit in fits if info_of(fit)["context"] is not None and info_of(fit)["source_model"] is None]
    whole = [fit for fit in fits if is_own(fit) and any(_alike(fit, other) for other in limited)]
    rows: list[WindowRow] = []
    for fit in [*limited, *whole[:1]]:
        for row in by_name[fit.name]["rows"]:
            if row["rmse"] is not None:
                rows.append({"window": info_of(fit)["context"], "source": row["source"], "target": row["target"],
                             "rmse": row["rmse"], "r2": median_of(row["r2"])})  # fmt: skip
    there = {row["window"] for row in rows}
    base = None if None in there else max((w for w in there if w is not None), default=None)
    common = {(r["source"], r["target"]) for r in rows if r["window"] == base}
    rows = [row for row in rows if (row["source"], row["target"]) in common]
    enough = len({row["window"] for row in rows}) > 1
    return {
        "base": base,
        "rows": rows if enough else [],
        "fits": [fit.name for fit in (*limited, *whole[:1])] if enough else [],
        "reason": None if enough else "there are no two scored fits that differ in their window of context",
    }


def _alike(fit: StoredFit, other: StoredFit) -> bool:
    a, b = info_of(fit), info_of(other)
    return all(a[key] == b[key] for key in ("kind", "intercept", "rank")) and a["text"]["source"] == b["text"]["source"]
