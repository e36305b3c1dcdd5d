"""What the deterministic explainer says of planted neurons, explained once, beside what was planted in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId, Score, SignCombination, Split, View
from neuronagent.explain.background import positions_of
from neuronagent.explain.evidence import Window
from neuronagent.explain.rules import RuleExplanation
from neuronagent.explain.scorers.detection import AUROC
from neuronagent.explain.verdict import Verdict, verdict
from neuronagent.service.explain import Explained, Explainer
from tests.explain.made_neurons import EACH, EQUAL, STRONG
from tests.known_index import known
from tests.planted import CAPITALS, DIGITS, PUNCTUATION, TOKENS

PP, PM, MP, MM = COMBINATIONS
Unit = tuple[int, SignCombination]
TRIGGERS: dict[Unit, tuple[str, frozenset[str]]] = {
    (0, PP): ("digits", frozenset(DIGITS)),
    (0, PM): ("capitals", frozenset(CAPITALS)),
    (1, PP): ("the word not", frozenset({" not"})),
    (2, MM): ("punctuation", frozenset(PUNCTUATION)),
    (EACH, PP): ("digits", frozenset(DIGITS)),
    (EACH, PM): ("capitals", frozenset(CAPITALS)),
    (EACH, MP): ("punctuation", frozenset(PUNCTUATION)),
    (EACH, MM): ("three words", frozenset(STRONG[EACH][3])),
    (EQUAL, MP): ("capitals", frozenset(CAPITALS)),
}
"""What was planted, and is planted in no other combination of the neuron: by `planted`, and by `made_neurons`."""


@dataclass(frozen=True)
class Everything:
    """The explainer's word on the neurons of layer 0, and on those made up beside them."""

    explainer: Explainer
    by_index: Mapping[int, dict[SignCombination, Explained]]

    def explained(self, index: int) -> dict[SignCombination, Explained]:
        return self.by_index[index]

    def rule(self, index: int, c: SignCombination) -> RuleExplanation:
        rule = self.explained(index)[c].rule
        assert rule is not None, f"0.{index} {c.value} has no rule\n{self.table()}"
        return rule

    def predict(self, rule: RuleExplanation, windows: tuple[Window, ...]) -> NDArray[np.float64]:
        return rule.predict(positions_of(windows, self.explainer.shapes))

    def score(self, index: int, c: SignCombination, negative: str) -> Score:
        return next(s for s in self._detection(index, c) if s.negative_set == negative)

    def _detection(self, index: int, c: SignCombination) -> list[Score]:
        scores = self.explained(index)[c].scores
        return [s for s in scores if s.metric == AUROC and s.view == View.CAUSAL.value and s.value is not None]

    def verdict(self, index: int, c: SignCombination) -> Verdict:
        found = self.explained(index)[c]
        return verdict(found.scores, enough=found.rule is not None, is_rule=True)

    def fires_on(self, index: int, c: SignCombination) -> set[str]:
        """The tokens of the test split at which the rule predicts."""
        at = self.explainer.test_positions
        return {TOKENS[token] for token in at.back(0)[self.rule(index, c).predict(at) > 0.5]}

    def strong_in_truth(self, index: int, c: SignCombination) -> set[str]:
        """The tokens that are strong somewhere in the test split, by the oracle of the model."""
        neuron = NeuronId(0, index)
        truth, tau = known(neuron), self.explainer.evidence(neuron).combinations[c].tau
        assert tau is not None
        held = truth.within(Split.TEST, c)
        return {TOKENS[token] for token in truth.token[held & (np.abs(truth.post) >= tau * (1 - 1e-5))]}

    def table(self) -> str:
        """A line per unit, for whoever reads why a test failed."""
        lines = ["neuron  combination  planted  rule  AUROC N0  AUROC N1  verdict"]
        for index, combinations in self.by_index.items():
            for c, found in combinations.items():
                planted = TRIGGERS.get((index, c), ("",))[0]
                label = "—" if found.rule is None else found.rule.label(self.explainer.shapes)
                scores = [f"{s.value:.2f} [{s.lo:.2f}, {s.hi:.2f}]" for s in self._detection(index, c)]
                lines.append("  ".join([f"0.{index}", c.value, planted, label, *scores, self.verdict(index, c).value]))
        return "\n".join(lines)
