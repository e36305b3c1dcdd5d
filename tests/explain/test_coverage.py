"""Every interval covers what it claims at twenty items: simulated over true values from .5 to .95, none without width.

The quick test allows for the chance of its few simulations; the slow one has enough of them to hold each method to what
it claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import comb, prod
from statistics import NormalDist

import numpy as np
import pytest

from neuronagent.explain.statistics import (
    Array,
    Interval,
    Line,
    PrecisionRecall,
    Tokens,
    auprc,
    auroc_interval,
    balanced_accuracy,
    exact_binomial,
    lift,
    mean_recall,
    pearson,
    r_squared,
    weighted_precision_recall,
    wilson,
)

N = 20
TRUTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
NORMAL = NormalDist()
DRAWS = 300
NEGATIVES_TO_ONE = 9
LABELS = [True] * N + [False] * N
WEIGHTS = [1.0] * N + [float(NEGATIVES_TO_ONE)] * N
One = Callable[[np.random.Generator], Interval]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A true value and how to draw an interval for it."""

    truth: float
    interval: One


# ── rates, exactly ───────────────────────────────────────────────────────────────────────────────────────────────


def chances(rates: tuple[float, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    """All outcomes of so many times N trials, with their chances."""
    single = [[comb(N, k) * r**k * (1 - r) ** (N - k) for k in range(N + 1)] for r in rates]
    for outcome in product(range(N + 1), repeat=len(rates)):
        yield outcome, prod(chance[k] for chance, k in zip(single, outcome, strict=True))


@pytest.mark.parametrize(("method", "most"), [(wilson, 0.97), (exact_binomial, 1.0)], ids=["Wilson", "exact"])
def test_a_rate_is_covered_as_claimed_and_an_exact_method_may_exceed(
    method: Callable[[int, int], Interval], most: float
) -> None:
    intervals = [method(k, N) for k in range(N + 1)]
    assert min(interval.hi - interval.lo for interval in intervals) > 0.1
    covered: list[float] = []
    for truth in np.linspace(0.5, 0.95, 46):
        held = [chance for (k,), chance in chances((truth,)) if intervals[k].lo <= truth <= intervals[k].hi]
        covered.append(sum(held))
    assert 0.93 <= np.mean(covered) <= most
    assert min(covered) >= 0.92


def test_balanced_accuracy_is_covered_as_claimed_whatever_both_rates_are() -> None:
    intervals = {k: balanced_accuracy(k[0], N, k[1], N) for k, _ in chances((0.5, 0.5))}
    assert min(interval.hi - interval.lo for interval in intervals.values()) > 0.05
    covered: list[float] = []
    for rates in product((0.4, *TRUTHS), repeat=2):
        truth = sum(rates) / 2
        covered.append(sum(c for k, c in chances(rates) if intervals[k].lo <= truth <= intervals[k].hi))
    assert 0.93 <= np.mean(covered) <= 0.97
    assert min(covered) >= 0.92


def recall_rates(truth: float) -> tuple[float, float]:
    return truth, 0.1


def precision_rates(truth: float) -> tuple[float, float]:
    recall = 0.8
    return recall, recall * (1 - truth) / truth / NEGATIVES_TO_ONE


def f1_rates(truth: float) -> tuple[float, float]:
    recall = (1 + truth) / 2
    return recall, (recall * (2 / truth - 1) - 1) / NEGATIVES_TO_ONE


@cache
def judged(hits: int, alarms: int) -> PrecisionRecall:
    fired = [k < hits for k in range(N)] + [k < alarms for k in range(N)]
    return weighted_precision_recall(fired, LABELS, WEIGHTS, range(2 * N))


@pytest.mark.parametrize(
    ("name", "rates"),
    [("precision", precision_rates), ("recall", recall_rates), ("f1", f1_rates)],
)
def test_precision_recall_and_f1_are_covered_at_the_base_rate(
    name: str, rates: Callable[[float], tuple[float, float]]
) -> None:
    covered: list[float] = []
    for truth in TRUTHS:
        held, seen = 0.0, 0.0
        for (hits, alarms), chance in chances(rates(truth)):
            interval: Interval | None = getattr(judged(hits, alarms), name)
            if interval is not None:
                assert interval.hi - interval.lo > 1e-3
                held, seen = held + chance * (interval.lo <= truth <= interval.hi), seen + chance
        covered.append(held / seen)
    assert 0.93 <= np.mean(covered) <= 0.97, covered
    assert min(covered) >= 0.92, covered


# ── what is simulated ────────────────────────────────────────────────────────────────────────────────────────────


def recall_of_four(truth: float) -> Case:
    rates = np.clip(truth + np.array([0.04, -0.04, 0.0, 0.0]), 0, 1)
    return Case(truth=truth, interval=lambda g: mean_recall(g.binomial(N, rates).tolist(), [N] * 4))


def shifted(truth: float, g: np.random.Generator) -> tuple[Array, Array]:
    """Normal scores of N positives and N negatives with this AUROC."""
    return g.normal(NORMAL.inv_cdf(truth) * 2**0.5, 1, N), g.normal(0, 1, N)


def auroc_of(truth: float) -> Case:
    return Case(truth=truth, interval=lambda g: auroc_interval(*shifted(truth, g)))


def like(scores: tuple[Array, Array], auroc: float, own: float, g: np.random.Generator) -> tuple[Array, Array]:
    """Scores correlated .6 with those of AUROC `own`, and with an AUROC of their own."""
    shift, wanted = (NORMAL.inv_cdf(a) * 2**0.5 for a in (own, auroc))
    p, n = (0.6 * (side - at) + 0.8 * g.normal(size=N) for side, at in zip(scores, (shift, 0.0), strict=True))
    return p + wanted, n


EMPTY = (np.full(N, 0.5), np.full(N, 0.5))


def lift_over_one(truth: float) -> Case:
    control = NORMAL.cdf(0.6 * NORMAL.inv_cdf(truth))

    def interval(g: np.random.Generator) -> Interval:
        own = shifted(truth, g)
        return lift(*own, {"a": like(own, control, truth, g)}, range(N), range(N), DRAWS).over["a"]

    return Case(truth=truth - control, interval=interval)


def lift_over_empty(truth: float) -> Case:
    def interval(g: np.random.Generator) -> Interval:
        return lift(*shifted(truth, g), {"empty": EMPTY}, range(N), range(N), DRAWS).over_strongest

    return Case(truth=truth - 0.5, interval=interval)


def lift_over_strongest(truth: float) -> Case:
    controls = (0.64, 0.6)

    def interval(g: np.random.Generator) -> Interval:
        own = shifted(truth, g)
        others = {str(a): like(own, a, truth, g) for a in controls}
        return lift(*own, {**others, "empty": EMPTY}, range(N), range(N), DRAWS).over_strongest

    return Case(truth=truth - max(controls), interval=interval)


@cache
def true_area(shift: float) -> float:
    """Average precision of normal scores whose positives are shifted, with so many negatives to one positive."""
    shares = (np.arange(2000) + 0.5) / 2000
    alarms = np.array([1 - NORMAL.cdf(NORMAL.inv_cdf(1 - share) + shift) for share in shares])
    return float((shares / (shares + NEGATIVES_TO_ONE * alarms)).mean())


def area_of(truth: float) -> Case:
    lo, hi = 0.0, 8.0
    for _ in range(25):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if true_area(middle) < truth else (lo, middle)

    def interval(g: np.random.Generator) -> Interval:
        return auprc(np.concatenate([g.normal(hi, 1, N), g.normal(0, 1, N)]), LABELS, WEIGHTS, range(2 * N))

    return Case(truth=truth, interval=interval)


PER_TEXT = 16


def tokens_of_texts(r: float, g: np.random.Generator) -> Tokens:
    """Normal tokens with the correlation r, three tenths of the variance shared by the tokens of a text."""

    def pair(n: int, share: float) -> tuple[Array, Array]:
        x = g.normal(size=n)
        return share**0.5 * x, share**0.5 * (r * x + (1 - r * r) ** 0.5 * g.normal(size=n))

    of_text, own, texts = pair(N, 0.3), pair(N * PER_TEXT, 0.7), np.repeat(np.arange(N), PER_TEXT)
    return Tokens(
        grades=own[0] + of_text[0][texts],
        truth=own[1] + of_text[1][texts],
        texts=texts,
        chosen=np.zeros(len(texts), dtype=np.bool_),
        strata=np.zeros(len(texts), dtype=np.intp),
        totals=np.ones(1),
    )


def correlation_of(truth: float) -> Case:
    return Case(truth=truth, interval=lambda g: pearson(tokens_of_texts(truth, g), DRAWS))


def explained_of(truth: float) -> Case:
    line = Line(slope=truth**0.5, intercept=0.0)
    return Case(truth=truth, interval=lambda g: r_squared(tokens_of_texts(truth**0.5, g), line, DRAWS))


EDGES = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8])
CORPUS_TEXTS = 20_000


