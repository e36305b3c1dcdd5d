"""Scores what is said of a neuron's combinations: one way for rules, which predict themselves, and texts, which a judge
reads.

`score` is a pure function of the index, of what is said and of the voice's answers. A judge is asked by scoring twice:
the first time its answers are noted as missing, so that all questions, and their cost, are known before one is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId, Score, SignCombination, Split, View
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import TokenShapes, quote
from neuronagent.explain.items import DEFAULT_SIZES, N0, SAME_TEXTS, ItemSets, ItemSizes, SimulationItems
from neuronagent.explain.rules import RuleExplanation
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.detection import detection
from neuronagent.explain.scorers.fuzzing import fuzzing
from neuronagent.explain.scorers.simulation import simulation
from neuronagent.explain.subjects import (
    Answers,
    EmptySubject,
    RuleSubject,
    Subject,
    TextSubject,
    TokenListSubject,
    which_of,
)
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL

RULE_JUDGE = "rule"
CHOSEN = "chosen"
"""The metric under which a campaign marks the text that it chose: the mean AUROC on `select`, and which campaign."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What is said of one combination: a text, and the rule that it puts in words, if it is one."""

    text: str
    rule: RuleExplanation | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which scores, and on how many items. Detection in the causal view and *which of the k* are always there."""

    sizes: ItemSizes = DEFAULT_SIZES
    full_view: bool = True
    fuzzing: bool = True
    simulation: bool = True

    @property
    def name(self) -> str:
        """How the plan is named in a protocol's version."""
        parts = [
            n for n, wanted in (("full", self.full_view), ("fuzz", self.fuzzing), ("sim", self.simulation)) if wanted
        ]
        return "+".join([self.sizes.name, *parts])


class Units(Protocol):
    """An index, as scoring sees it: its neurons, their rules and their items."""

    @property
    def shapes(self) -> TokenShapes: ...
    def rules(self, neuron: NeuronId) -> Mapping[SignCombination, RuleExplanation | None]: ...
    def wanted(self, neuron: NeuronId) -> set[SignCombination]: ...
    def items(self, neuron: NeuronId, c: SignCombination, split: Split, view: View, sizes: ItemSizes) -> ItemSets: ...
    def strong(self, neuron: NeuronId, c: SignCombination, split: Split, n: int) -> Sequence[Window]: ...
    def like(self, neuron: NeuronId, c: SignCombination) -> tuple[str, RuleExplanation] | None: ...
    def fuzzed(
        self, neuron: NeuronId, c: SignCombination, split: Split, sizes: ItemSizes
    ) -> tuple[Sequence[Window], Sequence[Window]]: ...
    def simulated(
        self, neuron: NeuronId, c: SignCombination, split: Split, sizes: ItemSizes
    ) -> SimulationItems | None: ...
    def base_rate(
        self, neuron: NeuronId, c: SignCombination, voice: Voice, said: Said, sizes: ItemSizes
    ) -> list[Score]: ...
    def why_not(self, neuron: NeuronId) -> str: ...


class Voice(Protocol):
    """Who decides whether a window fits what is said. `control_sets`: where controls are asked, None: everywhere."""

    @property
    def judge(self) -> str: ...
    @property
    def control_sets(self) -> Container[str] | None: ...
    def subject(self, said: Said) -> Subject: ...
    def empty(self) -> Subject: ...
    def token_list(self, rule: RuleExplanation) -> Subject: ...
    def which(
        self, said: Mapping[SignCombination, Said], windows: Mapping[SignCombination, Sequence[Window]]
    ) -> Mapping[SignCombination, NDArray[np.float64]] | None: ...


class RuleVoice:
    """Rules, by their own predictors."""

    judge = RULE_JUDGE
    control_sets: Container[str] | None = None

    def __init__(self, shapes: TokenShapes) -> None:
        self._shapes = shapes

    def subject(self, said: Said) -> Subject:
        if said.rule is None:
            raise ValueError("only a rule can be scored without a judge")
        return RuleSubject(said.rule, self._shapes)

    def empty(self) -> Subject:
        return EmptySubject()

    def token_list(self, rule: RuleExplanation) -> Subject:
        return TokenListSubject(rule, self._shapes)

    def which(
        self, said: Mapping[SignCombination, Said], windows: Mapping[SignCombination, Sequence[Window]]
    ) -> Mapping[SignCombination, NDArray[np.float64]] | None:
        return None


