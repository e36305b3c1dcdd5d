"""The deterministic explainer against planted truth: the trigger is found where there is one, and only there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, Score, SignCombination, Split
from neuronagent.explain import statistics
from neuronagent.explain.background import positions_of
from neuronagent.explain.evidence import MINIMUM_STRONG
from neuronagent.explain.items import N0, N1, item_sets
from neuronagent.explain.rules import MAX_RULES, RuleExplanation, phrase
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.verdict import Verdict, verdict
from neuronagent.service.explain import Explained, Explainer
from tests.known_index import known, world
from tests.planted import CAPITALS, DIGITS, PUNCTUATION, TOKENS

PP, PM, MP, MM = COMBINATIONS
TRIGGERS: dict[tuple[int, SignCombination], tuple[str, frozenset[str]]] = {
    (0, PP): ("digits", frozenset(DIGITS)),
    (0, PM): ("capitals", frozenset(CAPITALS)),
    (1, PP): ("the word not", frozenset({" not"})),
    (2, MM): ("punctuation", frozenset(PUNCTUATION)),
}
"""What was planted in a combination of a neuron of layer 0, in the words of `planted`."""
EQUAL = ((PP, PM), (MP, MM))
"""The combinations of 0.3 that only the noise tells apart."""


@dataclass(frozen=True)
class Everything:
    """The explainer's word on the planted neurons, explained once."""

    explainer: Explainer
    by_index: Sequence[dict[SignCombination, Explained]]

    def explained(self, index: int) -> dict[SignCombination, Explained]:
        return self.by_index[index]

    def rule(self, index: int, c: SignCombination) -> RuleExplanation:
        rule = self.explained(index)[c].rule
        assert rule is not None, f"0.{index} {c.value} has no rule\n{self.table()}"
        return rule

    def score(self, index: int, c: SignCombination, negative: str) -> Score:
        return next(s for s in self.explained(index)[c].scores if s.metric == AUROC and s.negative_set == negative)

    def verdict(self, index: int, c: SignCombination) -> Verdict:
        found = self.explained(index)[c]
        return verdict(found.scores, enough=found.rule is not None, is_rule=True)

    def fires_on(self, index: int, c: SignCombination) -> set[str]:
        """The tokens of the test split at which the rule predicts."""
        at = self.explainer.test_positions
        return {TOKENS[token] for token in at.back(0)[self.rule(index, c).predict(at) > 0.5]}

    def table(self) -> str:
        lines = ["neuron  combination  planted  rule  AUROC N0  AUROC N1  verdict"]
        for index in range(5):
            for c, found in self.explained(index).items():
                planted = TRIGGERS.get((index, c), ("",))[0]
                if found.rule is None:
                    lines.append(f"0.{index}  {c.value}  {planted}  —  —  —  {self.verdict(index, c).value}")
                    continue
                scores = [_shown(s) for s in found.scores if s.metric == AUROC]
                label = found.rule.label(self.explainer.shapes)
                lines.append("  ".join([f"0.{index}", c.value, planted, label, *scores, self.verdict(index, c).value]))
        return "\n".join(lines)


def _shown(score: Score) -> str:
    return "null" if score.value is None else f"{score.value:.2f} [{score.lo:.2f}, {score.hi:.2f}]"


@pytest.fixture(scope="session")
def everything(explainer: Explainer) -> Everything:
    return Everything(explainer, [explainer.explain(NeuronId(0, index)) for index in range(5)])


TRIGGERED = pytest.mark.parametrize(
    ("index", "c"), list(TRIGGERS), ids=[f"0.{i} {c.value} {told}" for (i, c), (told, _) in TRIGGERS.items()]
)


# What was planted is found


@TRIGGERED
def test_the_planted_trigger_is_named(everything: Everything, index: int, c: SignCombination) -> None:
    """The rule fires on nothing else, and on most of what is strong in truth among the test windows."""
    _, planted = TRIGGERS[index, c]
    fired = everything.fires_on(index, c)
    assert fired, everything.table()
    assert fired <= planted, everything.table()
    windows = everything.explainer.evidence(NeuronId(0, index)).combinations[c].strong[Split.TEST]
    held = everything.explainer.predictor(everything.rule(index, c))(windows) > 0.5
    assert held.mean() >= 0.7, everything.table()


@TRIGGERED
def test_a_planted_trigger_is_supported(everything: Everything, index: int, c: SignCombination) -> None:
    """Unless the neuron drawn as control has the same trigger planted: then nothing is better than its rule."""
    found = everything.verdict(index, c)
    random, others = (everything.score(index, c, negative) for negative in (N0, N1))
    assert min(random.lo or 0, others.lo or 0) > 0.5, everything.table()
    twins = set(_planted_twins(index, c))
    for control in random.controls:
        if control.kind.removeprefix("other neuron ") not in twins and control.kind not in (STRONGEST, "token list"):
            assert (control.lift_lo or 0) > 0, f"{control}\n{everything.table()}"
    if not twins & {control.kind.removeprefix("other neuron ") for control in random.controls}:
        assert found is Verdict.SUPPORTED, everything.table()


def _planted_twins(index: int, c: SignCombination) -> list[str]:
    """The neurons of layer 0 that are in `c` on as good as the same tokens."""
    own = {token for token in world().model.truth[NeuronId(0, index)].tokens(c) if not token.startswith("<")}
    return [
        str(neuron)
        for neuron, truth in world().model.truth.items()
        if neuron.layer == 0 and own == {token for token in truth.tokens(c) if not token.startswith("<")}
    ]


def test_the_two_punctuation_neurons_are_the_only_planted_twins() -> None:
    twins = {key: _planted_twins(*key) for key in TRIGGERS}
    assert [len(found) for found in twins.values()] == [1, 1, 1, 2]


