"""Learns a decision list: at most three rules that hold where a combination is strong and hardly anywhere else.

1. Strong windows of the combination against random tokens and against the other combinations, each side weighing 1.
2. Candidate conditions: the token, the previous one, the pair, a token nearby, shapes and places, and conjunctions of
   two; sets of tokens are grown from those whose lift over the background is high.
3. Greedily the rule with the largest r·log2((r + ε)/(f + ε)), where r is the share of strong windows that it covers and
   f the share of the background (FOIL's gain, Quinlan 1990, on shares). Half of f is the other combinations, half the
   corpus (its exact token counts where those say it).
4. Rules that do not hold on `select` are dropped.

Conditions are rows of a matrix over the windows, so that those of one step are measured together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from itertools import combinations as pairs_of
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.explain.background import Background, Bits, positions_of
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import NEARBY, Condition, Positions, TokenShapes, shape_conditions

MAX_RULES = 3
_SET_SIZES = (1, 2, 4, 6)
_EPSILON = 0.02
_LEAST_COVER = 0.1
_LEAST_PRECISION = 0.6
_SELECT_PRECISION = 0.6
_SELECT_COVER = 1 / 3
"""Of its cover on explain, what a rule must still have on select."""
_CONJUNCTION_GAIN = 1.15
_JOINED = 8
"""The best so many single conditions are joined in pairs."""
_SHAPES = tuple(shape_conditions())

Held = NDArray[np.bool_]
Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """All of `conditions` hold. `cover` and `background` are shares on explain; `precision` is balanced, on explain and
    select together; `select_cover` is None where select had no strong window to check it on."""

    conditions: tuple[Condition, ...]
    cover: float
    background: float
    precision: float
    select_cover: float | None

    def holds(self, at: Positions) -> Held:
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
class Sides:
    """The windows of one split that a rule is learnt or checked on: those where the combination is strong, those that
    are weak for it, and those of the neuron's other combinations."""

    strong: Sequence[Window] = ()
    weak: Sequence[Window] = ()
    others: Sequence[Window] = ()

    def items(self, shapes: TokenShapes) -> Items:
        sizes = np.array([len(self.strong), len(self.weak), len(self.others)])
        positions = positions_of((*self.strong, *self.weak, *self.others), shapes)
        return Items(positions=positions, sizes=sizes)


@dataclass(frozen=True, kw_only=True)
class Items:
    """n windows, those of side 0 first: strong in c, then random tokens weak for c, then the other combinations."""

    positions: Positions
    sizes: NDArray[np.int64]

    @cached_property
    def _membership(self) -> NDArray[np.float32]:
        """`[n, 3]`: 1 at the side of a window. Counts up to 2²⁴ are exact in float32."""
        return np.repeat(np.eye(3, dtype=np.float32), self.sizes, axis=0)

    def everything(self) -> Held:
        """True `[n]`."""
        return np.ones(int(self.sizes.sum()), dtype=np.bool_)

    def holds(self, conditions: Iterable[Condition]) -> Held:
        """Whether all conditions hold `[n]`."""
        return np.logical_and.reduce([self.everything(), *(c.holds(self.positions) for c in conditions)])

    def shares(self, held: Held) -> list[list[float]]:
        """For each row of `held` `[rows, n]` the share of each of the three sides; 0 where a side is empty."""
        counts = (held.astype(np.float32) @ self._membership).astype(np.float64)
        return (counts / np.maximum(self.sizes, 1)).tolist()

    @cached_property
    def shapes_held(self) -> Held:
        """`[shapes, n]`: every condition that does not depend on the vocabulary."""
        return np.stack([condition.holds(self.positions) for condition in _SHAPES])

    @cached_property
    def reads(self) -> dict[str, list[list[Tokens]]]:
        """By kind of condition, the tokens that each window offers for one."""
        rows: list[list[int]] = np.stack([self.positions.back(step) for step in range(NEARBY + 1)], axis=1).tolist()
        return {
            "token": [[(row[0],)] for row in rows],
            "previous": [[(row[1],)] for row in rows],
            "pair": [[(row[1], row[0])] for row in rows],
            "nearby": [[(t,) for t in {*row[1:]} if t >= 0] for row in rows],
        }

    @cached_property
    def elsewhere(self) -> dict[str, Counter[Tokens]]:
        """By kind, in how many windows of the other combinations something occurs."""
        first = int(self.sizes[:2].sum())
        return {kind: Counter(chain.from_iterable(read[first:])) for kind, read in self.reads.items()}


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """Conditions that might be a rule: where they hold of what remains, and the shares that they have there."""

    conditions: tuple[Condition, ...]
    held: Held
    bits: Bits
    cover: float
    other: float

    @cached_property
    def value(self) -> float:
        return _gain(self.cover, self.other)


