"""The planted table: what the deterministic explainer and its scores say where the truth is known.

    planted                                        must come out as
    a trigger in one combination                   supported, the right tokens named
    two combinations alike, sign by chance         not told apart, and the sign not supported
    strength by token                              tokens named that are strong in truth
    activity by chance at each occurrence          not supported
    the explanation of another unit                at chance, within its interval; never better

The neurons of the planted model go the whole way from weights to verdict; activity that no weights give is made up over
the same corpus (`made_neurons`). The names of the tests are the table; `Everything.table` prints it with its numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination, Split
from neuronagent.explain import statistics
from neuronagent.explain.evidence import MINIMUM_STRONG
from neuronagent.explain.items import N0, N1, item_sets
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.detection import STRONGEST
from neuronagent.explain.verdict import Verdict
from tests.explain.made_neurons import EQUAL, RANDOM
from tests.explain.planted_units import MM, MP, PM, PP, TRIGGERS, Everything, Unit
from tests.known_index import world

ALIKE = ((3, PP, PM), (3, MP, MM), (EQUAL, PP, PM))
"""Two combinations of a neuron at the same tokens; which of them is by the noise of the context, or by chance."""


def named(unit: Unit) -> str:
    return f"0.{unit[0]} {unit[1].value} is planted on {TRIGGERS[unit][0]}"


TRIGGERED = pytest.mark.parametrize(("index", "c"), list(TRIGGERS), ids=map(named, TRIGGERS))


# A trigger


@TRIGGERED
def test_a_planted_trigger_is_named(everything: Everything, index: int, c: SignCombination) -> None:
    """The rule fires on nothing else, and on most of what is strong among the test windows."""
    fired = everything.fires_on(index, c)
    assert fired, everything.table()
    assert fired <= TRIGGERS[index, c][1], everything.table()
    windows = everything.explainer.evidence(NeuronId(0, index)).combinations[c].strong[Split.TEST]
    held = everything.predict(everything.rule(index, c), windows) > 0.5
    assert held.mean() >= 0.7, everything.table()


@TRIGGERED
def test_a_planted_trigger_is_supported(everything: Everything, index: int, c: SignCombination) -> None:
    """Unless the neuron drawn as control has the same trigger planted: then nothing is better than its rule."""
    random, others = (everything.score(index, c, negative) for negative in (N0, N1))
    assert min(random.lo or 0, others.lo or 0) > 0.5, everything.table()
    twins = {f"other neuron {neuron}" for neuron in planted_twins(index, c)}
    competing = [control for control in random.controls if control.kind not in (STRONGEST, "token list")]
    assert len(competing) >= 2
    for control in competing:
        if control.kind not in twins:
            assert (control.lift_lo or 0) > 0, f"{control}\n{everything.table()}"
    if not twins & {control.kind for control in competing}:
        assert everything.verdict(index, c) is Verdict.SUPPORTED, everything.table()


def planted_twins(index: int, c: SignCombination) -> list[NeuronId]:
    """The other neurons of the model's layer 0 that are in `c` on as good as the same tokens."""
    if NeuronId(0, index) not in world().model.truth:
        return []
    own = real_tokens(NeuronId(0, index), c)
    return [
        neuron
        for neuron in world().model.truth
        if neuron.layer == 0 and neuron.index != index and real_tokens(neuron, c) == own
    ]


def real_tokens(neuron: NeuronId, c: SignCombination) -> set[str]:
    return {token for token in world().model.truth[neuron].tokens(c) if not token.startswith("<")}


def test_only_the_two_punctuation_neurons_are_planted_twins() -> None:
    assert {unit: planted_twins(*unit) for unit in TRIGGERS if planted_twins(*unit)} == {(2, MM): [NeuronId(0, 0)]}


def test_combinations_with_triggers_of_their_own_are_told_apart_well_above_chance(everything: Everything) -> None:
    for index in (0, 111):
        scores = {c: found.scores for c, found in everything.explained(index).items()}
        overall = cross_combination.overall(scores)
        assert overall is not None
        assert overall.lo > 0.6, everything.table()
        assert cross_combination.not_told_apart(scores) == []


# Alike


@pytest.mark.parametrize(
    ("index", "one", "other"), ALIKE, ids=[f"0.{i} {a.value} and {b.value} are planted alike" for i, a, b in ALIKE]
)
def test_combinations_that_are_planted_alike_are_not_told_apart(
    everything: Everything, index: int, one: SignCombination, other: SignCombination
) -> None:
    scores = {c: found.scores for c, found in everything.explained(index).items()}
    assert (one, other) in cross_combination.not_told_apart(scores), everything.table()
    for c in (one, other):
        assert (everything.score(index, c, N0).lo or 0) > 0.5, "the trigger itself is there to be found"


