"""Simulation: how well do grades, given token by token, follow what the neuron does, s_t = |post_t|·1[in c]?

Tokens are all of random windows, and of windows strong in c the marked one: the others of such a window are of a text
that was chosen, and would stand for texts that were not (measured: intervals then cover .65–.9 of where .95 is meant).
They are no random sample, so each stands for a stratum of the corpus: the half octave of its s_t, or all tokens that
are not in c. How many tokens of the corpus are in each is exact, so token t weighs (corpus tokens of its stratum) /
(simulated tokens of its stratum); a half octave of which no token was simulated goes to the nearest lower one that has
one. Three scores:

- `simulation`: Pearson's r with these weights, over the corpus;
- `simulation_random`: r of the random windows alone, unweighted, as the literature has it;
- `simulation_r2`: R² on these items of the one line from grades to s_t that was fitted on `select`.

All intervals draw texts. What has no variance has no score: nothing that is constant is uncorrelated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, Split
from neuronagent.explain import statistics
from neuronagent.explain.items import UNTRACED, SimulationItems
from neuronagent.explain.scorers.failures import too_many_failed
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.statistics import Array, Tokens
from neuronagent.explain.subjects import Subject
from neuronagent.layout import HISTOGRAM_EDGES

SIMULATION, SIMULATION_RANDOM, SIMULATION_R2 = "simulation", "simulation_random", "simulation_r2"
CORPUS, RANDOM = "corpus", "random windows"


def simulation(
    subject: Subject,
    items: SimulationItems | None,
    calibration: SimulationItems | None,
    *,
    split: Split,
    seed: int,
    judge: str,
    missing: str = UNTRACED,
) -> list[Score]:
    """The three scores on `items`; `calibration` are the items of `select`. None of them, and there is no value, for
    the reason `missing`."""
    rows = Rows(split=split, seed=seed, judge=judge)
    if items is None:
        return [rows.null(SIMULATION, CORPUS, missing, 0, 0)]
    here = _Graded(subject, items)
    there = None if calibration is None else _Graded(subject, calibration)

    def calibrated() -> statistics.Interval:
        if there is None:
            raise ValueError("no window of select was measured")
        if there.failed is not None:
            raise ValueError(f"on select {there.failed}")
        try:
            line = statistics.fitted_line(there.corpus())
        except ValueError as why:
            raise ValueError(f"no line could be fitted on select: {why}") from why
        return statistics.r_squared(here.corpus(), line, seed=seed)

    return [
        here.row(rows, SIMULATION, lambda: statistics.pearson(here.corpus(), seed=seed)),
        here.random_row(rows, SIMULATION_RANDOM, lambda: statistics.pearson(here.random(), seed=seed)),
        here.row(rows, SIMULATION_R2, calibrated),
    ]


class _Graded:
    """Measured windows with a subject's grades."""

    def __init__(self, subject: Subject, items: SimulationItems) -> None:
        self._items = items
        self._windows = [*items.positive, *items.random]
        self._truths = [*items.positive_truths, *items.random_truths]
        self._grades = subject.simulate(self._windows)
        self._chosen = np.arange(len(self._windows)) < len(items.positive)
        self._held = np.array([not np.isnan(grades).any() for grades in self._grades], dtype=np.bool_)

    @property
    def failed(self) -> str | None:
        """Why there is no score, if too many answers failed."""
        return too_many_failed(self._held[self._chosen], self._held[~self._chosen])

    def corpus(self) -> Tokens:
        """The tokens that stand for the strata of the corpus."""
        totals = np.array(self._items.counts, dtype=np.float64)
        return self._tokens(np.flatnonzero(self._held), totals)

    def random(self) -> Tokens:
        """The tokens of the random windows, each counted once."""
        return self._tokens(np.flatnonzero(self._held & ~self._chosen), None)

    def row(self, rows: Rows, metric: str, value: Callable[[], statistics.Interval]) -> Score:
        n_pos, n_neg = int(self._held[self._chosen].sum()), int(self._held[~self._chosen].sum())
        return _row(rows, metric, CORPUS, value, self.failed, (n_pos, n_neg, len(self._held) - n_pos - n_neg))

    def random_row(self, rows: Rows, metric: str, value: Callable[[], statistics.Interval]) -> Score:
        held = self._held[~self._chosen]
        n = int(held.sum())
        return _row(rows, metric, RANDOM, value, too_many_failed(held), (0, n, len(held) - n))

    def _tokens(self, chosen: NDArray[np.intp], totals: Array | None) -> Tokens:
        """The tokens of some of the windows; without `totals` they are of one stratum."""
        if not len(chosen):
            raise ValueError("no window was measured")
        shown = [slice(-1, None) if self._chosen[i] else slice(None) for i in chosen]
        truths = [self._truths[i][part] for i, part in zip(chosen, shown, strict=True)]
        truth, lengths = np.concatenate(truths), [len(values) for values in truths]
        return Tokens(
            grades=np.concatenate([self._grades[i][part] for i, part in zip(chosen, shown, strict=True)]),
            truth=truth,
            texts=np.repeat([self._windows[i].text.text_id for i in chosen], lengths),
            chosen=np.repeat(self._chosen[chosen], lengths),
            strata=np.zeros(len(truth), dtype=np.intp) if totals is None else strata(truth),
            totals=np.array([len(truth)], dtype=np.float64) if totals is None else totals,
        )


def strata(truth: Array) -> NDArray[np.intp]:
    """0 for a token that is not in the combination, else 1 + the histogram bin of its |post|."""
    bins = np.searchsorted(HISTOGRAM_EDGES, truth.astype(np.float32), side="right")
    return np.where(truth > 0, 1 + bins, 0).astype(np.intp)


def _row(
    rows: Rows,
    metric: str,
    of: str,
    value: Callable[[], statistics.Interval],
    failed: str | None,
    counts: tuple[int, int, int],
) -> Score:
    n_pos, n_neg, n_failed = counts
    if failed is not None:
        return rows.null(metric, of, failed, n_pos, n_neg, n_failed=n_failed)
    try:
        return rows.value(metric, of, value(), n_pos, n_neg, n_failed=n_failed)
    except ValueError as why:
        return rows.null(metric, of, str(why), n_pos, n_neg, n_failed=n_failed)
