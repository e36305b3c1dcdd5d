"""What `predict functional` stored, for a report, and what of the paper's local analysis (§ 5) holds here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from neuronagent import wording
from neuronagent.predictability.functional import (
    EASY,
    HARD,
    KIND,
    NGRAMS,
    POSITIONS,
    TOTAL_VARIANCE,
    Against,
    FunctionalLayer,
    FunctionalSummary,
    summary_key,
)
from neuronagent.predictability.scores import StoredFit
from neuronagent.report.predictability_content import Finding, Functional, PredictabilityContent, Verdict
from neuronagent.service.lookup import Index

_LOW, _HIGH = 0.4, 0.8
_HARDEST = 0.95


def functional(index: Index, fits: Sequence[StoredFit], main: StoredFit) -> Functional:
    """Of the main fit, or of the first that it was made with; on its own test split, or on the first other text."""
    for fit in (main, *fits):
        stored = index.reader.prediction_results(fit.id, KIND)
        texts = list(dict.fromkeys(_text_of(key) for key in stored))
        for text in sorted(texts, key=bool):
            layers = [value for key, value in stored.items() if _text_of(key) == text and key != summary_key(text)]
            if layers:
                return {
                    "fit": fit.name,
                    "layers": sorted(cast("list[FunctionalLayer]", layers), key=lambda one: one["layer"]),
                    "summary": cast("FunctionalSummary | None", stored.get(summary_key(text))),
                    "reason": None,
                }
    return {
        "fit": "", "layers": [], "summary": None, "reason": "functional neurons have not been looked for",
    }  # fmt: skip


def _text_of(key: str) -> str:
    """The text in a key; `""` for the fit's own."""
    return key.partition(" on ")[2]


def local_findings(content: PredictabilityContent) -> Iterator[Finding]:
    """§ 5 and App. C.1, by L2 as in the paper and by R²."""
    layers = content["functional"]["layers"]
    for measure in ("L2", "R²"):
        yield from _families(layers, NGRAMS, measure, "higher", "n-grams", "§ 5.1, Figure 5 a")
        yield from _families(layers, (HARD, EASY), measure, "lower", "hard and easy tokens", "§ 5.2, Figure 5 b")
    yield from _positions(layers)
    yield from _background(layers)
    yield from _outliers(content)


def _families(
    layers: Sequence[FunctionalLayer], families: Sequence[str], measure: str, way: str, said: str, where: str
) -> Iterator[Finding]:
    """Whether neurons of these families are harder (`higher` L2) or easier (`lower`) to foretell than random ones."""
    known = _verdicts(layers, families, measure)
    if not known:
        return
    # A high R² is a low error.
    wanted = way if measure == "L2" else {"higher": "lower", "lower": "higher"}[way]
    with_it = sum(verdict == wanted for verdict in known)
    against = sum(verdict not in (wanted, "no different") for verdict in known)
    share = with_it / len(known)
    yield {
        "paper": f"Neurons sensitive to {said} are {'harder' if way == 'higher' else 'easier'} to foretell than random "
        f"ones, by {measure}.",
        "where": where,
        "criterion": f"In over half of layers and families the {measure} differs so from that of neurons that random "
        "tokens select (interval of the difference); the contrary likewise",
        "verdict": "holds" if share > 0.5 else "does not hold" if against / len(known) > 0.5 else "not clear",
        "numbers": f"{with_it} of {len(known)} differ so, {against} the other way.",
        "section": "functional",
    }


def _verdicts(layers: Sequence[FunctionalLayer], families: Sequence[str], measure: str) -> list[str]:
    return [
        found["verdict"]
        for one in layers
        for family in families
        for found in _against(one, family, measure)
        if found["verdict"] is not None
    ]


def _against(layer: FunctionalLayer, family: str, measure: str) -> list[Against]:
    own = layer["families"].get(TOTAL_VARIANCE, {}).get(family)
    return [] if own is None else [own["l2" if measure == "L2" else "r2"]]


def _positions(layers: Sequence[FunctionalLayer]) -> Iterator[Finding]:
    shares = {
        family: sum(verdict != "no different" for verdict in known) / len(known)
        for family in POSITIONS
        for known in (_verdicts(layers, (family,), "L2"),)
        if known
    }
    if len(shares) == len(POSITIONS):
        others = [share for family, share in shares.items() if family != "successive"]
        holds = shares["successive"] > 0.5 and max(others) <= 0.5
        contrary = not shares["successive"] or max(others) > 0.5
        yield {
            "paper": "Of neurons sensitive to positions, only those of successive ones differ from random ones.",
            "where": "§ 5.3, Figure 5 c",
            "criterion": "L2 differs, with its interval, in over half of the layers for successive positions, and in "
            "no more than half for arbitrary and oscillatory ones; the contrary if in none for successive ones, or in "
            "over half for others",
            "verdict": "holds" if holds else "does not hold" if contrary else "not clear",
            "numbers": ", ".join(f"{family} {wording.percent(share)}" for family, share in shares.items())
            + " of layers differ.",
            "section": "functional",
        }


def _background(layers: Sequence[FunctionalLayer]) -> Iterator[Finding]:
    for measure, key in (("L2", "share"), ("R²", "share_r2")):
        shares = [share for one in layers for share in (one["background"][key],) if share is not None]
        if shares:
            inside = sum(_LOW <= share <= _HIGH for share in shares)
            verdict: Verdict = "holds" if inside == len(shares) else "not clear" if inside else "does not hold"
            yield {
                "paper": f"40 to 80 % of the neurons of a layer are background neurons, by {measure}.",
                "where": "§ 5.4, Figure 5 d" + (" (L2 alone)" if measure == "R²" else ""),
                "criterion": "The share is within 40 to 80 % in every layer; not clear if in some",
                "verdict": verdict,
                "numbers": f"{wording.percent(min(shares))} to {wording.percent(max(shares))}; {inside} of "
                f"{len(shares)} layers are within. Any threshold near the mean of a layer gives about half.",
                "section": "background",
            }


def _outliers(content: PredictabilityContent) -> Iterator[Finding]:
    summary = content["functional"]["summary"]
    ranks = [one["l2_rank"] for one in summary["outliers"] if one["l2_rank"] is not None] if summary else []
    skill = [one["r2"] for one in summary["outliers"] if one["r2"] is not None] if summary else []
    if summary and ranks:
        hard = sum(rank >= _HARDEST for rank in ranks)
        tail = f"; R² {wording.score(min(skill))} to {wording.score(max(skill))}" if skill else ""
        yield {
            "paper": "Outlier neurons are extremely hard to foretell.",
            "where": "App. C.1",
            "criterion": f"Over half of those with a value of {summary['outlier_ratio']:g} times the root mean square "
            "of their layer are among the 5 % with the largest L2; the contrary if none is",
            "verdict": "holds" if hard > len(ranks) / 2 else "not clear" if hard else "does not hold",
            "numbers": f"{hard} of {len(ranks)} are{tail}.",
            "section": "outliers",
        }
