"""The deterministic explainer: what makes a neuron fire in one combination, as a decision list that scores itself.

No language model, no network, the same answer every time. From the `explain` split only: a decision list
(`decision_list`), the tokens at the peak that are over-represented, and what comes before and after. Rules that do not
hold on `select` are dropped; each is printed with its support and precision.

The list is also the numeric predictor: a window's score is the balanced precision of the first rule that holds. It
scores this text and no other: any other text needs a judge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, SignCombination, Split
from neuronagent.explain.background import Background
from neuronagent.explain.decision_list import MAX_RULES, Rule, Sides, decision_list, default_score
from neuronagent.explain.evidence import CombinationEvidence, NeuronEvidence, Strength, Window
from neuronagent.explain.features import Positions, TokenShapes, quote

__all__ = [
    "MAX_RULES",
    "NeuronRules",
    "Rule",
    "RuleExplanation",
    "Sides",
    "Trigger",
    "explain_combination",
    "learn",
    "phrase",
]


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A token over-represented at the peak: how many strong windows have it, its lift over the corpus, log-odds."""

    token_id: int
    count: int
    lift: float
    log_odds: float


@dataclass(frozen=True, kw_only=True)
class RuleExplanation:
    """What the deterministic explainer says of one combination; `default` is the score where no rule holds."""

    combination: SignCombination
    rules: tuple[Rule, ...]
    default: float
    triggers: tuple[Trigger, ...]
    previous: tuple[tuple[int, int], ...]
    following: tuple[tuple[int, int], ...]
    n_strong: int

    def predict(self, at: Positions) -> NDArray[np.float64]:
        """A score for each position."""
        scores = np.full(len(at), self.default)
        for rule in reversed(self.rules):
            scores[rule.holds(at)] = rule.precision
        return scores

    def predict_tokens(self, at: Positions) -> NDArray[np.float64]:
        """The token list alone, as a control: the log-odds of the marked token, 0 for tokens not listed."""
        scores = np.zeros(len(at))
        for trigger in self.triggers:
            scores[at.back(0) == trigger.token_id] = trigger.log_odds
        return scores

    def label(self, shapes: TokenShapes) -> str:
        """The decision list in one phrase."""
        return "; else ".join(rule.describe(shapes) for rule in self.rules) or "no simple trigger found"

    def to_json(self) -> dict[str, Any]:
        return {
            "rules": [rule.to_json() for rule in self.rules],
            "default": self.default,
            "triggers": [vars(trigger) for trigger in self.triggers],
            "previous": [list(pair) for pair in self.previous],
            "following": [list(pair) for pair in self.following],
            "n_strong": self.n_strong,
        }

    @classmethod
    def from_json(cls, combination: SignCombination, data: Mapping[str, Any]) -> RuleExplanation:
        return cls(
            combination=combination,
            rules=tuple(Rule.from_json(rule) for rule in data["rules"]),
            default=data["default"],
            triggers=tuple(Trigger(**trigger) for trigger in data["triggers"]),
            previous=tuple((token, count) for token, count in data["previous"]),
            following=tuple((token, count) for token, count in data["following"]),
            n_strong=data["n_strong"],
        )


def _sides(evidence: NeuronEvidence, own: CombinationEvidence, split: Split) -> Sides:
    random = [w for w in evidence.random[split] if own.strength(w) is Strength.WEAK]
    random += [w for w in own.sampled[split] if own.strength(w) is Strength.WEAK]
    others = [w for e in evidence.combinations.values() if e is not own for w in (*e.strong[split], *e.sampled[split])]
    return Sides(strong=own.strong[split], weak=random, others=others)


class NeuronRules(Mapping[SignCombination, RuleExplanation | None]):
    """The rules of a neuron by combination, each learnt when it is first asked for: of a control, one is."""

    def __init__(self, evidence: NeuronEvidence, background: Background) -> None:
        def learnt(combination: SignCombination) -> RuleExplanation | None:
            return explain_combination(evidence, combination, background)

        self._learn = cache(learnt)

    def __getitem__(self, combination: SignCombination) -> RuleExplanation | None:
        return self._learn(combination)

    def __iter__(self) -> Iterator[SignCombination]:
        return iter(COMBINATIONS)

    def __len__(self) -> int:
        return len(COMBINATIONS)


def explain_combination(
    evidence: NeuronEvidence, combination: SignCombination, background: Background
) -> RuleExplanation | None:
    """The rule-based explanation of one combination, or None where there are too few strong tokens to learn from."""
    own = evidence.combinations[combination]
    if not own.enough(Split.EXPLAIN):
        return None
    explain, select = (_sides(evidence, own, split) for split in (Split.EXPLAIN, Split.SELECT))
    return learn(combination, explain, select, background)


def learn(combination: SignCombination, explain: Sides, select: Sides, background: Background) -> RuleExplanation:
    """The decision list that `explain` suggests and `select` does not speak against."""
    items, check = explain.items(background.shapes), select.items(background.shapes)
    rules = decision_list(items, check, background)
    return RuleExplanation(
        combination=combination,
        rules=rules,
        default=default_score(rules, items),
        triggers=_triggers(explain.strong, background),
        previous=_common(w.text.token_ids[w.position - 1] for w in explain.strong if w.position > 1),
        following=_common(w.after[0] for w in explain.strong if w.after),
        n_strong=len(explain.strong),
    )


def _common(tokens: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """The tokens that occur at least twice, with their counts, most frequent first."""
    return tuple((t, n) for t, n in sorted(Counter(tokens).items(), key=lambda item: (-item[1], item[0])) if n > 1)[:5]


def _triggers(strong: Sequence[Window], background: Background) -> tuple[Trigger, ...]:
    """Tokens at the peak with lift and log-odds against the corpus, both with half a token added."""
    n = len(strong)
    found: list[Trigger] = []
    for token, count in Counter(w.text.token_ids[w.position] for w in strong).items():
        share = float(background.share[token])
        p = (count + 0.5) / (n + 1)
        q = max(share, 1e-6)
        log_odds = math.log(p / (1 - p)) - math.log(q / (1 - q))
        if log_odds > 0:
            found.append(Trigger(token_id=token, count=count, lift=count / n / q, log_odds=log_odds))
    return tuple(sorted(found, key=lambda t: (-t.count, -t.log_odds, t.token_id))[:12])


def phrase(explanation: RuleExplanation, shapes: TokenShapes, writes: Sequence[str], write_sign: int) -> str:
    """The explanation as text: the decision list with support, what follows, and what is written with its sign."""
    sentences: list[str] = []
    for rule in explanation.rules:
        checked = "unchecked" if rule.select_cover is None else f"{rule.select_cover:.0%} on held-out texts"
        support = f"{rule.cover:.0%} of its strong tokens, {checked}, against {rule.background:.1%} of others"
        sentences.append(f"{rule.describe(shapes)} ({support})")
    text = "Fires " + "; else ".join(sentences) + "." if sentences else "No simple trigger found."
    if explanation.following:
        listed = ", ".join(quote(shapes.text[t]) for t, _ in explanation.following[:3])
        text += f" Often followed by {listed}."
    if writes:
        verb = "promotes" if write_sign > 0 else "(writing −w_out) promotes"
        text += f" When it fires it {verb} {', '.join(quote(token) for token in writes[:4])}."
    return text
