"""Simulation: weights that undo the choice of windows, correlations against slow oracles, and no score of nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.domain import COMBINATIONS, Score, Split, Text
from neuronagent.explain.evidence import Window
from neuronagent.explain.items import UNTRACED, SimulationItems
from neuronagent.explain.scorers.simulation import SIMULATION, SIMULATION_R2, SIMULATION_RANDOM, simulation, strata
from neuronagent.explain.statistics.strata import item_weights, stratum_weights
from neuronagent.layout import HISTOGRAM_BINS
from tests.explain.scripted_subjects import Array, Scripted

LENGTH, TEXTS = 12, 4000
Grade = Callable[[Array], Array]


class World:
    """A corpus of texts of which every token's s_t is known: a quarter of the tokens is active, by log-normal."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        active = generator.random((TEXTS, LENGTH)) < 0.25
        self.truth = np.where(active, np.exp(generator.normal(size=(TEXTS, LENGTH)) * 0.5 - 1), 0.0)
        self.noise = generator.normal(size=(TEXTS, LENGTH))
        self.counts = tuple(np.bincount(strata(self.truth.ravel()), minlength=HISTOGRAM_BINS + 1).tolist())

    def window(self, text: int, position: int) -> Window:
        """The window that ends at a token; position 0 is BOS, so that tokens are numbered from 1."""
        ids = tuple(range(LENGTH + 1))
        passage = Text(text_id=text, document="d", split=Split.TEST, first_token=text * (LENGTH + 1), token_ids=ids)
        return Window(text=passage, position=position + 1, combination=COMBINATIONS[0], post=self.truth[text, position])

    def items(self, seed: int = 0, n: int = 20) -> SimulationItems:
        """Windows at the strongest tokens of n texts, and at random ones."""
        generator = np.random.default_rng(seed)
        strong = np.argsort(-self.truth.max(axis=1))[: TEXTS // 10]
        chosen = generator.choice(strong, n, replace=False)
        others = generator.choice(np.setdiff1d(np.arange(TEXTS), chosen), n, replace=False)
        places = [(int(t), int(self.truth[t].argmax())) for t in chosen], [(int(t), LENGTH - 1) for t in others]
        (positive, random) = (tuple(self.window(*place) for place in side) for side in places)
        truths = [tuple(self.truth[t, : p + 1] for t, p in side) for side in places]
        return SimulationItems(
            positive=positive, positive_truths=truths[0], random=random, random_truths=truths[1], counts=self.counts
        )

    def grades(self, noise: float, cut: bool = True) -> Array:
        grades = 3 * self.truth + noise * self.noise
        return grades.clip(0, 10) if cut else grades


WORLD = World()


class Grades(Scripted):
    """Grades tokens as a table says; silent for some texts."""

    def __init__(self, table: Array, silent: Collection[int] = ()) -> None:
        super().__init__(lambda shown: np.zeros(len(shown)), silent)
        self._table, self._unheard = table, frozenset(silent)

    def simulate(self, windows: Sequence[Window]) -> list[Array]:
        found: list[Array] = []
        for w in windows:
            grades = self._table[w.text.text_id, : w.position]
            found.append(np.full_like(grades, np.nan) if w.text.text_id in self._unheard else grades)
        return found


def scored(
    table: Array,
    items: SimulationItems | None,
    calibration: SimulationItems | None = None,
    silent: Collection[int] = (),
) -> dict[str, Score]:
    found = simulation(Grades(table, silent), items, calibration, split=Split.TEST, seed=2, judge="j")
    return {score.metric: score for score in found}


def by_loops(table: Array, items: SimulationItems) -> tuple[float, float]:
    """Weighted r over the marked tokens of P and all random ones, and plain r over the random ones."""
    tokens: list[tuple[float, float, bool]] = []
    for place, (window, truth) in enumerate(
        zip((*items.positive, *items.random), (*items.positive_truths, *items.random_truths), strict=True)
    ):
        chosen = place < len(items.positive)
        pairs = list(zip(table[window.text.text_id], truth, strict=False))
        tokens += [(float(g), float(s), chosen) for g, s in (pairs[-1:] if chosen else pairs)]
    bins = [int(strata(np.array([s]))[0]) for _, s, _ in tokens]
    weights = item_weights(np.array(bins), np.array(items.counts, dtype=np.float64))
    x, y = (np.array([token[side] for token in tokens]) for side in (0, 1))
    mean = [np.average(v, weights=weights) for v in (x, y)]
    cov, vx, vy = (
        np.average((a - p) * (b - q), weights=weights)
        for a, p, b, q in ((x, mean[0], y, mean[1]), (x, mean[0], x, mean[0]), (y, mean[1], y, mean[1]))
    )
    random = np.array([not token[2] for token in tokens])
    return float(cov / np.sqrt(vx * vy)), float(np.corrcoef(x[random], y[random])[0, 1])


@pytest.mark.parametrize("noise", [0.2, 1.0, 3.0])
def test_both_correlations_agree_with_one_token_after_the_other(noise: float) -> None:
    items, table = WORLD.items(), WORLD.grades(noise)
    weighted, random = by_loops(table, items)
    found = scored(table, items)
    assert found[SIMULATION].value == pytest.approx(weighted)
    assert found[SIMULATION_RANDOM].value == pytest.approx(random)
    for metric in (SIMULATION, SIMULATION_RANDOM):
        lo, value, hi = found[metric].lo, found[metric].value, found[metric].hi
        assert lo is not None
        assert hi is not None
        assert value is not None
        assert -1 <= lo < value < hi <= 1
    assert (found[SIMULATION].n_pos, found[SIMULATION].n_neg) == (20, 20)
    assert (found[SIMULATION_RANDOM].n_pos, found[SIMULATION_RANDOM].n_neg) == (0, 20)


@pytest.mark.parametrize("noise", [0.5, 1.5])
def test_weights_give_the_correlation_of_the_whole_corpus_though_windows_were_chosen(noise: float) -> None:
    table = WORLD.grades(noise)
    truth = np.corrcoef(table.ravel(), WORLD.truth.ravel())[0, 1]
    found = [scored(table, WORLD.items(seed))[SIMULATION] for seed in range(25)]
    values = [score.value for score in found if score.value is not None]
    assert np.mean(values) == pytest.approx(truth, abs=0.03)
    inside = [(s.lo or 0) <= truth <= (s.hi or 0) for s in found]
    assert np.mean(inside) >= 0.8


def test_r_squared_of_a_line_that_fits_is_the_square_of_r_and_of_no_use_is_not_above_zero() -> None:
    items, select = WORLD.items(0), WORLD.items(1)
    exact = scored(WORLD.grades(0.0, cut=False), items, select)
    assert exact[SIMULATION_R2].value == pytest.approx(1.0)
    some = scored(WORLD.grades(1.0, cut=False), items, items)
    assert some[SIMULATION_R2].value == pytest.approx((some[SIMULATION].value or 0) ** 2)
    useless = scored(np.random.default_rng(5).normal(size=WORLD.truth.shape), items, select)[SIMULATION_R2]
    assert useless.value is not None
    assert useless.lo is not None
    assert useless.lo < useless.value < 0.1


def test_constant_grades_or_a_constant_truth_are_no_correlation_of_zero() -> None:
    items = WORLD.items()
    flat = scored(np.full_like(WORLD.truth, 3.0), items, WORLD.items(1))
    assert {(s.value, s.lo, s.reason) for s in (flat[SIMULATION], flat[SIMULATION_RANDOM])} == {
        (None, None, "the grades have no variance")
    }
    assert flat[SIMULATION_R2].reason == "no line could be fitted on select: the grades have no variance"
    silent_neuron = SimulationItems(
        positive=(), positive_truths=(), random=items.random, counts=(100, *[0] * HISTOGRAM_BINS),
        random_truths=tuple(np.zeros_like(truth) for truth in items.random_truths),
    )  # fmt: skip
    assert {s.reason for s in scored(WORLD.grades(1.0), silent_neuron, items).values()} == {"the truth has no variance"}


def test_windows_without_grades_are_left_out_and_too_many_leave_no_score() -> None:
    items, table = WORLD.items(), WORLD.grades(1.0)
    gone = [w.text.text_id for w in items.random[:2]]
    kept = SimulationItems(
        positive=items.positive, positive_truths=items.positive_truths, counts=items.counts,
        random=items.random[2:], random_truths=items.random_truths[2:],
    )  # fmt: skip
    failed = scored(table, items, silent=gone)[SIMULATION]
    assert (failed.value, failed.n_failed) == (scored(table, kept)[SIMULATION].value, 2)
    strong = scored(table, items, silent=[w.text.text_id for w in items.positive[:3]])
    assert strong[SIMULATION].reason == "3 of 20 answers failed"
    assert strong[SIMULATION_RANDOM].value is not None
    select = WORLD.items(1)
    there = scored(table, items, select, silent=[w.text.text_id for w in select.positive if w not in items.positive])
    assert "answers failed" in (there[SIMULATION_R2].reason or "")


def test_what_was_not_measured_has_no_score_and_says_why() -> None:
    assert [(s.value, s.reason) for s in scored(WORLD.truth, None).values()] == [(None, UNTRACED)]
    found = scored(WORLD.grades(1.0), WORLD.items(), None)[SIMULATION_R2]
    assert (found.value, found.reason) == (None, "no window of select was measured")
    one = SimulationItems(
        positive=(), positive_truths=(), random=WORLD.items().random[:1], counts=WORLD.counts,
        random_truths=(np.arange(LENGTH, dtype=np.float64),),
    )  # fmt: skip
    assert scored(WORLD.grades(1.0), one)[SIMULATION].reason == "tokens of 1 texts leave nothing to resample"


def test_a_score_is_the_same_every_time_it_is_taken() -> None:
    items, table = WORLD.items(), WORLD.grades(1.0)
    assert scored(table, items, WORLD.items(1)) == scored(table, items, WORLD.items(1))


# Weights


def weights_by_loops(sampled: list[int], totals: list[int]) -> list[float]:
    held = [0.0] * len(totals)
    for place, total in enumerate(totals):
        lower = [p for p in range(place + 1) if sampled[p]]
        higher = [p for p in range(place, len(totals)) if sampled[p]]
        if lower or higher:
            held[lower[-1] if lower else higher[0]] += total
    return [h / n if n else 0.0 for h, n in zip(held, sampled, strict=True)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=7))
def test_a_stratum_without_items_goes_to_the_nearest_lower_one_else_to_the_nearest_higher(
    strata_of: list[tuple[int, int]],
) -> None:
    sampled, totals = ([pair[side] for pair in strata_of] for side in (0, 1))
    found = stratum_weights(np.array(sampled, dtype=np.float64), np.array(totals, dtype=np.float64))
    assert found == pytest.approx(weights_by_loops(sampled, totals))
    if any(sampled):
        assert (found * sampled).sum() == pytest.approx(sum(totals))