def decision_list(items: Items, check: Items, background: Background) -> tuple[Rule, ...]:
    """The rules that `items` suggest and `check` does not speak against."""
    rules: list[Rule] = []
    remaining, unchecked = items.everything(), check.everything()
    rejected: set[tuple[Condition, ...]] = set()
    singles = _singles(items, remaining, background)
    while len(rules) < MAX_RULES and len(rejected) < 2 * MAX_RULES:
        best = _best(singles, items, background, rejected)
        if best is None:
            break
        held_check = check.holds(best.conditions) & unchecked
        rule = _checked_rule(best, items, check, held_check)
        if rule is None:
            rejected.add(best.conditions)
            continue
        rules.append(rule)
        remaining &= ~best.held
        unchecked &= ~held_check
        singles = _singles(items, remaining, background)
    return tuple(rules)


def default_score(rules: Sequence[Rule], items: Items) -> float:
    """The score where no rule holds: what is left of each side, never above the weakest rule."""
    if not rules:
        return 0.5
    held = np.logical_or.reduce([items.holds(rule.conditions) for rule in rules])
    strong, weak, others = items.shares(~held[None])[0]
    return min(_precision(strong, (weak + others) / 2), min(rule.precision for rule in rules) - 1e-6)


def _checked_rule(found: _Candidate, items: Items, check: Items, held: Held) -> Rule | None:
    """The rule with its precision on explain and select together; None if select speaks against it."""
    n_explain, n_select = int(items.sizes[0]), int(check.sizes[0])
    cover, other = found.cover, found.other
    if not n_select:
        precision = _precision(cover, other)
        return Rule(conditions=found.conditions, cover=cover, background=other, precision=precision, select_cover=None)
    select_cover, weak, others = check.shares(held[None])[0]
    select_other = (weak + others) / 2
    doubtful = _precision(select_cover, max(select_other, other)) < _SELECT_PRECISION
    if doubtful or select_cover < _SELECT_COVER * cover:
        return None
    pooled = (n_explain * cover + n_select * select_cover) / (n_explain + n_select)
    return Rule(
        conditions=found.conditions,
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


def _singles(items: Items, remaining: Held, background: Background) -> list[_Candidate]:
    """Single conditions that cover enough of what remains, the best first."""
    conditions = [*_SHAPES, *_suggested(items, remaining, background)]
    suggested = [condition.holds(items.positions)[None] for condition in conditions[len(_SHAPES) :]]
    held = np.concatenate([items.shapes_held, *suggested]) & remaining
    found = [
        _candidate((condition,), row, background.bits(condition), shares, background)
        for condition, row, shares in zip(conditions, held, items.shares(held), strict=True)
        if shares[0] >= _LEAST_COVER
    ]
    return sorted(found, key=lambda candidate: candidate.value, reverse=True)


def _joined(singles: Sequence[_Candidate], items: Items, background: Background) -> list[_Candidate]:
    """Pairs of conditions of unlike kind that cover enough."""
    pairs = [(a, b) for a, b in pairs_of(singles, 2) if a.conditions[0].kind != b.conditions[0].kind]
    if not pairs:
        return []
    held = np.stack([a.held & b.held for a, b in pairs])
    return [
        _candidate((*a.conditions, *b.conditions), row, a.bits & b.bits, shares, background)
        for (a, b), row, shares in zip(pairs, held, items.shares(held), strict=True)
        if shares[0] >= _LEAST_COVER
    ]


def _candidate(
    conditions: tuple[Condition, ...], held: Held, bits: Bits, shares: Sequence[float], background: Background
) -> _Candidate:
    strong, weak, others = shares
    other = (max(weak, background.share_of(bits)) + others) / 2
    return _Candidate(conditions=conditions, held=held, bits=bits, cover=strong, other=other)


def _best(
    singles: Sequence[_Candidate], items: Items, background: Background, rejected: set[tuple[Condition, ...]]
) -> _Candidate | None:
    """The best condition, or a pair that is clearly better; None where nothing tells the sides apart."""
    allowed = [single for single in singles if single.conditions not in rejected]
    if not allowed:
        return None
    best = allowed[0]
    for pair in _joined(allowed[:_JOINED], items, background):
        if pair.conditions not in rejected and pair.value > _CONJUNCTION_GAIN * max(best.value, 0.0):
            best = pair
    return best if _precision(best.cover, best.other) >= _LEAST_PRECISION else None


def _suggested(items: Items, remaining: Held, background: Background) -> Iterable[Condition]:
    """The token sets that the remaining strong windows suggest."""
    strong = np.flatnonzero(remaining[: items.sizes[0]]).tolist()
    n_others = max(1, int(items.sizes[2]))
    for kind, read in items.reads.items():
        counted, elsewhere = Counter(chain.from_iterable(read[i] for i in strong)), items.elsewhere[kind]
        chosen: list[tuple[float, Tokens]] = []
        for tokens, count in counted.items():
            if count < 2:
                continue
            corpus = math.prod(background.share.item(t) for t in tokens) * (NEARBY if kind == "nearby" else 1)
            other = (corpus + elsewhere[tokens] / n_others) / 2
            cover = count / len(strong)
            if cover > 3 * other:
                chosen.append((_gain(cover, other), tokens))
        chosen.sort(key=lambda item: (-item[0], item[1]))
        sets = {tuple(sorted(t for _, t in chosen[:size])) for size in _SET_SIZES if chosen}
        for tokens in sorted(sets):
            yield Condition(kind=kind, tokens=tokens)