@cache
def corpus(noise: float) -> tuple[Array, Array]:
    """Truth and grades of a corpus, a quarter of its tokens active by log-normal; texts differ in their noise too."""
    g, shape = np.random.default_rng(8), (CORPUS_TEXTS, PER_TEXT)
    truth = np.where(g.random(shape) < 0.25, 0.2 * np.exp(0.5 * g.normal(size=shape)), 0.0)
    of_text = g.normal(size=(CORPUS_TEXTS, 1))
    return truth, 5 * truth + noise * (0.8 * g.normal(size=shape) + 0.6 * of_text)


def weighted_correlation(truth: float) -> Case:
    """N random texts, and N strong tokens of others, standing for the bins of the corpus."""
    signal = float(corpus(0.0)[1].std())
    noise = signal * (1 / truth**2 - 1) ** 0.5
    truths, grades = corpus(noise)
    bins = np.searchsorted(EDGES, truths, side="left")
    totals = np.bincount(bins.ravel(), minlength=len(EDGES) + 1).astype(np.float64)
    strong = np.flatnonzero(truths.ravel() > 0.4)

    def interval(g: np.random.Generator) -> Interval:
        random = g.choice(CORPUS_TEXTS, N, replace=False)[:, None] * PER_TEXT + np.arange(PER_TEXT)
        chosen = np.concatenate([np.ones(N, dtype=np.bool_), np.zeros(N * PER_TEXT, dtype=np.bool_)])
        places = np.concatenate([g.choice(strong, N, replace=False), random.ravel()])
        return pearson(
            Tokens(
                grades=grades.ravel()[places],
                truth=truths.ravel()[places],
                texts=places // PER_TEXT,
                chosen=chosen,
                strata=bins.ravel()[places],
                totals=totals,
            ),
            DRAWS,
        )

    return Case(truth=float(np.corrcoef(truths.ravel(), grades.ravel())[0, 1]), interval=interval)