# What was planted alike, or not at all, is not found


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=lambda c: c.value)
def test_combinations_that_only_noise_tells_apart_are_not_told_apart(
    everything: Everything, one: SignCombination, other: SignCombination
) -> None:
    scores = {c: found.scores for c, found in everything.explained(3).items()}
    assert (one, other) in cross_combination.not_told_apart(scores), everything.table()


@pytest.mark.parametrize("c", COMBINATIONS, ids=lambda c: c.value)
def test_a_sign_that_only_noise_decides_is_not_supported(everything: Everything, c: SignCombination) -> None:
    assert everything.verdict(3, c) in (Verdict.NOT_SUPPORTED, Verdict.SIGN_UNCLEAR), everything.table()


def test_capitals_and_digits_are_told_apart_well_above_chance(everything: Everything) -> None:
    scores = {c: found.scores for c, found in everything.explained(0).items()}
    overall = cross_combination.overall(scores)
    assert overall is not None
    assert overall.lo > 0.6
    assert cross_combination.not_told_apart(scores) == []


@pytest.mark.parametrize("c", COMBINATIONS, ids=lambda c: c.value)
def test_where_strength_is_random_by_token_the_rule_names_tokens_that_are_strong_in_truth(
    everything: Everything, c: SignCombination
) -> None:
    """0.4 has no class for a trigger, but each token has its strength: the rule is right to name the strongest."""
    truth, tau = known(NeuronId(0, 4)), everything.explainer.evidence(NeuronId(0, 4)).combinations[c].tau
    assert tau is not None
    held = truth.within(Split.TEST, c)
    strong = {TOKENS[token] for token in truth.token[held & (np.abs(truth.post) >= tau * (1 - 1e-5))]}
    assert everything.fires_on(4, c) <= strong, everything.table()


@pytest.mark.parametrize(
    ("own", "wrong"),
    [(a, b) for a in TRIGGERS for b in TRIGGERS if TRIGGERS[a][0] != TRIGGERS[b][0]],
    ids=lambda key: f"0.{key[0]} {key[1].value}",
)
def test_the_rule_of_another_trigger_scores_at_chance(
    everything: Everything, own: tuple[int, SignCombination], wrong: tuple[int, SignCombination]
) -> None:
    index, c = own
    items = item_sets(everything.explainer.evidence(NeuronId(0, index)), c, Split.TEST)
    predict = everything.explainer.predictor(everything.rule(*wrong))
    chance = statistics.auroc_interval(predict(items.positive), predict(items.negative[N0]))
    assert chance.lo <= 0.5 <= chance.hi, f"{chance}\n{everything.table()}"


def test_with_too_few_strong_tokens_nothing_is_said(everything: Everything) -> None:
    for index in (1, 2):
        for c in (PM, MP):
            found = everything.explained(index)[c]
            assert (found.rule, found.text, found.scores) == (None, "", ())
            evidence = everything.explainer.evidence(NeuronId(0, index))
            assert len(evidence.combinations[c].strong[Split.EXPLAIN]) < MINIMUM_STRONG


# What a rule says of itself

UNITS = pytest.mark.parametrize("index", range(5), ids=lambda index: f"0.{index}")


@UNITS
def test_cover_is_the_share_of_strong_windows_that_no_earlier_rule_took(everything: Everything, index: int) -> None:
    for c in COMBINATIONS:
        rule = everything.explained(index)[c].rule
        if rule is None:
            continue
        assert len(rule.rules) <= MAX_RULES
        strong = everything.explainer.evidence(NeuronId(0, index)).combinations[c].strong
        at = {
            split: positions_of(strong[split], everything.explainer.shapes) for split in (Split.EXPLAIN, Split.SELECT)
        }
        taken = {split: np.zeros(len(where), dtype=bool) for split, where in at.items()}
        for one in rule.rules:
            for split, said in ((Split.EXPLAIN, one.cover), (Split.SELECT, one.select_cover)):
                held = one.holds(at[split]) & ~taken[split]
                taken[split] |= held
                assert said == pytest.approx(held.mean())
            assert 0.5 < one.precision <= 1


@UNITS
def test_a_window_has_the_precision_of_the_first_rule_that_holds(everything: Everything, index: int) -> None:
    at = everything.explainer.test_positions
    for c in COMBINATIONS:
        rule = everything.explained(index)[c].rule
        if rule is None:
            continue
        held = [one.holds(at) for one in rule.rules]
        first = [
            next((one.precision for one, h in zip(rule.rules, held, strict=True) if h[i]), rule.default)
            for i in range(len(at))
        ]
        assert rule.predict(at).tolist() == first
        assert all(rule.default < one.precision for one in rule.rules)


@UNITS
def test_a_rule_survives_json_and_predicts_the_same(everything: Everything, index: int) -> None:
    at = everything.explainer.test_positions
    for c in COMBINATIONS:
        rule = everything.explained(index)[c].rule
        if rule is not None:
            back = RuleExplanation.from_json(c, json.loads(json.dumps(rule.to_json())))
            assert back == rule
            assert back.predict(at).tolist() == rule.predict(at).tolist()


def test_the_text_says_support_and_what_is_written_with_its_sign(everything: Everything) -> None:
    shapes = everything.explainer.shapes
    plus, minus = (everything.explained(0)[c].text for c in (PP, PM))
    assert plus.startswith(f"Fires {everything.rule(0, PP).rules[0].describe(shapes)} (")
    assert "on held-out texts" in plus
    assert any(
        f"it promotes {', '.join(f'` {a}`' for a in order)}" in plus
        for order in permutations(["apple", "bird", "book"])
    )
    assert "(writing −w_out) promotes" in minus
    nothing = phrase(everything.rule(0, PP), shapes, [], 1)
    assert "promotes" not in nothing
