"""What a rule says of itself: shares, precision, JSON, and words."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, Split
from neuronagent.explain.background import positions_of
from neuronagent.explain.decision_list import MAX_RULES
from neuronagent.explain.rules import RuleExplanation, phrase
from tests.explain.planted_units import PM, PP, Everything

UNITS = pytest.mark.parametrize("index", range(5), ids=lambda index: f"0.{index}")


@pytest.mark.slow
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
