"""The deterministic explainer: what makes a neuron fire in one combination, as a decision list that scores itself.

No language model, no network, the same answer every time. From the `explain` split only:

1. strong windows of the combination against random tokens and against the other combinations, each side weighing 1;
2. candidate conditions: the token, the previous one, the pair, a token nearby, shapes and places, and conjunctions of
   two; sets of tokens are grown from those whose lift over the background is high;
3. a decision list of at most three rules, greedily: the rule with the largest r·log2((r + ε)/(f + ε)), where r is the
   share of strong windows that it covers and f the share of the background (FOIL's gain, Quinlan 1990, on shares).
   Half of f is the other combinations, half the corpus (its exact token counts where those say it);
4. rules that do not hold on `select` are dropped; each is printed with its support and precision.

The list is also the numeric predictor: a window's score is the balanced precision of the first rule that holds. It
scores this text and no other: any other text needs a judge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations as pairs_of
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import SignCombination, Split
from neuronagent.explain.background import Background, positions_of
from neuronagent.explain.evidence import CombinationEvidence, NeuronEvidence, Strength, Window
from neuronagent.explain.features import NEARBY, Condition, Positions, TokenShapes, quote, shape_conditions

MAX_RULES = 3
_SET_SIZE = 6
_EPSILON = 0.02
_LEAST_COVER = 0.1
_LEAST_PRECISION = 0.6
_SELECT_PRECISION = 0.6
_SELECT_COVER = 1 / 3
"""Of its cover on explain, what a rule must still have on select."""
_CONJUNCTION_GAIN = 1.15


@dataclass(frozen=True, kw_only=True)
class Rule:
    """All of `conditions` hold. `cover` and `background` are shares on explain; `precision` is balanced, on explain and
    select together; `select_cover` is None where select had no strong window to check it on."""

    conditions: tuple[Condition, ...]
    cover: float
    background: float
    precision: float
    select_cover: float | None

    def holds(self, at: Positions) -> NDArray[np.bool_]:
        return np.logical_and.reduce([condition.holds(at) for condition in self.conditions])

    def describe(self, shapes: TokenShapes) -> str:
        return " and ".join(condition.describe(shapes) for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        return {
            "conditions": [condition.to_json() for condition in self.conditions],
            "cover": self.cover,
            "background": self.background,
            "precision": self.precision,
            "select_cover": self.select_cover,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rule:
        conditions = tuple(Condition.from_json(condition) for condition in data["conditions"])
        return cls(conditions=conditions, **{k: v for k, v in data.items() if k != "conditions"})


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


@dataclass(frozen=True, kw_only=True)
class _Items:
    """Windows of one split with their side: 0 strong in c, 1 random tokens weak for c, 2 in the other combinations."""

    windows: tuple[Window, ...]
    sides: NDArray[np.int8]
    shapes: TokenShapes

    @cached_property
    def positions(self) -> Positions:
        return positions_of(self.windows, self.shapes)

    def holds(self, condition: Condition) -> NDArray[np.bool_]:
        return condition.holds(self.positions)

    def share(self, held: NDArray[np.bool_], side: int) -> float:
        """Share of the windows of a side at which something holds; 0 where the side is empty."""
        member = self.sides == side
        return float(held[member].mean()) if member.any() else 0.0


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The windows of one split that a rule is learnt or checked on: those where the combination is strong, those that
    are weak for it, and those of the neuron's other combinations."""

    strong: Sequence[Window] = ()
    weak: Sequence[Window] = ()
    others: Sequence[Window] = ()

    def items(self, shapes: TokenShapes) -> _Items:
        sizes = [len(self.strong), len(self.weak), len(self.others)]
        sides = np.repeat(np.array([0, 1, 2], dtype=np.int8), sizes)
        return _Items(windows=(*self.strong, *self.weak, *self.others), sides=sides, shapes=shapes)