class JudgeVoice:
    """Texts, as a judge reads them. Controls cost calls: they are asked where the headline is, on random windows."""

    control_sets: Container[str] | None = (N0, SAME_TEXTS)

    def __init__(self, judge: str, shapes: TokenShapes, answers: Answers) -> None:
        self.judge, self._shapes, self._answers = judge, shapes, answers

    def subject(self, said: Said) -> Subject:
        return TextSubject(said.text, self._shapes, self._answers)

    def empty(self) -> Subject:
        return self.subject(Said(text=""))

    def token_list(self, rule: RuleExplanation) -> Subject:
        return self.subject(Said(text=token_list_text(rule, self._shapes)))

    def which(
        self, said: Mapping[SignCombination, Said], windows: Mapping[SignCombination, Sequence[Window]]
    ) -> Mapping[SignCombination, NDArray[np.float64]] | None:
        texts = [said[c].text for c in windows]
        return {c: which_of(texts, shown, self._shapes, self._answers) for c, shown in windows.items()}


def score(
    units: Units,
    neuron: NeuronId,
    said: Mapping[SignCombination, Said],
    voice: Voice,
    plan: Plan,
    split: Split = Split.TEST,
    *,
    only: Collection[SignCombination] = COMBINATIONS,
) -> dict[SignCombination, list[Score]]:
    """The scores of what is said of each combination in `only`; what is said of the others is among the controls."""
    subjects = {c: voice.subject(own) for c, own in said.items()}
    found = {c: _own(units, neuron, c, said, subjects, voice, plan, split) for c in said if c in only}
    windows = {c: units.strong(neuron, c, split, plan.sizes.positive) for c in said}
    cross = cross_combination.cross_combination(
        subjects,
        windows,
        split=split,
        seed=seed_of(neuron, None),
        judge=voice.judge,
        which=voice.which(said, windows) if len(said) > 1 else None,
    )
    return {c: scores + cross.get(c, []) for c, scores in found.items()}


def _own(
    units: Units,
    neuron: NeuronId,
    c: SignCombination,
    said: Mapping[SignCombination, Said],
    subjects: Mapping[SignCombination, Subject],
    voice: Voice,
    plan: Plan,
    split: Split,
) -> list[Score]:
    """The scores of one combination but for those that compare it with the others."""
    subject, seed, sizes = subjects[c], seed_of(neuron, c), plan.sizes
    controls = _controls(units, neuron, c, subjects, voice)
    rule = units.rules(neuron).get(c)
    reported = {} if rule is None else {TOKEN_LIST_CONTROL: voice.token_list(rule)}
    scores: list[Score] = []
    for view in (View.CAUSAL, View.FULL) if plan.full_view else (View.CAUSAL,):
        scores += detection(
            subject,
            units.items(neuron, c, split, view, sizes),
            controls,
            reported,
            view=view,
            split=split,
            seed=seed,
            judge=voice.judge,
            control_sets=voice.control_sets,
        )
    if plan.fuzzing:
        true, wrong = units.fuzzed(neuron, c, split, sizes)
        everywhere = voice.control_sets is None
        scores += fuzzing(
            subject,
            true,
            wrong,
            split=split,
            seed=seed,
            judge=voice.judge,
            controls=controls if everywhere else None,
            reported=reported if everywhere else None,
            missing=units.why_not(neuron),
        )
    if plan.simulation:
        items, fitted = (units.simulated(neuron, c, s, sizes) for s in (split, Split.SELECT))
        scores += simulation(
            subject, items, fitted, split=split, seed=seed, judge=voice.judge, missing=units.why_not(neuron)
        )
    return scores + units.base_rate(neuron, c, voice, said[c], sizes)


def _controls(
    units: Units, neuron: NeuronId, c: SignCombination, subjects: Mapping[SignCombination, Subject], voice: Voice
) -> dict[str, Subject]:
    """Empty text, another neuron's rule for the same combination, what is said of this neuron's other combinations."""
    controls: dict[str, Subject] = {"empty": voice.empty()}
    other = units.like(neuron, c)
    if other is not None:
        rule = other[1]
        controls[f"other neuron {other[0]}"] = voice.subject(Said(text=rule_words(rule, units.shapes), rule=rule))
    for d, subject in subjects.items():
        if d is not c:
            controls[f"other combination {d.value}"] = subject
    return controls


def rule_words(rule: RuleExplanation, shapes: TokenShapes) -> str:
    """What a judge reads of a rule: its conditions, without the numbers that stand beside them for people."""
    return f"Fires {rule.label(shapes)}."


def token_list_text(rule: RuleExplanation, shapes: TokenShapes) -> str:
    """The tokens that the deterministic explainer found over-represented at the peak, as a text for a judge."""
    listed = ", ".join(quote(shapes.text[trigger.token_id]) for trigger in rule.triggers)
    return f"Fires on the tokens {listed}." if listed else ""


def seed_of(neuron: NeuronId, combination: SignCombination | None) -> int:
    """The seed of a unit's bootstrap draws: a function of its name."""
    name = f"{neuron} {combination.value if combination else 'all'}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
