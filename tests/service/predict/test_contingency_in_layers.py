"""Associations within layers, against exact counting."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from neuronagent.domain import IOClass, Role
from neuronagent.service.predict.contingency import Association, Stratum, associate
from neuronagent.service.predict.functional_summary import LayerNeurons, class_r2, contingency
from neuronagent.service.predict.selection import Errors

STRATA = [Stratum(3, 5, 6, 12), Stratum(1, 2, 9, 10), Stratum(4, 7, 8, 20)]


def chances(s: Stratum) -> dict[int, float]:
    total = math.comb(s.total, s.column)
    return {
        k: math.comb(s.row, k) * math.comb(s.total - s.row, s.column - k) / total
        for k in range(max(0, s.row + s.column - s.total), min(s.row, s.column) + 1)
    }


def test_p_is_that_of_all_tables_with_these_margins() -> None:
    observed = sum(s.both for s in STRATA)
    below = above = equal = 0.0
    for each in product(*(chances(s).items() for s in STRATA)):
        count, chance = sum(k for k, _ in each), math.prod(p for _, p in each)
        below, above, equal = (
            below + chance * (count < observed),
            above + chance * (count > observed),
            equal + chance * (count == observed),
        )
    found = associate(STRATA)
    assert found.exact
    assert found.p == pytest.approx(min(1.0, 2 * min(below + equal / 2, above + equal / 2)))
    assert found.count == observed
    assert found.expected == pytest.approx(sum(s.row * s.column / s.total for s in STRATA))


def test_of_one_layer_the_odds_ratio_is_that_of_its_table() -> None:
    found = associate([Stratum(3, 5, 6, 12)])
    assert found.odds == pytest.approx(3 * 4 / (2 * 3))
    assert found.lo is not None
    assert found.hi is not None
    woolf = math.sqrt(1 / 3 + 1 / 2 + 1 / 3 + 1 / 4)
    assert math.log(found.hi / found.lo) == pytest.approx(2 * 1.959964 * woolf, rel=0.02)


def test_the_same_association_in_every_layer_is_found_whatever_the_margins() -> None:
    # Odds 6 in two layers of opposite margins; all neurons in one table have others.
    strata = [Stratum(60, 80, 70, 110), Stratum(8, 10, 44, 100)]
    found = associate(strata)
    assert found.odds == pytest.approx(6)
    one = associate([Stratum(68, 90, 114, 210)])
    assert one.odds is not None
    assert one.odds < 5


def test_many_neurons_go_by_the_normal_distribution_and_agree_with_exact_counting() -> None:
    big = Stratum(430, 1300, 1500, 4800)
    found = associate([big])
    assert not found.exact
    smaller = associate([Stratum(110, 330, 375, 1200)])
    assert smaller.exact
    assert smaller.p is not None
    z = (110 - 330 * 375 / 1200) / math.sqrt(330 * 870 * 375 * 825 / (1200**2 * 1199))
    assert smaller.p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.1)


def test_where_only_one_count_is_possible_there_is_no_p() -> None:
    nothing = Association(count=4, expected=4, odds=None, lo=None, hi=None, p=None, exact=True)
    assert associate([Stratum(4, 10, 4, 10)]) == nothing
    assert associate([]) == Association(count=0, expected=0, odds=None, lo=None, hi=None, p=None, exact=True)
    none = associate([Stratum(0, 5, 5, 10)])
    assert none.odds is None
    assert none.p is not None


@pytest.mark.slow
def test_p_is_uniform_under_independence() -> None:
    generator = np.random.default_rng(0)
    found: list[float] = []
    for _ in range(4000):
        strata = [
            Stratum(int(generator.hypergeometric(column, total - column, row)), row, column, total)
            for row, column, total in ((150, 140, 300), (90, 200, 300), (150, 100, 300))
        ]
        p = associate(strata).p
        assert p is not None
        found.append(p)
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.04)


def layer(number: int, members: list[int], classes: list[IOClass], r2: list[float]) -> LayerNeurons:
    """A layer whose background neurons are `members`, which are also those that 1-grams say most of."""
    l2 = np.where(np.isin(np.arange(len(classes)), members), 1.0, 3.0)
    families = {"1-gram": {"neurons": [], "most": members, "properties": 5}, "hard": {"properties": 0, "most": []}}
    return LayerNeurons(
        result={"layer": number, "background": {"threshold": 2.0}},  # type: ignore[typeddict-item]
        sensitive={"layer": number, "never_vary": [], "families": families, "identity": ""},  # type: ignore[typeddict-item]
        errors=Errors(l2=l2, r2=np.array(r2)),
        classes=classes,
        roles=[Role.PARTITION if index == 0 else None for index in range(len(classes))],
    )


def test_the_table_counts_neurons_of_both_within_layers_and_adjusts_p_over_all_of_it() -> None:
    one, other = IOClass("enrichment"), IOClass("orthogonal output")
    classes = [one] * 8 + [other] * 12
    layers = [layer(n, list(range(6)), classes, np.linspace(0.9, 0.1, 20).tolist()) for n in range(3)]
    cells = {(cell["group"], cell["other"]): cell for cell in contingency(layers)}
    assert set(cells) == {
        (group, name) for group in ("background", "1-gram") for name in ("enrichment", "orthogonal output", "partition")
    }
    cell = cells["background", "enrichment"]
    assert (cell["count"], cell["neurons"], cell["expected"]) == (18, 24, pytest.approx(3 * 6 * 8 / 20))
    assert cell["odds"] is None
    assert cell["reason"]
    assert cell["p"] is not None
    assert cell["q"] is not None
    assert cell["p"] < 1e-6
    assert cell["p"] <= cell["q"] <= 6 * cell["p"]
    ranks = {row["name"]: row for row in class_r2(layers)}
    assert ranks["enrichment"]["rank"] == pytest.approx(np.mean(np.arange(12, 20) / 19))
    lo, hi = ranks["enrichment"]["rank_lo"], ranks["enrichment"]["rank_hi"]
    assert lo is not None
    assert hi is not None
    assert lo < 0.5 < hi < (ranks["enrichment"]["rank"] or 0)
    q1, median, q3 = np.quantile(np.linspace(0.9, 0.1, 20)[:8], [0.25, 0.5, 0.75])
    expected = {"n": 24, "q1": pytest.approx(q1), "median": pytest.approx(median), "q3": pytest.approx(q3)}
    assert ranks["enrichment"]["r2"] == expected