def _sides(evidence: NeuronEvidence, own: CombinationEvidence, split: Split) -> Sides:
    random = [w for w in evidence.random[split] if own.strength(w) is Strength.WEAK]
    random += [w for w in own.sampled[split] if own.strength(w) is Strength.WEAK]
    others = [w for e in evidence.combinations.values() if e is not own for w in (*e.strong[split], *e.sampled[split])]
    return Sides(strong=own.strong[split], weak=random, others=others)


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
    rules = _decision_list(items, check, background)
    return RuleExplanation(
        combination=combination,
        rules=rules,
        default=_default(rules, items),
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


def _decision_list(items: _Items, check: _Items, background: Background) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    remaining = np.ones(len(items.windows), dtype=bool)
    unchecked = np.ones(len(check.windows), dtype=bool)
    rejected: set[tuple[Condition, ...]] = set()
    while len(rules) < MAX_RULES and len(rejected) < 2 * MAX_RULES:
        best = _best_rule(items, remaining, background, rejected)
        if best is None:
            break
        conditions, held, cover, other = best
        held_check = _all_hold(check, conditions) & unchecked
        rule = _checked_rule(conditions, cover, other, items, check, held_check)
        if rule is None:
            rejected.add(conditions)
            continue
        rules.append(rule)
        remaining &= ~held
        unchecked &= ~held_check
    return tuple(rules)


def _all_hold(items: _Items, conditions: Sequence[Condition]) -> NDArray[np.bool_]:
    held = np.ones(len(items.windows), dtype=bool)
    for condition in conditions:
        held &= items.holds(condition)
    return held


def _checked_rule(
    conditions: tuple[Condition, ...], cover: float, other: float, items: _Items, check: _Items, held: NDArray[np.bool_]
) -> Rule | None:
    """The rule with its precision on explain and select together; None if select speaks against it."""
    n_explain, n_select = int((items.sides == 0).sum()), int((check.sides == 0).sum())
    if not n_select:
        return Rule(
            conditions=conditions, cover=cover, background=other, precision=_precision(cover, other), select_cover=None
        )
    select_cover = check.share(held, 0)
    select_other = (check.share(held, 1) + check.share(held, 2)) / 2
    doubtful = _precision(select_cover, max(select_other, other)) < _SELECT_PRECISION
    if doubtful or select_cover < _SELECT_COVER * cover:
        return None
    pooled = (n_explain * cover + n_select * select_cover) / (n_explain + n_select)
    return Rule(
        conditions=conditions,
        cover=cover,
        background=other,
        precision=_precision(pooled, (other + max(select_other, other)) / 2),
        select_cover=select_cover,
    )


def _precision(cover: float, other: float) -> float:
    """Balanced precision, shrunk towards one half."""
    return (cover + _EPSILON) / (cover + other + 2 * _EPSILON)


def _gain(cover: float, other: float) -> float:
    return cover * math.log2((cover + _EPSILON) / (other + _EPSILON))


_Found = tuple[tuple[Condition, ...], NDArray[np.bool_], float, float]


def _best_rule(
    items: _Items, remaining: NDArray[np.bool_], background: Background, rejected: set[tuple[Condition, ...]]
) -> _Found | None:
    def measured(conditions: tuple[Condition, ...], held: NDArray[np.bool_]) -> _Found:
        held = held & remaining
        cover = items.share(held, 0)
        random = items.share(held, 1)
        if cover >= _LEAST_COVER:
            random = max(random, background.rate(conditions))
        return conditions, held, cover, (random + items.share(held, 2)) / 2

    def value(found: _Found) -> float:
        return _gain(found[2], found[3])

    singles = [
        measured((c,), items.holds(c)) for c in _candidates(items, remaining, background) if (c,) not in rejected
    ]
    singles = sorted((s for s in singles if s[2] >= _LEAST_COVER), key=value, reverse=True)
    if not singles:
        return None
    joined = [
        measured((*a[0], *b[0]), a[1] & b[1])
        for a, b in pairs_of(singles[:8], 2)
        if a[0][0].kind != b[0][0].kind and (*a[0], *b[0]) not in rejected
    ]
    best = singles[0]
    for rule in joined:
        if rule[2] >= _LEAST_COVER and value(rule) > _CONJUNCTION_GAIN * max(value(best), 0.0):
            best = rule
    return best if _precision(best[2], best[3]) >= _LEAST_PRECISION else None


def _candidates(items: _Items, remaining: NDArray[np.bool_], background: Background) -> Iterable[Condition]:
    """Shapes and places, and the token sets that the remaining strong windows suggest."""
    yield from shape_conditions()
    strong = [w for w, kept, side in zip(items.windows, remaining, items.sides, strict=True) if kept and side == 0]
    others = [w for w, side in zip(items.windows, items.sides, strict=True) if side == 2]
    readers: dict[str, Callable[[Window], Iterable[tuple[int, ...]]]] = {
        "token": lambda w: [(w.text.token_ids[w.position],)],
        "previous": lambda w: [(w.text.token_ids[w.position - 1],)],
        "pair": lambda w: [(w.text.token_ids[w.position - 1], w.text.token_ids[w.position])],
        "nearby": lambda w: {(t,) for t in w.text.token_ids[max(0, w.position - NEARBY) : w.position]},
    }
    for kind, read in readers.items():
        counted = Counter(t for w in strong for t in read(w))
        elsewhere = Counter(t for w in others for t in read(w))
        chosen: list[tuple[float, tuple[int, ...]]] = []
        for tokens, count in counted.items():
            corpus = float(np.prod([background.share[t] for t in tokens])) * (NEARBY if kind == "nearby" else 1)
            other = (corpus + elsewhere[tokens] / max(1, len(others))) / 2
            cover = count / max(1, len(strong))
            if count > 1 and cover > 3 * other:
                chosen.append((_gain(cover, other), tokens))
        chosen.sort(key=lambda item: (-item[0], item[1]))
        sets = {tuple(sorted(t for _, t in chosen[:size])) for size in (1, 2, 4, _SET_SIZE) if chosen}
        for tokens in sorted(sets):
            yield Condition(kind=kind, tokens=tokens)


def _default(rules: tuple[Rule, ...], items: _Items) -> float:
    """The score where no rule holds: what is left of each side, never above the weakest rule."""
    if not rules:
        return 0.5
    held = np.zeros(len(items.windows), dtype=bool)
    for rule in rules:
        held |= _all_hold(items, rule.conditions)
    left = _precision(items.share(~held, 0), (items.share(~held, 1) + items.share(~held, 2)) / 2)
    return min(left, min(rule.precision for rule in rules) - 1e-6)


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