@pytest.mark.parametrize("c", COMBINATIONS, ids=lambda c: f"0.3 {c.value} has its sign by noise")
def test_a_sign_that_only_noise_decides_is_not_supported(everything: Everything, c: SignCombination) -> None:
    assert everything.verdict(3, c) in (Verdict.NOT_SUPPORTED, Verdict.SIGN_UNCLEAR), everything.table()


def test_nothing_else_of_the_neuron_with_two_alike_is_mixed_up(everything: Everything) -> None:
    scores = {c: found.scores for c, found in everything.explained(EQUAL).items()}
    assert cross_combination.not_told_apart(scores) == [(PP, PM)], everything.table()


# By token, by chance, or too few


@pytest.mark.parametrize("c", COMBINATIONS, ids=lambda c: f"0.4 {c.value} is random by token")
def test_where_strength_is_random_by_token_the_tokens_named_are_strong_in_truth(
    everything: Everything, c: SignCombination
) -> None:
    assert everything.fires_on(4, c), everything.table()
    assert everything.fires_on(4, c) <= everything.strong_in_truth(4, c), everything.table()
    assert everything.verdict(4, c) is Verdict.SUPPORTED, everything.table()


@pytest.mark.parametrize("index", RANDOM, ids=lambda index: f"0.{index} is random at each occurrence")
def test_what_is_random_at_each_occurrence_is_not_supported(everything: Everything, index: int) -> None:
    for c in COMBINATIONS:
        assert everything.explained(index)[c].rule is not None, "there are examples enough to be misled by"
        assert everything.verdict(index, c) is Verdict.NOT_SUPPORTED, everything.table()
        value = everything.score(index, c, N0)
        assert (value.lo or 0) <= 0.5 <= (value.hi or 0), everything.table()


def test_combinations_that_are_random_at_each_occurrence_are_not_told_apart(everything: Everything) -> None:
    for index in RANDOM:
        scores = {c: found.scores for c, found in everything.explained(index).items()}
        assert len(cross_combination.not_told_apart(scores)) == 6, everything.table()


def test_with_too_few_strong_tokens_nothing_is_said(everything: Everything) -> None:
    for index in (1, 2):
        for c in (PM, MP):
            found = everything.explained(index)[c]
            assert (found.rule, found.text, found.scores) == (None, "", ())
            evidence = everything.explainer.evidence(NeuronId(0, index))
            assert len(evidence.combinations[c].strong[Split.EXPLAIN]) < MINIMUM_STRONG
            assert everything.verdict(index, c) is Verdict.NOT_ENOUGH


# Somebody else's explanation


@pytest.mark.parametrize(
    ("own", "other"),
    [(a, b) for a in TRIGGERS for b in TRIGGERS if not TRIGGERS[a][1] & TRIGGERS[b][1]],
    ids=lambda unit: f"0.{unit[0]} {unit[1].value}",
)
def test_the_explanation_of_another_trigger_is_no_better_than_chance(
    everything: Everything, own: Unit, other: Unit
) -> None:
    """It may be worse: a frequent trigger is among random tokens, and never where this unit is strong."""
    assert scored(everything, *own, *other).lo <= 0.5, everything.table()


def test_shuffled_explanations_score_at_chance_within_their_intervals(everything: Everything) -> None:
    """All rules there are, each on units that nothing in a text decides; at chance on the average too."""
    units = [(i, c) for i in everything.by_index for c in COMBINATIONS if everything.explained(i)[c].rule is not None]
    found = [
        scored(everything, index, c, *other)
        for index in RANDOM
        for c in COMBINATIONS
        for other in units
        if other[0] != index
    ]
    assert len(found) > 800
    assert np.mean([interval.lo <= 0.5 <= interval.hi for interval in found]) >= 0.95
    assert np.mean([interval.value for interval in found]) == pytest.approx(0.5, abs=0.02)


def scored(
    everything: Everything, index: int, c: SignCombination, other: int, d: SignCombination
) -> statistics.Interval:
    """The rule of another unit on the items of this one."""
    items = item_sets(everything.explainer.evidence(NeuronId(0, index)), c, Split.TEST)
    rule = everything.rule(other, d)
    positive, negative = (everything.predict(rule, windows) for windows in (items.positive, items.negative[N0]))
    return statistics.auroc_interval(positive, negative)