METHODS: dict[str, Callable[[float], Case]] = {
    "mean recall of four": recall_of_four,
    "AUROC": auroc_of,
    "lift over an empty text": lift_over_empty,
    "lift over one control": lift_over_one,
    "lift over the strongest": lift_over_strongest,
    "AUPRC": area_of,
    "correlation": correlation_of,
    "weighted correlation": weighted_correlation,
    "explained variance": explained_of,
}


def coverage(method: Callable[[float], Case], simulations: int) -> list[float]:
    """The share of intervals that hold the truth, for each true value; fails on one without width."""
    covered: list[float] = []
    for truth in TRUTHS:
        case, generator = method(truth), np.random.default_rng(int(1000 * truth))
        intervals = [case.interval(generator) for _ in range(simulations)]
        assert min(interval.hi - interval.lo for interval in intervals) > 1e-3
        covered.append(sum(i.lo - 1e-12 <= case.truth <= i.hi + 1e-12 for i in intervals) / simulations)
    return covered


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_interval_covers_about_what_it_claims(name: str) -> None:
    covered = coverage(METHODS[name], 200)
    assert 0.915 <= np.mean(covered) <= 0.985, covered
    assert min(covered) >= 0.88, covered


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_interval_covers_what_it_claims_on_average_and_nowhere_much_less(name: str) -> None:
    covered = coverage(METHODS[name], 3000)
    assert 0.93 <= np.mean(covered) <= 0.97, covered
    assert min(covered) >= 0.92, covered
