"""Explains neurons of an imported index with the deterministic explainer, scored under `imported-v1`.

Scores of this protocol stand apart: their negatives are weak tokens of the same texts, or the neuron's other
combinations, there is no base rate, and no `select` split on which a rule could have been checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, SignCombination, Split
from neuronagent.explain import rules
from neuronagent.explain.background import Background, positions_of
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import TokenShapes
from neuronagent.explain.imported import MINIMUM_LISTED, ImportedEvidence, gather_imported
from neuronagent.explain.items import DEFAULT_SIZES, N1, SAME_TEXTS, ItemSets, spread
from neuronagent.explain.rules import RuleExplanation, Sides
from neuronagent.explain.scorers import cross_combination, predictor
from neuronagent.explain.scorers.detection import detection
from neuronagent.explain.scorers.predictor import Predictor
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL
from neuronagent.published import IMPORTED, PublishedNeuron
from neuronagent.service.explain import (
    RULE_JUDGE,
    WHICH_WINDOWS,
    Explained,
    evidence_hash,
    scored_combinations,
    seed_of,
)
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation, add_scores
from neuronagent.store.reader import IndexReader

_CONTROL_CANDIDATES = 5
BACKGROUND = "the texts of this neuron's own lists: the corpus was not published"


class ImportedExplainer:
    """The deterministic explainer over one imported index. Not safe to share between threads."""

    def __init__(self, reader: IndexReader) -> None:
        self.reader = reader
        self.fingerprint: str = reader.info()["fingerprint"]
        self.evidence = lru_cache(maxsize=64)(self._evidence)
        self.rules = lru_cache(maxsize=64)(self._rules)

    @cached_property
    def shapes(self) -> TokenShapes:
        return TokenShapes([token.encode(errors="backslashreplace") for token in self.reader.published.tokens])

    @cached_property
    def frequencies(self) -> dict[SignCombination, list[tuple[NeuronId, float]]]:
        """What was published of every neuron that has examples, for finding a like one."""
        found: dict[SignCombination, list[tuple[NeuronId, float]]] = {c: [] for c in COMBINATIONS}
        for neuron in self.reader.published.neurons():
            for c, own in neuron.combinations.items():
                if own.frequency is not None:
                    found[c].append((neuron.neuron, own.frequency))
        return found

    def _evidence(self, neuron: NeuronId) -> ImportedEvidence:
        return gather_imported(self.reader.published, neuron, self.reader.traces(neuron))

    def _rules(self, neuron: NeuronId) -> Mapping[SignCombination, RuleExplanation | None]:
        evidence, side = self.evidence(neuron), Split.EXPLAIN
        texts = [w.text for own in evidence.strong.values() for w in own[side]]
        counts = np.bincount(
            np.array([t for text in texts for t in text.token_ids[1:]], dtype=np.int64),
            minlength=len(self.shapes.text),
        )
        background = Background(self.shapes, texts, counts.astype(np.int64))
        return {
            c: rules.learn(
                c,
                Sides(
                    strong=evidence.strong[c][side],
                    weak=evidence.weak[c][side],
                    others=evidence.others(c, side),
                ),
                Sides(),
                background,
            )
            if evidence.enough(c)
            else None
            for c in COMBINATIONS
        }

    def predictor(self, rule: RuleExplanation) -> Predictor:
        return lambda windows: rule.predict(positions_of(windows, self.shapes))

    def explain(self, neuron: NeuronId) -> dict[SignCombination, Explained]:
        """Text and scores for each combination; writes nothing.

        Raises:
            NotFoundError: it was not imported.
        """
        evidence, found = self.evidence(neuron), self.rules(neuron)
        predictors = {c: self.predictor(rule) for c, rule in found.items() if rule is not None}
        windows = {c: spread(evidence.strong[c][Split.TEST], WHICH_WINDOWS) for c in predictors}
        cross = cross_combination.cross_combination(
            predictors, windows, split=Split.TEST, seed=seed_of(neuron, None), judge=RULE_JUDGE
        )
        result: dict[SignCombination, Explained] = {}
        for c, rule in found.items():
            if rule is None:
                result[c] = Explained(combination=c, rule=None, text="", scores=())
                continue
            text = rules.phrase(rule, self.shapes, (), c.write_sign)
            scores = (*self._scores(evidence, rule), *cross.get(c, []))
            result[c] = Explained(combination=c, rule=rule, text=text, scores=scores)
        return result

    def _scores(self, evidence: ImportedEvidence, rule: RuleExplanation) -> list[Score]:
        def token_list(windows: Sequence[Window]) -> NDArray[np.float64]:
            return rule.predict_tokens(positions_of(windows, self.shapes))

        return detection(
            self.predictor(rule),
            item_sets(evidence, rule.combination),
            self._controls(evidence, rule.combination),
            {TOKEN_LIST_CONTROL: token_list},
            split=Split.TEST,
            seed=seed_of(evidence.neuron, rule.combination),
            judge=RULE_JUDGE,
        )

    def _controls(self, evidence: ImportedEvidence, c: SignCombination) -> dict[str, Predictor]:
        """Empty text, another neuron's rule for the same combination, this neuron's rules for the others."""
        controls: dict[str, Predictor] = {"empty": predictor.empty}
        other = self._like(evidence.published, c)
        if other is not None:
            controls[f"other neuron {other[0]}"] = self.predictor(other[1])
        for d, rule in self.rules(evidence.neuron).items():
            if d is not c and rule is not None:
                controls[f"other combination {d.value}"] = self.predictor(rule)
        return controls

    def _like(self, neuron: PublishedNeuron, c: SignCombination) -> tuple[NeuronId, RuleExplanation] | None:
        """Of the nearest layer that has one, the neuron whose published frequency of `c` is nearest and which has a
        rule for it, among a few."""
        frequency = neuron.combinations[c].frequency
        if frequency is None:
            return None
        others = [(n, share) for n, share in self.frequencies[c] if n != neuron.neuron]
        others.sort(key=lambda item: (abs(item[0].layer - neuron.neuron.layer), abs(item[1] - frequency), item[0]))
        for other, _ in others[:_CONTROL_CANDIDATES]:
            rule = self.rules(other)[c]
            if rule is not None and rule.rules:
                return other, rule
        return None


def item_sets(evidence: ImportedEvidence, combination: SignCombination) -> ItemSets:
    """The windows of `test`: what is listed against weak tokens of the same texts, and against the other lists."""
    side, sizes = Split.TEST, DEFAULT_SIZES
    others = [
        window
        for c, own in evidence.strong.items()
        if c is not combination
        for window in spread(own[side], sizes.per_other)
    ]
    negative = {SAME_TEXTS: evidence.weak[combination][side][: sizes.random], N1: tuple(others)}
    reasons = {
        SAME_TEXTS: "the texts have no traces, or no weak token in them",
        N1: "no other combination has a list",
    }
    return ItemSets(
        positive=spread(evidence.strong[combination][side], sizes.positive),
        negative={name: windows for name, windows in negative.items() if windows},
        missing={name: reasons[name] for name, windows in negative.items() if not windows},
    )


def ensure_explained(explainer: ImportedExplainer, target: str, neuron: NeuronId) -> None:
    """Explain and score `neuron` unless the index holds it already.

    Raises:
        NotFoundError: it was not imported.
        StorageError: the index cannot be written.
    """
    evidence, scored = explainer.evidence(neuron), scored_combinations(explainer.reader, neuron, IMPORTED)
    if {c for c in COMBINATIONS if evidence.enough(c)} <= scored:
        return
    found = explainer.explain(neuron)
    engine = open_writer(target)
    try:
        for c, explained in found.items():
            if explained.rule is None or c in scored:
                continue
            claims = {**explained.rule.to_json(), "label": explained.rule.label(explainer.shapes)}
            stored = Explanation(
                neuron=neuron,
                combination=c,
                source="rule",
                text=explained.text,
                claims={**claims, "protocol": IMPORTED, "background": BACKGROUND},
                evidence_hash=evidence_hash(explainer.fingerprint, neuron, c, IMPORTED),
                prompt_version=IMPORTED,
            )
            identifier = add_explanation(engine, stored)
            add_scores(engine, identifier, explained.scores, protocol_version=IMPORTED)
    finally:
        engine.dispose()


def too_few(evidence: ImportedEvidence, combination: SignCombination) -> str:
    """Why a combination has no explanation."""
    listed = evidence.published.combinations[combination].lists
    sides = [len(evidence.strong[combination][side]) for side in (Split.EXPLAIN, Split.TEST)]
    if not any(listed.values()):
        return "no example was published"
    return (
        f"{sides[0]} examples to learn from and {sides[1]} to test on are left of what was published with its text; "
        f"{MINIMUM_LISTED} each are needed"
    )
